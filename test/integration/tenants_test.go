package integration

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/test/eventually"
)

// delivering names the Secret of a client.
func delivering(name string) func(*v1alpha1.M2MClient) {
	return func(c *v1alpha1.M2MClient) { c.Spec.Secret = &v1alpha1.SecretSpec{Name: name} }
}

// waitSecretOf waits until a Secret is there again that isn't the one given, and tells
// whose it is.
func (o *operator) waitSecretOf(t *testing.T, c *v1alpha1.M2MClient, name string, not types.UID) *corev1.Secret {
	t.Helper()
	s := &corev1.Secret{}
	eventually.Right(t, func() string {
		if err := o.Get(t.Context(), client.ObjectKey{Namespace: c.Namespace, Name: name}, s); err != nil {
			return err.Error()
		}
		if s.UID == not {
			return "the Secret is still the one that was deleted"
		}
		return ""
	})
	if s.Annotations[v1alpha1.AnnotationClientUID] != string(c.UID) {
		t.Fatalf("Secret %s is that of M2MClient %s, and was that of %s", name, s.Labels[v1alpha1.LabelClient], c.Name)
	}
	return s
}

// Two clients name one Secret, and it is deleted: it comes back as the one's that had it,
// whatever state that is in. Pods that mount it never are somebody else.
func TestSharedSecretStaysOnes(t *testing.T) {
	t.Parallel()
	o := ownOperator(t, "--propagation-delay=20ms")
	namespace := o.namespace(t)
	two := o.newClient(t, namespace, "two", func(c *v1alpha1.M2MClient) {
		delivering("shared")(c)
		c.Annotations = map[string]string{v1alpha1.AnnotationPause: "true"}
	})
	one := o.newClient(t, namespace, "one", delivering("shared"))
	o.waitReason(t, one, v1alpha1.ReasonIssued)
	update(t, o, two, func(c *v1alpha1.M2MClient) { c.Annotations = nil })
	if ready := o.waitReason(t, two, v1alpha1.ReasonSecretConflict); !strings.Contains(ready.Message, `"one"`) {
		t.Errorf("message %q", ready.Message)
	}
	lose := func(name string) {
		t.Helper()
		was := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
		o.refresh(t, was)
		if err := o.Delete(t.Context(), was.DeepCopy()); err != nil {
			t.Fatal(err)
		}
		o.waitAccepted(t, o.waitSecretOf(t, one, name, was.UID))
		o.waitReason(t, two, v1alpha1.ReasonSecretConflict)
	}
	for range 3 {
		lose("shared")
	}
	t.Run("inactive", func(t *testing.T) {
		update(t, o, one, func(c *v1alpha1.M2MClient) { c.Spec.State = v1alpha1.ClientInactive })
		o.waitReason(t, one, v1alpha1.ReasonInactive)
		was := o.secret(t, one)
		remove(t, o, was)
		o.waitSecretOf(t, one, "shared", was.UID)
		update(t, o, one, func(c *v1alpha1.M2MClient) { c.Spec.State = "" })
		o.waitReason(t, one, v1alpha1.ReasonIssued)
	})
	t.Run("paused", func(t *testing.T) {
		update(t, o, one, func(c *v1alpha1.M2MClient) { c.Annotations = map[string]string{v1alpha1.AnnotationPause: "true"} })
		was := o.secret(t, one)
		remove(t, o, was)
		o.stays(t, two, v1alpha1.ReasonSecretConflict)
		update(t, o, one, func(c *v1alpha1.M2MClient) { c.Annotations = nil })
		o.waitSecretOf(t, one, "shared", was.UID)
	})
	t.Run("status lost in the same moment, and another controller", func(t *testing.T) {
		o.controller(t, false)
		was := o.secret(t, one)
		remove(t, o, was)
		o.writeStatus(t, one, loseStatus)
		o.controller(t, true)
		o.waitSecretOf(t, one, "shared", was.UID)
		o.waitReason(t, one, v1alpha1.ReasonIssued)
		o.waitReason(t, two, v1alpha1.ReasonSecretConflict)
	})
	t.Run("a former name", func(t *testing.T) {
		update(t, o, one, func(c *v1alpha1.M2MClient) { c.Spec.Secret.Name = "moved" })
		o.waitReason(t, one, v1alpha1.ReasonIssued)
		lose("shared")
		if o.refresh(t, one); len(one.Status.FormerSecrets) != 1 || one.Status.FormerSecrets[0].Name != "shared" {
			t.Errorf("former Secrets %v", one.Status.FormerSecrets)
		}
	})
	t.Run("restored for another", func(t *testing.T) {
		was := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "shared"}}
		o.refresh(t, was)
		remove(t, o, was.DeepCopy())
		foreign := foreignSecret(namespace, "shared")
		foreign.Labels = map[string]string{v1alpha1.LabelAdopt: "two"}
		if err := o.Create(t.Context(), foreign); client.IgnoreAlreadyExists(err) != nil {
			t.Fatal(err)
		}
		o.stays(t, two, v1alpha1.ReasonSecretConflict)
		if err := o.Delete(t.Context(), foreign); client.IgnoreNotFound(err) != nil {
			t.Fatal(err)
		}
	})
	if err := o.Delete(t.Context(), one); err != nil {
		t.Fatal(err)
	}
	all := &corev1.SecretList{} // nothing collects garbage here
	if err := o.List(t.Context(), all, client.InNamespace(namespace)); err != nil {
		t.Fatal(err)
	}
	for i := range all.Items {
		if err := o.Delete(t.Context(), &all.Items[i]); client.IgnoreNotFound(err) != nil {
			t.Fatal(err)
		}
	}
	o.waitReason(t, two, v1alpha1.ReasonIssued)
	o.waitAccepted(t, o.secret(t, two))
}

// stays makes sure that a client was looked at again, and is as it was.
func (o *operator) stays(t *testing.T, c *v1alpha1.M2MClient, reason string) {
	t.Helper()
	update(t, o, c, func(c *v1alpha1.M2MClient) { c.Spec.DisplayName += "." })
	o.waitReason(t, c, reason)
}

// Who may write one client makes a few Secrets, and no more; and what doesn't change the
// credential doesn't write the former ones.
func TestManyRenames(t *testing.T) {
	t.Parallel()
	c := shared.readyClient(t, delivering("s0"))
	secrets := func() []corev1.Secret {
		all := &corev1.SecretList{}
		if err := shared.List(t.Context(), all, client.InNamespace(c.Namespace)); err != nil {
			t.Fatal(err)
		}
		return all.Items
	}
	for n := range 3 {
		update(t, shared, c, func(c *v1alpha1.M2MClient) { c.Spec.Secret.Name = fmt.Sprintf("s%d", n+1) })
		shared.waitReason(t, c, v1alpha1.ReasonIssued)
	}
	for n := range 10 {
		update(t, shared, c, func(c *v1alpha1.M2MClient) { c.Spec.Secret.Name = fmt.Sprintf("more%d", n) })
	}
	ready := shared.waitReason(t, c, v1alpha1.ReasonRenameWaits)
	if all := secrets(); len(all) != 4 || c.Status.SecretName != "s3" || !strings.Contains(ready.Message, `"more9"`) {
		t.Errorf("%d Secrets, the client's is %s: %s", len(all), c.Status.SecretName, ready.Message)
	}
	before := map[string]string{}
	for _, s := range secrets() {
		before[s.Name] = s.ResourceVersion
	}
	update(t, shared, c, func(c *v1alpha1.M2MClient) { c.Spec.Scopes = []string{"read:invoices"} })
	eventually.Right(t, func() string {
		if s := shared.secret(t, c); string(s.Data["scopes"]) != "read:invoices" {
			return "the Secret doesn't say the scopes"
		}
		return ""
	})
	for _, s := range secrets() {
		if changed := s.ResourceVersion != before[s.Name]; changed != (s.Name == "s3") {
			t.Errorf("Secret %s was written: %v", s.Name, changed)
		}
	}
	was := shared.secret(t, c)
	update(t, shared, c, func(c *v1alpha1.M2MClient) { rotation(c).Trigger = "2026" })
	eventually.Right(t, func() string {
		for _, s := range secrets() {
			if string(s.Data["client_secret"]) == string(was.Data["client_secret"]) {
				return fmt.Sprintf("Secret %s has not the new credential", s.Name)
			}
		}
		return ""
	})
	// Back to a former name needs no other Secret.
	update(t, shared, c, func(c *v1alpha1.M2MClient) { c.Spec.Secret.Name = "s1" })
	shared.waitReason(t, c, v1alpha1.ReasonIssued)
	if all := secrets(); len(all) != 4 || c.Status.SecretName != "s1" {
		t.Errorf("%d Secrets, the client's is %s", len(all), c.Status.SecretName)
	}
}

// What another manager puts into a status doesn't stay: a field that the operator can't
// take away by server-side apply would make the servers refuse the client for good.
func TestForeignStatusFields(t *testing.T) {
	t.Parallel()
	c := shared.readyClient(t, nil)
	secret := shared.secret(t, c)
	shared.waitAccepted(t, secret)
	for name, status := range map[string]string{
		"a cut-off to come":  `{"tokensNotBefore":"2036-01-01T00:00:00Z"}`,
		"an id since":        `{"clientIDSince":"2036-01-01T00:00:00Z"}`,
		"scopes":             `{"grantedScopes":["admin"]}`,
		"a version":          `{"lastVersionNumber":99,"credentialSequence":7}`,
		"a Secret":           `{"secretName":"elsewhere","formerSecrets":[{"name":"more","keepUntil":"2036-01-01T00:00:00Z"}]}`,
		"a rotation to come": `{"nextRotationTime":"2036-01-01T00:00:00Z","lastRotationTime":"2020-01-01T00:00:00Z"}`,
	} {
		patch := fmt.Sprintf(`{"apiVersion":"m2m-operator.dev/v1alpha1","kind":"M2MClient","metadata":{"name":%q,"namespace":%q},"status":%s}`, c.Name, c.Namespace, status)
		err := shared.Status().Patch(t.Context(), &v1alpha1.M2MClient{ObjectMeta: metav1.ObjectMeta{Namespace: c.Namespace, Name: c.Name}},
			client.RawPatch(types.ApplyPatchType, []byte(patch)), client.FieldOwner("intruder"), client.ForceOwnership)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		eventually.Right(t, func() string {
			shared.refresh(t, c)
			s := &c.Status
			switch {
			case !meta.IsStatusConditionTrue(s.Conditions, v1alpha1.ConditionReady):
				return name + ": not ready"
			case s.TokensNotBefore != nil || s.ClientIDSince != nil || slices.Contains(s.GrantedScopes, "admin") || s.CredentialSequence != 0,
				s.LastVersionNumber > 9, s.SecretName != secret.Name, s.NextRotationTime != nil, s.LastRotationTime != nil:
				return fmt.Sprintf("%s: it is still there: %+v", name, s)
			}
			for _, f := range c.ManagedFields {
				if f.Manager == "intruder" && len(f.FieldsV1.GetRawString()) > 2 && !strings.Contains(f.FieldsV1.GetRawString(), "formerSecrets") {
					return fmt.Sprintf("%s: the intruder manages %s", name, f.FieldsV1.GetRawString())
				}
			}
			return ""
		})
		shared.waitAccepted(t, secret)
	}
	shared.waitEvent(t, c, "StatusForged")
}

// Nobody gets another's client id: not by asking for it, nor by waiting for it, nor in
// the moment in which its owner makes the client anew. Tokens of before stay dead.
func TestSquattedClientID(t *testing.T) {
	t.Parallel()
	o := ownOperator(t)
	issuer := o.newIssuer(t, nil)
	in := func(namespace, name, id string) *v1alpha1.M2MClient {
		return o.newClient(t, namespace, name, func(c *v1alpha1.M2MClient) {
			of(issuer, "orders")(c)
			c.Spec.ClientID = id
		})
	}
	home, elsewhere := o.namespace(t), o.namespace(t)
	made := in(home, "made", "")
	o.waitReason(t, made, v1alpha1.ReasonIssued)
	chosen := in(home, "chosen", "orders-service")
	o.waitReason(t, chosen, v1alpha1.ReasonIssued)
	token := o.getToken(t, o.secret(t, chosen))

	thief := in(elsewhere, "made", made.Status.ClientID)
	o.waitReason(t, thief, v1alpha1.ReasonClientIDReserved)
	neighbour := in(home, "made-too", made.Status.ClientID)
	o.waitReason(t, neighbour, v1alpha1.ReasonClientIDReserved)
	squatter := in(elsewhere, "chosen", "orders-service")
	o.waitReason(t, squatter, v1alpha1.ReasonClientIDTaken)

	for _, c := range []*v1alpha1.M2MClient{made, chosen} {
		id := c.Status.ClientID
		if err := o.Delete(t.Context(), c.DeepCopy()); err != nil {
			t.Fatal(err)
		}
		remove(t, o, o.secret(t, c))
		eventually.Right(t, func() string {
			if err := o.Get(t.Context(), client.ObjectKeyFromObject(c), c); !apierrors.IsNotFound(err) {
				return fmt.Sprintf("%s is still there: %v", id, err)
			}
			return ""
		})
	}
	o.stays(t, thief, v1alpha1.ReasonClientIDReserved)
	o.stays(t, squatter, v1alpha1.ReasonClientIDTaken)
	// One that comes now must let it rest, for its owner to come back.
	late := in(elsewhere, "late", "orders-service")
	if ready := o.waitReason(t, late, v1alpha1.ReasonClientIDTaken); !strings.Contains(ready.Message, "until lately") {
		t.Errorf("message %q", ready.Message)
	}
	again := in(home, "again", "orders-service")
	o.waitReason(t, again, v1alpha1.ReasonIssued)
	o.stays(t, squatter, v1alpha1.ReasonClientIDTaken)
	o.stays(t, late, v1alpha1.ReasonClientIDTaken)
	if again.Status.ClientIDSince == nil {
		t.Error("nothing says since when the id is the client's")
	}
	// What this process knows of ids that rest is lost with it. Who gets one then is
	// another client than the one before, also to introspection.
	if err := o.Delete(t.Context(), again.DeepCopy()); err != nil {
		t.Fatal(err)
	}
	o.controller(t, true)
	eventually.Right(t, func() string { // dates of tokens are in seconds
		if again.Status.ClientIDSince.Add(time.Second).After(time.Now()) {
			return "the second isn't over"
		}
		return ""
	})
	late = in(elsewhere, "later", "orders-service")
	o.waitReason(t, late, v1alpha1.ReasonIssued)
	o.stays(t, squatter, v1alpha1.ReasonClientIDTaken)
	o.waitActive(t, issuer, o.secret(t, late), o.getToken(t, o.secret(t, late)), true)
	o.waitActive(t, issuer, o.secret(t, late), token, false)
}

// A Secret that is deleted again and again comes back each time.
func TestSecretLostNineTimes(t *testing.T) {
	t.Parallel()
	o := ownOperator(t, "--propagation-delay=20ms")
	c := o.readyClient(t, nil)
	for n := range 12 {
		was := o.secret(t, c)
		remove(t, o, was.DeepCopy())
		now := o.waitSecretOf(t, c, was.Name, was.UID)
		o.waitAccepted(t, now)
		if n == 2 || n == 11 {
			t.Logf("after %d losses the versions are %s", n+1, roles(c))
		}
		eventually.Right(t, func() string {
			if o.refresh(t, c); c.Status.Credentials == nil || c.Status.Credentials[0].Version != now.Annotations[v1alpha1.AnnotationVersion] {
				return "the status is behind the Secret"
			}
			return ""
		})
	}
	o.waitReason(t, c, v1alpha1.ReasonIssued)
	o.waitEvent(t, c, "SecretEnded")
	if len(c.Status.Credentials) > 8 {
		t.Errorf("%d versions", len(c.Status.Credentials))
	}
}

// Another controller that overwrites the Secret is named as what it is, and when it ends
// the Secret is right again.
func TestSecretFoughtOver(t *testing.T) {
	t.Parallel()
	o := ownOperator(t, "--propagation-delay=50ms")
	c := o.readyClient(t, nil)
	key := client.ObjectKeyFromObject(o.secret(t, c))
	fighting, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for fighting.Err() == nil {
			s := &corev1.Secret{}
			if o.Get(fighting, key, s) == nil && string(s.Data["client_secret"]) != "mine" {
				s.Data["client_secret"] = []byte("mine")
				_ = o.Update(fighting, s)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}()
	o.waitReason(t, c, v1alpha1.ReasonSecretLostAgain)
	stop()
	<-done
	o.waitReason(t, c, v1alpha1.ReasonIssued)
	o.waitAccepted(t, o.secret(t, c))
}

// Who adds a key or a ServiceAccount to a client can speak as it, without a secret: it is
// told. And an issuer says which labels and annotations clients may put on Secrets.
func TestAuthenticationIsTold(t *testing.T) {
	t.Parallel()
	issuer := shared.newIssuer(t, func(s *v1alpha1.ClusterM2MIssuerSpec) {
		s.SecretMetadata = &v1alpha1.SecretMetadataAllowance{Labels: []string{"team"}}
	})
	c := shared.readyClient(t, of(issuer, "orders"))
	update(t, shared, c, func(c *v1alpha1.M2MClient) {
		c.Spec.WorkloadIdentities = []v1alpha1.WorkloadIdentity{{ServiceAccountName: "other"}}
	})
	shared.waitReason(t, c, v1alpha1.ReasonIssued)
	shared.waitEvent(t, c, "AuthenticationAdded")
	update(t, shared, c, func(c *v1alpha1.M2MClient) {
		c.Spec.WorkloadIdentities = nil
		c.Spec.Secret = &v1alpha1.SecretSpec{Template: &v1alpha1.SecretTemplate{Metadata: &v1alpha1.SecretMetadata{
			Labels: map[string]v1alpha1.LabelValue{"team": "a", "argocd.argoproj.io/secret-type": "cluster"},
		}}}
	})
	if ready := shared.waitReason(t, c, v1alpha1.ReasonNotGranted); !strings.Contains(ready.Message, "argocd.argoproj.io/secret-type") {
		t.Errorf("message %q", ready.Message)
	}
	shared.waitEvent(t, c, "AuthenticationRemoved")
	if s := shared.secret(t, c); s.Labels["team"] != "a" || s.Labels["argocd.argoproj.io/secret-type"] != "" {
		t.Errorf("labels %v", s.Labels)
	}
	update(t, shared, issuer, func(i *v1alpha1.ClusterM2MIssuer) { i.Spec.SecretMetadata = nil })
	shared.waitReason(t, c, v1alpha1.ReasonIssued)
	if s := shared.secret(t, c); s.Labels["argocd.argoproj.io/secret-type"] != "cluster" {
		t.Errorf("labels %v", s.Labels)
	}
}

// An installation may begin closed: its issuer grants nothing until somebody says so.
func TestDefaultIssuerGrantsNothing(t *testing.T) {
	t.Parallel()
	o := ownOperator(t, "--default-issuer-grants=Nothing")
	issuer := &v1alpha1.ClusterM2MIssuer{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.DefaultIssuer}}
	o.waitIssuer(t, issuer, v1alpha1.ReasonSigning)
	if len(issuer.Spec.Grants) != 0 || meta.FindStatusCondition(issuer.Status.Conditions, v1alpha1.ConditionUnrestricted) != nil {
		t.Errorf("grants %v, conditions %v", issuer.Spec.Grants, issuer.Status.Conditions)
	}
	namespace := o.namespace(t)
	c := o.newClient(t, namespace, "billing", nil)
	if ready := o.waitReason(t, c, v1alpha1.ReasonNotGranted); !strings.Contains(ready.Message, "read:invoices") || len(c.Status.GrantedScopes) != 0 {
		t.Errorf("scopes %v: %s", c.Status.GrantedScopes, ready.Message)
	}
	chosen := o.newClient(t, namespace, "chosen", func(c *v1alpha1.M2MClient) { c.Spec.ClientID = "mine" })
	o.waitReason(t, chosen, v1alpha1.ReasonClientIDNotPermitted)
	update(t, o, issuer, func(i *v1alpha1.ClusterM2MIssuer) {
		i.Spec.Grants = []v1alpha1.Grant{{Namespaces: v1alpha1.NamespaceSelection{Names: []string{namespace}}, Scopes: []string{"read:*", "write:*"}}}
	})
	o.waitReason(t, c, v1alpha1.ReasonIssued)
}
