// Package certificate decides on the certificates of the operator's own servers: when an
// authority (CA) is made, when it signs, how long it is trusted, and when a serving
// certificate is made anew. It is pure: clock and randomness are given.
package certificate

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"time"
)

// How long things live.
const (
	authorityLifetime = 365 * 24 * time.Hour
	servingLifetime   = 7 * 24 * time.Hour
	// skew is how far the clocks of callers may be behind.
	skew = time.Hour
	// notice is how long an authority is published before it signs.
	notice = 24 * time.Hour
	// holdup is how long an authority that is published waits for copies of the bundle that
	// lack it. A Secret may be one that nobody can write, or somebody's who wants to hold it up.
	holdup = 7 * 24 * time.Hour
	// succession is how long before its end an authority gets a successor, and lastCall how
	// long before its end that signs though some may not have heard of it.
	succession = 60 * 24 * time.Hour
	lastCall   = 14 * 24 * time.Hour
)

// Authority is a certificate that signs others, with its key. It is never changed.
type Authority struct {
	Certificate *x509.Certificate
	Key         *ecdsa.PrivateKey
	Published   time.Time // since when verifiers can have it; zero: not yet
	Replaced    time.Time // since when it signs no more; zero: it signs, or will
}

// newAuthority makes an authority. Go's library draws from its own source where a FIPS
// module is in force, whatever random is.
func newAuthority(now time.Time, random io.Reader) (Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), random)
	if err != nil {
		return Authority{}, err
	}
	serial, err := newSerial(random)
	if err != nil {
		return Authority{}, err
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "m2m-operator " + now.UTC().Format(time.DateOnly)},
		NotBefore:             now.Add(-skew),
		NotAfter:              now.Add(authorityLifetime),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		IsCA:                  true,
		MaxPathLenZero:        true,
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(random, template, template, key.Public(), key)
	if err != nil {
		return Authority{}, err
	}
	made, err := x509.ParseCertificate(der)
	return Authority{Certificate: made, Key: key}, err
}

// newSerial draws 127 bits (RFC 5280 section 4.1.2.2: positive, at most 20 bytes).
func newSerial(random io.Reader) (*big.Int, error) {
	b := make([]byte, 16)
	if _, err := io.ReadFull(random, b); err != nil {
		return nil, err
	}
	b[0] = b[0]&0x7f | 0x40
	return new(big.Int).SetBytes(b), nil
}

func (a Authority) is(other Authority) bool { return a.Certificate.Equal(other.Certificate) }

// trusted tells whether something may still be served that it signed.
func (a Authority) trusted(now time.Time) bool {
	return now.Before(a.Certificate.NotAfter) && (a.Replaced.IsZero() || now.Before(a.Replaced.Add(servingLifetime+skew)))
}

// Bundle is the certificates of authorities, in PEM: what a verifier trusts.
func Bundle(authorities []Authority) []byte {
	var b bytes.Buffer
	for _, a := range authorities {
		_ = pem.Encode(&b, &pem.Block{Type: blockCertificate, Bytes: a.Certificate.Raw}) // a buffer takes all
	}
	return b.Bytes()
}

// ID names a bundle: what it consists of, in 22 characters.
func ID(bundle []byte) string {
	sum := sha256.Sum256(bundle)
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

// Types of PEM blocks.
const (
	blockCertificate = "CERTIFICATE"
	blockKey         = "PRIVATE KEY"
)

// stored is an authority as a Secret has it.
type stored struct {
	Certificate string     `json:"certificate"`
	Key         string     `json:"key"`
	Published   *time.Time `json:"published,omitempty"`
	Replaced    *time.Time `json:"replaced,omitempty"`
}

// Encode writes authorities for a Secret.
func Encode(authorities []Authority) ([]byte, error) {
	all := make([]stored, 0, len(authorities))
	for _, a := range authorities {
		key, err := encodeKey(a.Key)
		if err != nil {
			return nil, err
		}
		all = append(all, stored{string(Bundle([]Authority{a})), string(key), optional(a.Published), optional(a.Replaced)})
	}
	return json.Marshal(all)
}

func optional(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// errAuthorities is what is wrong with a text that somebody edited.
var errAuthorities = errors.New("what it holds are not the authorities that the operator wrote")

// Decode reads what Encode wrote. What isn't whole is refused: an authority without its key
// can't sign, and one whose certificate isn't its own must not be trusted.
func Decode(text []byte) ([]Authority, error) {
	var all []stored
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, errAuthorities
	}
	var authorities []Authority
	for _, s := range all {
		a, err := s.authority()
		if err != nil {
			return nil, err
		}
		authorities = append(authorities, a)
	}
	if len(authorities) == 0 {
		return nil, errAuthorities
	}
	return authorities, nil
}

func (s stored) authority() (Authority, error) {
	certificates, err := parseCertificates([]byte(s.Certificate))
	if err != nil || len(certificates) != 1 {
		return Authority{}, errAuthorities
	}
	a := Authority{Certificate: certificates[0]}
	if a.Key, err = parseKey([]byte(s.Key)); err != nil {
		return Authority{}, errAuthorities
	}
	if s.Published != nil {
		a.Published = *s.Published
	}
	if s.Replaced != nil {
		a.Replaced = *s.Replaced
	}
	if !a.Certificate.IsCA || !a.Key.PublicKey.Equal(a.Certificate.PublicKey) || a.Certificate.CheckSignatureFrom(a.Certificate) != nil {
		return Authority{}, errAuthorities
	}
	return a, nil
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: blockKey, Bytes: der}), nil
}

func parseKey(text []byte) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != blockKey {
		return nil, errors.New("it is no private key in PEM")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("it is a %T", parsed)
	}
	return key, nil
}

// parseCertificates reads all certificates of a PEM text.
func parseCertificates(text []byte) ([]*x509.Certificate, error) {
	var all []*x509.Certificate
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			return all, nil
		}
		text = rest
		if block.Type != blockCertificate {
			continue
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		all = append(all, certificate)
	}
}
