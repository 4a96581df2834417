package certificate

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"slices"
	"time"
)

// Pair is a serving certificate and its key, in PEM.
type Pair struct{ Certificate, Key []byte }

// newPair makes a serving certificate for DNS names. It doesn't outlive its authority.
func newPair(now time.Time, random io.Reader, by Authority, names []string) (Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), random)
	if err != nil {
		return Pair{}, err
	}
	serial, err := newSerial(random)
	if err != nil {
		return Pair{}, err
	}
	end := now.Add(servingLifetime)
	if end.After(by.Certificate.NotAfter) {
		end = by.Certificate.NotAfter
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "m2m-operator"},
		DNSNames:     names,
		NotBefore:    now.Add(-skew),
		NotAfter:     end,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(random, template, by.Certificate, key.Public(), by.Key)
	if err != nil {
		return Pair{}, err
	}
	text, err := encodeKey(key)
	if err != nil {
		return Pair{}, err
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		return Pair{}, err
	}
	return Pair{Bundle([]Authority{{Certificate: made}}), text}, nil
}

// renewAt is when a serving certificate has to be made anew: when half of its time is over,
// and at once if it isn't what it should be.
func (p Pair) renewAt(now time.Time, by Authority, names []string) time.Time {
	chain, err := parseCertificates(p.Certificate)
	if err != nil || len(chain) != 1 {
		return now
	}
	leaf := chain[0]
	key, err := parseKey(p.Key)
	if err != nil || !key.PublicKey.Equal(leaf.PublicKey) || leaf.CheckSignatureFrom(by.Certificate) != nil {
		return now
	}
	if !slices.Equal(sorted(leaf.DNSNames), sorted(names)) || now.Before(leaf.NotBefore) {
		return now
	}
	return leaf.NotAfter.Add(-servingLifetime / 2)
}

func sorted(names []string) []string { return slices.Sorted(slices.Values(names)) }

// Names are the DNS names of the first certificate of a PEM text: of the server's own.
func Names(chain []byte) ([]string, error) {
	certificates, err := parseCertificates(chain)
	if err != nil {
		return nil, err
	}
	if len(certificates) == 0 {
		return nil, errors.New("there is no certificate in it")
	}
	return certificates[0].DNSNames, nil
}

// Share tells whether two bundles have an authority in common. Who has the one trusts a
// server of the other at least for a while, if they have.
func Share(one, other []byte) bool {
	a, errA := parseCertificates(one)
	b, errB := parseCertificates(other)
	if errA != nil || errB != nil {
		return false
	}
	return slices.ContainsFunc(a, func(c *x509.Certificate) bool { return slices.ContainsFunc(b, c.Equal) })
}

// Covers tells whether a certificate with these names is one for a host (RFC 9525 section 6).
func Covers(names []string, host string) bool {
	return (&x509.Certificate{DNSNames: names}).VerifyHostname(host) == nil
}
