package install

import (
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/test/eventually"
)

// Nobody makes a client where the operator's keys are, or under names of their form: not
// an administrator, and not the operator's own api role, which strangers reach.
func TestClientsStayAwayFromKeys(t *testing.T) {
	c := installed(t)
	const saysWhere, saysName = "create it in another namespace", "names that begin with m2m-operator-"
	of := func(namespace, name, secret string) *v1alpha1.M2MClient {
		m := &v1alpha1.M2MClient{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
		if secret != "" {
			m.Spec.Secret = &v1alpha1.SecretSpec{Name: secret}
		}
		return m
	}
	eventually.Right(t, func() string { // the API server hears of the policy a moment later
		if c.Create(t.Context(), of(operatorNamespace, "probe", ""), client.DryRunAll) == nil {
			return "the policy doesn't count yet"
		}
		return ""
	})
	for _, test := range []struct {
		name   string
		client *v1alpha1.M2MClient
		says   string // empty: it may be
	}{
		{"a tenant's", of("default", "stays-away", "stays-away-m2m"), ""},
		{"in the operator's namespace", of(operatorNamespace, "billing", ""), saysWhere},
		{"with keys of an issuer", of(operatorNamespace, "billing", "m2m-operator-keys-partners"), saysWhere},
		{"named like the pepper", of("default", "m2m-operator-pepper", ""), saysName},
		{"with a Secret like keys", of("default", "billing", "m2m-operator-keys-partners"), saysName},
	} {
		for who, as := range map[string]client.Client{"an administrator": c.WithWatch, "the api role": c.as(t, "api")} {
			t.Run(test.name+", "+who, func(t *testing.T) {
				err := as.Create(t.Context(), test.client.DeepCopy(), client.DryRunAll)
				if who == "the api role" && apierrors.IsForbidden(err) {
					return // by this policy or by its own, which lets it make none with a Secret
				}
				expect(t, err, test.says)
			})
		}
	}
	moves := of("default", "moves", "moves")
	if err := c.Create(t.Context(), moves); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Delete(t.Context(), moves) })
	moves.Spec.Secret.Name = "m2m-operator-keys-partners"
	expect(t, c.Update(t.Context(), moves, client.DryRunAll), saysName)
}
