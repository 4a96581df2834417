package tracing

import (
	"net/http"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// Transport follows the requests that are sent for something that is followed, and tells
// who gets them. Name is of a bounded set.
func (t *Tracer) Transport(next http.RoundTripper, name func(*http.Request) string) http.RoundTripper {
	if t == nil {
		return next
	}
	return &transport{next: next, tracer: t.tracer, name: name}
}

// Kubernetes is a Transport to the API server.
func (t *Tracer) Kubernetes(next http.RoundTripper) http.RoundTripper {
	return t.Transport(next, kubernetesCall)
}

type transport struct {
	next   http.RoundTripper
	tracer trace.Tracer
	name   func(*http.Request) string
}

// WrappedRoundTripper is how client-go finds the transport that has the connections.
func (t *transport) WrappedRoundTripper() http.RoundTripper { return t.next }

// RoundTrip implements [http.RoundTripper]. What belongs to nothing, such as a watch, is
// left alone.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if !trace.SpanContextFromContext(r.Context()).IsValid() {
		return t.next.RoundTrip(r)
	}
	ctx, span := t.tracer.Start(r.Context(), t.name(r), trace.WithSpanKind(trace.SpanKindClient))
	defer span.End()
	r = r.Clone(ctx)
	propagator.Inject(ctx, propagation.HeaderCarrier(r.Header))
	if !span.IsRecording() {
		return t.next.RoundTrip(r)
	}
	span.SetAttributes(attribute.String("http.request.method", method(r)))
	response, err := t.next.RoundTrip(r)
	if err != nil {
		span.SetStatus(codes.Error, "there was no answer") // an error's text may quote the request
		return response, err
	}
	(&Span{span}).status(response.StatusCode)
	return response, nil
}

// kubernetesCall names a call by its method and resource: the names in its path are of
// others' choice.
func kubernetesCall(r *http.Request) string {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	switch {
	case len(parts) > 2 && parts[0] == "api":
		parts = parts[2:]
	case len(parts) > 3 && parts[0] == "apis":
		parts = parts[3:]
	default:
		return method(r) + " other"
	}
	if len(parts) > 2 && parts[0] == "namespaces" {
		parts = parts[2:]
	}
	name := method(r) + " " + parts[0]
	if len(parts) > 2 {
		name += "/" + parts[2]
	}
	return name
}
