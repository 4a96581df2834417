package tokenserver

import (
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/m2m-operator/m2m-operator/internal/token"
)

// unknownIssuer is the label of requests for no known issuer; no issuer is named so.
const unknownIssuer = "-"

// outcomes are all that a token request can come to.
var outcomes = []string{
	outcomeIssued,
	string(token.InvalidRequest), string(token.InvalidClient), string(token.UnsupportedGrantType),
	string(token.InvalidScope), string(token.TemporarilyUnavailable), string(serverError),
}

// outcomeCounters are one issuer's counters, by outcome.
type outcomeCounters map[string]prometheus.Counter

// metrics counts token requests. Labels are bounded by the issuers and outcomes
// that there are, never by what callers send.
type metrics struct {
	requests      *prometheus.CounterVec
	duration      prometheus.Histogram
	auditFailures prometheus.Counter

	mu       sync.Mutex
	byIssuer atomic.Pointer[map[string]outcomeCounters] // replaced, never changed
}

func newMetrics(registerer prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "m2m_token_requests_total",
			Help: "Requests to the token endpoint, by issuer and by outcome: issued, or the OAuth error code.",
		}, []string{"issuer", "outcome"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "m2m_token_request_duration_seconds",
			Help:    "Time from the start of a token request to its audit line.",
			Buckets: []float64{.00005, .0001, .00025, .0005, .001, .0025, .005, .01, .05, .25, 1, 5},
		}),
		auditFailures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "m2m_token_audit_failures_total",
			Help: "Lines of the token audit log that could not be written.",
		}),
	}
	m.byIssuer.Store(&map[string]outcomeCounters{})
	for _, c := range []prometheus.Collector{m.requests, m.duration, m.auditFailures} {
		if err := registerer.Register(c); err != nil {
			return nil, fmt.Errorf("registering the metrics of the token server: %w", err)
		}
	}
	return m, nil
}

// count counts a request; without a code it got a token.
func (m *metrics) count(issuer *token.Issuer, code token.Code, elapsed time.Duration) {
	name, outcome := unknownIssuer, outcomeIssued
	if issuer != nil {
		name = issuer.Name
	}
	if code != "" {
		outcome = string(code)
	}
	counters, ok := (*m.byIssuer.Load())[name]
	if !ok {
		counters = m.add(name)
	}
	counters[outcome].Inc()
	m.duration.Observe(elapsed.Seconds())
}

// add resolves an issuer's counters, the first time that it is seen.
func (m *metrics) add(name string) outcomeCounters {
	counters := outcomeCounters{}
	for _, outcome := range outcomes {
		counters[outcome] = m.requests.WithLabelValues(name, outcome)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	byIssuer := maps.Clone(*m.byIssuer.Load())
	byIssuer[name] = counters
	m.byIssuer.Store(&byIssuer)
	return counters
}
