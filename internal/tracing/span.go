package tracing

import (
	"context"
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// Span is a part of a trace that is followed.
type Span struct{ span trace.Span }

// ID is the trace's: 32 hexadecimal digits, for logs.
func (s *Span) ID() string { return s.span.SpanContext().TraceID().String() }

// Request follows a request that has come in; a nil Span: it isn't followed. The context is
// for all that is done for the request, followed or not. Whether its caller decides that is
// the caller's affair where trusted says so.
func (t *Tracer) Request(r *http.Request, operation string, trusted bool) (context.Context, *Span) {
	ctx := r.Context()
	if trusted || t.trustCallers {
		ctx = remote(r)
	}
	ctx, span := t.tracer.Start(ctx, operation, trace.WithSpanKind(trace.SpanKindServer))
	if !span.IsRecording() {
		return ctx, nil
	}
	span.SetAttributes(attribute.String("http.request.method", method(r)))
	return ctx, &Span{span}
}

// Answer ends a request's span. The client is one that has authenticated; empty texts are
// left out.
func (s *Span) Answer(operation, issuer, client, outcome string, status int) {
	s.span.SetName(operation)
	s.set("m2m.issuer", issuer)
	s.set("m2m.client_id", client)
	s.set("m2m.outcome", outcome)
	s.status(status)
	s.span.End()
}

// Handler follows the requests that another serves.
func (t *Tracer) Handler(operation string, next http.Handler) http.Handler {
	if t == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, span := t.Request(r, operation, false)
		if span == nil {
			next.ServeHTTP(w, r.WithContext(ctx))
			return
		}
		watched := &answer{ResponseWriter: w, status: http.StatusOK}
		defer func() { span.Answer(operation, "", "", "", watched.status) }()
		next.ServeHTTP(watched, r.WithContext(ctx))
	})
}

// answer remembers the status of what passes through it.
type answer struct {
	http.ResponseWriter
	status int
}

func (a *answer) WriteHeader(status int) {
	a.status = status
	a.ResponseWriter.WriteHeader(status)
}

// Unwrap is for [http.ResponseController].
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// Work follows something that begins here, about an object of the cluster; a nil Span: it
// isn't followed.
func (t *Tracer) Work(ctx context.Context, operation, namespace, name string) (context.Context, *Span) {
	ctx, span := t.tracer.Start(ctx, operation)
	if !span.IsRecording() {
		return ctx, nil
	}
	s := &Span{span}
	s.set("k8s.namespace.name", namespace)
	s.set("k8s.object.name", name)
	return ctx, s
}

// Done ends what [Tracer.Work] began. What an error says stays in the log.
func (s *Span) Done(err error) {
	if err != nil {
		s.span.SetStatus(codes.Error, "see the log")
	}
	s.span.End()
}

func (s *Span) set(key, value string) {
	if value != "" {
		s.span.SetAttributes(attribute.String(key, cut(value)))
	}
}

func (s *Span) status(code int) {
	s.span.SetAttributes(attribute.Int("http.response.status_code", code))
	if code >= http.StatusInternalServerError {
		s.span.SetStatus(codes.Error, "")
	}
}
