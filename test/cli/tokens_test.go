package cli

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/test/eventually"
	"github.com/m2m-operator/m2m-operator/test/installation"
)

// defaultIssuer reads the issuer `default`.
func defaultIssuer(t *testing.T) *v1alpha1.ClusterM2MIssuer {
	t.Helper()
	issuer := &v1alpha1.ClusterM2MIssuer{}
	if err := cluster.Get(t.Context(), client.ObjectKey{Name: v1alpha1.DefaultIssuer}, issuer); err != nil {
		t.Fatal(err)
	}
	return issuer
}

func TestToken(t *testing.T) {
	t.Parallel()
	namespace := newNamespace(t)
	c := readyClient(t, namespace, "billing", func(c *v1alpha1.M2MClient) {
		c.Spec.Scopes = []string{"read:*", "write:x"}
		c.Spec.Secret = &v1alpha1.SecretSpec{Name: "elsewhere", Template: &v1alpha1.SecretTemplate{Keys: &v1alpha1.SecretKeys{ClientSecret: "PASSWORD"}}}
	})
	secret := string(secretOf(t, c).Data["PASSWORD"])
	token := strings.TrimSpace(mustRun(t, "token", "billing", "-n", namespace, "--scope", "read:*"))
	if strings.Count(token, ".") != 2 {
		t.Fatalf("%q is no token", token)
	}
	var answer struct {
		AccessToken string `json:"access_token"`
		Scope       string
		ExpiresIn   int `json:"expires_in"`
	}
	if err := json.Unmarshal([]byte(mustRun(t, "token", "billing", "-n", namespace, "-o", "json")), &answer); err != nil ||
		answer.Scope != "read:* write:x" || answer.ExpiresIn != 3600 || answer.AccessToken == "" {
		t.Errorf("%+v %v", answer, err)
	}
	contains(t, mustRun(t, "token", "billing", "-n", namespace, "--decode"), "Header", "alg", c.Status.ClientID, "Z, in ", "Not verified")

	stdout, stderr, err := runWith(t, token, "verify", "--require-scope", "read:users")
	if err != nil {
		t.Fatal(stdout, stderr)
	}
	contains(t, stdout, "The token is valid.", "ClusterM2MIssuer default", c.Status.ClientID)
	contains(t, refused(t, "verify", token, "--require-scope", "write:y"), "not valid: scope")
	contains(t, refused(t, "verify", token, "--audience", "another"), "not valid: audience")
	altered := token[:len(token)-8] + "AAAAAAAA"
	contains(t, refused(t, "verify", altered), "not valid: signature")

	// What goes wrong, and what to do about it.
	scope := refused(t, "token", "billing", "-n", namespace, "--scope", "write:y")
	contains(t, scope, "invalid_scope", "holds: read:* write:x")
	contains(t, refused(t, "token", "nobody", "-n", namespace), "there is no M2MClient")
	gone := refused(t, "token", "billing", "-n", namespace, "--url", "http://127.0.0.1:1")
	contains(t, gone, "can't reach http://127.0.0.1:1", "kubectl port-forward -n m2m-system svc/m2m-operator 8443:443")
	mustRun(t, "deactivate", "billing", "-n", namespace, "--wait", "--force-conflicts")
	eventually.Right(t, func() string {
		_, stderr, err := run(t, "token", "billing", "-n", namespace)
		if err == nil || !strings.Contains(stderr, "kubectl m2m activate -n "+namespace+" billing") {
			return "an inactive client: " + stderr
		}
		return ""
	})
	for _, text := range []string{scope, gone, stdout, stderr} {
		if strings.Contains(text, secret) {
			t.Errorf("the secret is in %s", text)
		}
	}
}

func TestTokenOfServiceAccount(t *testing.T) {
	t.Parallel()
	namespace := newNamespace(t)
	c := readyClient(t, namespace, "orders", func(c *v1alpha1.M2MClient) {
		c.Spec.Secret = &v1alpha1.SecretSpec{Delivery: v1alpha1.DeliveryNone}
		c.Spec.WorkloadIdentities = []v1alpha1.WorkloadIdentity{{ServiceAccountName: "orders"}}
	})
	contains(t, refused(t, "token", "orders", "-n", namespace), "no ServiceAccount "+namespace+"/orders: create it")
	if err := cluster.Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "orders"}}); err != nil {
		t.Fatal(err)
	}
	eventually.Right(t, func() string { // the server has to hear of the ServiceAccount
		stdout, stderr, err := run(t, "token", "orders", "-n", namespace, "--decode")
		if err != nil || !strings.Contains(stdout, c.Status.ClientID) {
			return stdout + stderr
		}
		return ""
	})
}

func TestProjectSecret(t *testing.T) {
	t.Parallel()
	issuer := defaultIssuer(t)
	var made struct {
		Name      string `json:"name"`
		ProjectID string `json:"project_id"`
		Secret    string `json:"secret"`
	}
	dry := mustRun(t, "project-secret", "create", "--dry-run=server")
	contains(t, dry, "would be made", "(server dry run)")
	stdout := mustRun(t, "project-secret", "create", "-o", "json")
	if err := json.Unmarshal([]byte(stdout), &made); err != nil || made.ProjectID != issuer.Spec.ProjectID {
		t.Fatal(stdout, err)
	}
	status := func() int {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, cluster.Servers[0].URL+"/v1/m2m/clients/nobody", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		request.SetBasicAuth(made.ProjectID, made.Secret)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		return response.StatusCode
	}
	waitStatus := func(want int) {
		t.Helper()
		eventually.Right(t, func() string {
			if got := status(); got != want {
				return http.StatusText(got) + ", want " + http.StatusText(want)
			}
			return ""
		})
	}
	waitStatus(http.StatusNotFound) // it authenticates

	list := mustRun(t, "project-secret", "list")
	lastFour := made.Secret[len(made.Secret)-4:]
	contains(t, list, made.Name, made.ProjectID, lastFour)
	kept := &corev1.Secret{}
	if err := cluster.Get(t.Context(), client.ObjectKey{Namespace: installation.Namespace, Name: made.Name}, kept); err != nil {
		t.Fatal(err)
	}
	digest := string(kept.Data[v1alpha1.ProjectSecretHashKey])
	if all := list + mustRun(t, "project-secret", "list", "-o", "json"); strings.Contains(all, digest) || strings.Contains(all, made.Secret) {
		t.Errorf("too much is listed: %s", all)
	}

	contains(t, refused(t, "project-secret", "revoke", v1alpha1.PepperSecret), "no such project secret")
	mustRun(t, "project-secret", "revoke", made.Name, "--dry-run=server")
	contains(t, mustRun(t, "project-secret", "revoke", "--last-four", lastFour), made.Name, "revoked", "watch")
	waitStatus(http.StatusUnauthorized)
}

// A closed API is said, and how to open it; the last secret goes with a yes only.
func TestProjectSecretOfClosedAPI(t *testing.T) {
	t.Parallel()
	issuer := &v1alpha1.ClusterM2MIssuer{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "closed-"},
		Spec:       v1alpha1.ClusterM2MIssuerSpec{URL: "https://closed.test", ProjectID: "project-live-closed"},
	}
	if err := cluster.Create(t.Context(), issuer); err != nil {
		t.Fatal(err)
	}
	stdout, stderr, err := run(t, "project-secret", "create", issuer.Name, "-o", "env")
	if err != nil {
		t.Fatal(stderr)
	}
	contains(t, stdout, "M2M_PROJECT_ID=project-live-closed\nM2M_PROJECT_SECRET=secret-live-")
	contains(t, stderr, "ClusterM2MIssuer "+issuer.Name, "managementAPI:\n      namespace:")
	name := strings.TrimSpace(mustRun(t, "project-secret", "list", issuer.Name, "-o", "name"))
	contains(t, refused(t, "project-secret", "revoke", name), "is the last project secret", "--yes")
	mustRun(t, "project-secret", "revoke", name, "--yes")
	err = cluster.Get(t.Context(), client.ObjectKey{Namespace: installation.Namespace, Name: name}, &corev1.Secret{})
	if !apierrors.IsNotFound(err) {
		t.Errorf("the project secret is still there: %v", err)
	}
}

// What was made by the management API is imported as manifests, which can be applied.
func TestImportStytch(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		`{"client_name":"Import Test","scopes":["read:x"],"trusted_metadata":{"tier":"a"}}`,
		`{"client_name":"import test","client_description":"the second"}`,
	} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, cluster.Servers[0].URL+"/v1/m2m/clients", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		request.SetBasicAuth(cluster.ProjectID, cluster.ProjectSecret)
		request.Header.Set("Content-Type", "application/json")
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusOK {
			t.Fatalf("creating a client by the management API: %s", response.Status)
		}
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "secret")
	if err := os.WriteFile(file, []byte(cluster.ProjectSecret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	namespace := newNamespace(t)
	args := []string{"import-stytch", "--url", cluster.Servers[0].URL, "--project-id", cluster.ProjectID, "--secret-file", file, "-n", namespace}
	manifests := mustRun(t, args...)
	if again := mustRun(t, args...); again != manifests {
		t.Errorf("two runs differ:\n%s\n%s", manifests, again)
	}
	if _, stderr, err := kubectl(t, manifests, "apply", "--server-side", "-f", "-"); err != nil {
		t.Fatal(err, stderr, manifests)
	}
	list := &v1alpha1.M2MClientList{}
	if err := cluster.List(t.Context(), list, client.InNamespace(namespace)); err != nil {
		t.Fatal(err)
	}
	if len(list.Items) < 2 {
		t.Fatalf("%d clients were imported:\n%s", len(list.Items), manifests)
	}
	for _, c := range list.Items {
		waitReady(t, namespace, c.Name)
	}
}

func TestUnused(t *testing.T) {
	t.Parallel()
	namespace := newNamespace(t)
	readyClient(t, namespace, "fresh", nil)
	stdout, stderr, err := run(t, "unused", "--for", "90d", "-n", namespace)
	if err != nil {
		t.Fatal(stderr)
	}
	contains(t, stdout+stderr, "No client is known to be unused", "fresh", "it was created")
	stdout, stderr, err = run(t, "unused", "-n", namespace, "-o", "name")
	if err != nil || stdout != "" {
		t.Errorf("%q %q %v", stdout, stderr, err)
	}
	contains(t, refused(t, "unused", "-A", "-o", "name"), "namespaces")

	mustRun(t, "token", "fresh", "-n", namespace)
	eventually.Right(t, func() string { // the server reports the use
		stdout, stderr, err := run(t, "unused", "-n", namespace)
		if err != nil || strings.Contains(stdout, "fresh") {
			return "a client that is used is listed: " + stdout + stderr
		}
		return ""
	})
}
