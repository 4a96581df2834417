package managementapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// What is wrong with a call before anybody is asked about clients.
var (
	errNoRoute     = &Problem{http.StatusNotFound, TypeRouteNotFound, "there is nothing at this path", "", 0}
	errTooLarge    = badRequest(http.StatusRequestEntityTooLarge, "too_large", "the body is larger than 64 KiB")
	errSlowBody    = badRequest(http.StatusRequestTimeout, "slow_body", "the body did not arrive in time")
	errBrokenBody  = badRequest(http.StatusBadRequest, "broken_body", "the body did not arrive whole")
	errContentType = badRequest(http.StatusUnsupportedMediaType, "content_type", "the Content-Type must be application/json, in UTF-8")
	errEncoding    = badRequest(http.StatusUnsupportedMediaType, "content_encoding", "the body must not have a Content-Encoding")
	errNoBody      = badRequest(http.StatusBadRequest, "no_body", "the body is missing: send a JSON object, {} if there is nothing to say")
	errMalformed   = badRequest(http.StatusBadRequest, "malformed_json", "the body is not one JSON object in UTF-8")
	errHalfPair    = badRequest(http.StatusBadRequest, "half_pair", "the body has half a surrogate pair, which is no character, in a string")
	errTooDeep     = badRequest(http.StatusBadRequest, "too_deep", "the body is nested more than 32 deep")
	errNumber      = badRequest(http.StatusBadRequest, "number", "the body has a number that is too large for a double (RFC 8259 section 6)")
	errRepeated    = badRequest(http.StatusBadRequest, "repeated_name", "an object in the body has a name twice")
	errUnavailable = &Problem{http.StatusServiceUnavailable, TypeUnavailable, "the call was not finished in time, and may have been carried out or not: see which, and try again", "timeout", retrySoon}
	errInternal    = &Problem{http.StatusInternalServerError, TypeInternal, "something went wrong here: tell the operator the request_id", "internal", 0}
	errUnrecorded  = &Problem{http.StatusInternalServerError, TypeInternal, "the call was carried out, but could not be recorded in the audit log: see what is there before you try again, and tell the operator the request_id", "unrecorded", 0}
	errPanicked    = &Problem{http.StatusInternalServerError, TypeInternal, errInternal.Message, "panic", 0}
	errWrongClient = invalidArgument("client_id", "client_id must be the one in the path: leave it out of the body")
)

// retrySoon is when to try again what could not be finished.
const retrySoon = 2 * time.Second

func badRequest(status int, reason, message string) *Problem {
	return &Problem{Status: status, Type: TypeBadRequest, Message: message, Reason: reason}
}

func invalidArgument(reason, message string) *Problem {
	return &Problem{Status: http.StatusBadRequest, Type: TypeInvalidArgument, Message: message, Reason: reason}
}

func methodNotAllowed(allow string) *Problem {
	return &Problem{Status: http.StatusMethodNotAllowed, Type: TypeMethodNotAllowed, Message: "the method is not allowed here, but " + allow}
}

// unauthorized is for credentials that nobody needs to be asked about.
func unauthorized(reason, message string) *Problem {
	return &Problem{
		Status: http.StatusUnauthorized, Type: TypeUnauthorized, Reason: reason,
		Message: message + ": send a project id and one of its project secrets by HTTP Basic, or a Kubernetes token as Bearer",
	}
}

// panicked is a panic that was caught.
type panicked struct {
	cause any
	stack []byte
}

func (e *panicked) Error() string { return fmt.Sprintf("panic: %v\n%s", e.cause, e.stack) }

// unrecordedError is a call that succeeded, and isn't in the audit log.
type unrecordedError struct {
	changed bool
	cause   error
}

func (e *unrecordedError) Error() string { return "writing the audit log: " + e.cause.Error() }

func unrecorded(c *call, cause error) error { return &unrecordedError{c.attempted, cause} }

// problemOf is the one place where an error becomes an answer. What isn't explained
// becomes an opaque one, and its cause belongs in the log.
func problemOf(err error) (p *Problem, explained bool) {
	if p, ok := errors.AsType[*Problem](err); ok && http.StatusText(p.Status) != "" && p.Status >= http.StatusBadRequest && p.Type != "" {
		return p, true
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return errUnavailable, true
	}
	if _, ok := errors.AsType[*panicked](err); ok {
		return errPanicked, false
	}
	if e, ok := errors.AsType[*unrecordedError](err); ok && e.changed {
		return errUnrecorded, false
	}
	return errInternal, false
}
