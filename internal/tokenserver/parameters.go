package tokenserver

import (
	"strings"
	"unicode/utf8"
)

// maxParameters bounds the parameters of a request: a token request has four.
const maxParameters = 64

// parameter is one of a request, decoded.
type parameter struct{ name, value string }

// parameters are those of one request. They are few, so a list beats a map.
type parameters []parameter

// get returns a parameter's value. One without a value is as good as none
// (RFC 6749 section 3.2).
func (p parameters) get(name string) string {
	for i := range p {
		if p[i].name == name {
			return p[i].value
		}
	}
	return ""
}

// add refuses what no parameter may be: a repetition (RFC 6749 section 3.2) or
// something that is not text.
func (p *parameters) add(name, value string) error {
	switch {
	case len(*p) == maxParameters:
		return errTooManyParameters
	case !isText(name) || !isText(value):
		return errNotText
	case p.has(name) && !repeatable(name):
		return errRepeated
	}
	*p = append(*p, parameter{name, value})
	return nil
}

// resources are the audiences that are asked for; nil: none are.
func (p parameters) resources() []string {
	var asked []string
	for i := range p {
		if repeatable(p[i].name) && p[i].value != "" {
			asked = append(asked, p[i].value)
		}
	}
	return asked
}

func (p parameters) has(name string) bool {
	for i := range p {
		if p[i].name == name {
			return true
		}
	}
	return false
}

// repeatable tells the two parameters that may come more than once (RFC 8707
// section 2, RFC 8693 section 2.1).
func repeatable(name string) bool { return name == "resource" || name == "audience" }

func isText(s string) bool {
	return strings.IndexByte(s, 0) < 0 && utf8.ValidString(s)
}

// parseForm reads application/x-www-form-urlencoded, as [net/url.ParseQuery] does.
// An error leaves the parameters that came before it.
func (p *parameters) parseForm(body string) error {
	if strings.IndexByte(body, ';') >= 0 {
		return errMalformedForm // some take it for a separator, so it is never unambiguous
	}
	for body != "" {
		var pair string
		pair, body, _ = strings.Cut(body, "&")
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		name, nameOK := unescape(name)
		value, valueOK := unescape(value)
		if !nameOK || !valueOK {
			return errMalformedForm
		}
		if err := p.add(name, value); err != nil {
			return err
		}
	}
	return nil
}

// unescape decodes a name or value of application/x-www-form-urlencoded.
func unescape(s string) (string, bool) {
	if strings.IndexByte(s, '%') < 0 && strings.IndexByte(s, '+') < 0 {
		return s, true
	}
	var b strings.Builder
	b.Grow(len(s))
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case '+':
			b.WriteByte(' ')
		case '%':
			if len(s)-i < 3 {
				return "", false
			}
			high, low := unhex(s[i+1]), unhex(s[i+2])
			if high < 0 || low < 0 {
				return "", false
			}
			b.WriteByte(byte(high<<4 | low))
			i += 2
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), true
}

// unhex returns the value of a hexadecimal digit; -1: it is none.
func unhex(c byte) rune {
	switch {
	case '0' <= c && c <= '9':
		return rune(c - '0')
	case 'a' <= c && c <= 'f':
		return rune(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return rune(c-'A') + 10
	default:
		return -1
	}
}
