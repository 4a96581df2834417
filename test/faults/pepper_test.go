package faults

import (
	"crypto/rand"
	"errors"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/credential"
	"github.com/m2m-operator/m2m-operator/internal/journal"
	"github.com/m2m-operator/m2m-operator/test/eventually"
)

// changePepper changes the pepper's Secret.
func (x *fixture) changePepper(t *testing.T, how func(*corev1.Secret)) {
	t.Helper()
	secret := &corev1.Secret{}
	must(t, x.Get(t.Context(), client.ObjectKey{Namespace: operatorNamespace, Name: v1alpha1.PepperSecret}, secret))
	if secret.Annotations == nil {
		secret.Annotations = map[string]string{}
	}
	how(secret)
	must(t, x.Update(t.Context(), secret))
}

// eachFault runs something into a stop before and after each of its writes, and then
// a fresh controller to the end.
func (x *fixture) eachFault(t *testing.T, writes int, begin func(t *testing.T), settled func(t *testing.T) error) {
	for n := 1; n <= writes; n++ {
		for _, kind := range []faultKind{stopBefore, stopAfter} {
			a := &attempt{kind: kind, at: n}
			t.Run(a.String(), func(t *testing.T) {
				begin(t)
				f := &fault{kind: kind, left: n}
				stop := x.run(t, life{fault: f})
				eventually.Succeeds(t, func() error {
					if f.hasStruck() {
						return nil
					}
					return settled(t)
				})
				stop()
				if !f.hasStruck() {
					t.Errorf("it took fewer writes: %v", f.writes)
				}
				stop = x.run(t, life{fault: none()})
				defer stop()
				eventually.Succeeds(t, func() error { return settled(t) })
			})
		}
	}
}

// The pepper's key is replaced once, whatever happens, and checks what it made.
func TestPepperRotation(t *testing.T) {
	x := newFixture(t)
	stop := x.run(t, life{fault: none()})
	c := x.issued(t, "peppered")
	stop()
	asked, active, keys := 0, "", 0
	x.eachFault(t, 2, func(t *testing.T) {
		pepper := x.pepper(t)
		active, keys = pepper.ActiveKeyID(), len(pepper.KeyIDs())
		asked++
		x.changePepper(t, func(s *corev1.Secret) { s.Annotations[v1alpha1.AnnotationRotate] = fmt.Sprint(asked) })
	}, func(t *testing.T) error {
		pepper := x.pepper(t)
		if pepper.ActiveKeyID() == active || pepper.NextKeyID() != "" {
			return errors.New("the key has not been replaced")
		}
		if got := len(pepper.KeyIDs()); got > keys+1 {
			return fmt.Errorf("%d keys were made", got-keys)
		}
		must(t, x.Get(t.Context(), client.ObjectKeyFromObject(c), c))
		if !authenticates(pepper, c, journal.Read(&c.Status), string(x.secretOf(t, c).Data["client_secret"])) {
			return errors.New("what the Secret holds doesn't authenticate")
		}
		return x.ready(t, c)
	})
}

// With another pepper in the place of the one that is lost, a client that is told to
// rotate gets a new secret under its id.
func TestReissue(t *testing.T) {
	x := newFixture(t)
	stop := x.run(t, life{fault: none()})
	c := x.issued(t, "peppered")
	stop()
	id, told := c.Status.ClientID, 0
	x.eachFault(t, 2, func(t *testing.T) {
		pepper, err := credential.NewPepper(rand.Reader)
		must(t, err)
		x.changePepper(t, func(s *corev1.Secret) { s.Data = pepper.Data() })
		told++
		x.change(t, c, func(c *v1alpha1.M2MClient) {
			c.Annotations = map[string]string{v1alpha1.AnnotationRotate: fmt.Sprint(told)}
		})
	}, func(t *testing.T) error {
		if err := x.ready(t, c); err != nil {
			return err
		}
		record := journal.Read(&c.Status)
		if c.Status.ClientID != id || roles(record) != "C" {
			return fmt.Errorf("client %s with versions %q", c.Status.ClientID, roles(record))
		}
		if !authenticates(x.pepper(t), c, record, string(x.secretOf(t, c).Data["client_secret"])) {
			return errors.New("what the Secret holds doesn't authenticate")
		}
		return nil
	})
}
