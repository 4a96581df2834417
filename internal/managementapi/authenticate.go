package managementapi

import (
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// maxBearer bounds a Kubernetes token, in bytes.
const maxBearer = 16 << 10

// authenticate finds out who calls. It comes before everything else below the prefix:
// strangers learn nothing.
func (h *Handler) authenticate(c *call, r *http.Request) (err error) {
	values := r.Header["Authorization"]
	if len(values) == 0 {
		return unauthorized("no_credential", "there is no Authorization header")
	}
	if len(values) > 1 {
		return unauthorized("two_authorizations", "there is more than one Authorization header")
	}
	scheme, rest, _ := strings.Cut(values[0], " ")
	rest = strings.TrimLeft(rest, " ")
	var claimed []string // whom the caller claims to be
	switch {
	case strings.EqualFold(scheme, "Basic"):
		projectID, secret, ok := parseBasic(rest)
		if !ok {
			return unauthorized("malformed_basic", "the Authorization header is not HTTP Basic with a project id and a project secret")
		}
		c.caller, err = h.authenticator.Basic(r.Context(), projectID, secret)
		claimed = []string{"project", projectID}
	case strings.EqualFold(scheme, "Bearer"):
		if !isBearer(rest) {
			return unauthorized("malformed_bearer", "the Authorization header has no token, or one of more than 16 KiB, after Bearer")
		}
		c.caller, err = h.authenticator.Bearer(r.Context(), rest, func() error { return h.spent(c) })
	default:
		return unauthorized("unsupported_scheme", "the authentication scheme must be Basic or Bearer")
	}
	if err != nil {
		return h.limited(c, claimed, err)
	}
	c.authenticated = true
	return nil
}

// spent tells a caller to wait whose address has failed too often. It is asked only before
// a token that can't be checked here: whoever has another credential is not locked out.
func (h *Handler) spent(c *call) error {
	if h.failures == nil {
		return nil
	}
	retryAfter, spent := h.failures.Spent(h.now(), c.peer)
	if !spent {
		return nil
	}
	return tooMany("token_not_checked", retryAfter)
}

// limited turns the refusal of a wrong credential into another, where there were too many.
// It comes after the credential was tried, so nobody can lock out who has the right one.
func (h *Handler) limited(c *call, claimed []string, err error) error {
	p, ok := errors.AsType[*Problem](err)
	if !ok || p.Status != http.StatusUnauthorized || h.failures == nil {
		return err
	}
	retryAfter, limited := h.failures.Limited(h.now(), append(claimed, c.peer)...)
	if !limited {
		return err
	}
	return tooMany(p.Reason, retryAfter)
}

func tooMany(reason string, retryAfter time.Duration) *Problem {
	return &Problem{
		Status: http.StatusTooManyRequests, Type: TypeTooManyRequests, Reason: reason, RetryAfter: retryAfter,
		Message: "authentication failed too often: put the credential right, and wait as long as Retry-After says before another wrong one",
	}
}

// parseBasic reads the credentials of HTTP Basic (RFC 7617 section 2).
func parseBasic(encoded string) (projectID, secret string, ok bool) {
	decoded, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil || !utf8.Valid(decoded) {
		return "", "", false
	}
	projectID, secret, ok = strings.Cut(string(decoded), ":")
	ok = ok && projectID != "" && secret != "" && strings.IndexFunc(projectID+secret, unicode.IsControl) < 0
	return projectID, secret, ok
}

// isBearer tells whether a text is a b64token (RFC 6750 section 2.1) of a bearable size.
func isBearer(token string) bool {
	text := strings.TrimRight(token, "=")
	return text != "" && len(token) <= maxBearer && strings.Trim(text, alphanumeric+"-._~+/") == ""
}

const alphanumeric = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
