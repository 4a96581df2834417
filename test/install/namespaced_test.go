package install

import (
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/test/controlplane"
	"github.com/m2m-operator/m2m-operator/test/eventually"
	"github.com/m2m-operator/m2m-operator/test/process"
)

// An operator with no rights but those of config/namespaced looks after its namespaces,
// and can't after others.
func TestNamespacedOperator(t *testing.T) {
	c := startCluster(t)
	for _, namespace := range []string{"team-a", "team-b", "team-c"} {
		if err := c.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}); err != nil {
			t.Fatal(err)
		}
	}
	c.mustApply(t, build(t, "config/namespaced"))
	c.waitForKinds(t)
	address, err := controlplane.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	server := "http://" + address
	c.start(t, "controller", "--namespaces=team-a,team-b", "--default-issuer-url="+server, "--leader-elect=true")
	c.start(t, "server", "--namespaces=team-a,team-b", "--bind-address="+address)

	for _, namespace := range []string{"team-a", "team-b", "team-c"} {
		m2m := &v1alpha1.M2MClient{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "billing"}}
		if err := c.Create(t.Context(), m2m); err != nil {
			t.Fatal(err)
		}
	}
	for _, namespace := range []string{"team-a", "team-b"} {
		c.getsToken(t, server, client.ObjectKey{Namespace: namespace, Name: "billing"})
	}
	m2m := &v1alpha1.M2MClient{}
	if err := c.Get(t.Context(), client.ObjectKey{Namespace: "team-c", Name: "billing"}, m2m); err != nil {
		t.Fatal(err)
	}
	if len(m2m.Status.Conditions) > 0 {
		t.Errorf("a client of another namespace is looked after: %+v", m2m.Status)
	}
	for _, role := range []string{"controller", "server"} {
		for _, what := range []string{"get secrets", "list secrets", "create secrets", "list " + clients, "patch " + clients + "/status"} {
			for _, namespace := range []string{"team-c", "", "kube-system"} {
				if c.may(t, account(role), what, namespace) {
					t.Errorf("the %s may %s in %q", role, what, namespace)
				}
			}
		}
	}
}

// start runs a role of the operator as its own ServiceAccount, for the time of a test.
func (c *cluster) start(t *testing.T, role string, args ...string) {
	t.Helper()
	dir := t.TempDir()
	kubeconfig, err := c.ServiceAccountKubeconfig(t.Context(), operatorNamespace, "m2m-operator-"+role)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "kubeconfig")
	if err := os.WriteFile(file, kubeconfig, 0o600); err != nil {
		t.Fatal(err)
	}
	if role == "controller" {
		args = append(args, c.quiet(t)...)
	}
	args = append([]string{role, "--kubeconfig", file, "--namespace", operatorNamespace}, args...)
	log := filepath.Join(dir, "log")
	p, err := process.Start(role, log, exec.Command(binary, args...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Stop(10 * time.Second)
		if t.Failed() {
			t.Log(process.LogTail(log))
		}
	})
}

// quiet are the controller's flags that keep it off ports that others have.
func (c *cluster) quiet(t *testing.T) []string {
	t.Helper()
	if help, err := exec.CommandContext(t.Context(), binary, "controller", "--ops-bind-address=0", "--help").Output(); err == nil && len(help) > 0 {
		return []string{"--ops-bind-address=0"}
	}
	return []string{"--ops-bind-address=0"}
}

// getsToken waits until a client is ready, and uses its Secret.
func (c *cluster) getsToken(t *testing.T, server string, key client.ObjectKey) {
	t.Helper()
	m2m := &v1alpha1.M2MClient{}
	eventually.Right(t, func() string {
		if err := c.Get(t.Context(), key, m2m); err != nil {
			return err.Error()
		}
		if !meta.IsStatusConditionTrue(m2m.Status.Conditions, v1alpha1.ConditionReady) {
			return "the client isn't ready: " + mustJSON(m2m.Status)
		}
		return ""
	})
	secret := &corev1.Secret{}
	if err := c.Get(t.Context(), key, secret); err != nil {
		t.Fatal(err)
	}
	tokenURL, err := url.Parse(string(secret.Data["token_url"]))
	if err != nil {
		t.Fatal(err)
	}
	eventually.Right(t, func() string {
		answer, err := http.PostForm(server+tokenURL.Path, url.Values{
			"grant_type": {"client_credentials"}, "client_id": {string(secret.Data["client_id"])}, "client_secret": {string(secret.Data["client_secret"])},
		})
		if err != nil {
			return err.Error()
		}
		defer answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			return "a token is refused: " + answer.Status
		}
		return ""
	})
}

func mustJSON(v any) string {
	encoded, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(encoded)
}
