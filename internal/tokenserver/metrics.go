package tokenserver

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/m2m-operator/m2m-operator/internal/token"
)

// unknownIssuer is the label of requests for no known issuer; no issuer is named so.
const unknownIssuer = "-"

// outcomes are all that a request to an endpoint can come to, refusals aside.
var outcomes = map[endpoint][]string{
	tokenEndpoint:         {outcomeIssued},
	introspectionEndpoint: {outcomeActive, outcomeInactive},
	revocationEndpoint:    {outcomeRevoked, outcomeUnchanged},
}

// refusals are the OAuth error codes of all endpoints.
var refusals = []string{
	string(token.InvalidRequest), string(token.InvalidClient), string(token.UnsupportedGrantType), string(token.InvalidScope),
	string(token.InvalidTarget), string(token.UnauthorizedClient), string(token.TemporarilyUnavailable), string(token.TooManyRequests), string(serverError),
}

// outcomeCounters are the counters of one issuer's endpoint, by outcome.
type outcomeCounters map[string]prometheus.Counter

// served is an endpoint of an issuer.
type served struct {
	endpoint endpoint
	issuer   string
}

// metrics counts the requests of clients. Labels are bounded by the issuers and outcomes
// that there are, never by what callers send.
type metrics struct {
	requests      map[endpoint]*prometheus.CounterVec
	duration      prometheus.Histogram
	auditFailures prometheus.Counter

	mu       sync.Mutex
	counters atomic.Pointer[map[served]outcomeCounters] // replaced, never changed
}

func newMetrics(registerer prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		requests: map[endpoint]*prometheus.CounterVec{},
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
	m.counters.Store(&map[served]outcomeCounters{})
	collectors := []prometheus.Collector{m.duration, m.auditFailures}
	for endpoint, name := range events {
		m.requests[endpoint] = prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "m2m_" + name + "_requests_total",
			Help: "Requests to the " + name + " endpoint, by issuer and by outcome: the OAuth error code where it failed.",
		}, []string{"issuer", "outcome"})
		collectors = append(collectors, m.requests[endpoint])
	}
	for _, c := range collectors {
		if err := registerer.Register(c); err != nil {
			return nil, fmt.Errorf("registering the metrics of the token server: %w", err)
		}
	}
	return m, nil
}

// count counts a request.
func (m *metrics) count(x *exchange, elapsed time.Duration) {
	by, outcome := served{x.endpoint, unknownIssuer}, x.outcome
	if x.issuer != nil {
		by.issuer = x.issuer.Name
	}
	if x.problem.status != 0 {
		outcome = string(x.problem.code)
	}
	counters, ok := (*m.counters.Load())[by]
	if !ok {
		counters = m.add(by)
	}
	counters[outcome].Inc()
	if x.endpoint == tokenEndpoint {
		m.duration.Observe(elapsed.Seconds())
	}
}

// add resolves the counters of an issuer's endpoint, the first time that it is seen.
func (m *metrics) add(by served) outcomeCounters {
	added := outcomeCounters{}
	for _, outcome := range slices.Concat(outcomes[by.endpoint], refusals) {
		added[outcome] = m.requests[by.endpoint].WithLabelValues(by.issuer, outcome)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	counters := maps.Clone(*m.counters.Load())
	counters[by] = added
	m.counters.Store(&counters)
	return added
}
