package integration

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/test/eventually"
	"github.com/m2m-operator/m2m-operator/test/installation"
)

// serviceName is where pods reach the token servers.
const serviceName = "m2m-operator.m2m-system.svc"

// secured is a replica that serves TLS.
type secured struct {
	address string
	*installation.Server
}

// secure starts a replica with the certificate of the operator's Secret.
func (o *operator) secure(t *testing.T) *secured {
	t.Helper()
	s, address, err := o.AddTLSServer(t.Context(), t.TempDir()+"/audit.log", v1alpha1.ServingSecret)
	if err != nil {
		t.Fatal(err)
	}
	return &secured{address, s}
}

// web is a program that trusts a bundle and nothing else, and reaches the Service at this
// replica. It keeps no connections, but sessions if it is given somewhere to.
func (s *secured) web(bundle []byte, sessions tls.ClientSessionCache) *http.Client {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(bundle)
	return &http.Client{Timeout: eventually.Patience, Transport: &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{RootCAs: roots, ClientSessionCache: sessions},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, s.address)
		},
	}}
}

func tokenBy(web *http.Client, s *corev1.Secret) (int, error) {
	response, err := web.PostForm(string(s.Data["token_url"]), url.Values{
		"grant_type": {"client_credentials"}, "client_id": {string(s.Data["client_id"])}, "client_secret": {string(s.Data["client_secret"])},
	})
	if err != nil {
		return 0, err
	}
	response.Body.Close()
	return response.StatusCode, nil
}

// A pod that trusts what its Secret has, and nothing else, gets tokens by TLS: with the
// operator's own certificate, through another authority, and with somebody else's.
func TestOwnCertificates(t *testing.T) {
	t.Parallel()
	o, err := startOperator(t.Context(), installation.Options{Dir: t.TempDir(), Servers: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := o.Stop(); err != nil {
			t.Error(err)
		}
	})
	issuer := o.newIssuer(t, func(spec *v1alpha1.ClusterM2MIssuerSpec) { spec.URL = "https://" + serviceName })
	inCluster := func(c *v1alpha1.M2MClient) { c.Spec.IssuerRef = &v1alpha1.IssuerReference{Name: issuer.Name} }
	c := o.readyClient(t, inCluster)
	secret := o.secret(t, c)
	first := secret.Data["ca.crt"]
	if outside := o.readyClient(t, nil); len(o.secret(t, outside).Data["ca.crt"]) > 0 {
		t.Error("a client of an issuer elsewhere has the operator's authority")
	}
	public := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: installation.Namespace, Name: v1alpha1.AuthorityConfigMap}}
	o.refresh(t, public)
	if public.Data["ca.crt"] != string(first) || len(first) == 0 {
		t.Fatalf("the ConfigMap has %q, the Secret %q", public.Data["ca.crt"], first)
	}
	one, two := o.secure(t), o.secure(t)
	eventually.Right(t, func() string {
		if status, err := tokenBy(one.web(first, nil), secret); err != nil || status != http.StatusOK {
			return fmt.Sprint(status, err)
		}
		return ""
	})
	o.checkTLS(t, one, two, first)
	o.checkSuccession(t, c, one, first)
	o.checkForeign(t, inCluster, one)
}

// checkTLS: version 1.3 alone, and a session that began at one replica goes on at another.
func (o *operator) checkTLS(t *testing.T, one, two *secured, bundle []byte) {
	t.Helper()
	old := one.web(bundle, nil)
	old.Transport.(*http.Transport).TLSClientConfig.MaxVersion = tls.VersionTLS12
	if response, err := old.Get("https://" + serviceName + "/healthz"); err == nil {
		response.Body.Close()
		t.Error("TLS 1.2 is spoken")
	}
	sessions := tls.NewLRUClientSessionCache(1)
	for n, s := range []*secured{one, two, one} {
		response, err := s.web(bundle, sessions).Get("https://" + serviceName + "/.well-known/openid-configuration")
		if err != nil {
			t.Fatal(err)
		}
		_, _ = response.Body.Read(make([]byte, 1)) // tickets come with what is read
		response.Body.Close()
		if response.TLS.DidResume != (n > 0) {
			t.Errorf("connection %d: resumed is %v", n+1, response.TLS.DidResume)
		}
	}
}

// checkSuccession: another authority is published at once, given to who is new, and signs
// nothing yet. What somebody takes away or edits comes back.
func (o *operator) checkSuccession(t *testing.T, c *v1alpha1.M2MClient, one *secured, first []byte) {
	t.Helper()
	key := client.ObjectKey{Namespace: installation.Namespace, Name: v1alpha1.AuthoritySecret}
	authority := &corev1.Secret{}
	if err := o.Get(t.Context(), key, authority); err != nil {
		t.Fatal(err)
	}
	metav1.SetMetaDataAnnotation(&authority.ObjectMeta, v1alpha1.AnnotationRotate, "now")
	if err := o.Update(t.Context(), authority); err != nil {
		t.Fatal(err)
	}
	public := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: v1alpha1.AuthorityConfigMap}}
	eventually.Right(t, func() string {
		if o.refresh(t, public); strings.Count(public.Data["ca.crt"], "BEGIN CERTIFICATE") != 2 {
			return "no other authority is published: " + public.Data["ca.crt"]
		}
		return ""
	})
	// One that comes between what verifiers are told and what clients are has its turn later.
	eventually.Right(t, func() string {
		fresh := o.readyClient(t, func(n *v1alpha1.M2MClient) { n.Spec.IssuerRef = c.Spec.IssuerRef })
		if got := o.secret(t, fresh).Data["ca.crt"]; string(got) != public.Data["ca.crt"] {
			return fmt.Sprintf("a new client has %s", got)
		}
		return ""
	})
	secret := o.secret(t, c)
	if status, err := tokenBy(one.web(first, nil), secret); err != nil || status != http.StatusOK {
		t.Errorf("who trusts the first authority only is left behind: %d %v", status, err)
	}

	bundle := public.Data["ca.crt"]
	public.Data["ca.crt"] = "edited"
	if err := o.Update(t.Context(), public); err != nil {
		t.Fatal(err)
	}
	secret.Data["ca.crt"] = []byte("edited")
	if err := o.Update(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	serving := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: v1alpha1.ServingSecret}}
	if err := o.Delete(t.Context(), serving); err != nil {
		t.Fatal(err)
	}
	eventually.Right(t, func() string {
		o.refresh(t, public)
		if public.Data["ca.crt"] != bundle || string(o.secret(t, c).Data["ca.crt"]) != bundle {
			return "what was edited stays"
		}
		if err := o.Get(t.Context(), client.ObjectKeyFromObject(serving), serving); err != nil {
			return err.Error()
		}
		return ""
	})
	if status, err := tokenBy(one.web([]byte(bundle), nil), o.secret(t, c)); err != nil || status != http.StatusOK {
		t.Errorf("after it was mended: %d %v", status, err)
	}
}

// checkForeign: a Secret that the operator didn't make is served as it is, and left alone.
func (o *operator) checkForeign(t *testing.T, inCluster func(*v1alpha1.M2MClient), one *secured) {
	t.Helper()
	key := client.ObjectKey{Namespace: installation.Namespace, Name: v1alpha1.ServingSecret}
	serving := &corev1.Secret{}
	if err := o.Get(t.Context(), key, serving); err != nil {
		t.Fatal(err)
	}
	chain, private := selfSigned(t, serviceName)
	delete(serving.Labels, v1alpha1.LabelManagedBy)
	serving.Data = map[string][]byte{corev1.TLSCertKey: chain, corev1.TLSPrivateKeyKey: private, "ca.crt": chain}
	if err := o.Update(t.Context(), serving); err != nil {
		t.Fatal(err)
	}
	eventually.Right(t, func() string {
		response, err := one.web(chain, nil).Get("https://" + serviceName + "/.well-known/openid-configuration")
		if err != nil {
			return err.Error()
		}
		response.Body.Close()
		return ""
	})
	after := &corev1.Secret{}
	if err := o.Get(t.Context(), key, after); err != nil || !bytes.Equal(after.Data[corev1.TLSCertKey], chain) {
		t.Errorf("somebody else's certificate was replaced: %v", err)
	}
	// The controller looks once a minute at what isn't its own; a new leader at once.
	if err := o.RestartController(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := o.WaitForController(t.Context()); err != nil {
		t.Fatal(err)
	}
	c := o.readyClient(t, inCluster)
	eventually.Right(t, func() string {
		secret := o.secret(t, c)
		if status, err := tokenBy(one.web(secret.Data["ca.crt"], nil), secret); err != nil || status != http.StatusOK {
			return fmt.Sprint(status, err)
		}
		return ""
	})
}

func selfSigned(t *testing.T, name string) (chain, private []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	text, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: text})
}
