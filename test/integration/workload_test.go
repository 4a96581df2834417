package integration

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/keyring"
	"github.com/m2m-operator/m2m-operator/test/eventually"
	"github.com/m2m-operator/m2m-operator/test/installation"
)

const jwtBearer = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// account makes a ServiceAccount.
func (o *operator) account(t *testing.T, namespace, name string) *corev1.ServiceAccount {
	t.Helper()
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	if err := o.Create(t.Context(), account); err != nil {
		t.Fatal(err)
	}
	return account
}

// projected is a token of a ServiceAccount, as a pod's volume has it.
func (o *operator) projected(t *testing.T, account *corev1.ServiceAccount, to *authenticationv1.BoundObjectReference, audiences ...string) string {
	t.Helper()
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{Audiences: audiences, BoundObjectRef: to}}
	if err := o.SubResource("token").Create(t.Context(), account, request); err != nil {
		t.Fatal(err)
	}
	return request.Status.Token
}

// assert asks a replica for a token with an assertion; further values are pairs.
func (s server) assert(t *testing.T, tokenURL, assertion string, extra ...string) answer {
	t.Helper()
	form := append([]string{"grant_type", "client_credentials", "client_assertion_type", jwtBearer, "client_assertion", assertion}, extra...)
	return s.post(t, tokenURL, form...)
}

// waitAnswer asks each replica until it answers with a status.
func (o *operator) waitAnswer(t *testing.T, status int, ask func(server) answer) {
	t.Helper()
	for _, s := range o.servers() {
		eventually.Right(t, func() string {
			if a := ask(s); a.status != status {
				return a.body
			}
			return ""
		})
	}
}

// workload is a client that only a ServiceAccount authenticates as.
func workload(accounts ...string) func(*v1alpha1.M2MClient) {
	return func(c *v1alpha1.M2MClient) {
		c.Spec.Secret = &v1alpha1.SecretSpec{Delivery: v1alpha1.DeliveryNone}
		for _, name := range accounts {
			c.Spec.WorkloadIdentities = append(c.Spec.WorkloadIdentities, v1alpha1.WorkloadIdentity{ServiceAccountName: name})
		}
	}
}

// A pod gets a token with nothing but its ServiceAccount's token, and no other
// account's token gets one.
func TestServiceAccount(t *testing.T) {
	t.Parallel()
	namespace, elsewhere := shared.namespace(t), shared.namespace(t)
	account := shared.account(t, namespace, "billing")
	c := shared.newClient(t, namespace, "billing", workload("billing"))
	shared.waitReason(t, c, v1alpha1.ReasonIssued)
	url, issuer := c.Status.TokenURL, c.Status.Issuer
	token := shared.projected(t, account, nil, issuer)
	shared.waitAnswer(t, http.StatusOK, func(s server) answer { return s.assert(t, url, token) })
	s := shared.servers()[0]
	granted := s.assert(t, url, token, "scope", "read:invoices", "client_id", c.Status.ClientID)
	if granted.status != http.StatusOK || granted.Scope != "read:invoices" {
		t.Fatal(granted.body)
	}
	if sub := s.claims(t, strings.Replace(url, "/token", "/jwks", 1), granted.AccessToken)["sub"]; sub != c.Status.ClientID {
		t.Errorf("the token is %v's", sub)
	}
	other := shared.account(t, namespace, "other")
	for name, assertion := range map[string]string{
		"another account's token":                     shared.projected(t, other, nil, issuer),
		"the same name in another namespace":          shared.projected(t, shared.account(t, elsewhere, "billing"), nil, issuer),
		"for another audience":                        shared.projected(t, account, nil, "https://kubernetes.default.svc"),
		"for two audiences":                           shared.projected(t, account, nil, issuer, "https://kubernetes.default.svc"),
		"for an audience that begins like the issuer": shared.projected(t, account, nil, issuer+"/"),
		"with another signature":                      token[:len(token)-8] + "AAAAAAAA",
		"of another cluster":                          "eyJhbGciOiJSUzI1NiIsImtpZCI6IngifQ." + strings.Split(token, ".")[1] + ".AAAA",
	} {
		if a := s.assert(t, url, assertion); a.status != http.StatusUnauthorized {
			t.Errorf("%s: %s", name, a.body)
		}
	}
	if a := s.assert(t, url, token, "client_id", "m2m-client-live-other"); a.status != http.StatusUnauthorized {
		t.Errorf("with another client id: %s", a.body)
	}
	shared.checkNoSecret(t, c)

	// Two clients of one account: the request says which.
	second := shared.newClient(t, namespace, "second", workload("billing", "other"))
	shared.waitReason(t, second, v1alpha1.ReasonIssued)
	shared.waitAnswer(t, http.StatusOK, func(s server) answer { return s.assert(t, url, token, "client_id", second.Status.ClientID) })
	shared.waitAnswer(t, http.StatusUnauthorized, func(s server) answer { return s.assert(t, url, token) })

	// An account that is made again under its name is another.
	if err := shared.Delete(t.Context(), account); err != nil {
		t.Fatal(err)
	}
	refused := func(s server) answer { return s.assert(t, url, token, "client_id", c.Status.ClientID) }
	shared.waitAnswer(t, http.StatusUnauthorized, refused)
	anew := shared.account(t, namespace, "billing")
	fresh := shared.projected(t, anew, nil, issuer)
	shared.waitAnswer(t, http.StatusOK, func(s server) answer { return s.assert(t, url, fresh, "client_id", c.Status.ClientID) })
	shared.waitAnswer(t, http.StatusUnauthorized, refused)

	update(t, shared, c, func(c *v1alpha1.M2MClient) { c.Spec.State = v1alpha1.ClientInactive })
	shared.waitAnswer(t, http.StatusUnauthorized, func(s server) answer { return s.assert(t, url, fresh, "client_id", c.Status.ClientID) })
}

// checkNoSecret: a client without a secret has none anywhere, and says that.
func (o *operator) checkNoSecret(t *testing.T, c *v1alpha1.M2MClient) {
	t.Helper()
	secrets := &corev1.SecretList{}
	if err := o.List(t.Context(), secrets, client.InNamespace(c.Namespace)); err != nil {
		t.Fatal(err)
	}
	o.refresh(t, c)
	if len(secrets.Items) > 0 || len(c.Status.Credentials) > 0 || c.Status.SecretName != "" || c.Status.Effective.Delivery != v1alpha1.DeliveryNone {
		t.Errorf("%d Secrets, status %+v", len(secrets.Items), c.Status)
	}
}

func TestNoCredential(t *testing.T) {
	t.Parallel()
	c := shared.newClient(t, shared.namespace(t), "billing", workload())
	shared.waitReason(t, c, v1alpha1.ReasonNoCredential)
	update(t, shared, c, func(c *v1alpha1.M2MClient) {
		c.Spec.WorkloadIdentities = []v1alpha1.WorkloadIdentity{{ServiceAccountName: "billing"}}
	})
	shared.waitReason(t, c, v1alpha1.ReasonIssued)
}

// With --token-review a pod that was deleted gets no more tokens, although its token
// has not expired.
func TestTokenReview(t *testing.T) {
	t.Parallel()
	o := ownInstallation(t, installation.Options{ControllerManager: true, ServerArgs: []string{"--token-review=1s"}})
	namespace := o.namespace(t)
	account := o.account(t, namespace, "billing")
	c := o.newClient(t, namespace, "billing", workload("billing"))
	o.waitReason(t, c, v1alpha1.ReasonIssued)
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "billing"}, Spec: corev1.PodSpec{
		ServiceAccountName: "billing", Containers: []corev1.Container{{Name: "billing", Image: "billing"}},
	}}
	if err := o.Create(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	bound := &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID}
	token := o.projected(t, account, bound, c.Status.Issuer)
	ask := func(s server) answer { return s.assert(t, c.Status.TokenURL, token) }
	o.waitAnswer(t, http.StatusServiceUnavailable, ask) // it isn't permitted to ask
	if out, err := o.Cluster.Kubectl(t.Context(), "apply", "-k", "../../config/token-review").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	o.waitAnswer(t, http.StatusOK, ask)
	if err := o.Delete(t.Context(), pod, client.GracePeriodSeconds(0)); err != nil {
		t.Fatal(err)
	}
	o.waitAnswer(t, http.StatusUnauthorized, ask)
}

// jwkOf is a public key as a manifest has it.
func jwkOf(t *testing.T, key *ecdsa.PrivateKey, kid string) v1alpha1.PublicKey {
	t.Helper()
	jwk, err := keyring.Key{ID: kid, Algorithm: keyring.ES256, Signer: key}.JWK()
	if err != nil {
		t.Fatal(err)
	}
	return v1alpha1.PublicKey{KeyType: jwk.KeyType, KeyID: kid, Curve: jwk.Curve, X: jwk.X, Y: jwk.Y}
}

// A client that signs its own assertions gets a token with each of them once at each
// replica, and keys that can't be used are named.
func TestPrivateKey(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := shared.readyClient(t, func(c *v1alpha1.M2MClient) {
		workload()(c)
		c.Spec.PublicKeys = &v1alpha1.PublicKeySet{Keys: []v1alpha1.PublicKey{jwkOf(t, key, "k1")}}
	})
	shared.checkNoSecret(t, c)
	assertion := func(change func(jwt.MapClaims)) string {
		claims := jwt.MapClaims{
			"iss": c.Status.ClientID, "sub": c.Status.ClientID, "aud": c.Status.Issuer,
			"jti": rand.Text(), "iat": time.Now().Unix(), "exp": time.Now().Add(time.Minute).Unix(),
		}
		if change != nil {
			change(claims)
		}
		token := jwt.NewWithClaims(jwt.SigningMethodES256, claims)
		token.Header["kid"] = "k1"
		signed, err := token.SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return signed
	}
	shared.waitAnswer(t, http.StatusOK, func(s server) answer { return s.assert(t, c.Status.TokenURL, assertion(nil)) })
	once := assertion(nil)
	for _, s := range shared.servers() {
		if a := s.assert(t, c.Status.TokenURL, once); a.status != http.StatusOK {
			t.Errorf("once at a replica: %s", a.body)
		}
		if a := s.assert(t, c.Status.TokenURL, once); a.status != http.StatusUnauthorized {
			t.Errorf("twice at a replica: %s", a.body)
		}
	}
	for name, change := range map[string]func(jwt.MapClaims){
		"for the token endpoint": func(claims jwt.MapClaims) { claims["aud"] = c.Status.TokenURL },
		"for long":               func(claims jwt.MapClaims) { claims["exp"] = time.Now().Add(time.Hour).Unix() },
		"of another":             func(claims jwt.MapClaims) { claims["iss"], claims["sub"] = "other", "other" },
	} {
		if a := shared.servers()[0].assert(t, c.Status.TokenURL, assertion(change)); a.status != http.StatusUnauthorized {
			t.Errorf("%s: %s", name, a.body)
		}
	}
	update(t, shared, c, func(c *v1alpha1.M2MClient) { c.Spec.PublicKeys.Keys[0].X = c.Spec.PublicKeys.Keys[0].Y })
	shared.waitReason(t, c, v1alpha1.ReasonInvalidPublicKeys)
	shared.waitAnswer(t, http.StatusUnauthorized, func(s server) answer { return s.assert(t, c.Status.TokenURL, assertion(nil)) })
}
