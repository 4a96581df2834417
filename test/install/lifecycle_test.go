package install

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/test/eventually"
)

// folders are all that can be applied by itself.
var folders = []string{"config/default", "config/with-api", "config/namespaced", "config/restart", "config/token-review", "config/uninstall"}

// An installation from before its beginning to its end.
func TestLifecycle(t *testing.T) {
	c := startCluster(t)
	for _, namespace := range []string{operatorNamespace, "m2m-api", "team-a", "team-b"} {
		if err := c.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}); err != nil {
			t.Fatal(err)
		}
	}
	steps := []struct {
		name string
		run  func(*testing.T, *cluster)
	}{
		{"the API server takes every manifest as it is", dryRuns},
		{"clients survive an upgrade of the kinds", upgrade},
		{"applied a second time nothing changes", applyTwice},
		{"uninstalled, clients and keys stay", uninstall},
		{"deleting all that was applied spares clients and keys", deleteAll},
		{"who says so can delete them, too", purge},
		{"a release of the chart goes without the clients", release},
	}
	for _, step := range steps {
		if !t.Run(step.name, func(t *testing.T) { step.run(t, c) }) {
			return
		}
	}
}

func dryRuns(t *testing.T, c *cluster) {
	all := map[string]string{"all components": everything(t), "chart": template(t)}
	for _, folder := range folders {
		all[folder] = build(t, folder)
	}
	for _, values := range valuesFiles(t) {
		manifests := template(t, "--values", values)
		all["chart with "+filepath.Base(values)] = strings.ReplaceAll(manifests, "namespace: managed-clients", "namespace: m2m-api")
	}
	for what, manifests := range all {
		out, err := c.apply(t, manifests, "--server-side", "--dry-run=server")
		if err != nil || strings.Contains(out, "Warning") {
			t.Errorf("%s: %v\n%s", what, err, remarkable(out))
		}
	}
}

// remarkable leaves out what was applied without a word.
func remarkable(out string) string {
	var rest []string
	for line := range strings.Lines(out) {
		if !strings.HasSuffix(strings.TrimSuffix(line, " (server dry run)\n"), "serverside-applied") {
			rest = append(rest, line)
		}
	}
	return strings.Join(rest, "")
}

// upgrade begins with the kinds as they were first.
func upgrade(t *testing.T, c *cluster) {
	first, err := os.ReadFile(filepath.Join(root, "test/install/testdata/first-kinds.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	c.mustApply(t, string(first))
	c.waitForKinds(t)
	c.mustApply(t, `{apiVersion: m2m-operator.dev/v1alpha1, kind: ClusterM2MIssuer, metadata: {name: default},
spec: {url: "https://auth.example.com", projectID: project-live-1, environment: Live}}`)
	before := &v1alpha1.M2MClient{
		ObjectMeta: metav1.ObjectMeta{Namespace: "team-a", Name: "billing"},
		Spec:       v1alpha1.M2MClientSpec{DisplayName: "Billing", Scopes: []string{"read:invoices"}},
	}
	if err := c.Create(t.Context(), before); err != nil {
		t.Fatal(err)
	}
	before.Status.ClientID = "m2m-client-live-1"
	if err := c.Status().Update(t.Context(), before); err != nil {
		t.Fatal(err)
	}
	c.keepSecrets(t, before)

	c.mustApply(t, build(t, "config/with-api"))
	c.waitForKinds(t)
	after := &v1alpha1.M2MClient{}
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(before), after); err != nil {
		t.Fatal(err)
	}
	if after.UID != before.UID || !equality.Semantic.DeepEqual(after.Spec, before.Spec) || after.Status.ClientID != before.Status.ClientID {
		t.Errorf("the client was %+v and is %+v", before, after)
	}
	after.Spec.Scopes = append(after.Spec.Scopes, "write:invoices")
	if err := c.Update(t.Context(), after); err != nil {
		t.Errorf("what the first kinds took can't be changed any more: %v", err)
	}
}

// keepSecrets makes what the controller would: a client's Secret, and the pepper.
func (c *cluster) keepSecrets(t *testing.T, owner *v1alpha1.M2MClient) {
	t.Helper()
	for _, secret := range []*corev1.Secret{
		{ObjectMeta: metav1.ObjectMeta{Namespace: owner.Namespace, Name: owner.Name, OwnerReferences: []metav1.OwnerReference{
			*metav1.NewControllerRef(owner, v1alpha1.SchemeGroupVersion.WithKind("M2MClient")),
		}}},
		{ObjectMeta: metav1.ObjectMeta{Namespace: operatorNamespace, Name: v1alpha1.PepperSecret}},
	} {
		if err := c.Create(t.Context(), secret); err != nil {
			t.Fatal(err)
		}
	}
}

func applyTwice(t *testing.T, c *cluster) {
	manifests := build(t, "config/with-api")
	for _, flags := range [][]string{nil, {"--server-side", "--force-conflicts"}} {
		c.mustApply(t, manifests, flags...)
		before := c.versions(t, manifests)
		c.mustApply(t, manifests, flags...)
		for object, version := range c.versions(t, manifests) {
			if version != before[object] {
				t.Errorf("apply %v: %s was %s and is %s", flags, object, before[object], version)
			}
		}
	}
}

// versions are the resourceVersions of what was applied.
func (c *cluster) versions(t *testing.T, manifests string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, o := range objects(t, manifests) {
		if err := c.Get(t.Context(), client.ObjectKeyFromObject(o), o); err != nil {
			t.Fatal(err)
		}
		all[name(o)] = o.GetResourceVersion()
	}
	return all
}

// keep are the objects of manifests that outlive the operator.
func keep(o *unstructured.Unstructured) bool {
	return o.GetKind() == "CustomResourceDefinition" || o.GetKind() == "Namespace"
}

func uninstall(t *testing.T, c *cluster) {
	manifests := build(t, "config/uninstall")
	if out, err := c.kubectl(t, manifests, "delete", "--ignore-not-found", "--timeout=1m", "-f", "-"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	c.onlyKept(t)
	if out, err := c.kubectl(t, manifests, "delete", "--ignore-not-found", "--timeout=1m", "-f", "-"); err != nil || out != "" {
		t.Errorf("uninstalled again: %v\n%s", err, out)
	}
}

// onlyKept checks that of all that can be applied only the kinds and the namespaces are
// left, with what is in them.
func (c *cluster) onlyKept(t *testing.T) {
	t.Helper()
	for _, o := range append(objects(t, build(t, "config/with-api")), objects(t, everything(t))...) {
		err := c.Get(t.Context(), client.ObjectKeyFromObject(o), o)
		if keep(o) {
			if err != nil || o.GetDeletionTimestamp() != nil {
				t.Errorf("%s doesn't stay: %v", name(o), err)
			}
		} else if !apierrors.IsNotFound(err) && o.GetKind() != "ConfigMap" {
			t.Errorf("%s is left: %v", name(o), err)
		}
	}
	for _, o := range []client.Object{
		&v1alpha1.M2MClient{ObjectMeta: metav1.ObjectMeta{Namespace: "team-a", Name: "billing"}},
		&v1alpha1.ClusterM2MIssuer{ObjectMeta: metav1.ObjectMeta{Name: "default"}},
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "team-a", Name: "billing"}},
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: operatorNamespace, Name: v1alpha1.PepperSecret}},
	} {
		if err := c.Get(t.Context(), client.ObjectKeyFromObject(o), o); err != nil || o.GetDeletionTimestamp() != nil {
			t.Errorf("%T %s doesn't stay: %v", o, o.GetName(), err)
		}
	}
}

// deleteAll is what people try who know only how it was installed.
func deleteAll(t *testing.T, c *cluster) {
	manifests := build(t, "config/with-api")
	c.mustApply(t, manifests)
	c.waitForProtection(t)
	out, err := c.kubectl(t, manifests, "delete", "--timeout=1m", "-f", "-")
	if err == nil || strings.Count(out, "m2m-operator.dev/allow-deletion=true") < 4 {
		t.Errorf("deleting the kinds and the namespaces is not refused: %v\n%s", err, out)
	}
	c.onlyKept(t)
}

// waitForProtection waits until the API server has heard of the policy.
func (c *cluster) waitForProtection(t *testing.T) {
	t.Helper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: operatorNamespace}}
	eventually.Right(t, func() string {
		if err := c.Delete(t.Context(), namespace, client.DryRunAll); !apierrors.IsForbidden(err) {
			return "the operator's namespace isn't protected"
		}
		return ""
	})
}

func purge(t *testing.T, c *cluster) {
	manifests := build(t, "config/with-api")
	c.mustApply(t, manifests)
	c.waitForProtection(t)
	const allow = "m2m-operator.dev/allow-deletion=true"
	for _, args := range [][]string{
		{"annotate", "crd", clients, issuers, allow},
		{"annotate", "namespace", operatorNamespace, "m2m-api", allow},
		{"delete", "--timeout=1m", "-f", "-"},
	} {
		if out, err := c.kubectl(t, manifests, args...); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	for _, o := range objects(t, manifests) {
		if err := c.Get(t.Context(), client.ObjectKeyFromObject(o), o); !apierrors.IsNotFound(err) {
			t.Errorf("%s is left: %v", name(o), err)
		}
	}
}

// release installs, upgrades and uninstalls with Helm.
func release(t *testing.T, c *cluster) {
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(kubeconfig, c.Kubeconfig(), 0o600); err != nil {
		t.Fatal(err)
	}
	helm := func(command string, args ...string) {
		t.Helper()
		output(t, "helm", append([]string{command, "m2m-operator", "--kubeconfig", kubeconfig, "--namespace", operatorNamespace}, args...)...)
	}
	folder := filepath.Join(root, chart)
	helm("install", folder, "--create-namespace", "--set=api.enabled=true")
	c.waitForKinds(t)
	m2m := &v1alpha1.M2MClient{ObjectMeta: metav1.ObjectMeta{Namespace: "m2m-api", Name: "billing"}}
	if err := c.Create(t.Context(), m2m); err != nil {
		t.Fatal(err)
	}
	helm("upgrade", folder, "--reset-values") // without the management API
	api := &unstructured.Unstructured{}
	api.SetAPIVersion("apps/v1")
	api.SetKind("Deployment")
	if err := c.Get(t.Context(), client.ObjectKey{Namespace: operatorNamespace, Name: "m2m-operator-api"}, api); !apierrors.IsNotFound(err) {
		t.Errorf("the upgrade doesn't take the management API away: %v", err)
	}
	helm("uninstall")
	for _, o := range objects(t, template(t)) {
		err := c.Get(t.Context(), client.ObjectKeyFromObject(o), o)
		if keep(o) && (err != nil || o.GetDeletionTimestamp() != nil) || !keep(o) && !apierrors.IsNotFound(err) {
			t.Errorf("after helm uninstall, %s: %v", name(o), err)
		}
	}
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(m2m), m2m); err != nil || m2m.DeletionTimestamp != nil {
		t.Errorf("the client goes with the release: %v", err)
	}
	helm("install", folder, "--set=api.enabled=true") // what it left is its own
	helm("uninstall")
}
