package admin

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/credential"
	"github.com/m2m-operator/m2m-operator/internal/managementapi"
)

// open is a cluster with an issuer that grants everything.
func open(t *testing.T) *Cluster {
	t.Helper()
	c := NewCluster(slog.New(slog.DiscardHandler))
	c.Receivers().Issuers.Set(&v1alpha1.ClusterM2MIssuer{
		ObjectMeta: metav1.ObjectMeta{Name: "default", UID: "issuer"},
		Spec: v1alpha1.ClusterM2MIssuerSpec{
			URL: "https://auth.example.com", ProjectID: "project-test-1", Environment: v1alpha1.EnvironmentTest,
			Grants: []v1alpha1.Grant{{Namespaces: v1alpha1.NamespaceSelection{Names: []string{"*"}}, Scopes: []string{"*"}, MetadataKeys: []string{"*"}}},
		},
	})
	return c
}

func projectSecretOf(uid types.UID, issuer, secret string) *corev1.Secret {
	digest := sha256.Sum256([]byte(secret))
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: string(uid), UID: uid, Labels: map[string]string{v1alpha1.LabelIssuer: issuer}},
		Type:       v1alpha1.ProjectSecretType,
		Data:       map[string][]byte{v1alpha1.ProjectSecretHashKey: []byte(hex.EncodeToString(digest[:]))},
	}
}

// A project has the secrets that its Secrets say, as they come and go.
func TestProjectSecrets(t *testing.T) {
	c := open(t)
	s := &Service{cluster: c}
	secrets := c.Receivers().Secrets
	refused := func(projectID, secret, reason string) {
		t.Helper()
		by, err := s.Basic(t.Context(), projectID, secret)
		if p, ok := errors.AsType[*managementapi.Problem](err); !ok || p.Status != 401 || p.Reason != reason || by.User.Name != "" {
			t.Errorf("%v %v", by, err)
		}
	}
	taken := func(secret, credential string) {
		t.Helper()
		by, err := s.Basic(t.Context(), "project-test-1", secret)
		if err != nil || by.Credential != credential || by.Issuer != "default" || by.Live || by.User.Name != "m2m-operator.dev:project:project-test-1" {
			t.Errorf("%+v %v", by, err)
		}
	}
	refused("project-test-1", "first", "wrong_project_secret")
	secrets.Set(projectSecretOf("a", "default", "first"))
	secrets.Set(projectSecretOf("b", "default", "second"))
	secrets.Set(projectSecretOf("c", "another", "third"))
	taken("first", "a")
	taken("second", "b")
	refused("project-test-1", "third", "wrong_project_secret")
	refused("project-test-1", "", "wrong_project_secret")
	refused("project-test-2", "first", "unknown_project")

	broken := projectSecretOf("b", "default", "second")
	broken.Data[v1alpha1.ProjectSecretHashKey] = []byte("second")
	secrets.Set(broken)
	refused("project-test-1", "second", "wrong_project_secret")
	ordinary := projectSecretOf("d", "default", "fourth")
	ordinary.Type = corev1.SecretTypeOpaque
	secrets.Set(ordinary)
	refused("project-test-1", "fourth", "wrong_project_secret")
	secrets.Remove(projectSecretOf("a", "default", "first"))
	refused("project-test-1", "first", "wrong_project_secret")
	secrets.Set(projectSecretOf("a", "default", "first"))
	secrets.Keep(map[types.UID]bool{"b": true})
	refused("project-test-1", "first", "wrong_project_secret")
}

// Without the pepper nobody's record can be believed.
func TestPepperComesAndGoes(t *testing.T) {
	c := open(t)
	pepper, err := credential.NewPepper(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	record := credential.Record{ClientID: "m2m-client-test-1"}
	o := &v1alpha1.M2MClient{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "billing", UID: "client"}}
	o.Status.ClientID, o.Status.Seal = record.ClientID, pepper.SealRecord("client", record)
	to := c.Receivers()
	to.Clients.Set(o)
	known := func() bool { _, ok := c.catalogue.Client("default", "m2m-client-test-1"); return ok }
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.PepperSecret, UID: "pepper"}, Data: pepper.Data()}
	if known() {
		t.Error("known without a pepper")
	}
	to.Secrets.Set(secret)
	if !known() {
		t.Error("not known with the pepper")
	}
	damaged := secret.DeepCopy()
	damaged.Data = nil
	to.Secrets.Set(damaged)
	if known() || c.Pepper() != nil {
		t.Error("known with a damaged pepper")
	}
	to.Secrets.Set(secret)
	to.Secrets.Keep(nil)
	if known() || c.Pepper() != nil {
		t.Error("known without a pepper")
	}
	to.Secrets.Set(secret)
	forged := o.DeepCopy()
	forged.Status.ClientID = "admin"
	to.Clients.Set(forged)
	if _, ok := c.catalogue.Client("default", "admin"); ok || known() {
		t.Error("a forged status is believed")
	}
}
