// Package keyring is the life of an issuer's signing keys: how they are made,
// stored, published and chosen. It is pure: the clock is a parameter, and nothing
// here knows Kubernetes.
package keyring

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"time"
)

// Algorithm is a JWS signature algorithm (RFC 7518 section 3.1, RFC 8037).
type Algorithm string

// The algorithms that an issuer may sign with.
const (
	ES256 Algorithm = "ES256"
	ES384 Algorithm = "ES384"
	RS256 Algorithm = "RS256"
	RS384 Algorithm = "RS384"
	PS256 Algorithm = "PS256"
	EdDSA Algorithm = "EdDSA"
)

// rsaBits is the size of new RSA keys; smaller ones are refused when loaded.
const rsaBits = 2048

// Key is a signing key.
type Key struct {
	ID         string // RFC 7638 thumbprint
	Algorithm  Algorithm
	ActiveFrom time.Time // it signs from here on, until a later key does
	Signer     crypto.Signer

	// PublishedAt is since when verifiers can have the key.
	PublishedAt time.Time
	// Longest is the longest lifetime of the tokens that it signed, or may sign.
	Longest time.Duration
	// Fixed says that ActiveFrom doesn't follow the interval: somebody asked for that
	// date, it is as soon as could be, or it has come.
	Fixed bool
}

// Generate makes a key that is published and signs from an instant on.
func Generate(rand io.Reader, alg Algorithm, activeFrom time.Time) (Key, error) {
	signer, err := generate(rand, alg)
	if err != nil {
		return Key{}, fmt.Errorf("making a signing key for %s: %w", alg, err)
	}
	return newKey(alg, activeFrom.UTC().Truncate(time.Second), signer)
}

func generate(rand io.Reader, alg Algorithm) (crypto.Signer, error) {
	switch alg {
	case ES256:
		return ecdsa.GenerateKey(elliptic.P256(), rand)
	case ES384:
		return ecdsa.GenerateKey(elliptic.P384(), rand)
	case RS256, RS384, PS256:
		return rsa.GenerateKey(rand, rsaBits)
	case EdDSA:
		_, private, err := ed25519.GenerateKey(rand)
		return private, err
	default:
		return nil, fmt.Errorf("unknown algorithm %q", alg)
	}
}

func newKey(alg Algorithm, activeFrom time.Time, signer crypto.Signer) (Key, error) {
	if err := checkFits(alg, signer.Public()); err != nil {
		return Key{}, err
	}
	k := Key{Algorithm: alg, ActiveFrom: activeFrom, PublishedAt: activeFrom, Signer: signer}
	public, err := k.JWK()
	if err != nil {
		return Key{}, err
	}
	k.ID = public.Thumbprint()
	return k, nil
}

func checkFits(alg Algorithm, public crypto.PublicKey) error {
	fits := false
	switch public := public.(type) {
	case *ecdsa.PublicKey:
		fits = alg == ES256 && public.Curve == elliptic.P256() || alg == ES384 && public.Curve == elliptic.P384()
	case *rsa.PublicKey:
		fits = (alg == RS256 || alg == RS384 || alg == PS256) && public.N.BitLen() >= rsaBits
	case ed25519.PublicKey:
		fits = alg == EdDSA
	}
	if !fits {
		return fmt.Errorf("a %T of this size can't sign with %q", public, alg)
	}
	return nil
}

// JWK is a public key as published (RFC 7517).
type JWK struct {
	KeyType   string    `json:"kty"`
	Use       string    `json:"use"`
	Algorithm Algorithm `json:"alg"`
	KeyID     string    `json:"kid"`
	Curve     string    `json:"crv,omitempty"`
	X         string    `json:"x,omitempty"`
	Y         string    `json:"y,omitempty"`
	N         string    `json:"n,omitempty"`
	E         string    `json:"e,omitempty"`
}

// JWK returns the public half of the key.
func (k Key) JWK() (JWK, error) {
	jwk := JWK{Use: "sig", Algorithm: k.Algorithm, KeyID: k.ID}
	encode := base64.RawURLEncoding.EncodeToString
	switch public := k.Signer.Public().(type) {
	case *ecdsa.PublicKey:
		point, err := public.Bytes() // 4 | X | Y
		if err != nil {
			return JWK{}, fmt.Errorf("encoding public key %s: %w", k.ID, err)
		}
		half := len(point) / 2
		jwk.KeyType, jwk.Curve = "EC", public.Params().Name
		jwk.X, jwk.Y = encode(point[1:1+half]), encode(point[1+half:])
	case *rsa.PublicKey:
		jwk.KeyType = "RSA"
		jwk.N, jwk.E = encode(public.N.Bytes()), encode(big.NewInt(int64(public.E)).Bytes())
	case ed25519.PublicKey:
		jwk.KeyType, jwk.Curve, jwk.X = "OKP", "Ed25519", encode(public)
	default:
		return JWK{}, fmt.Errorf("a %T can't be published", public)
	}
	return jwk, nil
}

// MarshalJWKS encodes the public halves of keys as a JWK Set (RFC 7517 section 5).
func MarshalJWKS(keys []Key) ([]byte, error) {
	set := struct {
		Keys []JWK `json:"keys"`
	}{Keys: []JWK{}}
	for _, k := range keys {
		jwk, err := k.JWK()
		if err != nil {
			return nil, err
		}
		set.Keys = append(set.Keys, jwk)
	}
	return json.Marshal(set)
}

// Thumbprint hashes the required members in lexical order (RFC 7638 section 3).
func (j JWK) Thumbprint() string {
	var canonical string
	switch j.KeyType {
	case "EC":
		canonical = fmt.Sprintf(`{"crv":%q,"kty":"EC","x":%q,"y":%q}`, j.Curve, j.X, j.Y)
	case "RSA":
		canonical = fmt.Sprintf(`{"e":%q,"kty":"RSA","n":%q}`, j.E, j.N)
	case "OKP":
		canonical = fmt.Sprintf(`{"crv":%q,"kty":"OKP","x":%q}`, j.Curve, j.X)
	}
	sum := sha256.Sum256([]byte(canonical))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
