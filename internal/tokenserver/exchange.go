package tokenserver

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
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
	if x.grant, err = h.authority.Authorize(x.start, issuer, &x.request); err != nil {
		return err
	}
	return x.succeed(h.authority)
}

// succeed encodes a success (RFC 6749 section 5.1), with the members that Stytch adds.
func (x *exchange) succeed(authority *token.Authority) error {
	answer := append(x.answer, `{"access_token":"`...)
	answer, err := authority.AppendToken(answer, x.start, x.issuer, &x.grant)
	x.answer = answer
	if err != nil {
		return err
	}
	answer = append(answer, `","token_type":"bearer","expires_in":`...)
	answer = strconv.AppendInt(answer, int64(x.grant.Client.Lifetime()/time.Second), 10)
	answer = append(answer, `,"scope":`...)
	answer = token.AppendString(answer, x.grant.Scope)
	answer = append(answer, `,"status_code":200`...)
	x.answer = appendRequestID(answer, x.requestID)
	return nil
}

// read reads the request as far as it says who asks for what.
func (x *exchange) read(r *http.Request) error {
	if r.Method != http.MethodPost {
		return errMethod
	}
	if err := checkQuery(r.URL); err != nil {
		return err
	}
	if _, encoded := r.Header["Content-Encoding"]; encoded {
		return errEncoding
	}
	parse, err := parserFor(r.Header["Content-Type"])
	if err != nil {
		return err
	}
	if err := x.readBody(r); err != nil {
		return err
	}
	if err := parse(&x.parameters, string(x.body)); err != nil {
		return err
	}
	if err := x.identify(r.Header["Authorization"]); err != nil {
		return err
	}
	x.request.GrantType = x.parameters.get("grant_type")
	x.request.Scope = x.parameters.get("scope")
	return nil
}

// misplaced are the parameters that must not stand in a URL, where proxies log
// them (RFC 6749 section 2.3.1).
var misplaced = []string{
	"client_id", "client_secret", "client_assertion", "client_assertion_type", "assertion",
	"grant_type", "scope", "resource", "audience", "access_token", "username", "password",
}

func checkQuery(u *url.URL) error {
	if u.RawQuery == "" {
		return nil
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return errQuery
	}
	for name := range query {
		if slices.Contains(misplaced, strings.ToLower(name)) {
			return errQuery
		}
	}
	return nil
}

// parserFor chooses by Content-Type.
func parserFor(contentType []string) (func(*parameters, string) error, error) {
	if len(contentType) != 1 {
		return nil, errContentType
	}
	mediaType := contentType[0]
	if mediaType != formType && mediaType != jsonType { // the usual ones need no parsing
		var attributes map[string]string
		var err error
		mediaType, attributes, err = mime.ParseMediaType(mediaType)
		if charset, ok := attributes["charset"]; err != nil || ok && !strings.EqualFold(charset, "utf-8") {
			return nil, errContentType
		}
	}
	switch mediaType {
	case formType:
		return (*parameters).parseForm, nil
	case jsonType:
		return (*parameters).parseJSON, nil
	default:
		return nil, errContentType
	}
}

const (
	formType = "application/x-www-form-urlencoded"
	jsonType = "application/json"
)

// maxBody bounds a body in bytes.
const maxBody = 64 << 10

// readBody never holds more than a little over maxBody.
func (x *exchange) readBody(r *http.Request) error {
	if r.ContentLength > maxBody {
		return errTooLarge
	}
	x.body = slices.Grow(x.body, int(max(r.ContentLength, 512))+1)
	for {
		n, err := r.Body.Read(x.body[len(x.body):cap(x.body)])
		x.body = x.body[:len(x.body)+n]
		switch {
		case len(x.body) > maxBody:
			return errTooLarge
		case err == io.EOF:
			return nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			return errSlowBody
		case err != nil:
			return errBrokenBody
		}
		x.body = slices.Grow(x.body, 1)
	}
}

// Values of headers, made once.
var (
	valueJSON         = []string{jsonType}
	valueNoStore      = []string{"no-store"}
	valueNoCache      = []string{"no-cache"}
	valuePost         = []string{http.MethodPost}
	valueClose        = []string{"close"}
	valueAuthenticate = []string{`Basic realm="token endpoint", charset="UTF-8"`}
)

// write sends the answer.
func (h *Handler) write(w http.ResponseWriter, x *exchange) {
	status := x.problem.status
	switch status {
	case 0:
		status = http.StatusOK
	case http.StatusMethodNotAllowed:
		w.Header()["Allow"] = valuePost
	case http.StatusRequestEntityTooLarge, http.StatusRequestTimeout:
		w.Header()["Connection"] = valueClose // what is left of the body isn't wanted
	}
	writeJSON(w, status, x.answer)
}

// writeJSON sends an answer that nobody may keep (RFC 6749 section 5.1).
func writeJSON(w http.ResponseWriter, status int, body []byte) {
	header := w.Header()
	header["Content-Type"] = valueJSON
	header["Cache-Control"] = valueNoStore
	header["Pragma"] = valueNoCache
	header["Content-Length"] = []string{strconv.Itoa(len(body))}
	if status == http.StatusUnauthorized {
		header["Www-Authenticate"] = valueAuthenticate
	}
	w.WriteHeader(status)
	_, _ = w.Write(body) // a caller that has gone needs no answer
}

// appendNewRequestID appends an id in the form of Stytch's: a random UUID
// (RFC 9562 version 4), and what the issuer is for.
func appendNewRequestID(dst []byte, issuer *token.Issuer, random [16]byte) []byte {
	dst = append(dst, "request-id-"...)
	if issuer != nil {
		if issuer.Live {
			dst = append(dst, "live-"...)
		} else {
			dst = append(dst, "test-"...)
		}
	}
	random[6] = random[6]&0x0f | 0x40
	random[8] = random[8]&0x3f | 0x80
	for i, part := range [][]byte{random[:4], random[4:6], random[6:8], random[8:10], random[10:]} {
		if i > 0 {
			dst = append(dst, '-')
		}
		dst = hex.AppendEncode(dst, part)
	}
	return dst
}
