package managementapi

import (
	"bytes"
	"encoding/json"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// members of a JSON object, as they were sent.
type members map[string]json.RawMessage

// maxDepth bounds how deep a body is nested.
const maxDepth = 32

// parseObject reads one JSON object (RFC 8259) with nothing after it. What others read in
// different ways is refused: names that come twice, at whatever depth, half a surrogate
// pair, numbers that no double holds.
func parseObject(body []byte) (members, error) {
	if !utf8.Valid(body) || !json.Valid(body) {
		return nil, errMalformed
	}
	if hasHalfPair(body) {
		return nil, errHalfPair
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	if err := checkValue(decoder, maxDepth); err != nil {
		return nil, err
	}
	var object members
	if err := json.Unmarshal(body, &object); err != nil || object == nil {
		return nil, errMalformed
	}
	return object, nil
}

// checkValue reads one value that is known to be valid JSON.
func checkValue(d *json.Decoder, depth int) error {
	token, err := d.Token()
	if err != nil {
		return errMalformed
	}
	switch t := token.(type) {
	case json.Number:
		if _, err := strconv.ParseFloat(t.String(), 64); err != nil {
			return errNumber
		}
	case json.Delim:
		if depth == 0 {
			return errTooDeep
		}
		names := map[any]bool{}
		for d.More() {
			if t == '{' {
				name, err := d.Token()
				if err != nil {
					return errMalformed
				}
				if names[name] {
					return errRepeated
				}
				names[name] = true
			}
			if err := checkValue(d, depth-1); err != nil {
				return err
			}
		}
		if _, err := d.Token(); err != nil { // the closing one
			return errMalformed
		}
	}
	return nil
}

// hasHalfPair tells whether a string in valid JSON has a surrogate that is no half of a
// pair. It is no character, and readers replace it by another.
func hasHalfPair(text []byte) bool {
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' {
			continue
		}
		first := codeUnit(text[i:])
		switch {
		case first < 0 || !utf16.IsSurrogate(first):
			i++ // the character that is escaped
		case utf16.DecodeRune(first, codeUnit(text[i+6:])) == utf8.RuneError:
			return true
		default:
			i += 11
		}
	}
	return false
}

// codeUnit reads \uXXXX at the front of a text; -1: it isn't there.
func codeUnit(text []byte) rune {
	if len(text) < 6 || text[0] != '\\' || text[1] != 'u' {
		return -1
	}
	unit, err := strconv.ParseUint(string(text[2:6]), 16, 16)
	if err != nil {
		return -1
	}
	return rune(unit)
}

// encodeJSON writes a value as compact JSON, without the escapes that are for HTML.
func encodeJSON(value any) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(value)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}
