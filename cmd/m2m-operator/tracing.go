package main

import (
	"context"
	"log/slog"
	"net/http"

	"github.com/spf13/pflag"

	"github.com/m2m-operator/m2m-operator/internal/managementapi"
	"github.com/m2m-operator/m2m-operator/internal/tokenserver"
	"github.com/m2m-operator/m2m-operator/internal/tracing"
)

func addTracingFlags(flags *pflag.FlagSet, o *tracing.Options) {
	flags.StringVar(&o.Endpoint, "otlp-endpoint", "", "`URL` of an OpenTelemetry collector that takes traces by HTTP, such as https://collector.monitoring.svc:4318; empty: nothing is traced")
	flags.StringVar(&o.CAFile, "otlp-ca-file", "", "`file` with the certificates in PEM that the collector's is checked with; empty: the system's")
	flags.BoolVar(&o.Insecure, "otlp-insecure", false, "send traces in plain HTTP to a collector that isn't on loopback")
	flags.Float64Var(&o.Ratio, "trace-sample-ratio", 0.01, "how many of all requests and reconciliations are traced, from 0 to 1")
	flags.BoolVar(&o.TrustCallers, "trace-trust-callers", false, "let callers decide by the header traceparent (W3C trace context) whether their requests are traced")
}

func startTracing(role string, o tracing.Options) (*tracing.Tracer, error) {
	return tracing.Start(o, "m2m-operator-"+role, version, slog.Default())
}

// tracedTokens is how the token server's requests are followed; nil: they aren't.
func tracedTokens(tracer *tracing.Tracer) tokenserver.Tracer {
	if tracer == nil {
		return nil
	}
	return func(r *http.Request, operation string) (context.Context, tokenserver.Trace) {
		ctx, span := tracer.Request(r, operation, false)
		if span == nil {
			return ctx, nil
		}
		return ctx, span
	}
}

// tracedCalls is how calls of the management API are followed; nil: they aren't. What a
// server passed on belongs to the server's trace.
func tracedCalls(tracer *tracing.Tracer, passedOn func(*http.Request) bool) managementapi.Tracer {
	if tracer == nil {
		return nil
	}
	return func(r *http.Request, operation string) (context.Context, managementapi.Trace) {
		ctx, span := tracer.Request(r, operation, passedOn(r))
		if span == nil {
			return ctx, nil
		}
		return ctx, span
	}
}

// managementCall names what is passed on to the management API, whatever its path says.
func managementCall(*http.Request) string { return "management call" }
