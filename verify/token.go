package verify

import (
	"encoding/base64"
	"fmt"
	"strings"
)

// Bounds of what a token may be, in bytes.
const (
	maxToken = 16 << 10
	maxKeyID = 256
)

// token is a compact JWS (RFC 7515 section 3.1) that is well-formed. Nothing in it is
// to be believed before its signature is verified.
type token struct {
	header    header
	claims    Claims
	signed    string // what the signature covers
	signature []byte
}

// header is a JOSE header (RFC 7515 section 4).
type header struct {
	algorithm Algorithm
	keyID     string
	typ       string
}

// encoding refuses padding, and bits that are set where none are used: a token has one
// text only. That it skips line breaks is why segments looks at each character.
var encoding = base64.RawURLEncoding.Strict()

func parseToken(text string) (*token, error) {
	parts, err := segments(text)
	if err != nil {
		return nil, err
	}
	t := &token{signed: text[:len(parts[0])+1+len(parts[1])]}
	decoded, err := encoding.DecodeString(parts[0])
	if err == nil {
		t.header, err = parseHeader(decoded)
	}
	if err != nil {
		return nil, invalid("its header: %w", err)
	}
	if decoded, err = encoding.DecodeString(parts[1]); err == nil {
		err = parseClaims(&t.claims, decoded)
	}
	if err != nil {
		return nil, invalid("its claims: %w", err)
	}
	if t.signature, err = encoding.DecodeString(parts[2]); err != nil {
		return nil, invalid("its signature: %w", err)
	}
	return t, nil
}

// segments cuts a token into three at its dots.
func segments(text string) (parts [3]string, err error) {
	if len(text) > maxToken {
		return parts, invalid("it is longer than %d bytes", maxToken)
	}
	dots, start := 0, 0
	for i := range len(text) {
		switch c := text[i]; {
		case 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_':
		case c == '.' && dots < 2:
			parts[dots] = text[start:i]
			dots, start = dots+1, i+1
		case c == '.':
			return parts, invalid("it has more than three parts: it is no compact JWS")
		default:
			return parts, invalid("it has characters that are not base64url")
		}
	}
	if dots != 2 {
		return parts, invalid("it has less than three parts: it is no compact JWS")
	}
	parts[2] = text[start:]
	return parts, nil
}

// parseHeader takes the three members that our tokens have. Others name keys (jwk, jku,
// x5c, x5u), change what is signed (b64) or must be understood (crit); none is of use here.
func parseHeader(text []byte) (header, error) {
	var h header
	err := members(text, func(name string, value []byte) (err error) {
		switch name {
		case "alg":
			var algorithm string
			algorithm, err = unquote(value)
			h.algorithm = Algorithm(algorithm)
		case "kid":
			h.keyID, err = unquote(value)
		case "typ":
			h.typ, err = unquote(value)
		default:
			err = fmt.Errorf("it may have alg, kid and typ only")
		}
		return err
	})
	switch {
	case err != nil:
		return header{}, err
	case h.keyID == "" || len(h.keyID) > maxKeyID:
		return header{}, fmt.Errorf("kid must have 1 to %d bytes", maxKeyID)
	case strings.ContainsFunc(h.keyID, func(r rune) bool { return r < ' ' }):
		return header{}, fmt.Errorf("kid has control characters")
	}
	return h, nil
}
