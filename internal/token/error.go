package token

// Code is an OAuth 2.0 error code (RFC 6749 section 5.2).
type Code string

// The codes that refusals carry. TemporarilyUnavailable is borrowed from RFC 6749
// section 4.1.2.1: the caller may be right, and this server can't tell.
const (
	InvalidRequest         Code = "invalid_request"
	InvalidClient          Code = "invalid_client"
	UnsupportedGrantType   Code = "unsupported_grant_type"
	InvalidScope           Code = "invalid_scope"
	TemporarilyUnavailable Code = "temporarily_unavailable"
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

// invalidClient gives all who fail to authenticate one and the same answer.
func invalidClient(reason string) *Error {
	return &Error{InvalidClient, "client authentication failed", reason}
}

var (
	errNoGrantType = &Error{InvalidRequest, "grant_type is missing", "no_grant_type"}
	errGrantType   = &Error{UnsupportedGrantType, "grant_type must be client_credentials", "grant_type"}

	errNoCredential   = &Error{InvalidClient, "client_id or client_secret is missing: send both in the body or by HTTP Basic", "no_credential"}
	errUnknownClient  = invalidClient("unknown_client")
	errWrongSecret    = invalidClient("wrong_secret")
	errExpiredVersion = invalidClient("expired_version")
	errInactive       = invalidClient("inactive")

	errMalformedScope = &Error{InvalidScope, "scope is malformed: it is a list of scopes, each separated by one space", "malformed_scope"}
	errScopeNotHeld   = &Error{InvalidScope, "the client does not hold a scope that it asks for", "scope_not_held"}

	errNoKey    = &Error{TemporarilyUnavailable, "the issuer can't sign tokens at present: try again later", "no_signing_key"}
	errNoPepper = &Error{TemporarilyUnavailable, "the server can't check credentials at present: try again later", "no_pepper"}
)
