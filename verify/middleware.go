package verify

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
)

// Middleware passes requests on that bring a token in their Authorization header which is
// valid and has what is required; [FromContext] returns its claims. Others are answered
// by [WriteError].
func (v *Verifier) Middleware(required ...Requirement) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			token, err := ParseBearer(r.Header.Values("Authorization"))
			if err != nil {
				WriteError(w, err)
				return
			}
			claims, err := v.AuthenticateToken(r.Context(), token, required...)
			if err != nil {
				WriteError(w, err)
				return
			}
			next.ServeHTTP(w, r.WithContext(NewContext(r.Context(), claims)))
		})
	}
}

// retryAfter is when keys may be there again, in seconds.
const retryAfter = "10"

// WriteError answers a request that is refused, as RFC 6750 section 3 says: with the
// status that an error of this package stands for, WWW-Authenticate, and a JSON object
// of `error` and `error_description`. It tells the caller no more than that.
func WriteError(w http.ResponseWriter, err error) {
	status, code, description := explain(err)
	header := w.Header()
	switch {
	case status == http.StatusServiceUnavailable:
		header.Set("Retry-After", retryAfter)
	case code == "":
		header.Set("WWW-Authenticate", `Bearer realm="oauth2"`)
	case status != http.StatusInternalServerError:
		header.Set("WWW-Authenticate", challenge(code, description, err))
	}
	body, _ := json.Marshal(struct { // two strings can't fail
		Error       string `json:"error,omitempty"`
		Description string `json:"error_description"`
	}{code, description})
	header.Set("Content-Type", "application/json")
	header.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // a caller that has gone needs no answer
}

// explain says what an error means to the caller. Without a token there is no code
// (RFC 6750 section 3.1).
func explain(err error) (status int, code, description string) {
	switch {
	case errors.Is(err, ErrMissingToken):
		return http.StatusUnauthorized, "", "send a bearer token in the Authorization header"
	case errors.Is(err, ErrInvalidRequest):
		return http.StatusBadRequest, "invalid_request", "the Authorization header is malformed"
	case errors.Is(err, ErrTokenExpired):
		return http.StatusUnauthorized, "invalid_token", "the token has expired"
	case errors.Is(err, ErrTokenRevoked):
		return http.StatusUnauthorized, "invalid_token", "the token has been revoked"
	case errors.Is(err, ErrInvalidToken):
		return http.StatusUnauthorized, "invalid_token", "the token is not valid here"
	case errors.Is(err, ErrInsufficientScope):
		return http.StatusForbidden, "insufficient_scope", "the token doesn't have the required scope"
	case errors.Is(err, ErrKeysUnavailable), errors.Is(err, ErrRevocationUnavailable):
		return http.StatusServiceUnavailable, "temporarily_unavailable", "tokens can't be verified now"
	default:
		return http.StatusInternalServerError, "server_error", "the token could not be verified"
	}
}

// challenge is a WWW-Authenticate header (RFC 6750 section 3).
func challenge(code, description string, err error) string {
	c := `Bearer error="` + code + `", error_description="` + description + `"`
	if lacking, ok := errors.AsType[*ScopeError](err); ok {
		// What is no scope can't be quoted, and is never held.
		scopes := slices.DeleteFunc(slices.Clone(lacking.Required), func(s string) bool { return !isScope(s) })
		c += `, scope="` + strings.Join(scopes, " ") + `"`
	}
	return c
}
