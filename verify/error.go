package verify

import (
	"errors"
	"fmt"
	"strings"
)

// Why a request is refused. Errors wrap one of these, and say more; none quotes a token.
var (
	// ErrMissingToken: the request has no bearer token (HTTP 401).
	ErrMissingToken = errors.New("there is no bearer token: send one in the Authorization header")
	// ErrInvalidRequest: the Authorization header is malformed, or comes twice (HTTP 400).
	ErrInvalidRequest = errors.New("malformed authorization")
	// ErrInvalidToken: the token is malformed, not signed by the issuer, or not for this
	// audience (HTTP 401).
	ErrInvalidToken = errors.New("invalid token")
	// ErrTokenExpired: the token was valid. It wraps [ErrInvalidToken].
	ErrTokenExpired = fmt.Errorf("%w: it has expired", ErrInvalidToken)
	// ErrTokenRevoked: the deny list or the issuer says so. It wraps [ErrInvalidToken].
	ErrTokenRevoked = fmt.Errorf("%w: it has been revoked", ErrInvalidToken)
	// ErrInsufficientScope: the token is valid and doesn't allow this (HTTP 403). The error
	// is a [*ScopeError].
	ErrInsufficientScope = errors.New("insufficient scope")
	// ErrKeysUnavailable: the issuer's keys are not there or too old, so nothing can be
	// verified (HTTP 503).
	ErrKeysUnavailable = errors.New("the keys of the issuer are not available")
	// ErrRevocationUnavailable: neither the deny list nor the issuer could say whether the
	// token is revoked (HTTP 503).
	ErrRevocationUnavailable = errors.New("whether the token is revoked can't be told now")
)

// ScopeError is what a token lacks.
type ScopeError struct {
	Required []string // all scopes that are required, held or not
}

// Error lists the required scopes.
func (e *ScopeError) Error() string {
	return fmt.Sprintf("%v: this needs %q", ErrInsufficientScope, strings.Join(e.Required, " "))
}

// Unwrap makes the error an [ErrInsufficientScope].
func (e *ScopeError) Unwrap() error { return ErrInsufficientScope }

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrInvalidToken, fmt.Errorf(format, args...))
}
