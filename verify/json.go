package verify

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"unicode/utf8"
)

// Bounds of JSON from outside.
const (
	maxMembers = 128 // of an object
	maxDepth   = 32
)

var errJSON = errors.New("malformed JSON")

const space = " \t\r\n"

// members calls each for the members of a JSON object in their order. A name that comes
// twice is an error, however it is written: parsers differ in which one counts.
func members(text []byte, each func(name string, value []byte) error) error {
	if !utf8.Valid(text) || !json.Valid(text) {
		return errJSON
	}
	return validMembers(text, each)
}

// validMembers is members for text that is known to be JSON.
func validMembers(text []byte, each func(name string, value []byte) error) error {
	rest := bytes.TrimLeft(text, space)
	if rest[0] != '{' {
		return errors.New("JSON that is not an object")
	}
	var scratch [16]string
	names := scratch[:0]
	for {
		rest = bytes.TrimLeft(rest[1:], space) // after a brace or a comma
		if len(rest) == 0 || rest[0] == '}' {
			return nil
		}
		end := stringEnd(rest)
		name, err := unquote(rest[:end])
		switch {
		case err != nil:
			return err
		case slices.Contains(names, name):
			return errors.New("a name comes twice in JSON")
		case len(names) == maxMembers:
			return errors.New("too many members in JSON")
		}
		names = append(names, name)
		rest = bytes.TrimLeft(rest[end:], space)
		rest = bytes.TrimLeft(rest[1:], space) // after the colon
		if end, err = valueEnd(rest); err != nil {
			return err
		}
		if err := each(name, rest[:end]); err != nil {
			return err
		}
		if rest = bytes.TrimLeft(rest[end:], space); rest[0] == '}' {
			return nil
		}
	}
}

// elements calls each for the elements of an array, in text that is known to be JSON.
func elements(text []byte, each func(value []byte) error) error {
	rest := bytes.TrimLeft(text, space)
	if rest[0] != '[' {
		return errors.New("JSON that is not an array")
	}
	for {
		rest = bytes.TrimLeft(rest[1:], space) // after a bracket or a comma
		if rest[0] == ']' {
			return nil
		}
		end, err := valueEnd(rest)
		if err != nil {
			return err
		}
		if err := each(rest[:end]); err != nil {
			return err
		}
		if rest = bytes.TrimLeft(rest[end:], space); rest[0] == ']' {
			return nil
		}
	}
}

// valueEnd is where the value ends that valid JSON begins with.
func valueEnd(text []byte) (int, error) {
	switch text[0] {
	case '"':
		return stringEnd(text), nil
	case '{', '[':
		return nestedEnd(text)
	}
	if end := bytes.IndexAny(text, ",]}"+space); end >= 0 {
		return end, nil
	}
	return len(text), nil
}

func nestedEnd(text []byte) (int, error) {
	depth := 0
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '"':
			i += stringEnd(text[i:]) - 1
		case '{', '[':
			if depth++; depth > maxDepth {
				return 0, errors.New("JSON is nested too deeply")
			}
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1, nil
			}
		}
	}
	return 0, errJSON
}

func stringEnd(text []byte) int {
	for i := 1; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(text)
}

// unquote decodes a JSON string; other JSON is an error.
func unquote(text []byte) (string, error) {
	if len(text) < 2 || text[0] != '"' {
		return "", errors.New("JSON that is not a string")
	}
	if bytes.IndexByte(text, '\\') < 0 {
		return string(text[1 : len(text)-1]), nil
	}
	var s string
	err := json.Unmarshal(text, &s)
	return s, err
}
