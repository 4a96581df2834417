package integration

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/test/eventually"
)

// namespace makes a namespace for a test. It isn't deleted: the cluster goes soon.
func (o *operator) namespace(t *testing.T) string {
	t.Helper()
	n := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"}}
	if err := o.Create(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	return n.Name
}

// newClient creates a client, changed as a test wants it.
func (o *operator) newClient(t *testing.T, namespace, name string, change func(*v1alpha1.M2MClient)) *v1alpha1.M2MClient {
	t.Helper()
	c := &v1alpha1.M2MClient{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	c.Spec.Scopes = []string{"read:invoices", "write:invoices"}
	if change != nil {
		change(c)
	}
	if err := o.Create(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	return c
}

// readyClient creates a client and waits until it is ready.
func (o *operator) readyClient(t *testing.T, change func(*v1alpha1.M2MClient)) *v1alpha1.M2MClient {
	t.Helper()
	c := o.newClient(t, o.namespace(t), "billing", change)
	o.waitReason(t, c, v1alpha1.ReasonIssued)
	return c
}

// waitReason waits until the client's Ready condition has a reason, for its
// present generation.
func (o *operator) waitReason(t *testing.T, c *v1alpha1.M2MClient, reason string) metav1.Condition {
	t.Helper()
	var ready *metav1.Condition
	eventually.Right(t, func() string {
		o.refresh(t, c)
		ready = meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionReady)
		if ready == nil || ready.Reason != reason || ready.ObservedGeneration != c.Generation || c.Status.ObservedGeneration != c.Generation {
			return fmt.Sprintf("%s/%s: Ready is %+v at generation %d; want reason %s", c.Namespace, c.Name, ready, c.Generation, reason)
		}
		return ""
	})
	checkKstatus(t, c, *ready)
	return *ready
}

// checkKstatus: a client that isn't ready says whether it waits for a person.
func checkKstatus(t *testing.T, c *v1alpha1.M2MClient, ready metav1.Condition) {
	t.Helper()
	stalled := meta.IsStatusConditionTrue(c.Status.Conditions, v1alpha1.ConditionStalled)
	reconciling := meta.IsStatusConditionTrue(c.Status.Conditions, v1alpha1.ConditionReconciling)
	if waits := stalled != reconciling; waits == (ready.Status == metav1.ConditionTrue) {
		t.Errorf("Ready is %s, Stalled %v, Reconciling %v", ready.Status, stalled, reconciling)
	}
}

func (o *operator) refresh(t *testing.T, object client.Object) {
	t.Helper()
	if err := o.Get(t.Context(), client.ObjectKeyFromObject(object), object); err != nil {
		t.Fatal(err)
	}
}

// update changes an object, against whatever else changes it meanwhile.
func update[T client.Object](t *testing.T, o *operator, object T, change func(T)) {
	t.Helper()
	eventually.Right(t, func() string {
		o.refresh(t, object)
		change(object)
		if err := o.Update(t.Context(), object); err != nil {
			return err.Error()
		}
		return ""
	})
}

// writeStatus changes a client's status, against whatever else does: the servers
// write its usage.
func (o *operator) writeStatus(t *testing.T, c *v1alpha1.M2MClient, change func(*v1alpha1.M2MClientStatus)) {
	t.Helper()
	eventually.Right(t, func() string {
		o.refresh(t, c)
		change(&c.Status)
		if err := o.Status().Update(t.Context(), c); err != nil {
			return err.Error()
		}
		return ""
	})
}

func loseStatus(s *v1alpha1.M2MClientStatus) { *s = v1alpha1.M2MClientStatus{} }

// secret returns the Secret of a client that has one.
func (o *operator) secret(t *testing.T, c *v1alpha1.M2MClient) *corev1.Secret {
	t.Helper()
	s := &corev1.Secret{}
	if err := o.Get(t.Context(), client.ObjectKey{Namespace: c.Namespace, Name: c.Status.SecretName}, s); err != nil {
		t.Fatal(err)
	}
	return s
}

// waitAccepted waits until each replica gives a token for what a Secret holds.
func (o *operator) waitAccepted(t *testing.T, s *corev1.Secret) {
	t.Helper()
	for _, server := range o.servers() {
		eventually.Right(t, func() string {
			a := server.token(t, string(s.Data["token_url"]), string(s.Data["client_id"]), string(s.Data["client_secret"]))
			if a.status != 200 {
				return fmt.Sprintf("%s answers %d %s", server.URL, a.status, a.body)
			}
			return ""
		})
	}
}

// waitRefused waits until each replica refuses what a Secret holds.
func (o *operator) waitRefused(t *testing.T, s *corev1.Secret) {
	t.Helper()
	for _, server := range o.servers() {
		eventually.Right(t, func() string {
			a := server.token(t, string(s.Data["token_url"]), string(s.Data["client_id"]), string(s.Data["client_secret"]))
			if a.status != 401 || a.Error != "invalid_client" {
				return fmt.Sprintf("%s answers %d %s", server.URL, a.status, a.body)
			}
			return ""
		})
	}
}

// roles lists the versions of a client's secret, such as "2C 1P".
func roles(c *v1alpha1.M2MClient) string {
	var out []string
	for _, v := range c.Status.Credentials {
		number, _, _ := strings.Cut(v.Version, "-")
		out = append(out, number+v.Role[:1])
	}
	return strings.Join(out, " ")
}

// publicKey reads a JWK.
func publicKey(t *testing.T, raw json.RawMessage) (key any, kid string) {
	t.Helper()
	var jwk struct{ Kty, Kid, Crv, X, Y, N, E string }
	if err := json.Unmarshal(raw, &jwk); err != nil {
		t.Fatal(err)
	}
	decode := func(s string) []byte {
		b, err := base64.RawURLEncoding.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	if jwk.Kty == "RSA" {
		return &rsa.PublicKey{N: new(big.Int).SetBytes(decode(jwk.N)), E: int(new(big.Int).SetBytes(decode(jwk.E)).Int64())}, jwk.Kid
	}
	point := slices.Concat([]byte{4}, decode(jwk.X), decode(jwk.Y))
	public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		t.Fatal(err)
	}
	return public, jwk.Kid
}
