package install

import (
	"context"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/test/eventually"
)

// What the policy says when it refuses.
const (
	saysNamespace = "put the M2MClient into another namespace"
	saysReserved  = "delivers no client's credential to its own namespace"
	saysLabels    = "writes only Secrets that its labels say are an M2MClient's"
	saysForeign   = "changes only Secrets that it made for an M2MClient"
	saysType      = "makes only Secrets of the type Opaque"
	saysToken     = "writes no Secrets that hold tokens"
	saysPepper    = "never deletes its pepper"
)

// secretOf is a Secret as the controller makes them for a client.
func secretOf(namespace, name string) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{
		Namespace: namespace, Name: name,
		Labels:      map[string]string{v1alpha1.LabelManagedBy: v1alpha1.ManagedBy, v1alpha1.LabelClient: "billing"},
		Annotations: map[string]string{v1alpha1.AnnotationClientUID: "1", v1alpha1.AnnotationVersion: "1-abcd"},
	}}
}

func with(s *corev1.Secret, change func(*corev1.Secret)) *corev1.Secret {
	s = s.DeepCopy()
	change(s)
	return s
}

func plain(namespace, name string) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
}

func ofType(s *corev1.Secret, kind corev1.SecretType) *corev1.Secret {
	return with(s, func(s *corev1.Secret) {
		s.Type = kind
		if kind == corev1.SecretTypeTLS {
			s.Data = map[string][]byte{corev1.TLSCertKey: {}, corev1.TLSPrivateKeyKey: {}}
		}
	})
}

func managed(s *corev1.Secret) *corev1.Secret {
	return with(s, func(s *corev1.Secret) { s.Labels = map[string]string{v1alpha1.LabelManagedBy: v1alpha1.ManagedBy} })
}

// Of all Secrets that RBAC lets the controller write the policy leaves it those that it
// needs.
func TestControllerWritesOnlyItsSecrets(t *testing.T) {
	c := installed(t)
	controller := c.as(t, "controller")
	eventually.Right(t, func() string { // the API server hears of the policy a moment later
		err := controller.Create(t.Context(), plain("default", "probe"), client.DryRunAll)
		if !apierrors.IsForbidden(err) {
			return "the policy doesn't count yet"
		}
		return ""
	})
	client1 := secretOf("default", "billing")
	for _, test := range []struct {
		name   string
		secret *corev1.Secret
		says   string // empty: it may
	}{
		{"a client's", client1, ""},
		{"a client's in the operator's namespace", secretOf(operatorNamespace, "billing"), saysReserved},
		{"planted signing keys", secretOf(operatorNamespace, v1alpha1.SigningKeysSecretPrefix+"partners"), saysReserved},
		{"planted signing keys, owned", with(plain(operatorNamespace, v1alpha1.SigningKeysSecretPrefix+"partners"), func(s *corev1.Secret) {
			s.OwnerReferences = []metav1.OwnerReference{{APIVersion: v1alpha1.SchemeGroupVersion.String(), Kind: "M2MClient", Name: "x", UID: "1"}}
		}), saysReserved},
		{"a planted CA", secretOf(operatorNamespace, v1alpha1.AuthoritySecret), saysReserved},
		{"a client's under a name of the operator's", secretOf("default", "m2m-operator-pepper"), saysReserved},
		{"without the client's name", with(client1, func(s *corev1.Secret) { delete(s.Labels, v1alpha1.LabelClient) }), saysLabels},
		{"without its own label", with(client1, func(s *corev1.Secret) { delete(s.Labels, v1alpha1.LabelManagedBy) }), saysLabels},
		{"without the client's UID", with(client1, func(s *corev1.Secret) { s.Annotations = nil }), saysLabels},
		{"unmarked", plain("default", "x"), saysLabels},
		{"a ServiceAccount's token", with(ofType(client1, corev1.SecretTypeServiceAccountToken), func(s *corev1.Secret) {
			s.Annotations[corev1.ServiceAccountNameKey] = "default"
		}), saysType},
		{"a node's token", ofType(secretOf("kube-system", "bootstrap-token-abcdef"), "bootstrap.kubernetes.io/token"), saysNamespace},
		{"a project secret", ofType(secretOf(operatorNamespace, "p"), v1alpha1.ProjectSecretType), saysType},
		{"a certificate for a client", ofType(client1, corev1.SecretTypeTLS), saysType},
		{"in kube-system", secretOf("kube-system", "billing"), saysNamespace},
		{"in kube-public", secretOf("kube-public", "billing"), saysNamespace},
		{"the pepper", managed(plain(operatorNamespace, v1alpha1.PepperSecret)), ""},
		{"signing keys", managed(plain(operatorNamespace, v1alpha1.SigningKeysSecretPrefix+"default")), ""},
		{"the CA", managed(plain(operatorNamespace, "m2m-operator-ca")), ""},
		{"the serving certificate", ofType(managed(plain(operatorNamespace, "m2m-operator-tls")), corev1.SecretTypeTLS), ""},
		{"the API's certificate", ofType(managed(plain(operatorNamespace, "m2m-operator-api-tls")), corev1.SecretTypeTLS), ""},
		{"a pepper elsewhere", managed(plain("default", v1alpha1.PepperSecret)), saysLabels},
		{"another of the operator's namespace", managed(plain(operatorNamespace, "other")), saysLabels},
	} {
		t.Run("create "+test.name, func(t *testing.T) {
			expect(t, controller.Create(t.Context(), test.secret.DeepCopy(), client.DryRunAll), test.says)
		})
	}

	adoptable := with(plain("default", "legacy"), func(s *corev1.Secret) { s.Labels = map[string]string{v1alpha1.LabelAdopt: "billing"} })
	unlabelled := with(client1, func(s *corev1.Secret) { s.Labels = nil })
	owner := &v1alpha1.M2MClient{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "owner"}}
	if err := c.Create(t.Context(), owner); err != nil {
		t.Fatal(err)
	}
	owned := plain("default", "owned")
	owned.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(owner, v1alpha1.SchemeGroupVersion.WithKind("M2MClient"))}
	for _, test := range []struct {
		name        string
		is, becomes *corev1.Secret
		says        string
	}{
		{"a client's", client1, with(client1, func(s *corev1.Secret) { s.Data = map[string][]byte{"client_secret": []byte("x")} }), ""},
		{"a client's that lost its labels", unlabelled, client1, ""},
		{"a client's that lost all but its owner", owned, secretOf("default", "owned"), ""},
		{"one that its label gives away", adoptable, secretOf("default", "legacy"), ""},
		{"one that its label gives to another", with(adoptable, func(s *corev1.Secret) { s.Labels[v1alpha1.LabelAdopt] = "orders" }), secretOf("default", "legacy"), saysForeign},
		{"a foreign one", plain("default", "database"), secretOf("default", "database"), saysForeign},
		{"a client's into an unmarked one", client1, plain("default", "billing"), saysLabels},
		{"a ServiceAccount's token that its label gives away", tokenOf(adoptable), tokenOf(secretOf("default", "legacy")), saysToken},
		{"a project secret", ofType(secretOf(operatorNamespace, "p"), v1alpha1.ProjectSecretType), with(ofType(secretOf(operatorNamespace, "p"), v1alpha1.ProjectSecretType), func(s *corev1.Secret) {
			s.Data = map[string][]byte{v1alpha1.ProjectSecretHashKey: []byte("x")}
		}), saysToken},
		{"the pepper of a person who gave it up", plain(operatorNamespace, v1alpha1.PepperSecret), managed(plain(operatorNamespace, v1alpha1.PepperSecret)), ""},
		{"its certificate", ofType(managed(plain(operatorNamespace, "m2m-operator-tls")), corev1.SecretTypeTLS), with(ofType(managed(plain(operatorNamespace, "m2m-operator-tls")), corev1.SecretTypeTLS), func(s *corev1.Secret) {
			s.Data["ca.crt"] = []byte("x")
		}), ""},
		{"another's certificate", ofType(plain(operatorNamespace, "m2m-operator-tls"), corev1.SecretTypeTLS), ofType(managed(plain(operatorNamespace, "m2m-operator-tls")), corev1.SecretTypeTLS), saysForeign},
	} {
		t.Run("update "+test.name, func(t *testing.T) {
			is := c.made(t, test.is)
			becomes := test.becomes.DeepCopy()
			// Without the resourceVersion: Kubernetes fills tokens in.
			becomes.UID = is.UID
			expect(t, controller.Update(t.Context(), becomes, client.DryRunAll), test.says)
		})
	}

	for _, test := range []struct {
		name   string
		secret *corev1.Secret
		says   string
	}{
		{"a client's", client1, ""},
		{"a foreign one", plain("default", "database"), saysForeign},
		{"one that its label gives away", adoptable, saysForeign},
		{"a project secret", ofType(managed(plain(operatorNamespace, "p")), v1alpha1.ProjectSecretType), saysForeign},
		{"signing keys", managed(plain(operatorNamespace, v1alpha1.SigningKeysSecretPrefix+"gone")), ""},
		{"the pepper", managed(plain(operatorNamespace, v1alpha1.PepperSecret)), saysPepper},
	} {
		t.Run("delete "+test.name, func(t *testing.T) {
			expect(t, controller.Delete(t.Context(), c.made(t, test.secret), client.DryRunAll), test.says)
		})
	}
}

// The policy is about the controller alone.
func TestOthersWriteSecrets(t *testing.T) {
	c := installed(t)
	c.made(t, plain("kube-system", "anything"))
}

// tokenOf is a ServiceAccount's token; the API server wants the account to exist.
func tokenOf(s *corev1.Secret) *corev1.Secret {
	return with(ofType(s, corev1.SecretTypeServiceAccountToken), func(s *corev1.Secret) {
		if s.Annotations == nil {
			s.Annotations = map[string]string{}
		}
		s.Annotations[corev1.ServiceAccountNameKey] = "default"
	})
}

// made is a Secret that an administrator made, for the time of a test.
func (c *cluster) made(t *testing.T, secret *corev1.Secret) *corev1.Secret {
	t.Helper()
	secret = secret.DeepCopy()
	if err := c.Create(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Delete(context.WithoutCancel(t.Context()), secret); client.IgnoreNotFound(err) != nil {
			t.Error(err)
		}
	})
	return secret
}

func expect(t *testing.T, err error, says string) {
	t.Helper()
	switch {
	case says == "" && err != nil:
		t.Errorf("it is refused: %v", err)
	case says != "" && (!apierrors.IsForbidden(err) || !strings.Contains(err.Error(), says)):
		t.Errorf("%v; want Forbidden: %s", err, says)
	}
}
