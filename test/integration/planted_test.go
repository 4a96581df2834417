package integration

import (
	"crypto/rand"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/keyring"
	"github.com/m2m-operator/m2m-operator/test/installation"
)

// Whoever gets a client's Secret to the name of an issuer's signing keys has planted
// nothing: they sign no token and are not published, whichever mark the Secret has.
func TestPlantedSigningKeys(t *testing.T) {
	t.Parallel()
	for name, mark := range map[string]func(*corev1.Secret){
		"label":      func(s *corev1.Secret) { s.Labels[v1alpha1.LabelClient] = "evil" },
		"annotation": func(s *corev1.Secret) { s.Annotations = map[string]string{v1alpha1.AnnotationClientUID: "1"} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			plan, err := keyring.Ring{}.Plan(keyring.Input{
				Now: time.Now(), Rand: rand.Reader, Algorithm: keyring.ES256, Interval: keyring.DefaultInterval, Longest: time.Hour, Triggers: []string{"", ""},
			})
			if err != nil {
				t.Fatal(err)
			}
			planted := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{
				Namespace: installation.Namespace, Labels: map[string]string{v1alpha1.LabelManagedBy: v1alpha1.ManagedBy},
			}}
			if planted.Data, err = plan.Ring.Data(); err != nil {
				t.Fatal(err)
			}
			mark(planted)
			issuer := &v1alpha1.ClusterM2MIssuer{ObjectMeta: metav1.ObjectMeta{Name: shared.namespace(t)}}
			issuer.Spec.URL, issuer.Spec.ProjectID = "https://"+issuer.Name+".example.com", "project-"+issuer.Name
			planted.Name = v1alpha1.SigningKeysSecretPrefix + issuer.Name
			if err := shared.Create(t.Context(), planted); err != nil {
				t.Fatal(err)
			}
			if err := shared.Create(t.Context(), issuer); err != nil {
				t.Fatal(err)
			}
			shared.waitIssuer(t, issuer, v1alpha1.ReasonSigningKeyCorrupt)
			for _, s := range shared.servers() {
				if ids := s.published(t, issuer); len(ids) > 0 {
					t.Errorf("planted keys are published: %q", ids)
				}
			}
			if len(issuer.Status.Keys) > 0 {
				t.Errorf("the status names planted keys: %+v", issuer.Status.Keys)
			}
			if err := shared.Delete(t.Context(), planted); err != nil {
				t.Fatal(err)
			}
			shared.waitIssuer(t, issuer, v1alpha1.ReasonSigning)
			if active, ok := plan.Ring.Active(time.Now()); ok && shared.keysOf(t, issuer)[v1alpha1.SigningKeyActive] == active.ID {
				t.Error("a planted key signs")
			}
		})
	}
}
