package verify

import (
	"fmt"
	"strings"
)

// ParseBearer returns the token of the values of an Authorization header (RFC 6750
// section 2.1). There must be one value: of two, whoever else reads them might choose
// the other. A token anywhere else, such as the query, is none.
func ParseBearer(values []string) (string, error) {
	switch len(values) {
	case 0:
		return "", ErrMissingToken
	case 1:
	default:
		return "", fmt.Errorf("%w: there are several Authorization headers", ErrInvalidRequest)
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	switch {
	case !strings.EqualFold(scheme, "Bearer"):
		return "", ErrMissingToken // another scheme is none of ours
	case len(token) > maxToken:
		return "", invalid("it is longer than %d bytes", maxToken)
	case token == "" || strings.ContainsFunc(token, notToken68):
		return "", fmt.Errorf("%w: after Bearer and one space stands the token alone", ErrInvalidRequest)
	}
	return token, nil
}

// notToken68 tells whether a character can't be in a token (RFC 6750 section 2.1).
func notToken68(r rune) bool {
	switch {
	case 'A' <= r && r <= 'Z', 'a' <= r && r <= 'z', '0' <= r && r <= '9':
		return false
	default:
		return !strings.ContainsRune("-._~+/=", r)
	}
}
