package controllers

import (
	"fmt"
	"strings"
)

// maxComposed bounds a composed value in bytes: a manifest is small, but what it
// repeats may be long.
const maxComposed = 64 << 10

// compose replaces {{ name }} in a template's value. It is no template language:
// a manifest's author is a tenant, and loops and functions would be theirs to abuse.
func compose(text string, values map[string]string) (string, error) {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(text, "{{")
		b.WriteString(before)
		if b.Len() > maxComposed {
			return "", fmt.Errorf("it is over %d KiB when it is composed", maxComposed>>10)
		}
		if !found {
			return b.String(), nil
		}
		name, after, closed := strings.Cut(rest, "}}")
		if !closed {
			return "", fmt.Errorf("a {{ has no }}")
		}
		value, known := values[strings.Trim(name, " ")]
		if !known {
			return "", fmt.Errorf("{{%.40s}} is not one of {{ client_id }}, {{ client_secret }}, {{ token_url }}, {{ issuer }}, {{ jwks_url }}, {{ scopes }}", name)
		}
		b.WriteString(value)
		text = after
	}
}
