package tokenserver

import (
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// parseJSON reads one flat object of strings (RFC 8259), with nothing after it;
// null stands for no value. It is flat, so there is no depth to bound. An error
// leaves the parameters that came before it.
func (p *parameters) parseJSON(body string) error {
	s := jsonScanner{rest: body}
	if !s.take('{') {
		return errMalformedJSON
	}
	if s.take('}') {
		return s.end()
	}
	for {
		name, ok := s.text()
		if !ok || !s.take(':') {
			return errMalformedJSON
		}
		value, err := s.value()
		if err != nil {
			return err
		}
		if err := p.add(name, value); err != nil {
			return err
		}
		if s.take(',') {
			continue
		}
		if !s.take('}') {
			return errMalformedJSON
		}
		return s.end()
	}
}

// jsonScanner reads JSON from the front of a text.
type jsonScanner struct{ rest string }

// take reads one character, and the white space before it, if it comes next.
func (s *jsonScanner) take(c byte) bool {
	if s.next() != c || s.rest == "" {
		return false
	}
	s.rest = s.rest[1:]
	return true
}

// next returns the character that comes next after white space; 0: none.
func (s *jsonScanner) next() byte {
	s.rest = strings.TrimLeft(s.rest, " \t\r\n")
	if s.rest == "" {
		return 0
	}
	return s.rest[0]
}

func (s *jsonScanner) end() error {
	if s.next(); s.rest != "" {
		return errMalformedJSON
	}
	return nil
}

// value reads a string or null.
func (s *jsonScanner) value() (string, error) {
	switch c := s.next(); {
	case c == '"':
		if text, ok := s.text(); ok {
			return text, nil
		}
	case strings.HasPrefix(s.rest, "null"):
		s.rest = s.rest[len("null"):]
		return "", nil
	case strings.IndexByte("{[tf-0123456789", c) >= 0:
		return "", errNotString
	}
	return "", errMalformedJSON
}

// text reads a string.
func (s *jsonScanner) text() (string, bool) {
	if !s.take('"') {
		return "", false
	}
	for i := range len(s.rest) {
		switch c := s.rest[i]; {
		case c == '"':
			text := s.rest[:i]
			s.rest = s.rest[i+1:]
			return text, true
		case c == '\\':
			return s.escapedText(i)
		case c < ' ':
			return "", false
		}
	}
	return "", false
}

// escapedText reads on in a string whose first escape stands at i.
func (s *jsonScanner) escapedText(i int) (string, bool) {
	text := append(make([]byte, 0, 2*i+16), s.rest[:i]...)
	for s.rest = s.rest[i:]; s.rest != ""; {
		c := s.rest[0]
		switch {
		case c == '"':
			s.rest = s.rest[1:]
			return string(text), true
		case c < ' ':
			return "", false
		case c != '\\':
			text = append(text, c)
			s.rest = s.rest[1:]
		default:
			r, ok := s.escape()
			if !ok {
				return "", false
			}
			text = utf8.AppendRune(text, r)
		}
	}
	return "", false
}

// escape reads one escape sequence (RFC 8259 section 7).
func (s *jsonScanner) escape() (rune, bool) {
	if len(s.rest) < 2 {
		return 0, false
	}
	c := s.rest[1]
	if c == 'u' {
		return s.unicodeEscape()
	}
	s.rest = s.rest[2:]
	switch c {
	case '"', '\\', '/':
		return rune(c), true
	case 'b':
		return '\b', true
	case 'f':
		return '\f', true
	case 'n':
		return '\n', true
	case 'r':
		return '\r', true
	case 't':
		return '\t', true
	default:
		return 0, false
	}
}

// unicodeEscape reads \uXXXX, or two of them that make one character. Half a
// pair is no character and is refused, where others replace it.
func (s *jsonScanner) unicodeEscape() (rune, bool) {
	first, ok := s.codeUnit()
	if !ok || !utf16.IsSurrogate(first) {
		return first, ok
	}
	second, ok := s.codeUnit()
	r := utf16.DecodeRune(first, second)
	return r, ok && r != utf8.RuneError
}

func (s *jsonScanner) codeUnit() (rune, bool) {
	if len(s.rest) < 6 || s.rest[0] != '\\' || s.rest[1] != 'u' {
		return 0, false
	}
	var unit rune
	for i := 2; i < 6; i++ {
		digit := unhex(s.rest[i])
		if digit < 0 {
			return 0, false
		}
		unit = unit<<4 | digit
	}
	s.rest = s.rest[6:]
	return unit, true
}
