package verify

import (
	"slices"
	"strings"
)

// isScope tells whether s is a `scope-token` of RFC 6749 section 3.3.
func isScope(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r > '~' || r == '"' || r == '\\'
	})
}

func covers(held, required []string) bool {
	return !slices.ContainsFunc(required, func(r string) bool { return !coversOne(held, r) })
}

// coversOne tells whether a required scope is held, or is an action on a resource
// (`read:users`) of an action that is held on all of them (`read:*`). The first colon
// divides; further ones belong to the resource. Nothing else is a wildcard.
func coversOne(held []string, required string) bool {
	if slices.Contains(held, required) {
		return true
	}
	action, resource, ok := strings.Cut(required, ":")
	return ok && resource != "" && slices.Contains(held, action+":*")
}
