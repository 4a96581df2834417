package managementapi

import (
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Labels of calls for no known issuer, for nothing that there is, and with an outcome that
// isn't one of outcomes. No issuer is named so.
const (
	unknownIssuer  = "-"
	unknownAction  = "-"
	unknownOutcome = "other"
)

// outcomes are the ones that are counted by their names.
var outcomes = []string{
	outcomeOK, TypeUnauthorized, TypeForbidden, TypeClientNotFound, TypeRouteNotFound, TypeMethodNotAllowed, TypeTooManyRequests, TypeBadRequest,
	TypeInvalidArgument, TypeInvalidCursor, TypeDuplicateID, TypeConflict, TypeUnavailable, TypeInternal,
}

// metrics counts calls. Labels are bounded by the issuers, actions and outcomes that there
// are, never by what callers send.
type metrics struct {
	requests      *prometheus.CounterVec
	duration      *prometheus.HistogramVec
	auditFailures prometheus.Counter
}

func newMetrics(registerer prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "m2m_management_requests_total",
			Help: "Calls of the management API, by issuer, action and outcome: the error type where they failed.",
		}, []string{"issuer", "action", "outcome"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "m2m_management_request_duration_seconds",
			Help:    "Time from the start of a call of the management API to its audit line.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"action"}),
		auditFailures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "m2m_management_audit_failures_total",
			Help: "Lines of the management API's audit log that could not be written.",
		}),
	}
	for _, c := range []prometheus.Collector{m.requests, m.duration, m.auditFailures} {
		if err := registerer.Register(c); err != nil {
			return nil, fmt.Errorf("registering the metrics of the management API: %w", err)
		}
	}
	return m, nil
}

// count counts a call.
func (m *metrics) count(c *call, elapsed time.Duration) {
	issuer, does, outcome := c.caller.Issuer, string(c.action), c.outcome()
	if issuer == "" {
		issuer = unknownIssuer
	}
	if does == "" {
		does = unknownAction
	}
	if !slices.Contains(outcomes, outcome) {
		outcome = unknownOutcome
	}
	// What an alert looks for is there from the first call on: increase() sees no step from nothing.
	for _, failure := range []string{TypeInternal, TypeUnavailable} {
		m.requests.WithLabelValues(issuer, does, failure)
	}
	m.requests.WithLabelValues(issuer, does, outcome).Inc()
	m.duration.WithLabelValues(does).Observe(elapsed.Seconds())
}
