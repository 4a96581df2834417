package integration

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/test/eventually"
	"github.com/m2m-operator/m2m-operator/test/installation"
)

// Keys that credentials depend on are never made anew behind anybody's back: the
// operator says what is missing, refuses, and goes on when it is back.
func TestKeysLost(t *testing.T) {
	t.Parallel()
	o := ownOperator(t)
	c := o.readyClient(t, nil)
	secret := o.secret(t, c)
	o.waitAccepted(t, secret)
	issuer := &v1alpha1.ClusterM2MIssuer{ObjectMeta: metav1.ObjectMeta{Name: "default"}}

	t.Run("pepper deleted", func(t *testing.T) {
		o.lose(t, v1alpha1.PepperSecret, remove, func() {
			o.waitIssuer(t, issuer, v1alpha1.ReasonPepperLost)
			if ready := o.waitReason(t, c, v1alpha1.ReasonPepperLost); !strings.Contains(ready.Message, "restore it from a backup") {
				t.Errorf("message %q", ready.Message)
			}
			o.waitUnavailable(t, secret)
			newcomer := o.newClient(t, c.Namespace, "newcomer", nil)
			o.waitReason(t, newcomer, v1alpha1.ReasonPepperLost)
		})
		o.waitReason(t, c, v1alpha1.ReasonIssued)
		o.waitAccepted(t, secret)
		newcomer := &v1alpha1.M2MClient{ObjectMeta: metav1.ObjectMeta{Namespace: c.Namespace, Name: "newcomer"}}
		o.waitReason(t, newcomer, v1alpha1.ReasonIssued)
	})
	t.Run("pepper deleted while nobody looks", func(t *testing.T) {
		o.lose(t, v1alpha1.PepperSecret, remove, func() {
			o.controller(t, true)
			o.waitReason(t, c, v1alpha1.ReasonPepperLost)
		})
		o.waitReason(t, c, v1alpha1.ReasonIssued)
	})
	t.Run("pepper deleted, and all statuses lost", func(t *testing.T) {
		o.controller(t, false)
		o.lose(t, v1alpha1.PepperSecret, remove, func() {
			all := &v1alpha1.M2MClientList{}
			if err := o.List(t.Context(), all); err != nil {
				t.Fatal(err)
			}
			for i := range all.Items {
				o.writeStatus(t, &all.Items[i], loseStatus)
			}
			o.controller(t, true)
			o.waitReason(t, c, v1alpha1.ReasonPepperLost)
		})
		o.waitReason(t, c, v1alpha1.ReasonIssued)
		o.waitAccepted(t, secret)
	})
	t.Run("pepper damaged", func(t *testing.T) {
		o.lose(t, v1alpha1.PepperSecret, damage, func() {
			o.waitReason(t, c, v1alpha1.ReasonPepperLost)
			o.waitUnavailable(t, secret)
		})
		o.waitReason(t, c, v1alpha1.ReasonIssued)
	})
	t.Run("another pepper in its place", func(t *testing.T) {
		o.lose(t, v1alpha1.PepperSecret, another, func() {
			if ready := o.waitReason(t, c, v1alpha1.ReasonPepperLost); !strings.Contains(ready.Message, "a pepper key that") {
				t.Errorf("message %q", ready.Message)
			}
			o.waitRefused(t, secret)
			update(t, o, c, func(c *v1alpha1.M2MClient) { c.Spec.Scopes = []string{"other"} })
			o.waitReason(t, c, v1alpha1.ReasonPepperLost)
		})
		o.waitReason(t, c, v1alpha1.ReasonIssued)
		o.waitAccepted(t, secret)
	})
	t.Run("signing keys deleted", func(t *testing.T) {
		o.lose(t, v1alpha1.SigningKeysSecretPrefix+"default", remove, func() {
			o.waitIssuer(t, issuer, v1alpha1.ReasonSigningKeyLost)
			o.waitReason(t, c, v1alpha1.ReasonIssuerNotReady)
			o.waitUnavailable(t, secret)
		})
		o.waitReason(t, c, v1alpha1.ReasonIssued)
		o.waitAccepted(t, secret)
	})
	t.Run("signing keys damaged", func(t *testing.T) {
		o.lose(t, v1alpha1.SigningKeysSecretPrefix+"default", damage, func() {
			o.waitIssuer(t, issuer, v1alpha1.ReasonSigningKeyCorrupt)
			o.waitUnavailable(t, secret)
		})
		o.waitReason(t, c, v1alpha1.ReasonIssued)
	})
	t.Run("loss of signing keys accepted", func(t *testing.T) {
		keys := o.ownSecret(t, v1alpha1.SigningKeysSecretPrefix+"default")
		if err := o.Delete(t.Context(), keys); err != nil {
			t.Fatal(err)
		}
		o.waitIssuer(t, issuer, v1alpha1.ReasonSigningKeyLost)
		lost := issuer.Status.Keys[0].KeyID
		update(t, o, issuer, func(i *v1alpha1.ClusterM2MIssuer) {
			i.Annotations = map[string]string{"m2m-operator.dev/replace-lost-signing-key": lost}
		})
		o.waitIssuer(t, issuer, v1alpha1.ReasonSigning)
		if issuer.Status.Keys[0].KeyID == lost {
			t.Error("the key is the old one")
		}
		o.waitAccepted(t, secret)
	})
	t.Run("default issuer deleted", func(t *testing.T) {
		if err := o.Delete(t.Context(), issuer); err != nil {
			t.Fatal(err)
		}
		o.waitReason(t, c, v1alpha1.ReasonIssuerNotFound)
		o.controller(t, true)
		second := o.newClient(t, c.Namespace, "second", nil)
		o.waitReason(t, second, v1alpha1.ReasonIssuerNotFound) // the controller is at work again
		if err := o.Get(t.Context(), client.ObjectKey{Name: "default"}, &v1alpha1.ClusterM2MIssuer{}); !apierrors.IsNotFound(err) {
			t.Errorf("the issuer came back: %v", err)
		}
	})
}

// ownOperator starts an operator for one test, without kube-controller-manager, its
// controller with more flags.
func ownOperator(t *testing.T, controllerArgs ...string) *operator {
	t.Helper()
	return ownInstallation(t, installation.Options{ControllerArgs: controllerArgs})
}

func ownInstallation(t *testing.T, options installation.Options) *operator {
	t.Helper()
	options.Dir = filepath.Join(t.TempDir(), "operator")
	o, err := startOperator(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := o.Stop(); err != nil {
			t.Error(err)
		}
	})
	return o
}

func remove(t *testing.T, o *operator, s *corev1.Secret) {
	if err := o.Delete(t.Context(), s); err != nil {
		t.Fatal(err)
	}
}

func damage(t *testing.T, o *operator, s *corev1.Secret) {
	update(t, o, s, func(s *corev1.Secret) {
		for key, value := range s.Data {
			s.Data[key] = value[:len(value)/2]
		}
	})
}

// another replaces the pepper by a sound one, as a fresh installation has it.
func another(t *testing.T, o *operator, s *corev1.Secret) {
	pepper := shared.ownSecret(t, s.Name)
	update(t, o, s, func(s *corev1.Secret) { s.Data = pepper.Data })
}

// lose breaks a Secret of the operator, checks what follows, and restores it.
func (o *operator) lose(t *testing.T, name string, how func(*testing.T, *operator, *corev1.Secret), check func()) {
	t.Helper()
	backup := o.ownSecret(t, name)
	how(t, o, backup.DeepCopy())
	check()
	now := &corev1.Secret{}
	if err := o.Get(t.Context(), client.ObjectKeyFromObject(backup), now); err == nil {
		update(t, o, now, func(s *corev1.Secret) { s.Data = backup.Data })
		return
	}
	backup.ResourceVersion, backup.UID = "", ""
	if err := o.Create(t.Context(), backup); err != nil {
		t.Fatalf("restoring: %v; was it made anew?", err)
	}
}

// controller stops the controller, or starts another.
func (o *operator) controller(t *testing.T, run bool) {
	t.Helper()
	if !run {
		o.Controller.Stop(10 * time.Second)
		return
	}
	if err := o.RestartController(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func (o *operator) ownSecret(t *testing.T, name string) *corev1.Secret {
	t.Helper()
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: installation.Namespace, Name: name}}
	o.refresh(t, s)
	return s
}

// waitUnavailable waits until each replica says that it can't give tokens now.
func (o *operator) waitUnavailable(t *testing.T, s *corev1.Secret) {
	t.Helper()
	for _, server := range o.servers() {
		eventually.Right(t, func() string {
			a := server.token(t, string(s.Data["token_url"]), string(s.Data["client_id"]), string(s.Data["client_secret"]))
			response, err := http.Get(server.URL + "/readyz")
			if err != nil {
				return err.Error()
			}
			_ = response.Body.Close()
			if a.status != http.StatusServiceUnavailable || a.Error != "temporarily_unavailable" || response.StatusCode != http.StatusServiceUnavailable {
				return fmt.Sprintf("token endpoint %d, /readyz %d", a.status, response.StatusCode)
			}
			return ""
		})
	}
}
