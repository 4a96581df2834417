package claims

import (
	"errors"
	"fmt"
	"strings"
)

// expression says where a value comes from.
type expression struct {
	source source
	path   []string // the keys into the metadata, or the one name of a parameter
}

type source int

const (
	fromClientID source = iota
	fromNamespace
	fromMetadata
	fromRequest
)

var (
	errUnknown       = errors.New("this expression is unknown: use client.client_id, client.namespace, client.trusted_metadata. and a key, or request. and a parameter")
	errWholeMetadata = errors.New("client.trusted_metadata as a whole would put into tokens whatever is added to it later: name a key, as in client.trusted_metadata.tier")
	errParameterName = fmt.Errorf("a parameter's name has 1 to %d letters, digits and the characters - . _ : correct the name after request", MaxNameBytes)
)

// newExpression finds out what a path such as client.client_id means.
func newExpression(path []string) (expression, error) {
	root, rest := path[0], path[1:]
	switch {
	case root == "request" && len(rest) == 1:
		return expression{fromRequest, rest}, checkParameter(rest[0])
	case root == "request" && len(rest) > 1:
		return expression{}, errors.New(`a parameter of a request is text and has no fields: name one parameter after request, with a dot in its name as in request["a.b"]`)
	case root != "client" || len(rest) == 0:
		return expression{}, errUnknown
	case rest[0] == "trusted_metadata" && len(rest) == 1:
		return expression{}, errWholeMetadata
	case rest[0] == "trusted_metadata":
		return expression{fromMetadata, rest[1:]}, nil
	case rest[0] == "client_id" && len(rest) == 1:
		return expression{source: fromClientID}, nil
	case rest[0] == "namespace" && len(rest) == 1:
		return expression{source: fromNamespace}, nil
	default:
		return expression{}, errUnknown
	}
}

// checkParameter refuses what is no name of a parameter (RFC 6749 appendix A), and
// parameters that must not get into a token.
func checkParameter(name string) error {
	if name == "" || len(name) > MaxNameBytes {
		return errParameterName
	}
	for i := range len(name) {
		if c := name[i]; c != '.' && !isIdentifier(c) {
			return errParameterName
		}
	}
	if isProtocolParameter(name) {
		return fmt.Errorf("the parameter %s belongs to OAuth or may be a credential, and never gets into a token: have callers send the value under another name", quote(name))
	}
	return nil
}

// isIdentifier tells whether a name with this character needs no brackets.
func isIdentifier(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '-'
}

// quote quotes the beginning of a word for a message.
func quote(word string) string {
	const most = 48
	if len(word) > most {
		word = strings.ToValidUTF8(word[:most], "") + "..."
	}
	return fmt.Sprintf("%q", word)
}
