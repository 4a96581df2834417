package controllers

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
)

func TestReserved(t *testing.T) {
	for name, test := range map[string]struct {
		namespace, client, secret string
		want                      bool
	}{
		"a tenant's":                 {"team-a", "billing", "", false},
		"a tenant's own name":        {"team-a", "billing", "billing-m2m-operator-keys", false},
		"in the operator's":          {"m2m-system", "billing", "", true},
		"named like the operator's":  {"team-a", "m2m-operator-pepper", "", true},
		"so, with another Secret":    {"team-a", "m2m-operator-pepper", "billing", true},
		"a Secret like a key's":      {"team-a", "billing", "m2m-operator-keys-partners", true},
		"a key's, in the operator's": {"m2m-system", "billing", "m2m-operator-keys-partners", true},
	} {
		c := &v1alpha1.M2MClient{ObjectMeta: metav1.ObjectMeta{Namespace: test.namespace, Name: test.client}}
		if test.secret != "" {
			c.Spec.Secret = &v1alpha1.SecretSpec{Name: test.secret}
		}
		if why := reserved(c, "m2m-system"); (why != "") != test.want {
			t.Errorf("%s: %q", name, why)
		}
	}
}
