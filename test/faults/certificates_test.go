package faults

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/certificate"
	"github.com/m2m-operator/m2m-operator/test/eventually"
)

// The first certificates, and a succession with clients that have to follow, whatever
// fails at whichever write: what is served is always trusted by what is published.
func TestCertificates(t *testing.T) {
	x := newFixture(t)
	for n := 1; n <= 6; n++ {
		for _, kind := range []faultKind{stopBefore, stopAfter} {
			t.Run(fmt.Sprintf("%d/%d", kind, n), func(t *testing.T) { x.tryCertificates(t, kind, n) })
		}
	}
}

func (x *fixture) tryCertificates(t *testing.T, kind faultKind, n int) {
	x.reset(t)
	must(t, client.IgnoreNotFound(x.Delete(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: operatorNamespace, Name: v1alpha1.AuthorityConfigMap}})))
	x.whileFaulty(t, kind, n, func() error { return x.trusted(t, 1, time.Now()) })
	c := newClient("first")
	must(t, x.Create(t.Context(), c))
	stop := x.run(t, life{fault: none(), certificates: true})
	eventually.Succeeds(t, func() error { return x.ready(t, c) })
	stop()
	if got := x.secretOf(t, c).Data["ca.crt"]; string(got) != x.published(t) {
		t.Errorf("the client trusts %q", got)
	}

	authority := &corev1.Secret{}
	must(t, x.Get(t.Context(), client.ObjectKey{Namespace: operatorNamespace, Name: v1alpha1.AuthoritySecret}, authority))
	metav1.SetMetaDataAnnotation(&authority.ObjectMeta, v1alpha1.AnnotationRotate, "now")
	must(t, x.Update(t.Context(), authority))
	x.whileFaulty(t, kind, n, func() error {
		if all := x.authorities(t); len(all) != 2 || all[1].Published.IsZero() {
			return errors.New("no second authority is known to be published")
		}
		return x.trusted(t, 2, time.Now())
	})

	// A day later, when the client has both, the second signs.
	tomorrow := func() time.Time { return time.Now().Add(25 * time.Hour) }
	stop = x.run(t, life{fault: none(), certificates: true, now: tomorrow})
	defer stop()
	eventually.Succeeds(t, func() error {
		if err := x.trusted(t, 2, tomorrow()); err != nil {
			return err
		}
		if id := x.secretOf(t, c).Annotations[v1alpha1.AnnotationAuthority]; id != certificate.ID([]byte(x.published(t))) {
			return errors.New("the client hasn't followed")
		}
		if x.authorities(t)[0].Replaced.IsZero() {
			x.lookAgain(t) // it looks once a minute
			return errors.New("the first authority signs still")
		}
		return nil
	})
}

// authorities are what the operator keeps.
func (x *fixture) authorities(t *testing.T) []certificate.Authority {
	t.Helper()
	s := &corev1.Secret{}
	must(t, x.Get(t.Context(), client.ObjectKey{Namespace: operatorNamespace, Name: v1alpha1.AuthoritySecret}, s))
	all, err := certificate.Decode(s.Data[v1alpha1.AuthorityKey])
	must(t, err)
	return all
}

// whileFaulty runs controllers, of which the first falls over, until all is as it should be.
func (x *fixture) whileFaulty(t *testing.T, kind faultKind, n int, settled func() error) {
	t.Helper()
	f := &fault{kind: kind, left: n}
	stop := x.run(t, life{fault: f, certificates: true})
	eventually.Succeeds(t, func() error {
		if f.hasStruck() {
			return nil
		}
		return settled()
	})
	stop()
	stop = x.run(t, life{fault: none(), certificates: true})
	defer stop()
	eventually.Succeeds(t, settled)
}

// lookAgain makes the controller look at the certificates.
func (x *fixture) lookAgain(t *testing.T) {
	t.Helper()
	m := &corev1.ConfigMap{}
	must(t, x.Get(t.Context(), client.ObjectKey{Namespace: operatorNamespace, Name: v1alpha1.AuthorityConfigMap}, m))
	metav1.SetMetaDataAnnotation(&m.ObjectMeta, "touched", time.Now().String())
	must(t, client.IgnoreNotFound(x.Update(t.Context(), m)))
}

func (x *fixture) published(t *testing.T) string {
	t.Helper()
	m := &corev1.ConfigMap{}
	if err := x.Get(t.Context(), client.ObjectKey{Namespace: operatorNamespace, Name: v1alpha1.AuthorityConfigMap}, m); err != nil {
		return ""
	}
	return m.Data[v1alpha1.AuthorityBundleKey]
}

// trusted tells why what is served isn't what everybody trusts, of a number of authorities.
func (x *fixture) trusted(t *testing.T, number int, now time.Time) error {
	t.Helper()
	bundle := x.published(t)
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(bundle)) || len(roots.Subjects()) != number { //nolint:staticcheck // it is no system's pool
		return fmt.Errorf("published is %q", bundle)
	}
	for name, hosts := range servingNames {
		s := &corev1.Secret{}
		if err := x.Get(t.Context(), client.ObjectKey{Namespace: operatorNamespace, Name: name}, s); err != nil {
			return err
		}
		pair, err := tls.X509KeyPair(s.Data[corev1.TLSCertKey], s.Data[corev1.TLSPrivateKeyKey])
		if err != nil {
			return err
		}
		if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: hosts[0], CurrentTime: now}); err != nil {
			return err
		}
		if string(s.Data["ca.crt"]) != bundle {
			return fmt.Errorf("secret %s has another bundle", name)
		}
	}
	return nil
}
