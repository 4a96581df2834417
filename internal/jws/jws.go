// Package jws reads signed JWTs from strangers: client assertions, tokens of the
// cluster's ServiceAccounts, and our own tokens when they come back. It takes one form
// of them only, the compact serialization (RFC 7515 section 7.1), and that strictly:
// what two parsers might read differently is refused.
package jws

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"strings"
)

// MaxBytes bounds a token.
const MaxBytes = 16 << 10

// Error says what is wrong with a token. It never quotes any of it.
type Error struct {
	Reason  string // for the audit log, such as unknown_key
	Message string // for the sender: ASCII without `"` and `\`
}

func (e *Error) Error() string { return e.Message + " (" + e.Reason + ")" }

func malformed(message string) *Error { return &Error{"malformed_jwt", message} }

// What is wrong with tokens as a whole.
var (
	errTooLarge   = &Error{"jwt_too_large", "the JWT is larger than 16 KiB"}
	errNotCompact = malformed("the JWT must have three parts in base64url, without padding, separated by dots")
	errHeader     = malformed("the header of the JWT is not one JSON object whose names are different")
	errClaims     = malformed("the claims of the JWT are not one JSON object whose names are different")
	errForbidden  = &Error{"jwt_header", "the header of the JWT has a member that is not taken here: crit, b64, zip, enc, jwk, jku, x5u or x5c"}
)

// Token is a JWT that was read, and is not to be believed before its signature and its
// claims were checked.
type Token struct {
	Algorithm string // `alg`
	KeyID     string // `kid`; empty: none
	Type      string // `typ`; empty: none
	Claims    Claims

	payload   []byte
	signed    string // what the signature covers
	signature []byte
}

// strict has no padding, and refuses bits that are set where none are used: so a token
// has one text only.
var strict = base64.RawURLEncoding.Strict()

// Parse reads a token. The error is an [*Error].
func Parse(text string) (*Token, error) {
	if len(text) > MaxBytes {
		return nil, errTooLarge
	}
	// Counting stops at the first dot too many.
	header, rest, ok := strings.Cut(text, ".")
	payload, signature, more := strings.Cut(rest, ".")
	if !ok || !more || strings.IndexByte(signature, '.') >= 0 {
		return nil, errNotCompact
	}
	t := &Token{signed: text[:len(header)+1+len(payload)]}
	decoded, err := decode(header)
	if err != nil {
		return nil, err
	}
	if err := t.parseHeader(decoded); err != nil {
		return nil, err
	}
	if t.payload, err = decode(payload); err != nil {
		return nil, err
	}
	if t.signature, err = decode(signature); err != nil {
		return nil, err
	}
	return t, t.Claims.parse(t.payload)
}

// decode refuses line breaks too, which encoding/base64 skips.
func decode(part string) ([]byte, error) {
	if strings.ContainsAny(part, "\r\n") {
		return nil, errNotCompact
	}
	decoded, err := strict.DecodeString(part)
	if err != nil {
		return nil, errNotCompact
	}
	return decoded, nil
}

func (t *Token) parseHeader(text []byte) error {
	err := members(text, func(name string, value []byte) (err error) {
		switch name {
		case "alg":
			t.Algorithm, err = unquote(value)
		case "kid":
			t.KeyID, err = unquote(value)
		case "typ":
			t.Type, err = unquote(value)
		case "crit", "b64", "zip", "enc", "jwk", "jku", "x5u", "x5c":
			err = errForbidden
		}
		return err
	})
	if err == errForbidden { //nolint:errorlint // it is not wrapped
		return errForbidden
	}
	if err != nil || t.Algorithm == "" || len(t.KeyID) > maxKeyID {
		return errHeader
	}
	return nil
}

// Digest is SHA-256 of what the signature covers. It names a token for good, while the
// signature of some algorithms can be altered and still holds.
func (t *Token) Digest() [sha256.Size]byte { return sha256.Sum256([]byte(t.signed)) }

// Claim decodes one claim; one that is missing leaves into as it is.
func (t *Token) Claim(name string, into any) error {
	err := members(t.payload, func(n string, value []byte) error {
		if n != name {
			return nil
		}
		return json.Unmarshal(value, into)
	})
	if err != nil {
		return errClaims
	}
	return nil
}
