package tokenserver

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/m2m-operator/m2m-operator/internal/token"
)

// Bounds of a call that is forwarded. A call writes to the cluster, so it may take longer
// than a token request.
const (
	maxForwardedBody = 256 << 10 // in bytes
	forwardTimeout   = 30 * time.Second
	awaitTimeout     = 5 * time.Second
	forwardGrace     = 2 * time.Second // to send the answer that there was no time
)

// ForwarderConfig is what a forwarder needs. All of it is required.
type ForwarderConfig struct {
	Target    *url.URL // of the management API: scheme and host
	Transport http.RoundTripper
	// Mark says in the header of a request that is about to be sent which address it comes
	// from, so that the target believes it; false: it can't at present. Only headers that
	// begin with M2m- are safe from callers.
	Mark func(out *http.Request, address string) bool
	// Peer returns the address that a request comes from, without a port.
	Peer func(*http.Request) string
	// VersionHeader is, in an answer, the version of the cluster's state that the caller may
	// rely on from then on, a slash and the namespace that it is about.
	VersionHeader string
	// Await waits until this server knows that version of a namespace; false: the context
	// ended before.
	Await  func(ctx context.Context, namespace string, version uint64) bool
	Log    *slog.Logger
	Random io.Reader // for request ids
}

// forwarder passes calls of the management API on.
type forwarder struct {
	ForwarderConfig
	proxy httputil.ReverseProxy
}

// NewForwarder passes on what callers ask of the management API: to a role of its own,
// since the servers that face the network may not write clients. Nothing but the headers
// of [passed] gets through, and answers come back as they are.
func NewForwarder(c ForwarderConfig) (http.Handler, error) {
	if c.Target == nil || c.Transport == nil || c.Mark == nil || c.Peer == nil || c.VersionHeader == "" || c.Await == nil || c.Log == nil || c.Random == nil {
		return nil, errors.New("a forwarder's configuration is incomplete")
	}
	if c.Target.Host == "" || c.Target.Scheme != "https" && c.Target.Scheme != "http" || strings.Trim(c.Target.Path, "/") != "" || c.Target.RawQuery != "" || c.Target.User != nil {
		return nil, errors.New("the management API's URL must be a scheme and a host, and no more")
	}
	f := &forwarder{ForwarderConfig: c}
	f.proxy = httputil.ReverseProxy{
		Rewrite:        f.rewrite,
		Transport:      c.Transport,
		ModifyResponse: f.await,
		ErrorHandler:   f.unreachable,
		ErrorLog:       slog.NewLogLogger(c.Log.Handler(), slog.LevelWarn),
	}
	return f, nil
}

// ServeHTTP reads the whole call first, so that the target sees no slow callers and no
// half calls.
func (f *forwarder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if hasDotSegment(r.URL.EscapedPath()) {
		f.refuse(w, http.StatusNotFound, "route_not_found", "there is nothing at this path")
		return
	}
	body, p := readCall(r)
	if p != nil {
		w.Header()["Connection"] = valueClose
		f.refuse(w, p.status, p.kind, p.message)
		return
	}
	// The server's own deadline is that of token requests; where there is none, none is moved.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(forwardTimeout + forwardGrace))
	ctx, cancel := context.WithTimeout(r.Context(), forwardTimeout)
	defer cancel()

	call := r.Clone(ctx)
	call.Header = passedOn(r.Header)
	call.Body, call.ContentLength, call.TransferEncoding, call.Trailer = http.NoBody, int64(len(body)), nil, nil
	if len(body) > 0 {
		call.Body = io.NopCloser(bytes.NewReader(body))
	}
	if !f.Mark(call, f.Peer(r)) {
		f.refuse(w, http.StatusServiceUnavailable, "service_unavailable", "the management API can't be reached at present: try again later")
		return
	}
	f.proxy.ServeHTTP(w, call)
}

// passed are the headers that the target sees. Whatever else a caller sends could mean
// something there that it mustn't.
var passed = []string{"Authorization", "Content-Type", "Content-Encoding", "Accept", "User-Agent"}

func passedOn(from http.Header) http.Header {
	to := http.Header{}
	for _, name := range passed {
		if values, ok := from[name]; ok {
			to[name] = values
		}
	}
	return to
}

// rewrite aims a request at the target, and leaves its path as the caller escaped it.
func (f *forwarder) rewrite(p *httputil.ProxyRequest) {
	u := p.Out.URL
	p.Out.URL = &url.URL{Scheme: f.Target.Scheme, Host: f.Target.Host, Path: u.Path, RawPath: u.RawPath, RawQuery: u.RawQuery}
	p.Out.Host = f.Target.Host
	if _, ok := p.Out.Header["User-Agent"]; !ok {
		p.Out.Header["User-Agent"] = nil // and not net/http's
	}
}

// await holds an answer back until this server knows of the change that it tells of: then
// a token request that follows at once is answered by it.
func (f *forwarder) await(answer *http.Response) error {
	text := answer.Header.Get(f.VersionHeader)
	answer.Header.Del(f.VersionHeader)
	if text == "" {
		return nil
	}
	number, namespace, _ := strings.Cut(text, "/")
	version, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		f.Log.Warn("The management API named a version that is no number")
		return nil
	}
	ctx, cancel := context.WithTimeout(answer.Request.Context(), awaitTimeout)
	defer cancel()
	if !f.Await(ctx, namespace, version) && answer.Request.Context().Err() == nil {
		f.Log.Warn("A change by the management API was answered before this server knew of it", "version", version, "waited", awaitTimeout.String())
	}
	return nil
}

// unreachable answers where the target didn't.
func (f *forwarder) unreachable(w http.ResponseWriter, _ *http.Request, err error) {
	if !errors.Is(err, context.Canceled) { // the caller has gone
		f.Log.Warn("The management API can't be reached", "reason", err.Error())
	}
	f.refuse(w, http.StatusServiceUnavailable, "service_unavailable",
		"the management API does not answer at present, and the call may have been carried out or not: see which, and try again")
}

// refusal is why a call isn't passed on.
type refusal struct {
	status        int
	kind, message string
}

func readCall(r *http.Request) ([]byte, *refusal) {
	tooLarge := &refusal{http.StatusRequestEntityTooLarge, "bad_request", "the body is larger than 256 KiB"}
	if r.ContentLength > maxForwardedBody {
		return nil, tooLarge
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxForwardedBody+1))
	switch {
	case len(body) > maxForwardedBody:
		return nil, tooLarge
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, &refusal{http.StatusRequestTimeout, "bad_request", "the body did not arrive in time"}
	case err != nil:
		return nil, &refusal{http.StatusBadRequest, "bad_request", "the body did not arrive whole"}
	}
	return body, nil
}

// hasDotSegment tells whether some server would take a path for another.
func hasDotSegment(escaped string) bool {
	for segment := range strings.SplitSeq(escaped, "/") {
		if name, err := url.PathUnescape(segment); err != nil || name == "." || name == ".." {
			return true
		}
	}
	return false
}

// refuse answers in the shape of Stytch's API. It never has a member named error: that is
// how the SDKs tell it from an answer of the token endpoint.
func (f *forwarder) refuse(w http.ResponseWriter, status int, kind, message string) {
	var random [16]byte
	if _, err := io.ReadFull(f.Random, random[:]); err != nil {
		f.Log.Error("reading random bytes for a request id", "cause", err)
	}
	body := strconv.AppendInt([]byte(`{"status_code":`), int64(status), 10)
	body = append(body, `,"error_type":"`+kind+`","error_message":`...)
	body = token.AppendString(body, message)
	body = append(body, `,"error_url":""`...)
	writeJSON(w, status, appendRequestID(body, appendNewRequestID(nil, nil, random)))
}
