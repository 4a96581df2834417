package faults

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/keyring"
	"github.com/m2m-operator/m2m-operator/test/eventually"
)

// A leaked signing key is replaced once, by the one that was published, whatever happens.
func TestSigningKeyRevocation(t *testing.T) {
	x := newFixture(t)
	stop := x.run(t, life{fault: none()})
	x.issued(t, "signed")
	stop()
	var before keyring.Ring
	x.eachFault(t, 2, func(t *testing.T) {
		before = x.ring(t)
		active, _ := before.Active(time.Now())
		eventually.Succeeds(t, func() error {
			issuer := x.defaultIssuer(t)
			if issuer.Spec.Signing == nil {
				issuer.Spec.Signing = &v1alpha1.SigningSpec{}
			}
			issuer.Spec.Signing.Revoke = append(issuer.Spec.Signing.Revoke, active.ID)
			return x.Update(t.Context(), issuer)
		})
	}, func(t *testing.T) error {
		now, issuer := x.ring(t), x.defaultIssuer(t)
		active, _ := now.Active(time.Now())
		switch {
		case len(now.Keys) != 2 || active.ID != before.Keys[1].ID:
			return fmt.Errorf("%d keys, %s signs", len(now.Keys), active.ID)
		case len(issuer.Status.Keys) != 2 || issuer.Status.Keys[0].KeyID != active.ID || issuer.Status.Keys[1].KeyID != now.Keys[1].ID:
			return fmt.Errorf("the status says %+v", issuer.Status.Keys)
		}
		return nil
	})
}

// ring is the signing keys of the issuer `default`.
func (x *fixture) ring(t *testing.T) keyring.Ring {
	t.Helper()
	secret := &corev1.Secret{}
	must(t, x.Get(t.Context(), client.ObjectKey{Namespace: operatorNamespace, Name: v1alpha1.SigningKeysSecretPrefix + v1alpha1.DefaultIssuer}, secret))
	ring, err := keyring.Parse(secret.Data)
	must(t, err)
	return ring
}

func (x *fixture) defaultIssuer(t *testing.T) *v1alpha1.ClusterM2MIssuer {
	t.Helper()
	issuer := &v1alpha1.ClusterM2MIssuer{}
	must(t, x.Get(t.Context(), client.ObjectKey{Name: v1alpha1.DefaultIssuer}, issuer))
	return issuer
}
