package jws

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"unicode/utf8"
)

// Bounds of the JSON in a token.
const (
	maxMembers = 64 // of an object
	maxDepth   = 12
)

var errJSON = errors.New("not the JSON that is wanted")

// white is the white space of JSON.
const white = " \t\r\n"

// members calls each for the members of one JSON object, in their order. A name that comes
// twice, at whatever depth and however it is written, is an error: parsers differ in
// which of the values counts.
func members(text []byte, each func(name string, value []byte) error) error {
	if !utf8.Valid(text) || !json.Valid(text) {
		return errJSON
	}
	return walk(bytes.TrimLeft(text, white), '{', 1, each)
}

// elements calls each for the elements of an array, in text that is known to be JSON.
func elements(text []byte, each func(value []byte) error) error {
	return walk(text, '[', 1, func(_ string, value []byte) error { return each(value) })
}

// walk goes through an object or an array that valid JSON begins with.
func walk(text []byte, open byte, depth int, each func(name string, value []byte) error) error {
	if text[0] != open || depth > maxDepth {
		return errJSON
	}
	names := make([]string, 0, 16)
	for at := text; ; {
		at = bytes.TrimLeft(at[1:], white) // after the bracket or a comma
		if at[0] == '}' || at[0] == ']' {
			return nil
		}
		var name string
		if open == '{' {
			end := stringEnd(at)
			var err error
			if name, err = unquote(at[:end]); err != nil || slices.Contains(names, name) || len(names) == maxMembers {
				return errJSON
			}
			names = append(names, name)
			at = bytes.TrimLeft(at[end:], white)
			at = bytes.TrimLeft(at[1:], white) // after the colon
		}
		end := valueEnd(at)
		if at[0] == '{' || at[0] == '[' {
			if err := walk(at[:end], at[0], depth+1, ignore); err != nil {
				return err
			}
		}
		if each != nil {
			if err := each(name, at[:end]); err != nil {
				return err
			}
		}
		if at = bytes.TrimLeft(at[end:], white); at[0] != ',' {
			return nil
		}
	}
}

func ignore(string, []byte) error { return nil }

// valueEnd is where the value ends that valid JSON begins with.
func valueEnd(text []byte) int {
	switch text[0] {
	case '"':
		return stringEnd(text)
	case '{', '[':
		depth := 0
		for i := 0; ; i++ {
			switch text[i] {
			case '"':
				i += stringEnd(text[i:]) - 1
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
		}
	}
	if end := bytes.IndexAny(text, ",]}"+white); end >= 0 {
		return end
	}
	return len(text)
}

// stringEnd is where the string ends that valid JSON begins with.
func stringEnd(text []byte) int {
	for i := 1; ; i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
}

// unquote decodes a string; other JSON is an error.
func unquote(text []byte) (string, error) {
	if text[0] != '"' {
		return "", errJSON
	}
	if bytes.IndexByte(text, '\\') < 0 {
		return string(text[1 : len(text)-1]), nil
	}
	var s string
	err := json.Unmarshal(text, &s)
	return s, err
}
