package claims

import (
	"slices"
	"strings"
)

// registeredClaims say who a token is from, who it is for and about, how long and
// where it holds: the authority's word, never a template's. They are those of the
// registry "JSON Web Token Claims" of IANA that carry such a meaning, and a few that
// verifiers take for one. Claims such as roles, groups and email are not among them:
// they are what templates are for.
var registeredClaims = []string{
	"iss", "sub", "aud", "exp", "nbf", "iat", "jti", // RFC 7519
	"azp", "nonce", "auth_time", "at_hash", "c_hash", "s_hash", "acr", "amr", "sub_jwk", "_claim_names", "_claim_sources", "sid", // OpenID Connect
	"cnf",           // RFC 7800
	"events", "toe", // RFC 8417
	"vot", "vtm", // RFC 8485
	"act", "may_act", "scope", "client_id", // RFC 8693
	"cnonce", "exi", // RFC 9200
	"authorization_details",                       // RFC 9396
	"sub_id",                                      // RFC 9493
	"active", "token_type", "token_introspection", // RFC 7662, RFC 9701
	"scp", "typ", // not registered, and read by verifiers all the same
	"https://stytch.com/session", "https://stytch.com/organization", // would make the token a session's to Stytch's SDKs
}

// protocolParameters are the parameters of requests in the registry "OAuth
// Parameters" of IANA, and those of other grants. Names that have one of the words
// of credentialWords in them need not be here.
var protocolParameters = []string{
	"grant_type", "client_id", "scope", "state", "code", "redirect_uri", "response_type", "username", // RFC 6749
	"code_verifier", "code_challenge", "code_challenge_method", // RFC 7636
	"resource", "audience", // RFC 8707, RFC 8693
	"device_code", "user_code", // RFC 8628
	"request", "request_uri", "iss", "sub", "aud", "exp", "nbf", "iat", "jti", // RFC 9101
	"req_cnf", "rs_cnf", "cnf", "ace_profile", "nonce1", "nonce2", "ace_client_recipientid", "ace_server_recipientid", // RFC 9200, RFC 9201, RFC 9203
	"authorization_details", "dpop_jkt", "dpop", // RFC 9396, RFC 9449
	"response_mode", "nonce", "display", "prompt", "max_age", "ui_locales", "claims_locales", "id_token_hint",
	"login_hint", "acr_values", "claims", "registration", "session_state", "trust_chain", // OpenID Connect
	"auth_req_id", "binding_message", "requested_expiry", // CIBA
	"ticket", "pct", "rpt", "vtr", "sign_info", "kdcchallenge", // UMA, RFC 8485, RFC 9594
	"pre-authorized_code", "tx_code", "issuer_state", "user_hint", "wallet_issuer", // OpenID for Verifiable Credential Issuance
	"pin", "otp", "authorization", "api_key", "apikey", "private_key", "passphrase", // credentials elsewhere
}

// credentialWords mark parameters that are, or describe, a credential: client_secret,
// client_assertion_type, subject_token, refresh_token, passwords and what may come.
var credentialWords = []string{"secret", "password", "passwd", "token", "assertion", "credential"}

// isRegisteredClaim ignores case, because many a verifier does: encoding/json takes
// "Sub" for sub, and the last one wins.
func isRegisteredClaim(name string) bool {
	return slices.ContainsFunc(registeredClaims, func(r string) bool { return strings.EqualFold(r, name) })
}

// isProtocolParameter tells whether a parameter, in upper or lower case, must not
// get into a token: the services that a token is shown to would read it.
func isProtocolParameter(name string) bool {
	name = strings.ToLower(name)
	return slices.Contains(protocolParameters, name) ||
		slices.ContainsFunc(credentialWords, func(word string) bool { return strings.Contains(name, word) })
}
