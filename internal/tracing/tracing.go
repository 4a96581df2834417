// Package tracing follows some requests, reconciliations and calls between roles and to the
// API server, and sends what it sees to an OpenTelemetry collector. It is off unless an
// endpoint is named.
//
// What is said of a request is fixed here: what it is, whose issuer and client it was, and
// how it ended. Nothing that a stranger wrote gets into a trace.
package tracing

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// Options are what an operator chooses. The zero value follows nothing.
type Options struct {
	Endpoint string // URL of an OTLP collector that takes HTTP; empty: off
	CAFile   string // certificates in PEM that the collector's is checked with; empty: the system's
	Insecure bool   // plain HTTP to a collector that isn't on loopback
	// Ratio is how many of all traces are followed that begin here, from 0 to 1.
	Ratio float64
	// TrustCallers lets whoever sends a request decide whether it is followed, by a W3C
	// trace context.
	TrustCallers bool
}

// Check tells what is wrong with options, by the names of their flags.
func (o Options) Check() error {
	if math.IsNaN(o.Ratio) || o.Ratio < 0 || o.Ratio > 1 {
		return errors.New("--trace-sample-ratio must be from 0 to 1")
	}
	if o.Endpoint == "" {
		return nil
	}
	u, err := url.Parse(o.Endpoint)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Scheme != "https" && u.Scheme != "http" {
		return errors.New("--otlp-endpoint must be a URL of scheme, host and port, such as https://collector.monitoring.svc:4318")
	}
	if u.Scheme == "http" && !o.Insecure && !loopback(u.Hostname()) {
		return errors.New("--otlp-endpoint must be https, because traces name clients: http is for loopback, or for networks that you trust with --otlp-insecure")
	}
	return nil
}

func loopback(host string) bool {
	address, _ := netip.ParseAddr(host)
	return host == "localhost" || address.IsLoopback()
}

// Tracer follows what it is told of. A nil Tracer follows nothing.
type Tracer struct {
	provider     *sdk.TracerProvider
	tracer       trace.Tracer
	trustCallers bool
}

// Bounds of what waits to be sent: the collector may be away, and requests don't wait.
const (
	maxQueued     = 2048 // spans; more are dropped
	exportTimeout = 10 * time.Second
	stopTimeout   = 5 * time.Second
	maxAttributes = 16
)

// Start begins to follow what a service does; nil: the options say not to. Of a collector
// that can't be reached the log is told now and then.
func Start(o Options, service, version string, log *slog.Logger) (*Tracer, error) {
	if err := o.Check(); err != nil || o.Endpoint == "" {
		return nil, err
	}
	authorities, err := readAuthorities(o.CAFile)
	if err != nil {
		return nil, err
	}
	exporter := otlptrace.NewUnstarted(newUploader(o.Endpoint, &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: authorities}))
	otel.SetLogger(logr.FromSlogHandler(log.Handler()))
	otel.SetErrorHandler(&complaints{log: log})
	host, _ := os.Hostname() // in a pod, its name
	provider := sdk.NewTracerProvider(
		sdk.WithBatcher(exporter, sdk.WithMaxQueueSize(maxQueued), sdk.WithExportTimeout(exportTimeout)),
		sdk.WithSampler(sdk.ParentBased(sdk.TraceIDRatioBased(o.Ratio))),
		sdk.WithRawSpanLimits(sdk.SpanLimits{
			AttributeValueLengthLimit: maxValue, AttributeCountLimit: maxAttributes, EventCountLimit: 1, LinkCountLimit: 1,
			AttributePerEventCountLimit: 1, AttributePerLinkCountLimit: 1,
		}),
		sdk.WithResource(resource.NewSchemaless(
			attribute.String("service.name", service),
			attribute.String("service.version", version),
			attribute.String("service.instance.id", host),
		)),
	)
	return &Tracer{provider: provider, tracer: provider.Tracer("m2m-operator"), trustCallers: o.TrustCallers}, nil
}

// Stop sends what is left.
func (t *Tracer) Stop() {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil {
		otel.Handle(err)
	}
}

func readAuthorities(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("--otlp-ca-file: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("--otlp-ca-file: there is no certificate in %s", file)
	}
	return pool, nil
}

// complaints logs what goes wrong with sending, at most once a minute: each batch fails
// while a collector is away.
type complaints struct {
	log *slog.Logger

	mu   sync.Mutex
	last time.Time
}

// Handle implements [otel.ErrorHandler].
func (c *complaints) Handle(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); c.last.IsZero() || now.Sub(c.last) >= time.Minute {
		c.last = now
		c.log.Warn("Traces could not be sent", "reason", err.Error())
	}
}

// propagator reads and writes a W3C trace context, without the state of other vendors,
// which is a text of the caller's.
var propagator = propagation.TraceContext{}

// remote returns a context with the trace context that a request brings.
func remote(r *http.Request) context.Context {
	values := r.Header["Traceparent"]
	if len(values) != 1 {
		return r.Context()
	}
	return propagator.Extract(r.Context(), propagation.MapCarrier{"traceparent": values[0]})
}

// method is a request's method, unless it is one of the caller's invention.
func method(r *http.Request) string {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return r.Method
	}
	return "_OTHER"
}

// cut bounds what is said of others, in bytes.
func cut(s string) string {
	if len(s) > maxValue {
		s = s[:maxValue]
	}
	return strings.ToValidUTF8(s, "")
}

const maxValue = 256
