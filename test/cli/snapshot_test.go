package cli

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/test/eventually"
	"github.com/m2m-operator/m2m-operator/test/installation"
)

// An etcd that is restored from an old snapshot brings back what was retired, deactivated
// and deleted since. The commands of docs/operations.md close that.
func TestOldSnapshot(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	i, err := installation.Start(t.Context(), installation.Options{Dir: filepath.Join(dir, "state"), Binary: operator, Servers: 1, ControllerManager: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := i.Stop(); err != nil {
			t.Error(err)
		}
	})
	old := &snapshotted{t: t, Installation: i, kubeconfig: filepath.Join(dir, "state", "kubeconfig")}
	rotated, inactive, deleted := old.client("rotated"), old.client("inactive"), old.client("deleted")
	old.run("create", "keyless", "--no-secret", "--service-account=keyless")
	staged := old.client("staged")
	c := old.get("staged")
	c.Spec.Rotation = &v1alpha1.RotationSpec{Mode: v1alpha1.RotationStaged}
	if err := i.Update(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	old.run("rotate", "staged", "--wait")
	next := *staged
	next.secret = string(old.secretOf(old.get("staged")).Data["next_client_secret"])
	if err := i.Cluster.Snapshot(t.Context(), filepath.Join(dir, "snapshot")); err != nil {
		t.Fatal(err)
	}

	old.run("rotate", "rotated", "--wait")
	old.run("revoke", "rotated", "--previous", "--wait")
	old.run("deactivate", "inactive", "--wait")
	old.run("delete", "deleted", "--yes")
	old.run("cancel", "staged", "--wait")
	old.run("delete", "staged", "--yes")
	back := []*credential{rotated, inactive, deleted, staged, &next}
	for _, c := range back {
		old.wantStatus(c, http.StatusUnauthorized, "before the restore")
	}
	late := old.client("late")

	if err := i.Cluster.RestoreSnapshot(t.Context(), filepath.Join(dir, "snapshot")); err != nil {
		t.Fatal(err)
	}
	if err := i.RestartController(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := i.RestartServer(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	for _, c := range back {
		old.wantStatus(c, http.StatusOK, "it came back with the snapshot")
	}
	old.wantStatus(late, http.StatusUnauthorized, "it was made after the snapshot")

	// Rotate all, and when the pods have moved on, end what was valid then.
	contains(t, old.run("promote", "-A", "--all", "--wait"), "staged promoted", "rotated of namespace default passed over: its rotations are not staged")
	contains(t, old.run("rotate", "-A", "--all", "--wait"), "keyless of namespace default passed over: it has no secret")
	old.run("promote", "-A", "--all", "--wait")
	old.run("revoke", "-A", "--all", "--previous", "--wait")
	old.run("revoke", "-A", "--all", "--tokens", "--wait")
	for _, c := range back {
		old.wantStatus(c, http.StatusUnauthorized, "all was closed")
		now := old.read(c.name)
		if now.id != c.id || now.secret == c.secret {
			t.Errorf("%s: id %s, was %s; same secret: %v", c.name, now.id, c.id, now.secret == c.secret)
		}
		old.wantStatus(now, http.StatusOK, "its Secret has a new one")
	}
	old.restoreAll(back[:3])
}

// restoreAll deletes issuers and clients, so that there is what a new cluster has in which
// pepper and signing keys were restored, and lets a backup bring the rest back.
func (s *snapshotted) restoreAll(clients []*credential) {
	var backup []byte
	for _, args := range [][]string{
		{"get", "secrets", "-A", "-l", v1alpha1.LabelClient, "-o", "json"},
		{"get", "clusterm2missuers,m2mclients", "-A", "-o", "json"},
	} {
		out, err := s.Cluster.Kubectl(s.t.Context(), args...).Output()
		if err != nil {
			s.t.Fatal(err)
		}
		backup = append(backup, out...)
	}
	file := filepath.Join(s.t.TempDir(), "backup.json")
	if err := os.WriteFile(file, backup, 0o600); err != nil {
		s.t.Fatal(err)
	}
	var were []*credential
	for _, c := range clients {
		were = append(were, s.read(c.name))
	}
	keyless := s.get("keyless").Status.ClientID
	s.run("delete", "--all", "--yes")
	issuer := &v1alpha1.ClusterM2MIssuer{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	if err := s.Delete(s.t.Context(), issuer); err != nil {
		s.t.Fatal(err)
	}
	eventually.Right(s.t, func() string {
		if response, err := http.Get(strings.Replace(were[0].tokenURL, "/oauth2/token", "/oauth2/jwks", 1)); err == nil {
			if response.Body.Close(); response.StatusCode == http.StatusOK {
				return "the issuer still has keys"
			}
		}
		return ""
	})
	contains(s.t, s.run("restore", "-f", file), "keyless is ready as client_id", "and was "+keyless+": without a Secret", "clusterm2missuer.m2m-operator.dev/default created", "rotated restored: client_id "+were[0].id)
	for _, c := range were {
		s.wantStatus(c, http.StatusOK, "it was restored")
		if now := s.read(c.name); *now != *c {
			s.t.Errorf("%s was restored with another credential", c.name)
		}
	}
}

// snapshotted is an installation whose clients are used and looked after.
type snapshotted struct {
	*installation.Installation
	t          *testing.T
	kubeconfig string
}

// credential is what a pod that mounts a Secret has.
type credential struct{ name, id, secret, tokenURL string }

// run runs kubectl-m2m in the namespace `default`, which must succeed.
func (s *snapshotted) run(args ...string) string {
	s.t.Helper()
	return mustRun(s.t, append(args, "--kubeconfig", s.kubeconfig)...)
}

func (s *snapshotted) client(name string) *credential {
	s.t.Helper()
	s.run("create", name, "--scope", "read:x")
	return s.read(name)
}

func (s *snapshotted) get(name string) *v1alpha1.M2MClient {
	s.t.Helper()
	c := &v1alpha1.M2MClient{}
	if err := s.Get(s.t.Context(), client.ObjectKey{Namespace: "default", Name: name}, c); err != nil {
		s.t.Fatal(err)
	}
	return c
}

func (s *snapshotted) secretOf(c *v1alpha1.M2MClient) *corev1.Secret {
	s.t.Helper()
	secret := &corev1.Secret{}
	if err := s.Get(s.t.Context(), client.ObjectKey{Namespace: c.Namespace, Name: c.Status.SecretName}, secret); err != nil {
		s.t.Fatal(err)
	}
	return secret
}

func (s *snapshotted) read(name string) *credential {
	s.t.Helper()
	c := s.get(name)
	data := s.secretOf(c).Data
	return &credential{name, string(data["client_id"]), string(data["client_secret"]), c.Status.TokenURL}
}

// wantStatus waits until the token server answers a credential so.
func (s *snapshotted) wantStatus(c *credential, status int, when string) {
	s.t.Helper()
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {c.id}, "client_secret": {c.secret}}
	eventually.Right(s.t, func() string {
		response, err := http.PostForm(c.tokenURL, form)
		if err != nil {
			s.t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != status {
			return fmt.Sprintf("%s is answered %s, not %d: %s", c.name, response.Status, status, when)
		}
		return ""
	})
}
