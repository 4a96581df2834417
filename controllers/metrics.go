package controllers

import (
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
)

var pepperKeyUses = prometheus.NewGaugeVec(prometheus.GaugeOpts{
	Name: "m2m_pepper_key_uses",
	Help: "Hashes and seals of clients and Secrets that name a pepper key. One that is not active is dropped when none does.",
}, []string{"key", "active"})

var forgedStatuses = prometheus.NewCounter(prometheus.CounterOpts{
	Name: "m2m_forged_statuses_total",
	Help: "Statuses of clients with a credential that the operator didn't write, and that it replaced.",
})

// shown is what the metrics of this process tell of.
var shown overview

func init() { metrics.Registry.MustRegister(pepperKeyUses, forgedStatuses, &shown) }

// standing is what metrics tell of a client. Times are in Unix seconds; 0: there is none.
type standing struct {
	reason   string // of its readiness
	ready    bool
	since    int64 // when that began; 0 where a person holds it
	rotation int64 // when the interval asks for the next
	kept     bool  // a replaced secret outlives its overlap
	deadline int64 // when that ends which is still used
}

// standings are those of all clients. They are kept as reconciliations find them, so that
// nobody has to list the clients.
type standings struct{ memory[standing] }

// note keeps what a status says of its client. One that nothing may be written for waits
// for a person, and rotates when that is over.
func (s *standings) note(c *v1alpha1.M2MClient, status *v1alpha1.M2MClientStatus, untouchable bool) {
	now := standing{reason: reasonPending, since: c.CreationTimestamp.Unix()}
	if condition := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionReady); condition != nil {
		now.ready, now.reason = condition.Status == metav1.ConditionTrue, condition.Reason
		now.since = condition.LastTransitionTime.Unix()
	}
	if untouchable {
		now.since = 0
	}
	if status.NextRotationTime != nil && rotates(now.reason) && !untouchable {
		now.rotation = status.NextRotationTime.Unix()
	}
	if kept := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionPreviousSecretInUse); kept != nil {
		now.kept = true
		if kept.Reason == v1alpha1.ReasonInUse {
			now.deadline = firstEnd(status.Credentials)
		}
	}
	s.set(client.ObjectKeyFromObject(c), now)
}

// reasonPending stands for a client without conditions.
const reasonPending = "Pending"

// rotates tells whether a client rotates at its time, as do those that don't get all that
// they ask for. Others wait for a person.
func rotates(reason string) bool {
	switch reason {
	case v1alpha1.ReasonIssued, v1alpha1.ReasonRotating, v1alpha1.ReasonTooManyVersions, v1alpha1.ReasonRenameWaits,
		v1alpha1.ReasonNotGranted, v1alpha1.ReasonLifetimeOutOfBounds, v1alpha1.ReasonMetadataTooLarge, v1alpha1.ReasonClaimsTooLarge,
		v1alpha1.ReasonInvalidPublicKeys, v1alpha1.ReasonRestartForbidden, v1alpha1.ReasonRestartWaits, v1alpha1.ReasonRestartFailed:
		return true
	}
	return false
}

// firstEnd is when the first replaced secret ends.
func firstEnd(credentials []v1alpha1.CredentialStatus) int64 {
	var first int64
	for i := range credentials {
		if at := credentials[i].NotAfter; at != nil {
			first = earlier(first, at.Unix())
		}
	}
	return first
}

// earlier returns the earlier of two times; 0 is none.
func earlier(a, b int64) int64 {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// issuerStanding is what metrics tell of an issuer.
type issuerStanding struct {
	conditions []metav1.Condition
	keys       []v1alpha1.SigningKeyStatus
}

// overview collects the metrics of clients and issuers.
type overview struct {
	clients atomic.Pointer[standings]
	issuers atomic.Pointer[memory[issuerStanding]]
}

var (
	managedClients = prometheus.NewDesc("m2m_managed_clients",
		"Clients by readiness and its reason. Only the replica that leads tells.", []string{"ready", "reason"}, nil)
	unreadySince = prometheus.NewDesc("m2m_managed_clients_unready_since_timestamp_seconds",
		"Since when the client isn't ready that has not been for longest, by reason.", []string{"reason"}, nil)
	nextRotation = prometheus.NewDesc("m2m_next_rotation_timestamp_seconds",
		"When the interval of some client asks for the first of the next rotations. In the past: it is due.", nil, nil)
	secretsInUse = prometheus.NewDesc("m2m_previous_secrets_in_use",
		"Clients with a replaced secret that outlives its overlap, because it may still be used.", nil, nil)
	previousEnd = prometheus.NewDesc("m2m_previous_secret_deadline_timestamp_seconds",
		"When the first replaced secret ends that was used lately.", nil, nil)
	issuerCondition = prometheus.NewDesc("m2m_issuer_condition",
		"1 if a condition of an issuer is True, with its reason.", []string{"issuer", "condition", "reason"}, nil)
	signingKey = prometheus.NewDesc("m2m_signing_key_active_from_timestamp_seconds",
		"From when on an issuer's keys sign, by their state; of several in one state, the first.", []string{"issuer", "state"}, nil)
)

// Describe implements [prometheus.Collector].
func (*overview) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{managedClients, unreadySince, nextRotation, secretsInUse, previousEnd, issuerCondition, signingKey} {
		to <- d
	}
}

// Collect implements [prometheus.Collector].
func (o *overview) Collect(to chan<- prometheus.Metric) {
	if clients := o.clients.Load(); clients != nil {
		clients.collect(to)
	}
	if issuers := o.issuers.Load(); issuers != nil {
		issuers.each(func(key client.ObjectKey, issuer issuerStanding) { issuer.collect(key.Name, to) })
	}
}

// maxReasons bounds what a forged status can make of a label; the operator has half of it.
const maxReasons = 64

// collect looks at all clients: 100 000 take a few milliseconds, once a scrape.
func (s *standings) collect(to chan<- prometheus.Metric) {
	type group struct {
		ready  bool
		reason string
	}
	number, since, reasons := map[group]int{}, map[string]int64{}, map[string]bool{}
	var rotation, deadline int64
	kept := 0
	s.each(func(_ client.ObjectKey, c standing) {
		if !reasons[c.reason] && len(reasons) == maxReasons {
			c.reason = "Other"
		} else {
			reasons[c.reason] = true
		}
		number[group{c.ready, c.reason}]++
		if !c.ready && c.since != 0 {
			since[c.reason] = earlier(since[c.reason], c.since)
		}
		if c.kept {
			kept++
		}
		rotation, deadline = earlier(rotation, c.rotation), earlier(deadline, c.deadline)
	})
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	for g, n := range number {
		gauge(managedClients, float64(n), strconv.FormatBool(g.ready), g.reason)
	}
	for reason, at := range since {
		gauge(unreadySince, float64(at), reason)
	}
	gauge(secretsInUse, float64(kept))
	if rotation != 0 {
		gauge(nextRotation, float64(rotation))
	}
	if deadline != 0 {
		gauge(previousEnd, float64(deadline))
	}
}

func (i issuerStanding) collect(name string, to chan<- prometheus.Metric) {
	for _, c := range i.conditions {
		if !ownCondition(c.Type) {
			continue
		}
		value := 0.0
		if c.Status == metav1.ConditionTrue {
			value = 1
		}
		to <- prometheus.MustNewConstMetric(issuerCondition, prometheus.GaugeValue, value, name, c.Type, c.Reason)
	}
	from := map[v1alpha1.SigningKeyState]time.Time{}
	for _, k := range i.keys {
		if at, seen := from[k.State]; !seen || k.ActiveFrom.Time.Before(at) {
			from[k.State] = k.ActiveFrom.Time
		}
	}
	for state, at := range from {
		to <- prometheus.MustNewConstMetric(signingKey, prometheus.GaugeValue, float64(at.Unix()), name, string(state))
	}
}
