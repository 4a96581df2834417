package cli

import (
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"
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
	if err := i.Cluster.Snapshot(t.Context(), filepath.Join(dir, "snapshot")); err != nil {
		t.Fatal(err)
	}

	old.run("rotate", "rotated", "--wait")
	old.run("revoke", "rotated", "--previous", "--wait")
	old.run("deactivate", "inactive", "--wait")
	old.run("delete", "deleted", "--yes")
	for _, c := range []*credential{rotated, inactive, deleted} {
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
	for _, c := range []*credential{rotated, inactive, deleted} {
		old.wantStatus(c, http.StatusOK, "it came back with the snapshot")
	}
	old.wantStatus(late, http.StatusUnauthorized, "it was made after the snapshot")

	// Rotate all, and when the pods have moved on, end what was valid then.
	old.run("rotate", "-A", "--all", "--wait")
	old.run("revoke", "-A", "--all", "--previous", "--wait")
	old.run("revoke", "-A", "--all", "--tokens", "--wait")
	for _, c := range []*credential{rotated, inactive, deleted} {
		old.wantStatus(c, http.StatusUnauthorized, "all was closed")
		now := old.read(c.name)
		if now.id != c.id || now.secret == c.secret {
			t.Errorf("%s: id %s, was %s; same secret: %v", c.name, now.id, c.id, now.secret == c.secret)
		}
		old.wantStatus(now, http.StatusOK, "its Secret has a new one")
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
func (s *snapshotted) run(args ...string) {
	s.t.Helper()
	mustRun(s.t, append(args, "--kubeconfig", s.kubeconfig)...)
}

func (s *snapshotted) client(name string) *credential {
	s.t.Helper()
	s.run("create", name, "--scope", "read:x")
	return s.read(name)
}

func (s *snapshotted) read(name string) *credential {
	s.t.Helper()
	c := &v1alpha1.M2MClient{}
	if err := s.Get(s.t.Context(), client.ObjectKey{Namespace: "default", Name: name}, c); err != nil {
		s.t.Fatal(err)
	}
	secret := &corev1.Secret{}
	if err := s.Get(s.t.Context(), client.ObjectKey{Namespace: "default", Name: c.Status.SecretName}, secret); err != nil {
		s.t.Fatal(err)
	}
	return &credential{name, string(secret.Data["client_id"]), string(secret.Data["client_secret"]), c.Status.TokenURL}
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
