package faults

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/credential"
	"github.com/m2m-operator/m2m-operator/internal/journal"
	"github.com/m2m-operator/m2m-operator/test/eventually"
)

// The first start of all, and the first credential: eight writes at most, where the
// client is looked at before its issuer is ready.
func TestInstallation(t *testing.T) {
	x := newFixture(t)
	for _, first := range []struct {
		name string
		spec func(*v1alpha1.M2MClient)
	}{
		{"made", func(*v1alpha1.M2MClient) {}},
		{"imported", func(c *v1alpha1.M2MClient) {
			c.Spec.Secret = &v1alpha1.SecretSpec{ImportFrom: &v1alpha1.ImportSpec{Name: "legacy"}}
		}},
	} {
		for n := 1; n <= 8; n++ {
			for _, kind := range []faultKind{stopBefore, stopAfter} {
				a := &attempt{flow: flow{roles: "C", spec: first.spec}, kind: kind, at: n, client: newClient("first")}
				a.name = first.name
				t.Run(a.String(), func(t *testing.T) { x.tryInstallation(t, a) })
			}
		}
	}
}

func (x *fixture) tryInstallation(t *testing.T, a *attempt) {
	x.reset(t)
	a.spec(a.client)
	must(t, x.Create(t.Context(), a.client))
	f := &fault{kind: a.kind, left: a.at}
	stop := x.run(t, life{fault: f})
	settled := func() error { return x.first(t, a) }
	eventually.Succeeds(t, func() error {
		if f.hasStruck() {
			return nil
		}
		return settled()
	})
	stop()
	stop = x.run(t, life{fault: none()})
	defer stop()
	eventually.Succeeds(t, settled)
	if a.name == "imported" && string(x.secretOf(t, a.client).Data["client_secret"]) != importedSecret {
		t.Error("the imported secret was replaced")
	}
}

const importedSecret = "q8Zr2LxWn5TbV0yKd4Hs"

// first tells why a first credential isn't there yet.
func (x *fixture) first(t *testing.T, a *attempt) error {
	if err := x.ready(t, a.client); err != nil {
		return err
	}
	record := journal.Read(&a.client.Status)
	if roles(record) != "C" || !authenticates(x.pepper(t), a.client, record, string(x.secretOf(t, a.client).Data["client_secret"])) {
		return fmt.Errorf("versions %q", roles(record))
	}
	if n := len(x.secretsOf(t, a.client)); n != 1 {
		return fmt.Errorf("%d Secrets", n)
	}
	return nil
}

// reset takes an installation back to before its first start.
func (x *fixture) reset(t *testing.T) {
	t.Helper()
	for _, kind := range []client.Object{&v1alpha1.M2MClient{}, &corev1.Secret{}} {
		for _, namespace := range []string{"default", operatorNamespace} {
			must(t, x.DeleteAllOf(t.Context(), kind, client.InNamespace(namespace)))
		}
	}
	must(t, x.DeleteAllOf(t.Context(), &v1alpha1.ClusterM2MIssuer{}))
	must(t, x.Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "legacy", Labels: map[string]string{v1alpha1.LabelAdopt: "first"}},
		Data:       map[string][]byte{"client_id": []byte("legacy-id"), "client_secret": []byte(importedSecret)},
	}))
}

// issued makes a client and waits until it is Ready.
func (x *fixture) issued(t *testing.T, name string) *v1alpha1.M2MClient {
	t.Helper()
	c := newClient(name)
	must(t, x.Create(t.Context(), c))
	eventually.Succeeds(t, func() error { return x.ready(t, c) })
	return c
}

// rotations asks for rotations, one after the other, while something goes wrong.
// Each delivers one secret, and all that was delivered authenticates.
func (x *fixture) rotations(t *testing.T, c *v1alpha1.M2MClient, number int, meanwhile func(n int)) {
	t.Helper()
	before := len(x.seen.of(c))
	for n := range number {
		trigger(t, x, c)
		meanwhile(n)
		eventually.Succeeds(t, func() error {
			if err := x.ready(t, c); err != nil {
				return err
			}
			if got := c.Status.ObservedTriggers; got == nil || got.Spec != c.Spec.Rotation.Trigger {
				return errors.New("the rotation has not begun")
			}
			return nil
		})
	}
	eventually.Succeeds(t, func() error {
		if got := len(x.seen.of(c)); got != before+number {
			return fmt.Errorf("%d secrets were delivered in %d rotations", got-before, number)
		}
		return nil
	})
	x.checkAll(t, c)
}

// checkAll: what pods hold since any of the rotations authenticates.
func (x *fixture) checkAll(t *testing.T, c *v1alpha1.M2MClient) {
	t.Helper()
	for _, secret := range x.seen.of(c) {
		if !authenticates(x.pepper(t), c, journal.Read(&c.Status), secret) {
			t.Error("a secret that pods may hold doesn't authenticate")
		}
	}
}

// Two controllers that both lead: what one has made the other doesn't undo.
func TestTwoLeaders(t *testing.T) {
	x := newFixture(t)
	for range 2 {
		f := none()
		f.check = x.watchdog(t, false, "")
		stop := x.run(t, life{fault: f})
		defer stop()
	}
	c := x.issued(t, "led")
	x.rotations(t, c, 5, func(int) {})
}

// A clock that jumps ends no secret early and rotates nobody who wasn't asked to.
func TestClockJumps(t *testing.T) {
	x := newFixture(t)
	var jump atomic.Int64
	clock := func() time.Time { return time.Now().Add(time.Duration(jump.Load())) }
	f := none()
	f.check = x.watchdog(t, false, "")
	stop := x.run(t, life{fault: f, now: clock})
	defer stop()
	c := newClient("timed")
	interval(c)
	must(t, x.Create(t.Context(), c))
	eventually.Succeeds(t, func() error { return x.ready(t, c) })
	x.rotations(t, c, 4, func(n int) {
		jump.Store(int64([]time.Duration{5 * time.Minute, 0, -5 * time.Minute, 0}[n]))
	})
	// The overlap has passed, had the clock not jumped: the tolerance keeps the secret.
	for _, v := range journal.Read(&c.Status).Credentials {
		if v.Role == credential.RolePrevious && time.Until(v.RetireAfter) < 24*time.Hour-time.Minute {
			t.Errorf("version %s may end %s from now", v.Version, time.Until(v.RetireAfter))
		}
	}
}

// An API server that is killed and comes back in the middle of a rotation.
func TestAPIServerRestarts(t *testing.T) {
	x := newFixture(t)
	f := none()
	stop := x.run(t, life{fault: f})
	defer stop()
	c := x.issued(t, "interrupted")
	first := x.secretOf(t, c)
	for n := range 3 {
		trigger(t, x, c)
		time.Sleep(time.Duration(n) * propagation) // at another point each time
		must(t, x.cluster.RestartAPIServer(t.Context()))
		eventually.Succeeds(t, func() error { return x.hasReason(t, c, v1alpha1.ReasonIssued) })
		if got := len(journal.Read(&c.Status).Credentials); got != n+2 {
			t.Errorf("%d versions after %d rotations", got, n+1)
		}
	}
	for _, s := range []*corev1.Secret{first, x.secretOf(t, c)} {
		if !authenticates(x.pepper(t), c, journal.Read(&c.Status), string(s.Data["client_secret"])) {
			t.Error("a secret that pods may hold doesn't authenticate")
		}
	}
}

// A controller that is shown the past, as by an API server that lists old data,
// replaces nobody's secret.
func TestStaleCache(t *testing.T) {
	x := newFixture(t)
	stop := x.run(t, life{fault: none()})
	c := x.issued(t, "stale")
	old := map[string]client.Object{"client": c.DeepCopy(), "secret": x.secretOf(t, c)}
	x.rotations(t, c, 1, func(int) {})
	stop()
	for name, reads := range map[string]func(*atomic.Bool) func(client.ObjectKey, client.Object) (bool, error){
		"old client":            past(old["client"], nil),
		"old Secret":            past(nil, old["secret"]),
		"old client and Secret": past(old["client"], old["secret"]),
		"no Secret": func(over *atomic.Bool) func(client.ObjectKey, client.Object) (bool, error) {
			return func(key client.ObjectKey, o client.Object) (bool, error) {
				_, secret := o.(*corev1.Secret)
				return secret && !over.Load() && key.Name == "stale", apierrors.NewNotFound(corev1.Resource("secrets"), key.Name)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			var over atomic.Bool
			f := none()
			f.reads = reads(&over)
			f.check = x.watchdog(t, false, "")
			stop := x.run(t, life{fault: f})
			defer stop()
			delivered := len(x.seen.of(c))
			x.change(t, c, func(c *v1alpha1.M2MClient) {
				c.Spec.Scopes = append(c.Spec.Scopes, "read:"+fmt.Sprint(len(c.Spec.Scopes)))
			})
			time.Sleep(30 * propagation) // as much as it could do harm in
			over.Store(true)
			x.change(t, c, func(c *v1alpha1.M2MClient) { c.Spec.DisplayName += "x" }) // something to wake it
			eventually.Succeeds(t, func() error { return x.ready(t, c) })
			if got := len(x.seen.of(c)); got != delivered || roles(journal.Read(&c.Status)) != "CP" {
				t.Errorf("%d secrets were delivered, versions %q", got-delivered, roles(journal.Read(&c.Status)))
			}
			x.checkAll(t, c)
		})
	}
}

// past answers reads with what was, until it is over.
func past(c, secret client.Object) func(*atomic.Bool) func(client.ObjectKey, client.Object) (bool, error) {
	return func(over *atomic.Bool) func(client.ObjectKey, client.Object) (bool, error) {
		return func(key client.ObjectKey, o client.Object) (bool, error) {
			if over.Load() || key.Name != "stale" {
				return false, nil
			}
			switch o := o.(type) {
			case *v1alpha1.M2MClient:
				if c != nil {
					c.(*v1alpha1.M2MClient).DeepCopyInto(o)
				}
				return c != nil, nil
			case *corev1.Secret:
				if secret != nil {
					secret.(*corev1.Secret).DeepCopyInto(o)
				}
				return secret != nil, nil
			}
			return false, nil
		}
	}
}

// Nothing is written for a client that is being deleted, or whose namespace is, in the
// middle of a rotation either.
func TestGoing(t *testing.T) {
	x := newFixture(t)
	stop := x.run(t, life{fault: none()})
	defer stop()
	for name, leave := range map[string]func(*v1alpha1.M2MClient) error{
		"foreground": func(c *v1alpha1.M2MClient) error {
			return x.Delete(t.Context(), c, client.PropagationPolicy(metav1.DeletePropagationForeground))
		},
		"namespace": func(c *v1alpha1.M2MClient) error {
			return x.Delete(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: c.Namespace}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			must(t, x.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}))
			c := newClient("going")
			c.Namespace = name
			must(t, x.Create(t.Context(), c))
			eventually.Succeeds(t, func() error { return x.ready(t, c) })
			secret := x.secretOf(t, c)
			trigger(t, x, c)
			must(t, leave(c))
			time.Sleep(2 * propagation)
			must(t, client.IgnoreNotFound(x.Delete(t.Context(), secret)))
			must(t, x.Get(t.Context(), client.ObjectKeyFromObject(c), c))
			time.Sleep(10 * propagation) // what would be written is written by now
			now := c.DeepCopy()
			must(t, x.Get(t.Context(), client.ObjectKeyFromObject(c), now))
			if now.ResourceVersion != c.ResourceVersion {
				t.Error("the client was written")
			}
			if err := x.Get(t.Context(), client.ObjectKeyFromObject(secret), &corev1.Secret{}); !apierrors.IsNotFound(err) {
				t.Errorf("the Secret: %v", err)
			}
		})
	}
}
