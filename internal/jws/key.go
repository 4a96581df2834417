package jws

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"

	"github.com/golang-jwt/jwt/v5"
)

// Bounds of a set of keys.
const (
	maxKeys    = 100
	maxKeyID   = 256
	minRSABits = 2048
	maxRSABits = 8192
)

// What is wrong with a token's signature.
var (
	ErrUnknownKey = &Error{"unknown_key", "the key that the JWT names (kid) is not known here"}
	ErrAlgorithm  = &Error{"wrong_algorithm", "the algorithm of the JWT (alg) is not one that is taken for its key"}
	ErrSignature  = &Error{"wrong_signature", "the signature of the JWT does not verify"}
)

// methods are the algorithms that are taken (RFC 7518 section 3.1, RFC 8037), and what
// kind of key each is for: there is none without a signature and none with a shared key.
var methods = map[string]struct {
	kind   string
	method jwt.SigningMethod
}{
	"ES256": {"EC P-256", jwt.SigningMethodES256},
	"ES384": {"EC P-384", jwt.SigningMethodES384},
	"ES512": {"EC P-521", jwt.SigningMethodES512},
	"RS256": {"RSA", jwt.SigningMethodRS256},
	"RS384": {"RSA", jwt.SigningMethodRS384},
	// The library takes salts of any length; RFC 7518 section 3.5 fixes it.
	"PS256": {"RSA", &jwt.SigningMethodRSAPSS{
		SigningMethodRSA: jwt.SigningMethodPS256.SigningMethodRSA,
		Options:          &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash},
	}},
	"EdDSA": {"OKP Ed25519", jwt.SigningMethodEdDSA},
}

// key is a public key, and what it is for.
type key struct {
	id        string
	algorithm string // the only one; empty: those of its kind
	kind      string // type and curve
	public    crypto.PublicKey
}

// KeySet are public keys. It doesn't change and may be shared.
type KeySet struct{ keys []key }

// Len returns how many keys the set has.
func (s KeySet) Len() int { return len(s.keys) }

// Verify checks a token's signature with the key that it names, or, where it names none,
// with the only key that there is. Only these algorithms are taken; nil: all that are
// known. The error is [ErrUnknownKey], [ErrAlgorithm] or [ErrSignature].
func (s KeySet) Verify(t *Token, algorithms []string) error {
	m, known := methods[t.Algorithm]
	if _, ok := s.find(t.KeyID); !ok {
		return ErrUnknownKey
	}
	if !known || algorithms != nil && !slices.Contains(algorithms, t.Algorithm) {
		return ErrAlgorithm
	}
	k, err := s.choose(t, m.kind)
	switch {
	case err != nil:
		return err
	case m.method.Verify(t.signed, t.signature, k.public) != nil:
		return ErrSignature
	}
	return nil
}

func (s KeySet) find(id string) (key, bool) {
	if id == "" && len(s.keys) == 1 {
		return s.keys[0], true
	}
	n := slices.IndexFunc(s.keys, func(k key) bool { return id != "" && k.id == id })
	if n < 0 {
		return key{}, false
	}
	return s.keys[n], true
}

// jwk is a JSON Web Key (RFC 7517 section 4, RFC 7518 section 6, RFC 8037 section 2).
type jwk struct {
	KeyType   string `json:"kty"`
	Use       string `json:"use"`
	Algorithm string `json:"alg"`
	KeyID     string `json:"kid"`
	Curve     string `json:"crv"`
	X         string `json:"x"`
	Y         string `json:"y"`
	N         string `json:"n"`
	E         string `json:"e"`
	// Members of private and symmetric keys.
	D json.RawMessage `json:"d"`
	K json.RawMessage `json:"k"`
}

// ParseKeySet reads a JWK Set (RFC 7517 section 5). Keys that can't verify signatures here
// are left out, as the RFC says.
func ParseKeySet(text []byte) (KeySet, error) {
	return parseKeySet(text, func(error) error { return nil })
}

// ParsePublicKeys reads a JWK Set of which each key must be of use here.
func ParsePublicKeys(text []byte) (KeySet, error) {
	return parseKeySet(text, func(err error) error { return err })
}

func parseKeySet(text []byte, onUseless func(error) error) (KeySet, error) {
	var set KeySet
	number, found := 0, false
	err := members(text, func(name string, value []byte) error {
		if name != "keys" {
			return nil
		}
		found = true
		return elements(value, func(value []byte) error {
			if number++; number > maxKeys {
				return fmt.Errorf("there are more than %d keys", maxKeys)
			}
			k, err := parseKey(value)
			if err == nil && set.has(k.id) {
				err = errors.New("another key has the same kid")
			}
			if err != nil {
				return onUseless(fmt.Errorf("key %d: %w", number, err))
			}
			set.keys = append(set.keys, k)
			return nil
		})
	})
	if err == nil && !found {
		err = errors.New("it has no keys")
	}
	if err != nil {
		return KeySet{}, fmt.Errorf("not a usable JWK Set: %w", err)
	}
	return set, nil
}

func (s KeySet) has(id string) bool {
	return slices.ContainsFunc(s.keys, func(k key) bool { return k.id == id })
}

func parseKey(text []byte) (key, error) {
	var j jwk
	if err := json.Unmarshal(text, &j); err != nil {
		return key{}, errors.New("it is not a JSON Web Key")
	}
	k := key{id: j.KeyID, algorithm: j.Algorithm, kind: j.KeyType}
	if j.Curve != "" {
		k.kind += " " + j.Curve
	}
	m, known := methods[k.algorithm]
	switch {
	case j.D != nil || j.K != nil:
		return key{}, errors.New("it is a private or symmetric key: publish the public half only, and replace this one")
	case j.Use != "" && j.Use != "sig":
		return key{}, errors.New("its use is not sig")
	case len(k.id) > maxKeyID:
		return key{}, fmt.Errorf("its kid is longer than %d bytes", maxKeyID)
	case k.algorithm != "" && (!known || m.kind != k.kind):
		return key{}, errors.New("its alg is not one for its kty and crv")
	}
	var err error
	k.public, err = j.public(k.kind)
	return k, err
}

func (j *jwk) public(kind string) (crypto.PublicKey, error) {
	switch kind {
	case "EC P-256":
		return ecKey(elliptic.P256(), j.X, j.Y)
	case "EC P-384":
		return ecKey(elliptic.P384(), j.X, j.Y)
	case "EC P-521":
		return ecKey(elliptic.P521(), j.X, j.Y)
	case "RSA":
		return rsaKey(j.N, j.E)
	case "OKP Ed25519":
		x, err := strict.DecodeString(j.X)
		if err != nil || len(x) != ed25519.PublicKeySize {
			return nil, errors.New("its x is not an Ed25519 key")
		}
		return ed25519.PublicKey(x), nil
	default:
		return nil, errors.New("its kty and crv are not EC with P-256 or P-384, RSA, or OKP with Ed25519")
	}
}

func ecKey(curve elliptic.Curve, encodedX, encodedY string) (crypto.PublicKey, error) {
	x, errX := strict.DecodeString(encodedX)
	y, errY := strict.DecodeString(encodedY)
	size := (curve.Params().BitSize + 7) / 8
	if errX != nil || errY != nil || len(x) != size || len(y) != size {
		return nil, fmt.Errorf("its x and y are not %d bytes each, in base64url", size)
	}
	k, err := ecdsa.ParseUncompressedPublicKey(curve, slices.Concat([]byte{4}, x, y))
	if err != nil {
		return nil, errors.New("its x and y are not a point of its curve")
	}
	return k, nil
}

func rsaKey(encodedN, encodedE string) (crypto.PublicKey, error) {
	n, errN := strict.DecodeString(encodedN)
	e, errE := strict.DecodeString(encodedE)
	e = bytes.TrimLeft(e, "\x00")
	if errN != nil || errE != nil || len(n) > maxRSABits/8+1 || len(e) == 0 || len(e) > 4 {
		return nil, fmt.Errorf("its n and e are not an RSA key of up to %d bits, in base64url", maxRSABits)
	}
	modulus, exponent := new(big.Int).SetBytes(n), new(big.Int).SetBytes(e).Int64()
	switch {
	case modulus.BitLen() < minRSABits || modulus.BitLen() > maxRSABits || modulus.Bit(0) == 0:
		return nil, fmt.Errorf("its n has not %d to %d bits", minRSABits, maxRSABits)
	case exponent < 3 || exponent > 1<<31-1 || exponent%2 == 0:
		return nil, errors.New("its e is not an exponent that is used")
	}
	return &rsa.PublicKey{N: modulus, E: int(exponent)}, nil
}
