package token

import (
	"strconv"
	"time"
	"unicode/utf8"
)

// notBeforeSkew is how long before its issue a Stytch token is valid: verifiers of
// that profile allow for no difference between clocks.
const notBeforeSkew = 60 * time.Second

// appendClaims appends the claims of a token as JSON. A Stytch token has exactly
// these claims, and those of the issuer's template: its SDKs hand anything more to the application as custom claims.
// RFC9068 tokens are those of RFC 9068 section 2.2; jti is theirs.
func (i *Issuer) appendClaims(dst []byte, g *Grant, iat int64, jti string) []byte {
	dst = append(dst, `{"iss":`...)
	dst = AppendString(dst, i.Claim)
	dst = append(dst, `,"sub":`...)
	dst = AppendString(dst, g.Client.id)
	if i.Profile == RFC9068 {
		dst = append(dst, `,"client_id":`...)
		dst = AppendString(dst, g.Client.id)
		dst = append(dst, `,"jti":`...)
		dst = AppendString(dst, jti)
	}
	dst = append(dst, `,"aud":[`...)
	dst = append(dst, g.audiences...)
	dst = append(dst, `],"iat":`...)
	dst = strconv.AppendInt(dst, iat, 10)
	if i.Profile == Stytch {
		dst = append(dst, `,"nbf":`...)
		dst = strconv.AppendInt(dst, iat-int64(notBeforeSkew/time.Second), 10)
	}
	dst = append(dst, `,"exp":`...)
	dst = strconv.AppendInt(dst, iat+int64(g.Client.lifetime/time.Second), 10)
	dst = append(dst, `,"scope":`...)
	dst = AppendString(dst, g.Scope)
	dst = append(dst, g.claims...)
	return append(dst, '}')
}

// target returns the audiences of a client's token: with the RFC9068 profile those that
// the request asks for, where it asks (RFC 8707 section 2). A Stytch token has all of
// them; asking for another is refused there too.
func (i *Issuer) target(c *Client, asked []string) (string, error) {
	held := c.audiences.Value()
	var target []byte
	for _, audience := range asked {
		switch {
		case !listed(held, audience):
			return "", errTarget
		case listed(string(target), audience):
			continue
		case len(target) > 0:
			target = append(target, ',')
		}
		target = AppendString(target, audience)
	}
	if len(target) == 0 || i.Profile == Stytch {
		return held, nil
	}
	return string(target), nil
}

// appendStrings appends the elements of a JSON array.
func appendStrings(dst []byte, elements []string) []byte {
	for n, element := range elements {
		if n > 0 {
			dst = append(dst, ',')
		}
		dst = AppendString(dst, element)
	}
	return dst
}

// AppendString appends s as a JSON string (RFC 8259 section 7). What is not UTF-8
// becomes U+FFFD, so that the result is JSON whatever s is.
func AppendString(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	start := 0 // of what is not yet copied
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		if c < utf8.RuneSelf {
			dst = append(dst, s[start:i]...)
			if c == '"' || c == '\\' {
				dst = append(dst, '\\', c)
			} else {
				dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&0xf])
			}
			i++
			start = i
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && size == 1 {
			dst = append(dst, s[start:i]...)
			dst = append(dst, "\ufffd"...)
			start = i + size
		}
		i += size
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}
