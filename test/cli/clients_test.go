package cli

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/test/eventually"
)

// git is the field manager of what a pipeline applies.
const git = "argocd-controller"

// gitApplies applies a manifest as a pipeline would, and returns what went wrong.
func gitApplies(t *testing.T, namespace, spec string) error {
	t.Helper()
	manifest := fmt.Sprintf("{apiVersion: m2m-operator.dev/v1alpha1, kind: M2MClient, metadata: {name: billing, namespace: %s}, spec: %s}", namespace, spec)
	_, stderr, err := kubectl(t, manifest, "apply", "--server-side", "--field-manager="+git, "-f", "-")
	if err != nil {
		return fmt.Errorf("%w: %s", err, stderr)
	}
	return nil
}

// mustGitApply is gitApplies, and waits until the client is ready.
func mustGitApply(t *testing.T, namespace, spec string) *v1alpha1.M2MClient {
	t.Helper()
	if err := gitApplies(t, namespace, spec); err != nil {
		t.Fatal(err)
	}
	return waitReady(t, namespace, "billing")
}

// works tells whether the token endpoint takes a credential.
func works(t *testing.T, s *corev1.Secret) bool {
	t.Helper()
	response, err := http.PostForm(string(s.Data["token_url"]), url.Values{
		"grant_type": {"client_credentials"}, "client_id": {string(s.Data["client_id"])}, "client_secret": {string(s.Data["client_secret"])},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// waitWorks waits until the token endpoint takes a credential, or doesn't.
func waitWorks(t *testing.T, s *corev1.Secret, want bool) {
	t.Helper()
	eventually.Right(t, func() string {
		if works(t, s) != want {
			return fmt.Sprintf("a credential of %s/%s works: %v; want %v", s.Namespace, s.Name, !want, want)
		}
		return ""
	})
}

func contains(t *testing.T, text string, wants ...string) {
	t.Helper()
	for _, want := range wants {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in:\n%s", want, text)
		}
	}
}

func version(c *v1alpha1.M2MClient, role string) string {
	for _, v := range c.Status.Credentials {
		if v.Role == role {
			return v.Version
		}
	}
	return ""
}

func TestCreate(t *testing.T) {
	t.Parallel()
	namespace := newNamespace(t)
	out := mustRun(t, "create", "billing", "-n", namespace, "--scope", "read:x,write:x", "--rotation-interval=90d",
		"--metadata", `owner={"team": "finance"}`, "--metadata", "tier=standard", "--display-name", "Billing", "--secret-name=billing-m2m")
	c := m2mClient(t, namespace, "billing")
	contains(t, out, "m2mclient.m2m-operator.dev/billing created", c.Status.ClientID, `"billing-m2m"`)
	if !works(t, secretOf(t, c)) {
		t.Error("create came back before the credential works")
	}
	if string(c.Spec.TrustedMetadata["owner"].Raw) != `{"team":"finance"}` || c.Spec.Rotation.Interval.Hours() != 2160 || len(c.Spec.Scopes) != 2 {
		t.Errorf("spec %+v", c.Spec)
	}
	contains(t, refused(t, "create", "billing", "-n", namespace), "exists", "kubectl edit m2m", "kubectl apply")

	// What is rotated keeps all that create set, metadata as well.
	mustRun(t, "rotate", "billing", "-n", namespace)
	if again := m2mClient(t, namespace, "billing"); again.Generation != c.Generation {
		t.Errorf("rotate changed the spec: %+v", again.Spec)
	}
}

func TestCreateDryRun(t *testing.T) {
	t.Parallel()
	namespace := newNamespace(t)
	manifest := mustRun(t, "create", "billing", "--dry-run=client", "-o", "yaml", "--scope=read:x", "--no-secret", "--service-account=billing",
		"--kubeconfig", os.DevNull)
	for _, never := range []string{"status", "null", "namespace", "managedFields", "creationTimestamp"} {
		if strings.Contains(manifest, never) {
			t.Errorf("the manifest has %q:\n%s", never, manifest)
		}
	}
	if _, stderr, err := kubectl(t, manifest, "apply", "--server-side", "-n", namespace, "-f", "-"); err != nil {
		t.Fatal(stderr)
	}
	waitReady(t, namespace, "billing")
	contains(t, refused(t, "rotate", "billing", "-n", namespace), "it has no secret", "workloadIdentities")

	contains(t, refused(t, "create", "bad", "-n", namespace, "--dry-run=server", "--scope", "two words"), "RFC 6749")
	contains(t, mustRun(t, "create", "good", "-n", namespace, "--dry-run=server"), "created (server dry run)")
	if err := cluster.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: "good"}, &v1alpha1.M2MClient{}); !apierrors.IsNotFound(err) {
		t.Errorf("a dry run: %v", err)
	}
}

// What waits for a person is said at once, and the exit code tells of it.
func TestCreateNotReady(t *testing.T) {
	t.Parallel()
	namespace := newNamespace(t)
	contains(t, refused(t, "create", "billing", "-n", namespace, "--issuer=nowhere"), "was created", "IssuerNotFound", `no ClusterM2MIssuer "nowhere"`)
	contains(t, mustRun(t, "list", "-n", namespace, "--unready"), "billing", "IssuerNotFound")
}

func TestListAndGet(t *testing.T) {
	t.Parallel()
	namespace := newNamespace(t)
	c := readyClient(t, namespace, "billing", func(c *v1alpha1.M2MClient) {
		c.Labels = map[string]string{"team": "billing"}
		c.Spec.Scopes, c.Spec.Description = []string{"charge:cards"}, "clean\u202Ereversed"
	})
	contains(t, mustRun(t, "list", "-A"), "NAMESPACE", namespace, c.Status.ClientID)
	contains(t, mustRun(t, "list", "-n", namespace, "-l", "team=billing", "-o", "wide"), "ISSUER", "Issued", version(c, "Current"))
	if out := mustRun(t, "list", "-n", namespace, "-l", "team=none"); out != "" {
		t.Errorf("found %s", out)
	}
	if out := mustRun(t, "list", "-n", namespace, "-o", "name"); out != "m2mclient.m2m-operator.dev/billing\n" {
		t.Errorf("names %q", out)
	}
	if out := mustRun(t, "list", "-n", namespace, "-o", "jsonpath={.items[*].status.clientID}"); out != c.Status.ClientID {
		t.Errorf("jsonpath %q", out)
	}
	var list struct{ Items []v1alpha1.M2MClient }
	if err := json.Unmarshal([]byte(mustRun(t, "list", "-n", namespace, "-o", "json")), &list); err != nil || len(list.Items) != 1 || list.Items[0].UID != c.UID {
		t.Errorf("json: %v", err)
	}
	page := mustRun(t, "get", "billing", "-n", namespace)
	contains(t, page, c.Status.ClientID, c.Status.TokenURL, "charge:cards", "Issued", version(c, "Current"), "a-pipeline", "spec.scopes", "CredentialIssued")
	if strings.ContainsAny(page, "\x1b\u202E") {
		t.Errorf("a pipe gets colours, or a tenant speaks to the terminal: %q", page)
	}
	contains(t, mustRun(t, "get", "billing", "-n", namespace, "-o", "yaml"), "kind: M2MClient", "uid: "+string(c.UID))
	contains(t, refused(t, "get", "nope", "-n", namespace), "there is no M2MClient "+namespace+"/nope")
}

func TestRotate(t *testing.T) {
	t.Parallel()
	namespace := newNamespace(t)
	c := mustGitApply(t, namespace, "{scopes: [a], rotation: {overlap: 1h}}")
	before := secretOf(t, c)
	out := mustRun(t, "rotate", "billing", "-n", namespace, "--wait")
	now := m2mClient(t, namespace, "billing")
	contains(t, out, "rotation requested", version(c, "Current")+" -> "+version(now, "Current"), version(c, "Current")+" is valid until")
	if after := secretOf(t, now); string(after.Data["client_secret"]) == string(before.Data["client_secret"]) || !works(t, after) || !works(t, before) {
		t.Error("the Secret has no new secret, or one of the two doesn't work")
	}
	if err := gitApplies(t, namespace, "{scopes: [b], rotation: {overlap: 2h}}"); err != nil {
		t.Error(err)
	}

	other := readyClient(t, namespace, "orders", nil)
	_, stderr, err := run(t, "rotate", "orders", "nope", "-n", namespace)
	if err == nil {
		t.Error("a client that isn't there is rotated")
	}
	contains(t, stderr, "1 of 2 clients failed: "+namespace+"/nope")
	if m2mClient(t, namespace, "orders").Annotations[v1alpha1.AnnotationRotate] == other.Annotations[v1alpha1.AnnotationRotate] {
		t.Error("one that fails keeps the others from being rotated")
	}
	mustRun(t, "deactivate", "orders", "-n", namespace, "--wait")
	contains(t, refused(t, "rotate", "orders", "-n", namespace, "--wait"), "it is Inactive")
	contains(t, refused(t, "rotate", "-n", namespace), "--selector or --all")
}

func TestStaged(t *testing.T) {
	t.Parallel()
	const spec = "{scopes: [a], rotation: {mode: Staged}}"
	namespace := newNamespace(t)
	first := version(mustGitApply(t, namespace, spec), "Current")
	contains(t, refused(t, "promote", "billing", "-n", namespace), "no secret is staged", "kubectl m2m rotate")

	contains(t, mustRun(t, "rotate", "billing", "-n", namespace, "--wait"), "staged: version 2-", "kubectl m2m promote")
	contains(t, refused(t, "rotate", "billing", "-n", namespace), "is staged already")
	contains(t, refused(t, "cancel", "billing", "-n", namespace, "--version=9-none"), "9-none is not staged, but 2-")
	mustRun(t, "cancel", "billing", "-n", namespace, "--wait")
	if c := m2mClient(t, namespace, "billing"); version(c, "Next") != "" || version(c, "Current") != first {
		t.Errorf("cancelled: %+v", c.Status.Credentials)
	}

	mustRun(t, "rotate", "billing", "-n", namespace, "--wait")
	staged := version(m2mClient(t, namespace, "billing"), "Next")
	if completed := mustRun(t, "__complete", "promote", "billing", "-n", namespace, "--version", ""); !strings.Contains(completed, staged+"\tNext") {
		t.Errorf("completion of versions: %s", completed)
	}
	mustRun(t, "promote", "billing", "-n", namespace, "--version", staged, "--wait")
	if c := m2mClient(t, namespace, "billing"); version(c, "Current") != staged || version(c, "Previous") != first {
		t.Errorf("promoted: %+v", c.Status.Credentials)
	}
	if err := gitApplies(t, namespace, spec); err != nil {
		t.Error(err)
	}
}

func TestRevoke(t *testing.T) {
	t.Parallel()
	namespace := newNamespace(t)
	first := secretOf(t, mustGitApply(t, namespace, "{scopes: [a]}"))
	mustRun(t, "rotate", "billing", "-n", namespace, "--wait")
	second := secretOf(t, m2mClient(t, namespace, "billing"))
	waitWorks(t, first, true)
	mustRun(t, "revoke", "billing", "-n", namespace, "--previous", "--wait")
	waitWorks(t, first, false)
	waitWorks(t, second, true)

	current := version(m2mClient(t, namespace, "billing"), "Current")
	contains(t, refused(t, "revoke", "billing", "-n", namespace, "--version=9-none"), "9-none is not valid", "valid are "+current)
	contains(t, refused(t, "revoke", "billing", "-n", namespace, "--version", current), "is the current secret", "--yes")
	contains(t, refused(t, "revoke", "billing", "-n", namespace), "--version, --previous or --tokens")
	waitWorks(t, second, true)
	mustRun(t, "revoke", "billing", "-n", namespace, "--version", current, "--yes", "--wait")
	waitWorks(t, second, false)
	c := waitReady(t, namespace, "billing")
	waitWorks(t, secretOf(t, c), true)
	if len(c.Spec.Rotation.Revoke) != 2 {
		t.Errorf("revoked is %v: what was revoked before is lost", c.Spec.Rotation.Revoke)
	}

	mustRun(t, "revoke", "--all", "-n", namespace, "--tokens", "--wait")
	eventually.Right(t, func() string {
		if m2mClient(t, namespace, "billing").Status.TokensNotBefore == nil {
			return "no tokens are cut off"
		}
		return ""
	})
	if err := gitApplies(t, namespace, "{scopes: [a, b]}"); err != nil {
		t.Error(err)
	}
}

// A field of Git's is refused with its manager's name. Taken by force and given back, it
// leaves nothing behind that Git would meet.
func TestGitOwns(t *testing.T) {
	t.Parallel()
	const spec = "{state: Active, scopes: [a], rotation: {revoke: [9-x]}}"
	namespace := newNamespace(t)
	c := mustGitApply(t, namespace, spec)
	generation := c.Generation
	for field, args := range map[string][]string{
		"spec.state":           {"deactivate", "billing"},
		"spec.rotation.revoke": {"revoke", "billing", "--yes", "--version", version(c, "Current")},
	} {
		contains(t, refused(t, append(args, "-n", namespace)...), field, namespace+"/billing", `the field manager "`+git+`"`, "in Git", "--force-conflicts")
	}
	contains(t, mustRun(t, "activate", "billing", "-n", namespace), "unchanged")
	now := m2mClient(t, namespace, "billing")
	if now.Generation != generation || slices.ContainsFunc(now.ManagedFields, func(e metav1.ManagedFieldsEntry) bool { return e.Manager == "kubectl-m2m" }) {
		t.Errorf("what was refused or needed nothing left fields behind: %+v", now.ManagedFields)
	}
	if stdout, _, err := kubectl(t, fmt.Sprintf("{apiVersion: m2m-operator.dev/v1alpha1, kind: M2MClient, metadata: {name: billing, namespace: %s}, spec: %s}", namespace, spec),
		"diff", "--server-side", "--field-manager="+git, "-f", "-"); err != nil {
		t.Errorf("Git has a diff:\n%s", stdout)
	}

	contains(t, mustRun(t, "deactivate", "billing", "-n", namespace, "--force-conflicts", "--wait"), "deactivated")
	if err := gitApplies(t, namespace, spec); err == nil || !strings.Contains(err.Error(), "kubectl-m2m") {
		t.Errorf("Git's next apply after a field was taken by force: %v", err)
	}
	mustRun(t, "activate", "billing", "-n", namespace, "--wait")
	if err := gitApplies(t, namespace, spec); err != nil {
		t.Error(err)
	}
	contains(t, refused(t, "deactivate", "billing", "-n", namespace), git)

	contains(t, refused(t, "delete", "billing", "-n", namespace), `"`+git+`"`, "make it again", "--yes")
	mustRun(t, "delete", "billing", "-n", namespace, "--yes")
}

func TestDelete(t *testing.T) {
	t.Parallel()
	namespace := newNamespace(t)
	mustRun(t, "create", "billing", "-n", namespace)
	secret := secretOf(t, m2mClient(t, namespace, "billing"))
	contains(t, mustRun(t, "delete", "billing", "-n", namespace, "--dry-run=server"), "(server dry run)")
	contains(t, mustRun(t, "delete", "billing", "-n", namespace), "m2mclient.m2m-operator.dev/billing deleted")
	if err := cluster.Get(t.Context(), client.ObjectKeyFromObject(secret), &corev1.Secret{}); !apierrors.IsNotFound(err) {
		t.Errorf("delete came back with the Secret still there: %v", err)
	}
	waitWorks(t, secret, false)
}

// A backup comes back with the same ids and secrets, and Git takes its fields again.
func TestRestoreFile(t *testing.T) {
	t.Parallel()
	namespace := newNamespace(t)
	c := mustGitApply(t, namespace, "{scopes: [a]}")
	secret := secretOf(t, c)
	clients, _, err := kubectl(t, "", "get", "m2m", "-n", namespace, "-o", "json")
	if err != nil {
		t.Fatal(err)
	}
	secrets, _, err := kubectl(t, "", "get", "secrets", "-n", namespace, "-o", "json")
	if err != nil {
		t.Fatal(err)
	}
	backup := filepath.Join(t.TempDir(), "backup.json")
	if err := os.WriteFile(backup, []byte(clients+secrets), 0o600); err != nil {
		t.Fatal(err)
	}
	mustRun(t, "delete", "billing", "-n", namespace, "--yes")
	waitWorks(t, secret, false)

	contains(t, mustRun(t, "restore", "-f", backup), "restored: client_id "+c.Status.ClientID+", version "+version(c, "Current"))
	waitWorks(t, secret, true)
	again := m2mClient(t, namespace, "billing")
	if again.UID == c.UID || again.Status.ClientID != c.Status.ClientID {
		t.Errorf("restored as %s", again.Status.ClientID)
	}
	if err := gitApplies(t, namespace, "{scopes: [b], displayName: other}"); err != nil {
		t.Errorf("Git meets what a restore left: %v", err)
	}
	contains(t, mustRun(t, "restore", "-f", backup), "exists, and is left as it is")
}

// A client that was deleted and made again takes over the Secret that was kept, and
// nobody takes that of a living one.
func TestRestoreName(t *testing.T) {
	t.Parallel()
	namespace := newNamespace(t)
	const spec = "{scopes: [a], secret: {deletionPolicy: Retain}}"
	c := mustGitApply(t, namespace, spec)
	contains(t, refused(t, "restore", "billing", "-n", namespace), "nothing to restore")
	thief := &v1alpha1.M2MClient{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "thief"}, Spec: v1alpha1.M2MClientSpec{Secret: &v1alpha1.SecretSpec{Name: "billing"}}}
	if err := cluster.Create(t.Context(), thief); err != nil {
		t.Fatal(err)
	}
	contains(t, refused(t, "restore", "thief", "-n", namespace), `belongs to the M2MClient "billing"`)
	mustRun(t, "delete", "thief", "billing", "-n", namespace, "--yes")

	// A dead owner is what garbage collection would remove it for.
	secret := secretOf(t, c)
	if err := gitApplies(t, namespace, spec); err != nil {
		t.Fatal(err)
	}
	contains(t, mustRun(t, "restore", "billing", "-n", namespace), "restored: client_id "+c.Status.ClientID)
	waitWorks(t, secret, true)
	contains(t, refused(t, "restore", "other", "-n", namespace), "there is no M2MClient")
}

// A client that isn't ready in time: the message is the condition's.
func TestWaitEnds(t *testing.T) {
	t.Parallel()
	namespace := newNamespace(t)
	readyClient(t, namespace, "billing", nil)
	pause := client.RawPatch(types.MergePatchType, []byte(`{"metadata": {"annotations": {"m2m-operator.dev/pause": "true"}}}`))
	c := m2mClient(t, namespace, "billing")
	if err := cluster.Patch(t.Context(), c, pause); err != nil {
		t.Fatal(err)
	}
	contains(t, refused(t, "rotate", "billing", "-n", namespace, "--wait"), "told to rotate", "it is paused")
	contains(t, refused(t, "deactivate", "billing", "-n", namespace, "--wait", "--timeout=1s"), "was deactivated", "not done after 1s", "the operator has not seen it yet")
}

func TestCompletion(t *testing.T) {
	t.Parallel()
	namespace := newNamespace(t)
	for _, name := range []string{"billing", "orders"} {
		mustRun(t, "create", name, "-n", namespace, "--wait=false")
	}
	if out := mustRun(t, "__complete", "rotate", "billing", "-n", namespace, ""); !strings.HasPrefix(out, "orders\n") {
		t.Errorf("completes %q", out)
	}
	contains(t, mustRun(t, "completion", "--help"), "kubectl_complete-m2m")
}
