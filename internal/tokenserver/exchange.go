package tokenserver

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"github.com/m2m-operator/m2m-operator/internal/token"
)

// exchange is one request of a client and its answer. Exchanges are used again, so
// that a request costs few allocations.
type exchange struct {
	start      time.Time
	endpoint   endpoint
	issuer     *token.Issuer // nil: unknown
	parameters parameters
	request    token.Request
	grant      token.Grant
	outcome    string             // where there is no problem
	digest     *[sha256.Size]byte // of the token that is to be revoked
	spent      bool               // a token of the client's quota
	problem    problem            // its status is 0 where the request succeeds
	trace      Trace              // nil: it isn't followed

	random    [16]byte
	requestID []byte
	body      []byte // of the request
	answer    []byte
	line      []byte // of the audit log
}

var exchanges = sync.Pool{New: func() any {
	x := new(exchange)
	x.request.Parameter = x.parameter
	return x
}}

// parameter returns a parameter of the request, for the templates of custom claims.
func (x *exchange) parameter(name string) (string, bool) {
	return x.parameters.get(name), x.parameters.has(name)
}

// maxKept bounds the buffers that are kept for the next request.
const maxKept = 8 << 10

// release leaves no secret behind.
func (x *exchange) release() {
	clear(x.body)
	clear(x.answer)
	clear(x.parameters)
	if cap(x.body) > maxKept || cap(x.answer) > maxKept {
		return
	}
	*x = exchange{
		request:    token.Request{Parameter: x.request.Parameter},
		parameters: x.parameters[:0],
		requestID:  x.requestID[:0],
		body:       x.body[:0],
		answer:     x.answer[:0],
		line:       x.line[:0],
	}
	exchanges.Put(x)
}

// serveClient answers a request that a client authenticates. The audit line is written
// before the answer: a token that can't be accounted for isn't handed out.
func (h *Handler) serveClient(w http.ResponseWriter, r *http.Request, to target) {
	x := exchanges.Get().(*exchange)
	defer x.release()
	x.start, x.endpoint = h.now(), to.endpoint
	r = h.follow(x, r)

	err := h.handle(x, r, to)
	h.conclude(x, h.limited(x, r, err))
	elapsed := h.now().Sub(x.start)
	if err := h.audit.write(x, h.peerOf(r), elapsed); err != nil {
		h.metrics.auditFailures.Inc()
		if x.problem.status == 0 {
			h.conclude(x, fmt.Errorf("writing the audit log: %w", err))
		}
	}
	h.metrics.count(x, elapsed)
	if x.problem.status != 0 && x.spent {
		h.authority.Unspend(x.issuer, &x.grant)
	}
	if x.problem.status == 0 {
		h.usage.Used(x.issuer.Name, x.grant.Client.ID(), cmp.Or(x.grant.Version, string(x.grant.Method)), h.now())
	}

	h.write(w, x)
	x.endTrace()
}

// conclude turns an error into the exchange's answer.
func (h *Handler) conclude(x *exchange, err error) {
	if err == nil {
		return
	}
	x.problem = problemOf(err)
	if x.problem.code == serverError {
		h.log.Error("a request failed", x.traced("cause", err)...)
	}
	clear(x.answer) // there may be a token in it
	x.answer = x.problem.append(x.answer[:0], x.requestID)
}

// handle fills in the answer of a request that succeeds. A panic is an error like any
// other: its request is audited and answered.
func (h *Handler) handle(x *exchange, r *http.Request, to target) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("panic: %v\n%s", cause, debug.Stack())
		}
	}()
	issuer, unknown := h.issuerAt(to)
	x.issuer = issuer
	if _, err := io.ReadFull(h.random, x.random[:]); err != nil {
		return fmt.Errorf("reading random bytes for a request id: %w", err)
	}
	x.requestID = appendNewRequestID(x.requestID, issuer, x.random)
	if unknown != nil {
		return unknown
	}
	if err := x.read(r); err != nil {
		return err
	}
	now := h.now() // a body may have taken its time
	if x.endpoint == tokenEndpoint {
		return h.issue(r.Context(), x, now)
	}
	text := x.parameters.get("token")
	if text == "" {
		return errNoToken
	}
	if x.grant, err = h.authority.Authenticate(now, issuer, &x.request); err != nil {
		return err
	}
	if err := h.review(r.Context(), x); err != nil {
		return err
	}
	if x.endpoint == introspectionEndpoint {
		h.introspect(x, now, text)
		return nil
	}
	return h.revoke(r.Context(), x, now, text)
}

// issue answers a token request (RFC 6749 section 5.1), with the members that Stytch adds.
func (h *Handler) issue(ctx context.Context, x *exchange, now time.Time) (err error) {
	if x.grant, err = h.authority.Authorize(now, x.issuer, &x.request); err != nil {
		return err
	}
	if err := h.review(ctx, x); err != nil {
		return err
	}
	if err := h.authority.Spend(now, x.issuer, &x.grant); err != nil {
		return err
	}
	x.spent = true
	x.answer = append(x.answer, `{"access_token":"`...)
	if x.answer, err = h.authority.AppendToken(x.answer, now, x.issuer, &x.grant); err != nil {
		return err
	}
	x.answer = append(x.answer, `","token_type":"bearer","expires_in":`...)
	x.answer = strconv.AppendInt(x.answer, int64(x.grant.Client.Lifetime()/time.Second), 10)
	x.answer = append(x.answer, `,"scope":`...)
	x.answer = token.AppendString(x.answer, x.grant.Scope)
	x.answer = append(x.answer, `,"status_code":200`...)
	x.answer = appendRequestID(x.answer, x.requestID)
	x.outcome = outcomeIssued
	return nil
}

// limited turns the refusal of a wrong credential into another, where there were too many.
// It comes after the credential was tried, so nobody can lock out who has the right one.
func (h *Handler) limited(x *exchange, r *http.Request, err error) error {
	if err == nil || h.failures == nil {
		return err
	}
	refusal, ok := errors.AsType[*token.Error](err)
	if !ok || refusal == errScheme || !refusal.FailedAuthentication() {
		return err
	}
	if retryAfter, limited := h.failures.Limited(h.now(), x.issuer.Name, x.request.ClientID, h.peerOf(r)); limited {
		return tooManyRequests(failuresTooMany, refusal.Reason, retryAfter)
	}
	return err
}

// peerOf returns where a request comes from.
func (h *Handler) peerOf(r *http.Request) string {
	if h.peer == nil {
		return r.RemoteAddr
	}
	return h.peer(r)
}

// review asks the cluster about a ServiceAccount's token, where the operator wants that.
func (h *Handler) review(ctx context.Context, x *exchange) error {
	if h.reviewer == nil || x.grant.Method != token.ByServiceAccount {
		return nil
	}
	valid, err := h.reviewer.Review(ctx, x.request.Assertion, x.issuer.URL)
	switch {
	case err != nil:
		h.log.Warn("the cluster could not be asked about a ServiceAccount token", x.traced("cause", err)...)
		return errNoReview
	case !valid:
		x.grant.Client = nil
		return errReviewed
	}
	return nil
}

// introspect answers RFC 7662 section 2.2.
func (h *Handler) introspect(x *exchange, now time.Time, text string) {
	found, active := h.authority.Introspect(now, x.issuer, x.grant.Client, text)
	if !active {
		x.outcome, x.answer = outcomeInactive, append(x.answer, `{"active":false}`...)
		return
	}
	x.outcome, x.answer = outcomeActive, found.Append(x.answer)
}

// revoke answers RFC 7009 section 2.2: what isn't a valid token needs no revocation.
func (h *Handler) revoke(ctx context.Context, x *exchange, now time.Time, text string) error {
	found, active, err := h.authority.Revocable(now, x.issuer, x.grant.Client, text)
	if err != nil {
		return err
	}
	x.outcome = outcomeUnchanged
	if active {
		x.digest = &found.Digest
		err := h.revocations.Revoke(ctx, x.issuer.Name, found.Client.ID(), found.Digest, found.ExpiresAt())
		if refusal, ok := errors.AsType[*token.Error](err); ok {
			return refusal
		} else if err != nil {
			h.log.Warn("a token could not be revoked", x.traced("cause", err)...)
			return errNotRevoked
		}
		x.outcome = outcomeRevoked
	}
	x.answer = append(x.answer, `{"status_code":200`...)
	x.answer = appendRequestID(x.answer, x.requestID)
	return nil
}
