package managementapi

import (
	"context"
	"net/http"
)

// Trace is a call that is followed through the system.
type Trace interface {
	// ID is what logs call it.
	ID() string
	// Answer ends it. The client is one that there is; texts may be empty.
	Answer(operation, issuer, client, outcome string, status int)
}

// Tracer begins to follow a call; a nil Trace: it isn't followed. The context is for all
// that is done for the call, followed or not.
type Tracer func(r *http.Request, operation string) (context.Context, Trace)

// event names calls in the audit log and in traces.
const event = "management"

// follow begins the call's trace, where there are traces.
func (h *Handler) follow(c *call, r *http.Request) *http.Request {
	if h.tracer == nil {
		return r
	}
	ctx, followed := h.tracer(r, event)
	c.trace = followed
	return r.WithContext(ctx)
}

// traceID is empty where the call isn't followed.
func (c *call) traceID() string {
	if c.trace == nil {
		return ""
	}
	return c.trace.ID()
}

// traced adds to what is logged of a call which trace it belongs to.
func (c *call) traced(pairs ...any) []any {
	pairs = append([]any{"request_id", c.requestID()}, pairs...)
	if c.trace != nil {
		pairs = append(pairs, "trace_id", c.trace.ID())
	}
	return pairs
}

// endTrace says what came of the call. Nothing that strangers sent is among it.
func (c *call) endTrace() {
	if c.trace == nil {
		return
	}
	operation, client, status := event, "", http.StatusOK
	if c.action != "" {
		operation += " " + string(c.action)
	}
	if c.known {
		client = c.clientID
	}
	if c.problem != nil {
		status = c.problem.Status
	}
	c.trace.Answer(operation, c.caller.Issuer, client, c.outcome(), status)
}
