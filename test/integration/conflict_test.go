package integration

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/test/eventually"
)

func foreignSecret(namespace, name string) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Data:       map[string][]byte{"precious": []byte("data")},
	}
}

// A foreign Secret is left alone, and its going is noticed without a watch.
func TestForeignSecret(t *testing.T) {
	t.Parallel()
	namespace := shared.namespace(t)
	foreign := foreignSecret(namespace, "billing")
	if err := shared.Create(t.Context(), foreign); err != nil {
		t.Fatal(err)
	}
	c := shared.newClient(t, namespace, "billing", nil)
	ready := shared.waitReason(t, c, v1alpha1.ReasonSecretConflict)
	if !strings.Contains(ready.Message, `"billing"`) {
		t.Errorf("message %q", ready.Message)
	}
	settled := c.ResourceVersion
	time.Sleep(2 * time.Second) // a hot loop would write by now
	shared.refresh(t, c)
	was := foreign.ResourceVersion
	shared.refresh(t, foreign)
	if c.ResourceVersion != settled || foreign.ResourceVersion != was {
		t.Error("the client or the foreign Secret was written")
	}
	if err := shared.Delete(t.Context(), foreign); err != nil {
		t.Fatal(err)
	}
	shared.waitReason(t, c, v1alpha1.ReasonIssued)
}

// A settled client whose Secret is replaced by somebody else's stays valid, and
// says that its Secret is not its own.
func TestSecretReplacedByForeign(t *testing.T) {
	t.Parallel()
	c := shared.readyClient(t, nil)
	secret := shared.secret(t, c)
	update(t, shared, secret.DeepCopy(), func(s *corev1.Secret) {
		s.Annotations[v1alpha1.AnnotationClientUID] = "another"
	})
	shared.waitReason(t, c, v1alpha1.ReasonSecretConflict)
	shared.waitAccepted(t, secret)
	if roles(c) != "1C" {
		t.Errorf("versions %s", roles(c))
	}
}

func TestImmutableSecret(t *testing.T) {
	t.Parallel()
	c := shared.readyClient(t, nil)
	secret := shared.secret(t, c)
	immutable := true
	update(t, shared, secret.DeepCopy(), func(s *corev1.Secret) { s.Immutable = &immutable })
	update(t, shared, c, func(c *v1alpha1.M2MClient) { c.Spec.Scopes = []string{"read:invoices"} })
	if ready := shared.waitReason(t, c, v1alpha1.ReasonSecretConflict); !strings.Contains(ready.Message, "immutable") {
		t.Errorf("message %q", ready.Message)
	}
	if err := shared.Delete(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	shared.waitReason(t, c, v1alpha1.ReasonIssued)
	if s := shared.secret(t, c); string(s.Data["scopes"]) != "read:invoices" {
		t.Errorf("scopes %q", s.Data["scopes"])
	}
}

// Two clients name one Secret: the one that has it keeps it, and when it goes the
// other gets one of its own.
func TestTwoClientsOneSecret(t *testing.T) {
	t.Parallel()
	namespace := shared.namespace(t)
	name := func(c *v1alpha1.M2MClient) { c.Spec.Secret = &v1alpha1.SecretSpec{Name: "common"} }
	first := shared.newClient(t, namespace, "first", name)
	shared.waitReason(t, first, v1alpha1.ReasonIssued)
	secret := shared.secret(t, first)
	second := shared.newClient(t, namespace, "second", name)
	if ready := shared.waitReason(t, second, v1alpha1.ReasonSecretConflict); !strings.Contains(ready.Message, `"first"`) {
		t.Errorf("message %q", ready.Message)
	}
	if s := shared.secret(t, first); s.ResourceVersion != secret.ResourceVersion {
		t.Error("the second client touched the Secret of the first")
	}
	if err := shared.Delete(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	shared.waitReason(t, second, v1alpha1.ReasonIssued)
	shared.waitRefused(t, secret)
	shared.waitAccepted(t, shared.secret(t, second))
}

func TestIssuerComesAndGoes(t *testing.T) {
	t.Parallel()
	c := shared.newClient(t, shared.namespace(t), "early", func(c *v1alpha1.M2MClient) {
		c.Spec.IssuerRef = &v1alpha1.IssuerReference{Name: "late"}
	})
	if ready := shared.waitReason(t, c, v1alpha1.ReasonIssuerNotFound); !strings.Contains(ready.Message, `"late"`) {
		t.Errorf("message %q", ready.Message)
	}
	issuer := &v1alpha1.ClusterM2MIssuer{
		ObjectMeta: metav1.ObjectMeta{Name: "late"},
		Spec: v1alpha1.ClusterM2MIssuerSpec{
			URL:       "https://late.example.com/tenant",
			ProjectID: "project-late",
			Signing:   &v1alpha1.SigningSpec{Algorithm: "RS256"},
			Token:     &v1alpha1.IssuerTokenSpec{Profile: v1alpha1.ProfileRFC9068, Audiences: []v1alpha1.Audience{"https://api.example.com"}},
			Grants:    []v1alpha1.Grant{{Namespaces: v1alpha1.NamespaceSelection{Names: []string{"*"}}, Scopes: []string{"*"}}},
		},
	}
	if err := shared.Create(t.Context(), issuer); err != nil {
		t.Fatal(err)
	}
	shared.waitReason(t, c, v1alpha1.ReasonIssued)
	secret := shared.secret(t, c)
	shared.waitAccepted(t, secret)
	a := shared.servers()[1].token(t, string(secret.Data["token_url"]), string(secret.Data["client_id"]), string(secret.Data["client_secret"]))
	claims := shared.servers()[0].claims(t, string(secret.Data["jwks_url"]), a.AccessToken)
	if claims["iss"] != issuer.Spec.URL || claims["client_id"] != c.Status.ClientID || fmt.Sprint(claims["aud"]) != "[https://api.example.com]" {
		t.Errorf("claims %v", claims)
	}

	rival := issuer.DeepCopy()
	rival.ObjectMeta = metav1.ObjectMeta{Name: "z-rival"} // made in the same second it would be the one whose name sorts first
	if err := shared.Create(t.Context(), rival); err != nil {
		t.Fatal(err)
	}
	shared.waitIssuer(t, rival, v1alpha1.ReasonConflict)
	shared.waitAccepted(t, secret)
	if err := shared.Delete(t.Context(), rival); err != nil {
		t.Fatal(err)
	}

	if err := shared.Delete(t.Context(), issuer.DeepCopy()); err != nil {
		t.Fatal(err)
	}
	shared.waitReason(t, c, v1alpha1.ReasonIssuerNotFound)
	again := &v1alpha1.ClusterM2MIssuer{ObjectMeta: metav1.ObjectMeta{Name: "late"}, Spec: issuer.Spec}
	if err := shared.Create(t.Context(), again); err != nil {
		t.Fatal(err)
	}
	shared.waitReason(t, c, v1alpha1.ReasonIssued)
	shared.waitAccepted(t, secret)
	shared.servers()[0].claims(t, string(secret.Data["jwks_url"]), a.AccessToken) // its keys were kept
}

// A client of one issuer is unknown to the others.
func TestOtherIssuersClient(t *testing.T) {
	t.Parallel()
	issuer := &v1alpha1.ClusterM2MIssuer{
		ObjectMeta: metav1.ObjectMeta{Name: "other"},
		Spec:       v1alpha1.ClusterM2MIssuerSpec{URL: "https://other.example.com", ProjectID: "project-other"},
	}
	if err := shared.Create(t.Context(), issuer); err != nil {
		t.Fatal(err)
	}
	shared.waitIssuer(t, issuer, v1alpha1.ReasonSigning)
	c := shared.readyClient(t, nil)
	secret := shared.secret(t, c)
	shared.waitAccepted(t, secret)
	secret.Data["token_url"] = []byte(issuer.Status.TokenURL)
	shared.waitRefused(t, secret)
}

func (o *operator) waitIssuer(t *testing.T, issuer *v1alpha1.ClusterM2MIssuer, reason string) {
	t.Helper()
	eventually.Right(t, func() string {
		o.refresh(t, issuer)
		for _, c := range issuer.Status.Conditions {
			if c.Type == v1alpha1.ConditionReady && c.Reason == reason && c.ObservedGeneration == issuer.Generation {
				return ""
			}
		}
		return fmt.Sprintf("issuer %s: %+v; want reason %s", issuer.Name, issuer.Status.Conditions, reason)
	})
}

// A namespace that is being deleted takes no new Secret; a client in it says so,
// and nothing is tried in a loop.
func TestTerminatingNamespace(t *testing.T) {
	t.Parallel()
	c := shared.readyClient(t, nil)
	hold := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: c.Namespace, Name: "hold", Finalizers: []string{"example.com/hold"}}}
	if err := shared.Create(t.Context(), hold); err != nil {
		t.Fatal(err)
	}
	held := &v1alpha1.M2MClient{ObjectMeta: metav1.ObjectMeta{Namespace: c.Namespace, Name: "held", Finalizers: []string{"example.com/hold"}}}
	if err := shared.Create(t.Context(), held); err != nil {
		t.Fatal(err)
	}
	shared.waitReason(t, held, v1alpha1.ReasonIssued)
	secret := shared.secret(t, held)
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: c.Namespace}}
	if err := shared.Delete(t.Context(), namespace); err != nil {
		t.Fatal(err)
	}
	shared.waitRefused(t, secret)
	eventually.Right(t, func() string {
		secrets := &corev1.SecretList{}
		if err := shared.List(t.Context(), secrets, client.InNamespace(c.Namespace)); err != nil {
			return err.Error()
		}
		if len(secrets.Items) > 0 {
			return fmt.Sprintf("%d Secrets are left in the terminating namespace", len(secrets.Items))
		}
		return ""
	})
	shared.refresh(t, held)
	if roles(held) != "1C" {
		t.Errorf("a client that is being deleted was given versions %s", roles(held))
	}
	for _, o := range []client.Object{hold, held} {
		update(t, shared, o, func(o client.Object) { o.SetFinalizers(nil) })
	}
}

// A client that is still there in such a namespace is not written to any more, and
// is valid as before. Without kube-controller-manager the namespace stays so.
func TestClientInTerminatingNamespace(t *testing.T) {
	t.Parallel()
	o := ownOperator(t)
	c := o.readyClient(t, nil)
	secret := o.secret(t, c)
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: c.Namespace}}
	for _, object := range []client.Object{namespace, secret.DeepCopy()} {
		if err := o.Delete(t.Context(), object); err != nil {
			t.Fatal(err)
		}
	}
	settled := c.ResourceVersion
	time.Sleep(2 * time.Second) // what would be written is written by now
	if o.refresh(t, c); c.ResourceVersion != settled {
		t.Error("the client was written again")
	}
	o.waitAccepted(t, secret)
}

// Where the API server refuses the Secret, the client says why and recovers.
func TestQuota(t *testing.T) {
	t.Parallel()
	namespace := shared.namespace(t)
	quota := &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "none"},
		Spec:       corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{"count/secrets": resource.MustParse("0")}},
	}
	if err := shared.Create(t.Context(), quota); err != nil {
		t.Fatal(err)
	}
	quota.Status.Hard = quota.Spec.Hard
	quota.Status.Used = corev1.ResourceList{"count/secrets": resource.MustParse("0")}
	if err := shared.Status().Update(t.Context(), quota); err != nil {
		t.Fatal(err)
	}
	eventually.Right(t, func() string { // the admission plugin keeps its own cache of quotas
		secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "any"}}
		if err := shared.Create(t.Context(), secret, client.DryRunAll); !apierrors.IsForbidden(err) {
			return fmt.Sprintf("the quota isn't in force: %v", err)
		}
		return ""
	})
	c := shared.newClient(t, namespace, "billing", nil)
	if ready := shared.waitReason(t, c, v1alpha1.ReasonSecretForbidden); !strings.Contains(ready.Message, "quota") {
		t.Errorf("message %q", ready.Message)
	}
}

// A foreground deletion takes the Secret first; none is made in its place.
func TestForegroundDeletion(t *testing.T) {
	t.Parallel()
	c := shared.readyClient(t, func(c *v1alpha1.M2MClient) { c.Finalizers = []string{"example.com/hold"} })
	secret := shared.secret(t, c)
	if err := shared.Delete(t.Context(), c, client.PropagationPolicy(metav1.DeletePropagationForeground)); err != nil {
		t.Fatal(err)
	}
	shared.waitRefused(t, secret)
	if err := shared.Delete(t.Context(), secret.DeepCopy()); client.IgnoreNotFound(err) != nil {
		t.Fatal(err)
	}
	marker := shared.readyClient(t, nil) // by now the deletion was seen
	_ = marker
	if err := shared.Get(t.Context(), client.ObjectKeyFromObject(secret), &corev1.Secret{}); client.IgnoreNotFound(err) != nil || err == nil {
		t.Errorf("the Secret of a client that is being deleted: %v", err)
	}
	update(t, shared, c, func(c *v1alpha1.M2MClient) { c.Finalizers = nil })
}
