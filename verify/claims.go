package verify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Claims are what a verified token says.
type Claims struct {
	ClientID  string // `sub`
	Scopes    []string
	Issuer    string
	Audience  []string
	IssuedAt  time.Time
	NotBefore time.Time // zero: it has none
	ExpiresAt time.Time
	ID        string // `jti`; tokens of the Stytch profile have none
	// Custom are the claims that no profile defines, as JSON.
	Custom map[string]json.RawMessage
	// Digest is SHA-256 over what the token's signature covers, which tells tokens apart.
	// The signature itself is left out: from one ECDSA signature anybody can make another.
	Digest [32]byte

	client   string // `client_id`
	hasScope bool
}

// HasScopes tells whether the scopes cover all required ones; see [RequiredScopes].
func (c *Claims) HasScopes(required ...string) bool { return covers(c.Scopes, required) }

// DecodeCustom decodes a custom claim into a value as [json.Unmarshal] does. An absent
// claim is an error.
func (c *Claims) DecodeCustom(name string, value any) error {
	text, ok := c.Custom[name]
	if !ok {
		return fmt.Errorf("the token has no claim %q", name)
	}
	return json.Unmarshal(text, value)
}

type contextKey struct{}

// NewContext returns a context that carries verified claims.
func NewContext(ctx context.Context, claims *Claims) context.Context {
	return context.WithValue(ctx, contextKey{}, claims)
}

// FromContext returns the claims that the middleware or an interceptor has verified;
// false: none has.
func FromContext(ctx context.Context) (*Claims, bool) {
	claims, ok := ctx.Value(contextKey{}).(*Claims)
	return claims, ok && claims != nil
}

func parseClaims(c *Claims, text []byte) error {
	return members(text, func(name string, value []byte) (err error) {
		switch name {
		case "iss":
			c.Issuer, err = unquote(value)
		case "sub":
			c.ClientID, err = unquote(value)
		case "client_id":
			c.client, err = unquote(value)
			if err == nil && c.client == "" {
				err = errors.New("empty")
			}
		case "jti":
			c.ID, err = unquote(value)
		case "aud":
			c.Audience, err = parseAudience(value)
		case "scope":
			c.hasScope = true
			c.Scopes, err = parseScope(value)
		case "iat":
			c.IssuedAt, err = parseDate(value)
		case "nbf":
			c.NotBefore, err = parseDate(value)
		case "exp":
			c.ExpiresAt, err = parseDate(value)
		default:
			if c.Custom == nil {
				c.Custom = map[string]json.RawMessage{}
			}
			c.Custom[name] = bytes.Clone(value) // one of them doesn't keep them all
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	})
}

// parseAudience takes one string or an array of them (RFC 7519 section 4.1.3).
func parseAudience(text []byte) ([]string, error) {
	if text[0] != '[' {
		audience, err := unquote(text)
		return []string{audience}, err
	}
	var audiences []string
	err := elements(text, func(value []byte) error {
		audience, err := unquote(value)
		audiences = append(audiences, audience)
		return err
	})
	return audiences, err
}

// parseDate takes whole seconds. RFC 7519 section 2 allows fractions; our issuers
// write none, and floating-point numbers compare in surprising ways.
func parseDate(text []byte) (time.Time, error) {
	const end = 253402300800 // year 10000
	seconds, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil || seconds <= 0 || seconds >= end {
		return time.Time{}, errors.New("not a whole number of seconds since 1970")
	}
	return time.Unix(seconds, 0), nil
}

// parseScope takes scopes separated by one space each (RFC 6749 section 3.3).
func parseScope(text []byte) ([]string, error) {
	scope, err := unquote(text)
	if err != nil || scope == "" {
		return nil, err
	}
	scopes := strings.Split(scope, " ")
	if slices.ContainsFunc(scopes, func(s string) bool { return !isScope(s) }) {
		return nil, errors.New("malformed")
	}
	return scopes, nil
}
