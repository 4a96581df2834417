package integration

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/test/eventually"
)

func TestSecretTemplate(t *testing.T) {
	t.Parallel()
	c := shared.readyClient(t, func(c *v1alpha1.M2MClient) {
		c.Labels = map[string]string{"argocd.argoproj.io/instance": "app"}
		c.Spec.Secret = &v1alpha1.SecretSpec{Template: &v1alpha1.SecretTemplate{
			Metadata: &v1alpha1.SecretMetadata{Labels: map[string]v1alpha1.LabelValue{"team": "finance"}},
			Keys:     &v1alpha1.SecretKeys{ClientID: "ID"},
			Data:     map[string]v1alpha1.ComposedValue{".env": "ID={{ client_id }}\nSCOPES=\"{{scopes}}\"\n"},
		}}
	})
	was := shared.secret(t, c)
	if string(was.Data["ID"]) != c.Status.ClientID || was.Data["client_id"] != nil {
		t.Errorf("keys %v", was.Data)
	}
	if want := "ID=" + c.Status.ClientID + "\nSCOPES=\"read:invoices write:invoices\"\n"; string(was.Data[".env"]) != want {
		t.Errorf(".env is %q", was.Data[".env"])
	}
	if was.Labels["team"] != "finance" || was.Labels["argocd.argoproj.io/instance"] != "" {
		t.Errorf("labels %v", was.Labels)
	}

	update(t, shared, was.DeepCopy(), func(s *corev1.Secret) { s.Labels["theirs"] = "kept" })
	update(t, shared, c, func(c *v1alpha1.M2MClient) {
		c.Spec.Secret.Template = &v1alpha1.SecretTemplate{Keys: &v1alpha1.SecretKeys{ClientSecret: "PASSWORD"}}
	})
	eventually.Right(t, func() string {
		s := shared.secret(t, c)
		if string(s.Data["PASSWORD"]) != string(was.Data["client_secret"]) || s.Data[".env"] != nil || s.Data["ID"] != nil {
			return fmt.Sprintf("a changed template gives %d keys, or another secret", len(s.Data))
		}
		if _, ok := s.Labels["team"]; ok || s.Labels["theirs"] != "kept" {
			return fmt.Sprintf("labels %v", s.Labels)
		}
		return ""
	})
	shared.refresh(t, c)
	if roles(c) != "1C" {
		t.Errorf("a changed template made versions %s", roles(c))
	}
}

func TestRetain(t *testing.T) {
	t.Parallel()
	c := shared.readyClient(t, func(c *v1alpha1.M2MClient) {
		c.Spec.Secret = &v1alpha1.SecretSpec{DeletionPolicy: v1alpha1.DeletionRetain}
	})
	secret := shared.secret(t, c)
	if len(secret.OwnerReferences) > 0 {
		t.Errorf("a Secret to be retained is owned: %v", secret.OwnerReferences)
	}
	update(t, shared, c, func(c *v1alpha1.M2MClient) { c.Spec.Secret.DeletionPolicy = v1alpha1.DeletionDelete })
	eventually.Right(t, func() string {
		if s := shared.secret(t, c); !metav1.IsControlledBy(s, c) {
			return "the Secret is not owned though deletionPolicy is Delete"
		}
		return ""
	})
	update(t, shared, c, func(c *v1alpha1.M2MClient) { c.Spec.Secret.DeletionPolicy = v1alpha1.DeletionRetain })
	eventually.Right(t, func() string {
		if s := shared.secret(t, c); len(s.OwnerReferences) > 0 {
			return "the Secret is owned though deletionPolicy is Retain"
		}
		return ""
	})
	shared.waitAccepted(t, secret)
	if err := shared.Delete(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	shared.waitRefused(t, secret)
	if s := shared.secret(t, c); string(s.Data["client_secret"]) != string(secret.Data["client_secret"]) {
		t.Error("the retained Secret changed")
	}
	again := shared.newClient(t, c.Namespace, c.Name, nil)
	if ready := shared.waitReason(t, again, v1alpha1.ReasonSecretConflict); !strings.Contains(ready.Message, "delete or rename") {
		t.Errorf("message %q", ready.Message)
	}
	shared.waitRefused(t, secret)
}

// What a client asks for and doesn't get is a condition, and tokens stay within bounds.
func TestViolations(t *testing.T) {
	t.Parallel()
	long := shared.newClient(t, shared.namespace(t), "long", func(c *v1alpha1.M2MClient) {
		c.Spec.Token = &v1alpha1.TokenSpec{Lifetime: &metav1.Duration{Duration: 48 * time.Hour}}
	})
	if ready := shared.waitReason(t, long, v1alpha1.ReasonLifetimeOutOfBounds); !strings.Contains(ready.Message, "1m0s to 24h0m0s") {
		t.Errorf("message %q", ready.Message)
	}
	secret := shared.secret(t, long)
	shared.waitAccepted(t, secret)
	a := shared.servers()[0].token(t, long.Status.TokenURL, long.Status.ClientID, string(secret.Data["client_secret"]))
	claims := shared.servers()[0].claims(t, string(secret.Data["jwks_url"]), a.AccessToken)
	if lifetime := claims["exp"].(float64) - claims["iat"].(float64); lifetime != 24*3600 {
		t.Errorf("the token lives %v s", lifetime)
	}

	big := shared.newClient(t, long.Namespace, "big", func(c *v1alpha1.M2MClient) {
		c.Spec.TrustedMetadata = map[string]apiextensionsv1.JSON{"blob": {Raw: []byte(`"` + strings.Repeat("x", 4096) + `"`)}}
	})
	shared.waitReason(t, big, v1alpha1.ReasonMetadataTooLarge)
	update(t, shared, big, func(c *v1alpha1.M2MClient) { c.Spec.TrustedMetadata = nil })
	shared.waitReason(t, big, v1alpha1.ReasonIssued)
}
