package tokenserver

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/m2m-operator/m2m-operator/internal/token"
)

// serverError is what every unknown cause becomes.
const serverError token.Code = "server_error"

// errorURI explains the codes.
const errorURI = "https://www.rfc-editor.org/rfc/rfc6749#section-5.2"

// problem is an answer that brings no token.
type problem struct {
	status      int
	code        token.Code
	description string        // for the caller
	reason      string        // for the audit log
	retryAfter  time.Duration // 0: not said
}

func (p *problem) Error() string { return string(p.code) + " (" + p.reason + ")" }

// problemOf is the one place where an error becomes an answer. An unknown cause
// becomes an opaque one.
func problemOf(err error) problem {
	if p, ok := errors.AsType[*problem](err); ok {
		return *p
	}
	if refusal, ok := errors.AsType[*token.Error](err); ok {
		return problem{status: statusOf(refusal.Code), code: refusal.Code, description: refusal.Description, reason: refusal.Reason}
	}
	if quota, ok := errors.AsType[*token.QuotaError](err); ok {
		return *tooManyRequests(quotaSpent, "quota", quota.RetryAfter)
	}
	return problem{
		status: http.StatusInternalServerError, code: serverError,
		description: "something went wrong here: tell the operator the request_id", reason: "internal",
	}
}

// statusOf is RFC 6749 section 5.2.
func statusOf(code token.Code) int {
	switch code {
	case token.InvalidClient:
		return http.StatusUnauthorized
	case token.TemporarilyUnavailable:
		return http.StatusServiceUnavailable
	default:
		return http.StatusBadRequest
	}
}

// append appends the answer's body.
func (p *problem) append(dst, requestID []byte) []byte {
	dst = append(dst, `{"error":`...)
	dst = token.AppendString(dst, string(p.code))
	dst = append(dst, `,"error_description":`...)
	dst = token.AppendString(dst, p.description)
	dst = append(dst, `,"error_uri":"`+errorURI+`","status_code":`...)
	dst = strconv.AppendInt(dst, int64(p.status), 10)
	return appendRequestID(dst, requestID)
}

// appendRequestID appends the last member of every answer, and closes it.
func appendRequestID(dst, requestID []byte) []byte {
	dst = append(dst, `,"request_id":"`...)
	dst = append(dst, requestID...)
	return append(dst, `"}`...)
}

func invalidRequest(reason, description string) *token.Error {
	return &token.Error{Code: token.InvalidRequest, Description: description, Reason: reason}
}

func httpProblem(status int, reason, description string) *problem {
	return &problem{status: status, code: token.InvalidRequest, description: description, reason: reason}
}

// What to do about too many requests.
const (
	quotaSpent      = "the client has been given as many tokens as it may be: use each until it expires, and wait as long as Retry-After says"
	failuresTooMany = "authentication failed too often: put the credential right, and wait as long as Retry-After says before another wrong one"
)

// tooManyRequests is RFC 6585 section 4.
func tooManyRequests(description, reason string, retryAfter time.Duration) *problem {
	return &problem{http.StatusTooManyRequests, token.TooManyRequests, description, reason, retryAfter}
}

// What is wrong with a request before anybody is asked who it is from.
var (
	errNotFound       = httpProblem(http.StatusNotFound, "not_found", "there is nothing at this path")
	errUnknownProject = httpProblem(http.StatusNotFound, "unknown_project", "there is no issuer with this project id here")
	errMethod         = httpProblem(http.StatusMethodNotAllowed, "method", "the method is not allowed here: see the Allow header")
	errTooLarge       = httpProblem(http.StatusRequestEntityTooLarge, "too_large", "the body is larger than 64 KiB")
	errSlowBody       = httpProblem(http.StatusRequestTimeout, "slow_body", "the body did not arrive in time")
	errUnavailable    = &token.Error{Code: token.TemporarilyUnavailable, Description: "the issuer has no usable keys at present: keep those that you have, and try again later", Reason: "no_signing_key"}
	errBrokenBody     = invalidRequest("broken_body", "the body did not arrive whole")

	errQuery       = invalidRequest("query", "OAuth parameters belong in the body, never in the URL: take the credential in it as leaked")
	errContentType = invalidRequest("content_type", "the Content-Type must be application/x-www-form-urlencoded or application/json, in UTF-8")
	errEncoding    = invalidRequest("content_encoding", "the body must not have a Content-Encoding")

	errNoToken = invalidRequest("no_token", "token is missing: send the token to look at or to revoke")

	errNoReview   = &token.Error{Code: token.TemporarilyUnavailable, Description: "the cluster can't be asked about the token at present: try again later", Reason: "no_review"}
	errReviewed   = &token.Error{Code: token.InvalidClient, Description: "client_assertion is refused: the cluster does not take it any more", Reason: "reviewed"}
	errNotRevoked = &token.Error{Code: token.TemporarilyUnavailable, Description: "the revocation can't be kept at present, and the token may still be active: try again later", Reason: "not_revoked"}

	errMalformedForm     = invalidRequest("malformed_form", "the body is not application/x-www-form-urlencoded")
	errMalformedJSON     = invalidRequest("malformed_json", "the body is not one JSON object")
	errNotString         = invalidRequest("not_string", "a parameter in JSON must be a string")
	errNotText           = invalidRequest("not_text", "a parameter must be UTF-8 without NUL")
	errRepeated          = invalidRequest("repeated_parameter", "a parameter is sent more than once")
	errTooManyParameters = invalidRequest("too_many_parameters", "there are too many parameters")

	errTwoAuthorizations = invalidRequest("two_authorizations", "there is more than one Authorization header")
	errMalformedBasic    = invalidRequest("malformed_basic", "the Authorization header is not HTTP Basic with form-encoded client_id and client_secret")
	errTwoClients        = invalidRequest("two_clients", "the body and the Authorization header name different clients")
	errTwoSecrets        = invalidRequest("two_secrets", "the client authenticates in the body and in the Authorization header: use one of them")
	errScheme            = &token.Error{Code: token.InvalidClient, Description: "the authentication scheme must be Basic", Reason: "unsupported_scheme"}
)
