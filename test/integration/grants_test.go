package integration

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/test/eventually"
)

// restrict takes from the issuer that comes with the installation, which grants all, that
// clients choose their ids.
func (o *operator) restrict(ctx context.Context) error {
	for {
		issuer := &v1alpha1.ClusterM2MIssuer{}
		if err := o.Get(ctx, client.ObjectKey{Name: v1alpha1.DefaultIssuer}, issuer); err != nil {
			return err
		}
		if !meta.IsStatusConditionTrue(issuer.Status.Conditions, v1alpha1.ConditionUnrestricted) {
			return errors.New("the issuer that comes with the installation doesn't say that it grants everything")
		}
		issuer.Spec.Grants[0].ChosenClientIDs = false
		if o.Update(ctx, issuer) == nil {
			return nil
		}
	}
}

// relabel sets a namespace's labels.
func (o *operator) relabel(t *testing.T, namespace string, labels map[string]string) {
	t.Helper()
	n := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
	update(t, o, n, func(n *corev1.Namespace) { n.Labels = labels })
}

// A namespace holds what is granted to it, and what isn't is named and in no token.
func TestGrants(t *testing.T) {
	t.Parallel()
	issuer := shared.newIssuer(t, func(spec *v1alpha1.ClusterM2MIssuerSpec) {
		spec.Token.CustomClaims = `{"tier": {{ client.trusted_metadata.tier }}, "role": {{ client.trusted_metadata.role }}, "user": {{ request.user_id }}}`
		spec.Grants = []v1alpha1.Grant{
			{
				Namespaces: v1alpha1.NamespaceSelection{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"team": "orders"}}},
				Scopes:     []string{"orders:*"}, Audiences: []v1alpha1.Audience{"orders"}, MetadataKeys: []string{"tier"},
			},
		}
	})
	c := shared.newClient(t, shared.namespace(t), "billing", func(c *v1alpha1.M2MClient) {
		of(issuer, "orders", "bank")(c)
		c.Spec.Scopes = []string{"orders:read", "bank:transfer"}
		c.Spec.TrustedMetadata = map[string]apiextensionsv1.JSON{"tier": {Raw: []byte(`"gold"`)}, "role": {Raw: []byte(`"admin"`)}}
	})
	// The issuer's own project id stands in where no audience is granted.
	shared.checkHeld(t, c, "", "["+issuer.Spec.ProjectID+"]", "<nil>", `"orders:read", "bank:transfer"`, `"orders", "bank"`, `"role", "tier"`)
	shared.relabel(t, c.Namespace, map[string]string{"team": "orders"})
	shared.checkHeld(t, c, "orders:read", "[orders]", "gold", `"bank:transfer"`, `"bank"`, `"role"`)

	update(t, shared, issuer, func(i *v1alpha1.ClusterM2MIssuer) {
		i.Spec.Grants = append(i.Spec.Grants, v1alpha1.Grant{
			Namespaces: v1alpha1.NamespaceSelection{Names: []string{c.Namespace}}, Scopes: []string{"bank:transfer"},
		})
	})
	shared.checkHeld(t, c, "orders:read bank:transfer", "[orders]", "gold", `"bank"`, `"role"`)
	shared.relabel(t, c.Namespace, map[string]string{"team": "other"})
	shared.checkHeld(t, c, "bank:transfer", "["+issuer.Spec.ProjectID+"]", "<nil>", `"orders:read"`, `"orders", "bank"`, `"role", "tier"`)
}

// checkHeld waits until the tokens of a client have these scopes and audiences and this
// claim, at each replica, and the status and its condition say the same.
func (o *operator) checkHeld(t *testing.T, c *v1alpha1.M2MClient, scopes, audiences, tier string, refused ...string) {
	t.Helper()
	eventually.Right(t, func() string {
		o.refresh(t, c)
		ready := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionReady)
		if ready == nil || ready.Reason != v1alpha1.ReasonNotGranted || strings.Join(c.Status.GrantedScopes, " ") != scopes {
			return fmt.Sprintf("granted %q, Ready is %+v", c.Status.GrantedScopes, ready)
		}
		for _, words := range refused {
			if !strings.Contains(ready.Message, words) {
				return fmt.Sprintf("%s isn't in %q", words, ready.Message)
			}
		}
		return ""
	})
	secret := o.secret(t, c)
	for _, s := range o.servers() {
		eventually.Right(t, func() string {
			a := s.token(t, c.Status.TokenURL, string(secret.Data["client_id"]), string(secret.Data["client_secret"]), "user_id", "u-7", "role", "admin")
			claims := jwt.MapClaims{}
			if _, _, err := jwt.NewParser().ParseUnverified(a.AccessToken, claims); err != nil {
				return a.body
			}
			got := fmt.Sprintf("%v|%v|%v|%v|%v", claims["scope"], claims["aud"], claims["tier"], claims["role"], claims["user"])
			if want := fmt.Sprintf("%s|%s|%s|<nil>|u-7", scopes, audiences, tier); got != want {
				return fmt.Sprintf("the token says %s, not %s", got, want)
			}
			return ""
		})
	}
	if a := o.servers()[0].token(t, c.Status.TokenURL, string(secret.Data["client_id"]), string(secret.Data["client_secret"]), "resource", "bank"); a.status != http.StatusBadRequest || a.Error != "invalid_target" {
		t.Errorf("a token for an audience that isn't granted: %s", a.body)
	}
}

// A template that can't be used is said to be so, and nobody gets tokens without the
// claims that it should make.
func TestInvalidClaims(t *testing.T) {
	t.Parallel()
	issuer := shared.newIssuer(t, nil)
	c := shared.readyClient(t, of(issuer))
	secret := shared.secret(t, c)
	token := shared.getToken(t, secret)
	update(t, shared, issuer, func(i *v1alpha1.ClusterM2MIssuer) { i.Spec.Token.CustomClaims = `{"sub": "admin"}` })
	shared.waitIssuer(t, issuer, v1alpha1.ReasonInvalidClaims)
	shared.waitAnswer(t, http.StatusServiceUnavailable, func(s server) answer {
		return s.token(t, string(secret.Data["token_url"]), string(secret.Data["client_id"]), string(secret.Data["client_secret"]))
	})
	for _, s := range shared.servers() { // what was signed before is good
		if keys := s.published(t, issuer); len(keys) != 2 {
			t.Errorf("%q are published", keys)
		}
	}
	shared.waitActive(t, issuer, secret, token, true)
	update(t, shared, issuer, func(i *v1alpha1.ClusterM2MIssuer) { i.Spec.Token.CustomClaims = `{"role": "reader"}` })
	shared.waitIssuer(t, issuer, v1alpha1.ReasonSigning)
	shared.waitAccepted(t, secret)
}
