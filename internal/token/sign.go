package token

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"io"

	"github.com/golang-jwt/jwt/v5"

	"github.com/m2m-operator/m2m-operator/internal/keyring"
)

// signer signs compact JWTs (RFC 7515 section 3.1) with one key.
type signer struct {
	keyID  string
	header []byte // base64url of the JOSE header, and a dot
	key    crypto.Signer
	opts   crypto.SignerOpts
	// half is the size in bytes of each of the two integers of an ECDSA signature;
	// 0: the signature is used as the key returns it.
	half int
}

// newSigner prepares a key, and tries it: a damaged key is an error here and not
// in every token.
func newSigner(random io.Reader, k keyring.Key, typ string) (*signer, error) {
	if k.ID == "" || k.Signer == nil {
		return nil, errors.New("a signing key is missing")
	}
	s := &signer{keyID: k.ID, header: joseHeader(k, typ), key: k.Signer}
	switch k.Algorithm {
	case keyring.ES256:
		s.opts, s.half = crypto.SHA256, 32
	case keyring.ES384:
		s.opts, s.half = crypto.SHA384, 48
	case keyring.RS256:
		s.opts = crypto.SHA256
	case keyring.RS384:
		s.opts = crypto.SHA384
	case keyring.PS256: // the salt is as long as the hash (RFC 7518 section 3.5)
		s.opts = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}
	case keyring.EdDSA: // signs the message itself
		s.opts = crypto.Hash(0)
	default:
		return nil, fmt.Errorf("signing key %s: unknown algorithm %q", k.ID, k.Algorithm)
	}
	if public, ok := s.key.Public().(*ecdsa.PublicKey); ok && (public.Params().BitSize+7)/8 != s.half {
		return nil, fmt.Errorf("signing key %s is of another curve than that of %s", k.ID, k.Algorithm)
	}
	if err := s.probe(random, k.Algorithm); err != nil {
		return nil, fmt.Errorf("signing key %s doesn't work: %w", k.ID, err)
	}
	return s, nil
}

func joseHeader(k keyring.Key, typ string) []byte {
	header := append([]byte(`{"alg":`), AppendString(nil, string(k.Algorithm))...)
	header = append(header, `,"kid":`...)
	header = AppendString(header, k.ID)
	header = append(header, `,"typ":`...)
	header = append(AppendString(header, typ), '}')
	return append(base64.RawURLEncoding.AppendEncode(nil, header), '.')
}

// probe signs a token without claims and has another implementation verify it.
func (s *signer) probe(random io.Reader, alg keyring.Algorithm) error {
	probe := base64.RawURLEncoding.AppendEncode(bytes.Clone(s.header), []byte("{}"))
	probe, err := s.appendSignature(random, probe, 0)
	if err != nil {
		return err
	}
	parser := jwt.NewParser(jwt.WithValidMethods([]string{string(alg)}))
	_, err = parser.Parse(string(probe), func(*jwt.Token) (any, error) { return s.key.Public(), nil })
	return err
}

// appendSignature appends a dot and the signature of dst[start:].
func (s *signer) appendSignature(random io.Reader, dst []byte, start int) ([]byte, error) {
	signature, err := s.sign(random, dst[start:])
	if err != nil {
		return dst, fmt.Errorf("signing with key %s: %w", s.keyID, err)
	}
	dst = append(dst, '.')
	if s.half == 0 {
		return base64.RawURLEncoding.AppendEncode(dst, signature), nil
	}
	var scratch [2 * 48]byte
	fixed, ok := appendFixed(scratch[:0], signature, s.half)
	if !ok {
		return dst, fmt.Errorf("key %s made an ECDSA signature that is not ASN.1", s.keyID)
	}
	return base64.RawURLEncoding.AppendEncode(dst, fixed), nil
}

func (s *signer) sign(random io.Reader, message []byte) ([]byte, error) {
	switch s.opts.HashFunc() {
	case crypto.SHA256:
		digest := sha256.Sum256(message)
		return s.key.Sign(random, digest[:], s.opts)
	case crypto.SHA384:
		digest := sha512.Sum384(message)
		return s.key.Sign(random, digest[:], s.opts)
	default:
		return s.key.Sign(random, message, s.opts)
	}
}

// appendFixed turns an ASN.1 signature (RFC 3279 section 2.2.3), as a
// [crypto.Signer] returns it, into the two integers of JOSE, each padded to half
// the result (RFC 7518 section 3.4).
func appendFixed(dst, der []byte, half int) ([]byte, bool) {
	const sequence, integer = 0x30, 0x02
	integers, rest, ok := element(der, sequence)
	if !ok || len(rest) > 0 {
		return dst, false
	}
	for range 2 {
		var n []byte
		if n, integers, ok = element(integers, integer); !ok {
			return dst, false
		}
		n = bytes.TrimLeft(n, "\x00")
		if len(n) > half {
			return dst, false
		}
		for range half - len(n) {
			dst = append(dst, 0)
		}
		dst = append(dst, n...)
	}
	return dst, len(integers) == 0
}

// element cuts one ASN.1 element off. Lengths below 128 are enough for P-384.
func element(der []byte, tag byte) (content, rest []byte, ok bool) {
	if len(der) < 2 || der[0] != tag || der[1] > 127 || len(der)-2 < int(der[1]) {
		return nil, nil, false
	}
	end := 2 + int(der[1])
	return der[2:end], der[end:], true
}
