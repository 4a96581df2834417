package managementapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Failures counts failed authentications.
type Failures interface {
	// Limited records one and tells whether there were too many. The last key is the
	// address that it came from; those before it say who the caller claims to be.
	Limited(now time.Time, keys ...string) (retryAfter time.Duration, limited bool)
	// Spent tells whether another failure from an address would be one too many, and
	// records none.
	Spent(now time.Time, address string) (retryAfter time.Duration, spent bool)
}

// Config is what a handler needs. All of it is required but where it says otherwise.
type Config struct {
	Authenticator Authenticator
	Clients       Clients
	Failures      Failures // nil: authentication may fail as often as it likes
	// Peer returns the address that a request comes from; nil: that of its connection.
	Peer func(*http.Request) string
	// Audit gets one line of JSON with one Write for each call, and one more before a call
	// that changes something is carried out.
	Audit io.Writer
	// LogID is what stands in that for a client id that is nobody's: it may be a secret.
	LogID   func(id string) string
	Tracer  Tracer // nil: no call is followed
	Metrics prometheus.Registerer
	Log     *slog.Logger // gets the causes behind opaque answers
	Now     func() time.Time
	Random  io.Reader // for request ids; safe for concurrent use
}

// Handler serves the management API of all issuers.
//
// A call that changes something is carried out only when the audit log took a line that
// announces it (outcome "attempt"), and answered only when the log took the line that
// tells how it ended. So no change goes unrecorded, and no secret is handed out unrecorded;
// what a broken log costs is a 500 for a call that may have been carried out, which the
// answer says.
type Handler struct {
	authenticator Authenticator
	clients       Clients
	failures      Failures
	peer          func(*http.Request) string
	audit         auditLog
	tracer        Tracer
	metrics       *metrics
	log           *slog.Logger
	now           func() time.Time
	random        io.Reader
}

// NewHandler makes a handler and registers its metrics.
func NewHandler(c Config) (*Handler, error) {
	if c.Authenticator == nil || c.Clients == nil || c.Audit == nil || c.LogID == nil || c.Metrics == nil || c.Log == nil || c.Now == nil || c.Random == nil {
		return nil, errors.New("the management API's configuration is incomplete")
	}
	m, err := newMetrics(c.Metrics)
	if err != nil {
		return nil, err
	}
	return &Handler{
		authenticator: c.Authenticator,
		clients:       c.Clients,
		failures:      c.Failures,
		peer:          c.Peer,
		audit:         auditLog{out: c.Audit, logID: c.LogID},
		tracer:        c.Tracer,
		metrics:       m,
		log:           c.Log,
		now:           c.Now,
		random:        c.Random,
	}, nil
}

// call is one request and what becomes of it.
type call struct {
	start         time.Time
	random        [16]byte
	peer          string
	caller        Caller
	authenticated bool
	action        action // of nobody who isn't authenticated
	clientID      string // as asked
	known         bool   // it is a client's
	found         *int   // by a search
	attempted     bool   // a change was begun
	version       uint64 // at which the change holds
	namespace     string // where it holds
	allow         string // the methods of what the path names
	problem       *Problem
	trace         Trace // nil: it isn't followed
}

// ServeHTTP answers one call, always with JSON. The audit line is written before the answer.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := &call{start: h.now()}
	r = h.follow(c, r)
	defer c.endTrace()
	answered, err := h.handle(c, r)
	body := h.conclude(c, answered, err)
	elapsed := h.now().Sub(c.start)
	if err := h.audit.write(c, c.outcome(), elapsed); err != nil {
		h.metrics.auditFailures.Inc()
		if c.problem == nil {
			body = h.conclude(c, nil, unrecorded(c, err))
		} else {
			h.log.Error("A refusal is not in the audit log", c.traced("cause", err)...)
		}
	}
	h.metrics.count(c, elapsed)
	write(w, c, body)
}

// conclude returns the body of the answer, and keeps in the call why it isn't what was asked.
func (h *Handler) conclude(c *call, answered *answer, err error) []byte {
	if err == nil {
		var body []byte
		if body, err = answered.encode(c.requestID()); err == nil {
			return body
		}
		err = fmt.Errorf("encoding an answer: %w", err)
	}
	p, explained := problemOf(err)
	if !explained {
		h.log.Error("A call failed", c.traced("action", string(c.action), "cause", err)...)
	}
	c.problem = p
	return encodeProblem(p, c.requestID())
}

// handle returns the answer of a call that succeeds. A panic is an error like any other:
// its call is audited and answered.
func (h *Handler) handle(c *call, r *http.Request) (answered *answer, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			answered, err = nil, &panicked{cause, debug.Stack()}
		}
	}()
	if _, err := io.ReadFull(h.random, c.random[:]); err != nil {
		return nil, fmt.Errorf("reading random bytes for a request id: %w", err)
	}
	c.peer = h.peerOf(r)
	resource, id := route(r.URL.EscapedPath())
	if resource == outside {
		return nil, errNoRoute
	}
	if err := h.authenticate(c, r); err != nil {
		return nil, err
	}
	if c.action, c.allow = resource.method(r.Method); c.allow == "" {
		return nil, errNoRoute
	} else if c.action == "" {
		return nil, methodNotAllowed(c.allow)
	}
	if c.action != actionCreate && c.action != actionSearch {
		c.clientID = id
	}
	do, err := h.prepare(c, r)
	if err != nil {
		return nil, err
	}
	if err := h.announce(c); err != nil {
		return nil, err
	}
	return do(r.Context())
}

// announce records that a call is about to change something.
func (h *Handler) announce(c *call) error {
	if !c.action.changes() {
		return nil
	}
	if err := h.audit.write(c, outcomeAttempt, h.now().Sub(c.start)); err != nil {
		h.metrics.auditFailures.Inc()
		return fmt.Errorf("writing the audit log before a change, which was not made: %w", err)
	}
	c.attempted = true
	return nil
}

// peerOf returns where a request comes from.
func (h *Handler) peerOf(r *http.Request) string {
	if h.peer == nil {
		return r.RemoteAddr
	}
	return h.peer(r)
}

// operation is a call that was understood, ready to be carried out.
type operation func(context.Context) (*answer, error)

// prepare reads what a call asks for. Nothing is done before all of it was read.
func (h *Handler) prepare(c *call, r *http.Request) (operation, error) {
	if c.action != actionCreate && c.action != actionSearch && !mayBeClientID(c.clientID) {
		return nil, NotFound()
	}
	switch c.action {
	case actionGet:
		return func(ctx context.Context) (*answer, error) {
			found, err := h.clients.Get(ctx, c.caller, c.clientID)
			c.known = err == nil
			return ofClient(found), err
		}, nil
	case actionDelete:
		_, err := readBody(r) // whatever it is
		return h.change(c, h.clients.Delete, ofDeletion), err
	case actionCreate:
		creation, err := readCreation(c, r)
		return func(ctx context.Context) (*answer, error) {
			made, err := h.clients.Create(ctx, c.caller, creation)
			c.changed(made, err)
			return ofCreation(made), err
		}, err
	case actionSearch:
		search, err := readSearch(r)
		return func(ctx context.Context) (*answer, error) {
			page, err := h.clients.Search(ctx, c.caller, search)
			if err == nil {
				c.found = &page.Total
			}
			return ofPage(page), err
		}, err
	case actionUpdate:
		change, err := readChange(c, r)
		return h.change(c, func(ctx context.Context, by Caller, id string) (Changed, error) {
			return h.clients.Update(ctx, by, id, change)
		}, ofChange), err
	}
	return h.prepareRotation(c, r)
}

func (h *Handler) prepareRotation(c *call, r *http.Request) (operation, error) {
	err := readRotation(c, r)
	switch c.action {
	case actionRotateStart:
		return h.change(c, h.clients.StartRotation, ofRotationStart), err
	case actionRotate:
		return h.change(c, h.clients.Rotate, ofChange), err
	case actionRotateCancel:
		return h.change(c, h.clients.CancelRotation, ofChange), err
	}
	return nil, fmt.Errorf("nothing carries out the action %q", c.action)
}

// change is a call that changes the client which it names.
func (h *Handler) change(c *call, do func(context.Context, Caller, string) (Changed, error), show func(Changed) *answer) operation {
	return func(ctx context.Context) (*answer, error) {
		after, err := do(ctx, c.caller, c.clientID)
		c.changed(after, err)
		return show(after), err
	}
}

// changed keeps what the answer's header and the audit log say of a change.
func (c *call) changed(after Changed, err error) {
	if err != nil {
		return
	}
	c.known, c.version, c.namespace = true, after.Version, after.Namespace
	if c.action == actionCreate {
		c.clientID = after.Client.ID
	}
}
