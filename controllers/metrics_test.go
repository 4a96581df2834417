package controllers

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
)

var metricsNow = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)

// at is a time so many seconds after metricsNow.
func at(seconds int) *metav1.Time {
	t := metav1.NewTime(metricsNow.Add(time.Duration(seconds) * time.Second))
	return &t
}

// gathered metrics, a line each: name, labels, and value; times as seconds after metricsNow.
func gatherOverview(t testing.TB, o *overview) []string {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(o)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, f := range families {
		for _, m := range f.Metric {
			line := f.GetName()
			for _, l := range m.Label {
				line += " " + l.GetValue()
			}
			value := m.Gauge.GetValue()
			if strings.HasSuffix(f.GetName(), "_timestamp_seconds") {
				value -= float64(metricsNow.Unix())
			}
			lines = append(lines, fmt.Sprintf("%s %g", line, value))
		}
	}
	return lines
}

func TestOverview(t *testing.T) {
	clients, issuers := &standings{}, &memory[issuerStanding]{}
	note := func(name string, untouchable bool, status v1alpha1.M2MClientStatus) *v1alpha1.M2MClient {
		c := &v1alpha1.M2MClient{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: name, CreationTimestamp: *at(-500)}, Status: status}
		clients.note(c, &c.Status, untouchable)
		return c
	}
	condition := func(kind string, status metav1.ConditionStatus, reason string, since int) metav1.Condition {
		return metav1.Condition{Type: kind, Status: status, Reason: reason, LastTransitionTime: *at(since)}
	}
	ready := condition(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonIssued, -900)
	refused := func(since int) []metav1.Condition {
		return []metav1.Condition{condition(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonNotGranted, since)}
	}
	inUse := func(reason string) []metav1.Condition {
		return []metav1.Condition{ready, condition(v1alpha1.ConditionPreviousSecretInUse, metav1.ConditionTrue, reason, -10)}
	}
	ends := func(first, second int) []v1alpha1.CredentialStatus {
		return []v1alpha1.CredentialStatus{{Role: "Current"}, {Role: "Previous", NotAfter: at(first)}, {Role: "Previous", NotAfter: at(second)}}
	}
	note("new", false, v1alpha1.M2MClientStatus{})
	note("ready", false, v1alpha1.M2MClientStatus{Conditions: []metav1.Condition{ready}, NextRotationTime: at(300)})
	note("due", false, v1alpha1.M2MClientStatus{Conditions: []metav1.Condition{ready}, NextRotationTime: at(-60)})
	note("paused", true, v1alpha1.M2MClientStatus{Conditions: []metav1.Condition{ready}, NextRotationTime: at(-9999)})
	note("paused, and refused for longest", true, v1alpha1.M2MClientStatus{Conditions: refused(-9999)})
	note("refused", false, v1alpha1.M2MClientStatus{Conditions: refused(-100), NextRotationTime: at(-90)})
	note("conflict", false, v1alpha1.M2MClientStatus{
		Conditions:       []metav1.Condition{condition(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonSecretConflict, -10)},
		NextRotationTime: at(-9999),
	})
	note("refused for longer", false, v1alpha1.M2MClientStatus{Conditions: refused(-200)})
	note("in use", false, v1alpha1.M2MClientStatus{Conditions: inUse(v1alpha1.ReasonInUse), Credentials: ends(70, 40)})
	note("not reported", false, v1alpha1.M2MClientStatus{Conditions: inUse(v1alpha1.ReasonUnreported), Credentials: ends(7, 4)})
	clients.forget(client.ObjectKeyFromObject(note("gone", false, v1alpha1.M2MClientStatus{Conditions: refused(-9999)})))
	issuers.set(client.ObjectKey{Name: "default"}, issuerStanding{
		conditions: []metav1.Condition{
			condition(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonSigningKeyLost, 0),
			condition("SomebodysOwn", metav1.ConditionTrue, "Whatever", 0),
		},
		keys: []v1alpha1.SigningKeyStatus{
			{State: v1alpha1.SigningKeyRetired, ActiveFrom: *at(-90)}, {State: v1alpha1.SigningKeyRetired, ActiveFrom: *at(-80)}, {State: v1alpha1.SigningKeyActive, ActiveFrom: *at(-70)},
		},
	})
	o := &overview{}
	if lines := gatherOverview(t, o); len(lines) != 0 {
		t.Errorf("before anything is known: %q", lines)
	}
	o.clients.Store(clients)
	o.issuers.Store(issuers)
	want := []string{
		"m2m_issuer_condition Ready default SigningKeyLost 0",
		"m2m_managed_clients false NotGranted 3",
		"m2m_managed_clients false Pending 1",
		"m2m_managed_clients false SecretConflict 1",
		"m2m_managed_clients true Issued 5",
		"m2m_managed_clients_unready_since_timestamp_seconds NotGranted -200",
		"m2m_managed_clients_unready_since_timestamp_seconds Pending -500",
		"m2m_managed_clients_unready_since_timestamp_seconds SecretConflict -10",
		"m2m_next_rotation_timestamp_seconds -90",
		"m2m_previous_secret_deadline_timestamp_seconds 40",
		"m2m_previous_secrets_in_use 2",
		"m2m_signing_key_active_from_timestamp_seconds default Active -70",
		"m2m_signing_key_active_from_timestamp_seconds default Retired -90",
	}
	got := gatherOverview(t, o)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// Who can write statuses can't make labels without end.
func TestOverviewBoundsReasons(t *testing.T) {
	clients := &standings{}
	for i := range 1000 {
		c := &v1alpha1.M2MClient{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: fmt.Sprintf("client-%d", i)}}
		c.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, Reason: fmt.Sprintf("Forged%d", i)}}
		clients.note(c, &c.Status, false)
	}
	o := &overview{}
	o.clients.Store(clients)
	lines := gatherOverview(t, o)
	if most := 2*(maxReasons+1) + 1; len(lines) > most {
		t.Errorf("%d series; want at most %d", len(lines), most)
	}
	want := fmt.Sprintf("m2m_managed_clients false Other %d", 1000-maxReasons)
	if !slices.Contains(lines, want) {
		t.Errorf("there is no %q", want)
	}
}

// BenchmarkOverview is a scrape with 100 000 clients.
func BenchmarkOverview(b *testing.B) {
	clients := &standings{}
	for i := range 100_000 {
		c := &v1alpha1.M2MClient{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: fmt.Sprintf("client-%d", i)}}
		c.Status.NextRotationTime = at(i)
		c.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonIssued}}
		clients.note(c, &c.Status, false)
	}
	o := &overview{}
	o.clients.Store(clients)
	b.ReportAllocs()
	for b.Loop() {
		gatherOverview(b, o)
	}
}
