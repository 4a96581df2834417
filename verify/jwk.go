package verify

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"slices"

	"github.com/golang-jwt/jwt/v5"
)

// Algorithm is a JWS signature algorithm (RFC 7518 section 3.1, RFC 8037).
type Algorithm string

// The algorithms that may be accepted. There is none without a signature, and none with
// a shared key: who can verify its tokens can forge them.
const (
	ES256 Algorithm = "ES256"
	ES384 Algorithm = "ES384"
	RS256 Algorithm = "RS256"
	RS384 Algorithm = "RS384"
	PS256 Algorithm = "PS256"
	EdDSA Algorithm = "EdDSA"
)

var methods = map[Algorithm]jwt.SigningMethod{
	ES256: jwt.SigningMethodES256,
	ES384: jwt.SigningMethodES384,
	RS256: jwt.SigningMethodRS256,
	RS384: jwt.SigningMethodRS384,
	// The library's own takes salts of any length; RFC 7518 section 3.5 fixes it.
	PS256: &jwt.SigningMethodRSAPSS{
		SigningMethodRSA: jwt.SigningMethodPS256.SigningMethodRSA,
		Options:          &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash},
	},
	EdDSA: jwt.SigningMethodEdDSA,
}

// Bounds of what an issuer may publish.
const (
	maxKeys    = 100
	minRSABits = 2048
	maxRSABits = 8192
)

// publicKey is a key, and the one algorithm that it is for.
type publicKey struct {
	algorithm Algorithm
	key       crypto.PublicKey
}

// verify checks a signature, which must be of the key's algorithm.
func (k publicKey) verify(t *token) error {
	if t.header.algorithm != k.algorithm {
		return invalid("its algorithm is not that of its key")
	}
	if err := methods[k.algorithm].Verify(t.signed, t.signature, k.key); err != nil {
		return invalid("its signature is wrong")
	}
	return nil
}

// keySet are public keys by their ids.
type keySet map[string]publicKey

// parseKeySet reads a JWK Set (RFC 7517 section 5). Keys that can't be used are left out,
// as section 5 says; so are two different keys with one id. A set that leaves nothing
// is the issuer's word too.
func parseKeySet(text []byte) (keySet, error) {
	keys, ambiguous, found := keySet{}, map[string]bool{}, false
	add := func(value []byte) {
		id, k, err := parseKey(value)
		if err != nil {
			return // a key of another kind is not for us
		}
		if other, ok := keys[id]; ok && !other.equal(k) {
			ambiguous[id] = true
		}
		keys[id] = k
	}
	count := 0
	err := members(text, func(name string, value []byte) error {
		if name != "keys" {
			return nil
		}
		found = true
		return elements(value, func(value []byte) error {
			if count++; count > maxKeys {
				return fmt.Errorf("it has more than %d keys", maxKeys)
			}
			add(value)
			return nil
		})
	})
	if err == nil && !found {
		err = errors.New("it has no keys member")
	}
	if err != nil {
		return nil, fmt.Errorf("not a usable JWK Set: %w", err)
	}
	maps.DeleteFunc(keys, func(id string, _ publicKey) bool { return ambiguous[id] })
	return keys, nil
}

func (k publicKey) equal(other publicKey) bool {
	comparable, ok := k.key.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.algorithm == other.algorithm && comparable.Equal(other.key)
}

// jwk are the members of a key (RFC 7517 section 4) that are strings.
type jwk map[string]string

// secretMembers are those of private and symmetric keys. One that stands in a public
// document is nobody's secret any more.
var secretMembers = []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"}

func parseKey(text []byte) (id string, k publicKey, err error) {
	j := jwk{}
	verifies := true
	err = validMembers(text, func(name string, value []byte) error {
		switch {
		case slices.Contains(secretMembers, name):
			return errors.New("it is not public")
		case name == "use" && value[0] != '"':
			return errors.New("its use is not a string")
		case name == "key_ops":
			verifies = bytes.Contains(value, []byte(`"verify"`))
		case value[0] == '"':
			s, err := unquote(value)
			j[name] = s
			return err
		}
		return nil
	})
	if err != nil {
		return "", publicKey{}, err
	}
	use, hasUse := j["use"]
	if !verifies || hasUse && use != "sig" {
		return "", publicKey{}, errors.New("it is not for signatures")
	}
	if id = j["kid"]; id == "" || len(id) > maxKeyID {
		return "", publicKey{}, errors.New("it has no usable kid")
	}
	k.algorithm = Algorithm(j["alg"])
	k.key, err = j.publicKey(k.algorithm)
	return id, k, err
}

// publicKey returns the key if its type is that of the algorithm (RFC 7518 section 6,
// RFC 8037 section 2).
func (j jwk) publicKey(a Algorithm) (crypto.PublicKey, error) {
	switch kind := j["kty"] + " " + j["crv"]; {
	case a == ES256 && kind == "EC P-256":
		return j.ecdsa(elliptic.P256(), 32)
	case a == ES384 && kind == "EC P-384":
		return j.ecdsa(elliptic.P384(), 48)
	case (a == RS256 || a == RS384 || a == PS256) && j["kty"] == "RSA":
		return j.rsa()
	case a == EdDSA && kind == "OKP Ed25519":
		x, err := j.bytes("x")
		if err != nil || len(x) != ed25519.PublicKeySize {
			return nil, errors.New("a malformed Ed25519 key")
		}
		return ed25519.PublicKey(x), nil
	default:
		return nil, errors.New("its type and its algorithm are not a pair that is known")
	}
}

func (j jwk) ecdsa(curve elliptic.Curve, size int) (crypto.PublicKey, error) {
	x, errX := j.bytes("x")
	y, errY := j.bytes("y")
	if errX != nil || errY != nil || len(x) != size || len(y) != size {
		return nil, errors.New("a malformed ECDSA key")
	}
	return ecdsa.ParseUncompressedPublicKey(curve, slices.Concat([]byte{4}, x, y))
}

func (j jwk) rsa() (crypto.PublicKey, error) {
	n, errN := j.bytes("n")
	e, errE := j.bytes("e")
	if errN != nil || errE != nil || len(e) == 0 || len(e) > 4 || len(n) > maxRSABits/8 {
		return nil, errors.New("a malformed RSA key")
	}
	modulus, exponent := new(big.Int).SetBytes(n), new(big.Int).SetBytes(e).Int64()
	switch {
	case modulus.BitLen() < minRSABits || modulus.Bit(0) == 0:
		return nil, fmt.Errorf("an RSA key must have at least %d bits", minRSABits)
	case exponent < 3 || exponent&1 == 0 || exponent > 1<<31-1:
		return nil, errors.New("a malformed RSA exponent")
	}
	return &rsa.PublicKey{N: modulus, E: int(exponent)}, nil
}

func (j jwk) bytes(name string) ([]byte, error) { return encoding.DecodeString(j[name]) }
