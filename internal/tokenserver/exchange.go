package tokenserver

import (
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"github.com/m2m-operator/m2m-operator/internal/token"
)

// exchange is one token request and its answer. Exchanges are used again, so that
// a request costs few allocations.
type exchange struct {
	start      time.Time
	issuer     *token.Issuer // nil: unknown
	parameters parameters
	request    token.Request
	grant      token.Grant
	problem    problem // its status is 0 where a token is issued

	random    [16]byte
	requestID []byte
	body      []byte // of the request
	answer    []byte
	line      []byte // of the audit log
}

var exchanges = sync.Pool{New: func() any { return new(exchange) }}

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
		parameters: x.parameters[:0],
		requestID:  x.requestID[:0],
		body:       x.body[:0],
		answer:     x.answer[:0],
		line:       x.line[:0],
	}
	exchanges.Put(x)
}

// serveToken answers a request to the token endpoint. The audit line is written
// before the answer: a token that can't be accounted for isn't handed out.
func (h *Handler) serveToken(w http.ResponseWriter, r *http.Request, to target) {
	x := exchanges.Get().(*exchange)
	defer x.release()
	x.start = h.now()

	err := h.issue(x, r, to)
	h.conclude(x, err)
	elapsed := h.now().Sub(x.start)
	if err := h.audit.write(x, r.RemoteAddr, elapsed); err != nil {
		h.metrics.auditFailures.Inc()
		if x.problem.status == 0 {
			h.conclude(x, fmt.Errorf("writing the audit log: %w", err))
		}
	}
	h.metrics.count(x.issuer, x.problem.code, elapsed)
	if x.problem.status == 0 {
		h.usage.Used(x.issuer.Name, x.grant.Client.ID(), x.grant.Version, h.now())
	}

	h.write(w, x)
}

// conclude turns an error into the exchange's answer.
func (h *Handler) conclude(x *exchange, err error) {
	if err == nil {
		return
	}
	x.problem = problemOf(err)
	if x.problem.code == serverError {
		h.log.Error("a token request failed", "request_id", string(x.requestID), "cause", err)
	}
	clear(x.answer) // there may be a token in it
	x.answer = x.problem.append(x.answer[:0], x.requestID)
}

// issue fills in the answer of a request that gets a token. A panic is an error
// like any other: its request is audited and answered.
func (h *Handler) issue(x *exchange, r *http.Request, to target) (err error) {
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
	if x.grant, err = h.authority.Authorize(now, issuer, &x.request); err != nil {
		return err
	}
	return x.succeed(h.authority, now)
}

// succeed encodes a success (RFC 6749 section 5.1), with the members that Stytch adds.
func (x *exchange) succeed(authority *token.Authority, now time.Time) (err error) {
	x.answer = append(x.answer, `{"access_token":"`...)
	if x.answer, err = authority.AppendToken(x.answer, now, x.issuer, &x.grant); err != nil {
		return err
	}
	x.answer = append(x.answer, `","token_type":"bearer","expires_in":`...)
	x.answer = strconv.AppendInt(x.answer, int64(x.grant.Client.Lifetime()/time.Second), 10)
	x.answer = append(x.answer, `,"scope":`...)
	x.answer = token.AppendString(x.answer, x.grant.Scope)
	x.answer = append(x.answer, `,"status_code":200`...)
	x.answer = appendRequestID(x.answer, x.requestID)
	return nil
}
