package token

import "time"

// Code is an OAuth 2.0 error code (RFC 6749 section 5.2).
type Code string

// The codes that refusals carry. TemporarilyUnavailable is borrowed from RFC 6749
// section 4.1.2.1: the caller may be right, and this server can't tell.
const (
	InvalidRequest         Code = "invalid_request"
	InvalidClient          Code = "invalid_client"
	UnsupportedGrantType   Code = "unsupported_grant_type"
	InvalidScope           Code = "invalid_scope"
	InvalidTarget          Code = "invalid_target" // RFC 8707 section 2
	UnauthorizedClient     Code = "unauthorized_client"
	TemporarilyUnavailable Code = "temporarily_unavailable"
	TooManyRequests        Code = "too_many_requests" // of no RFC; it comes with the status 429 (RFC 6585 section 4)
)

// Error is a refusal. Nothing in it comes from the request, so that no part of it
// can be a secret.
type Error struct {
	Code        Code
	Description string // for the caller: ASCII without `"` and `\`
	Reason      string // for the audit log alone
}

// Error names the code and the reason. It is for the operator, not the caller.
func (e *Error) Error() string { return string(e.Code) + " (" + e.Reason + ")" }

// FailedAuthentication tells whether a credential was presented and refused, for what it
// is: not because a request says too little, or because this server can't tell.
func (e *Error) FailedAuthentication() bool {
	return e.Code == InvalidClient && e != errNoCredential && e != errSeveralClients
}

// QuotaError is a refusal because the client was given as many tokens as it may be.
type QuotaError struct {
	RetryAfter time.Duration // until it may have another
}

// Error is for the operator, not the caller.
func (e *QuotaError) Error() string { return string(TooManyRequests) + " (quota)" }

// failed is the one answer to all who fail to authenticate.
const failed = "client authentication failed"

func invalidClient(reason string) *Error { return &Error{InvalidClient, failed, reason} }

var (
	errNoGrantType = &Error{InvalidRequest, "grant_type is missing", "no_grant_type"}
	errGrantType   = &Error{UnsupportedGrantType, "grant_type must be client_credentials", "grant_type"}

	errNoCredential   = &Error{InvalidClient, "client_id or client_secret is missing: send both in the body or by HTTP Basic, or a client_assertion", "no_credential"}
	errTwoMethods     = &Error{InvalidRequest, "the client authenticates with a client_secret and a client_assertion: use one of them", "two_methods"}
	errAssertionType  = &Error{InvalidRequest, "client_assertion_type must be " + jwtBearer, "assertion_type"}
	errUnknownClient  = invalidClient("unknown_client")
	errWrongSecret    = invalidClient("wrong_secret")
	errExpiredVersion = invalidClient("expired_version")
	errInactive       = invalidClient("inactive")

	errAccountGone       = invalidClient("account_gone")
	errNoClientOfAccount = invalidClient("no_client_of_account")
	errAssertionClient   = &Error{InvalidClient, "client_id is not the client that the client_assertion is from", "assertion_of_another"}
	errSeveralClients    = &Error{InvalidClient, "the ServiceAccount belongs to several clients: send the client_id of one", "several_clients"}

	errMalformedScope = &Error{InvalidScope, "scope is malformed: it is a list of scopes, each separated by one space", "malformed_scope"}
	errScopeNotHeld   = &Error{InvalidScope, "the client does not hold a scope that it asks for", "scope_not_held"}

	errTarget       = &Error{InvalidTarget, "the client does not hold an audience that it asks for", "target_not_held"}
	errClaims       = &Error{InvalidRequest, "a parameter that the token is to carry is too long", "claims_too_large"}
	errNotYourToken = &Error{UnauthorizedClient, "the token belongs to another client", "token_of_another"}

	// ErrTooManyRevoked says that no more tokens of the client can be revoked one by one.
	ErrTooManyRevoked = &Error{InvalidRequest, "too many tokens of this client are revoked and have not expired: set spec.token.notBefore of its M2MClient to cut off all of them", "too_many_revoked"}

	errStale     = &Error{TemporarilyUnavailable, "the server can't tell at present whether the credential is valid: try again later", "stale"}
	errExpired   = &Error{TemporarilyUnavailable, "the server has been cut off from the cluster for too long: try again later", "expired_state"}
	errHalted    = &Error{TemporarilyUnavailable, "the issuer gives no tokens until its claims are put right: try again later", "halted"}
	errNoCluster = &Error{TemporarilyUnavailable, "the server does not know the keys of ServiceAccount tokens at present: try again later", "no_cluster_keys"}
	errNoKey     = &Error{TemporarilyUnavailable, "the issuer can't sign tokens at present: try again later", "no_signing_key"}
	errNoPepper  = &Error{TemporarilyUnavailable, "the server can't check credentials at present: try again later", "no_pepper"}
)
