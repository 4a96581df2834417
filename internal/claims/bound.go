package claims

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// ErrTooLarge says that what a request asks to have in a token is too much. The
// caller can answer it with invalid_request.
var ErrTooLarge = errors.New("the custom claims are too large")

// Bound is a template with the values of one client. It doesn't change, may be shared
// and compared, and is one string, so that clients with the same claims can share it
// by the package unique. The zero Bound has no claims.
type Bound struct {
	// text is members of a JSON object, each after a comma. Where a parameter's value
	// belongs, it has mark, the lead, mark, the parameter's name, mark. No JSON that is
	// rendered here has this character in it.
	text string
}

const mark = "\x00"

// Static returns the claims as members of a JSON object, each after a comma; false:
// they depend on the request.
func (b Bound) Static() (string, bool) {
	if strings.Contains(b.text, mark) {
		return "", false
	}
	return b.text, true
}

// Append appends the claims as members of a JSON object, each after a comma. It asks
// for the parameters of the request that it needs; one without a value is as good as
// none (RFC 6749 section 3.2). Where they are too large, dst stays as it was and the
// error is [ErrTooLarge].
func (b Bound) Append(dst []byte, request func(name string) (string, bool)) ([]byte, error) {
	c := composer{text: dst, start: len(dst)}
	for rest := b.text; ; {
		before, hole, found := strings.Cut(rest, mark)
		c.add(before)
		if len(c.text)-len(dst) > MaxBytes {
			return dst, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, MaxBytes)
		}
		if !found {
			return c.text, nil
		}
		lead, hole, _ := strings.Cut(hole, mark)
		name, after, _ := strings.Cut(hole, mark)
		rest = after
		value, ok := request(name)
		if !ok || value == "" {
			continue
		}
		if len(value) > MaxParameterBytes {
			return dst, fmt.Errorf("%w: the parameter %s has more than %d bytes", ErrTooLarge, quote(name), MaxParameterBytes)
		}
		c.add(lead)
		c.text = appendString(c.text, value)
	}
}

// composer puts JSON together where each member and element comes with a comma before
// it, so that any of them can be left out: right after an opening bracket the comma
// goes. After a hole it stays, until the hole is filled.
type composer struct {
	text  []byte
	start int // of what is put together; what is before it is another's
}

func (c *composer) add(s string) {
	if n := len(c.text); n > c.start && strings.HasPrefix(s, ",") && (c.text[n-1] == '{' || c.text[n-1] == '[') {
		s = s[1:]
	}
	c.text = append(c.text, s...)
}

// leave leaves a hole for a parameter's value.
func (c *composer) leave(lead, parameter string) {
	for _, s := range []string{mark, lead, mark, parameter, mark} {
		c.text = append(c.text, s...)
	}
}

// appendString appends s as a JSON string (RFC 8259 section 7). What is not UTF-8
// becomes U+FFFD.
func appendString(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			dst = append(dst, '\\', byte(r))
		case r < ' ' || r == '\u2028' || r == '\u2029': // the latter for those who take JSON for JavaScript
			dst = append(dst, '\\', 'u', hex[r>>12], hex[r>>8&0xf], hex[r>>4&0xf], hex[r&0xf])
		default:
			dst = utf8.AppendRune(dst, r)
		}
	}
	return append(dst, '"')
}
