package tokenserver

import (
	"context"
	"net/http"
)

// Trace is a request that is followed through the system.
type Trace interface {
	// ID is what logs call it.
	ID() string
	// Answer ends it. The client is one that has authenticated; texts may be empty.
	Answer(operation, issuer, client, outcome string, status int)
}

// Tracer begins to follow a request; a nil Trace: it isn't followed. The context is for
// all that is done for the request, followed or not.
type Tracer func(r *http.Request, operation string) (context.Context, Trace)

// follow begins the exchange's trace, where there are traces.
func (h *Handler) follow(x *exchange, r *http.Request) *http.Request {
	if h.tracer == nil {
		return r
	}
	ctx, followed := h.tracer(r, events[x.endpoint])
	x.trace = followed
	return r.WithContext(ctx)
}

// traced adds to what is logged of an exchange which trace it belongs to.
func (x *exchange) traced(pairs ...any) []any {
	pairs = append([]any{"request_id", string(x.requestID)}, pairs...)
	if x.trace != nil {
		pairs = append(pairs, "trace_id", x.trace.ID())
	}
	return pairs
}

// endTrace says what came of the exchange. Nothing that strangers sent is among it.
func (x *exchange) endTrace() {
	if x.trace == nil {
		return
	}
	issuer, client, outcome, status := "", "", x.outcome, http.StatusOK
	if x.issuer != nil {
		issuer = x.issuer.Name
	}
	if x.grant.Client != nil {
		client = x.grant.Client.ID()
	}
	if x.problem.status != 0 {
		outcome, status = string(x.problem.code), x.problem.status
	}
	x.trace.Answer(events[x.endpoint], issuer, client, outcome, status)
}
