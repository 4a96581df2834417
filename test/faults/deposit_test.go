package faults

import (
	"crypto/rand"
	"fmt"
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/credential"
	"github.com/m2m-operator/m2m-operator/internal/journal"
)

// What the management API leaves with a client is taken over with one write, whatever
// happens at it.
func TestDeposits(t *testing.T) {
	x := newFixture(t)
	stop := x.run(t, life{fault: none()})
	x.issued(t, "first") // the pepper is there
	stop()
	pepper := x.pepper(t)
	c := &v1alpha1.M2MClient{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "deposited"}}
	c.Spec.Secret = &v1alpha1.SecretSpec{Delivery: v1alpha1.DeliveryNone}
	at := credential.Place{Namespace: c.Namespace, Name: c.Name}
	d, _, err := credential.NewDeposit(time.Now(), rand.Reader, pepper, at, credential.First{ClientID: "m2m-client-test-deposited"})
	must(t, err)
	leave := func(t *testing.T) {
		text, err := journal.FormatDeposit(d)
		must(t, err)
		if c.UID == "" {
			c.Annotations = map[string]string{v1alpha1.AnnotationCredential: text}
			must(t, x.Create(t.Context(), c))
			return
		}
		x.change(t, c, func(c *v1alpha1.M2MClient) { c.Annotations[v1alpha1.AnnotationCredential] = text })
	}
	took := func(t *testing.T) error {
		if err := x.hasReason(t, c, v1alpha1.ReasonIssued); err != nil {
			return err
		}
		record := journal.Read(&c.Status)
		if record.Sequence != d.Sequence || record.ClientID != d.ClientID || !slices.EqualFunc(record.Credentials, d.Credentials, sameCredential) {
			return fmt.Errorf("the record is %+v, what was left %+v", record, d)
		}
		if len(x.secretsOf(t, c)) != 0 {
			return fmt.Errorf("there is a Secret")
		}
		return nil
	}
	next := []func() error{
		func() (err error) { d, _, err = d.StartRotation(time.Now(), rand.Reader, pepper, at, 9); return err },
		func() (err error) { d, err = d.Rotate(pepper, at); return err },
	}
	step := 0
	for range 2 { // a client is made, a rotation begins, ends, and begins
		x.eachFault(t, 1, func(t *testing.T) {
			if c.UID != "" {
				must(t, next[step%len(next)]())
				step++
			}
			leave(t)
		}, took)
	}
	x.eachFault(t, 1, func(t *testing.T) { loseStatus(t, x, c) }, took)
}

func sameCredential(a, b credential.Credential) bool {
	return a.Version == b.Version && a.Role == b.Role && a.Hash == b.Hash && a.CreatedAt.Equal(b.CreatedAt)
}
