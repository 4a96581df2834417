package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/credential"
	"github.com/m2m-operator/m2m-operator/internal/journal"
	"github.com/m2m-operator/m2m-operator/internal/usage"
)

// api is what a reporter needs of an API server: one client, and a Lease.
type api struct {
	mu     sync.Mutex
	client *v1alpha1.M2MClient // nil: there is none
	lease  *coordinationv1.Lease
	status int // that writes of usage are refused with; 0: they succeed
	down   bool
	asked  []string
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	kind := "client"
	if strings.Contains(r.URL.Path, "/leases/"+FieldManager+"-") {
		kind = "lease"
	}
	a.asked = append(a.asked, r.Method+" "+kind)
	w.Header().Set("Content-Type", "application/json")
	switch {
	case a.down:
		refuse(w, http.StatusInternalServerError)
	case kind == "lease" && r.Method == http.MethodDelete:
		a.lease = nil
		_, _ = io.WriteString(w, `{"kind":"Status","apiVersion":"v1","status":"Success"}`)
	case kind == "lease":
		a.lease = &coordinationv1.Lease{}
		_ = json.Unmarshal(body, a.lease)
		_, _ = w.Write(body)
	case a.client == nil:
		refuse(w, http.StatusNotFound)
	case r.Method == http.MethodPatch && a.status != 0:
		refuse(w, a.status)
	case r.Method == http.MethodPatch:
		a.apply(body)
		fallthrough
	default:
		_ = json.NewEncoder(w).Encode(a.client)
	}
}

func refuse(w http.ResponseWriter, status int) {
	w.WriteHeader(status)
	reason := map[int]metav1.StatusReason{http.StatusNotFound: metav1.StatusReasonNotFound, http.StatusConflict: metav1.StatusReasonConflict}[status]
	_ = json.NewEncoder(w).Encode(metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusFailure, Code: int32(status), Reason: reason,
	})
}

func (a *api) apply(body []byte) {
	applied := &v1alpha1.M2MClient{}
	_ = json.Unmarshal(body, applied)
	if applied.UID == a.client.UID && applied.ResourceVersion == a.client.ResourceVersion {
		a.client.Status.Usage = applied.Status.Usage
	}
}

// do works with the API server while it serves nobody.
func (a *api) do(f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f()
}

// requests returns what was asked for since it was called last.
func (a *api) requests() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	asked := strings.Join(a.asked, ", ")
	a.asked = nil
	return asked
}

// reporting is a reporter of an index with one client, which has a replaced secret
// and was just used.
type reporting struct {
	*Reporter
	api    *api
	index  *Index
	client *v1alpha1.M2MClient
	log    *strings.Builder
}

func newReporting(t *testing.T) *reporting {
	t.Helper()
	w := newWorld(t)
	c := w.replacing(1)
	index := newTestIndex()
	w.load(index, c)
	c.ResourceVersion = "7"
	c.TypeMeta = metav1.TypeMeta{Kind: "M2MClient", APIVersion: v1alpha1.SchemeGroupVersion.String()}
	a := &api{client: c.DeepCopy()}
	server := httptest.NewServer(a)
	t.Cleanup(server.Close)
	log := &strings.Builder{}
	r, err := NewReporter(&rest.Config{Host: server.URL}, ReporterOptions{
		Namespace: "m2m-system", Index: index, Heard: time.Now, Tick: time.Minute, Interval: time.Hour,
		Metrics: prometheus.NewRegistry(), Log: slog.New(slog.NewTextHandler(log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	r.Used(v1alpha1.DefaultIssuer, c.Status.ClientID, "1-13t1", time.Now().Add(-time.Minute))
	return &reporting{r, a, index, c, log}
}

// replacing is a client with a replaced secret.
func (w *world) replacing(n int) *v1alpha1.M2MClient {
	c := w.client(n)
	record := credential.Record{ClientID: c.Status.ClientID, RotatedAt: time.Unix(2, 0)}
	for number, role := range map[int]credential.Role{2: credential.RoleCurrent, 1: credential.RolePrevious} {
		v := credential.Credential{
			Version: credential.Version{Number: number, LastFour: "13t1"}, Role: role,
			Hash: w.pepper.Hash(record.ClientID, testSecret), CreatedAt: time.Unix(1, 0),
		}
		if role == credential.RolePrevious {
			v.NotAfter = time.Unix(4_000_000_000, 0)
		}
		record.Credentials = append(record.Credentials, v)
	}
	record.Seal = w.pepper.SealRecord(string(c.UID), record)
	journal.Write(&c.Status, record)
	return c
}

func TestReport(t *testing.T) {
	const looked, wrote = "GET client, PATCH lease", "GET client, PATCH client, PATCH lease"
	for name, c := range map[string]struct {
		change     func(r *reporting)
		first      string // what is asked for in one round
		second     string // and in the next
		unreported bool   // and others wait for it
	}{
		"a use":         {func(*reporting) {}, wrote, "PATCH lease", false},
		"conflict":      {func(r *reporting) { r.api.status = http.StatusConflict }, wrote, wrote, true},
		"refused":       {func(r *reporting) { r.api.status = http.StatusForbidden }, wrote, wrote, true},
		"paused":        {func(r *reporting) { r.api.client.Annotations = map[string]string{v1alpha1.AnnotationPause: "true"} }, looked, looked, false},
		"gone":          {func(r *reporting) { r.api.client = nil }, looked, "PATCH lease", false},
		"being deleted": {func(r *reporting) { now := metav1.Now(); r.api.client.DeletionTimestamp = &now }, looked, looked, true},
		"made anew":     {func(r *reporting) { r.api.client.UID = "another" }, looked, looked, true},
		"another's id":  {func(r *reporting) { r.api.client.Status.ClientID = "another" }, looked, looked, true},
		"another has just written": {func(r *reporting) {
			now := metav1.Now()
			r.api.client.ManagedFields = []metav1.ManagedFieldsEntry{
				{Manager: FieldManager, Subresource: "status", Time: &now}, {Manager: v1alpha1.ManagedBy, Subresource: "status"},
			}
		}, looked, "PATCH lease", true},
		"written by others, and long ago": {func(r *reporting) {
			now, before := metav1.Now(), metav1.NewTime(time.Now().Add(-2*time.Hour))
			r.api.client.ManagedFields = []metav1.ManagedFieldsEntry{
				{Manager: v1alpha1.ManagedBy, Subresource: "status", Time: &now}, {Manager: FieldManager, Time: &now},
				{Manager: FieldManager, Subresource: "status", Time: &before},
			}
		}, wrote, "PATCH lease", false},
		"another has reported": {func(r *reporting) {
			r.api.client.Status.Usage = []v1alpha1.VersionUsage{{Version: "1-13t1", LastUsedAt: metav1.Now()}}
		}, looked, "PATCH lease", false},
		"deleted, as the watch says":     {func(r *reporting) { r.index.RemoveClient(r.client.UID) }, "PATCH lease", "PATCH lease", false},
		"not served for the moment":      {func(r *reporting) { r.ledger.Due(time.Now(), r.index.standing); r.index.SetPepper(nil) }, "PATCH lease", "PATCH lease", true},
		"API server doesn't work at all": {func(r *reporting) { r.api.down = true }, looked, looked, true},
	} {
		t.Run(name, func(t *testing.T) {
			r := newReporting(t)
			c.change(r)
			for _, want := range []string{c.first, c.second} {
				r.round(t.Context())
				if got := r.api.requests(); got != want {
					t.Errorf("asked for %s; want %s", got, want)
				}
			}
			if _, all := r.ledger.Covered(time.Now()); all == c.unreported {
				t.Errorf("all is reported: %v", all)
			}
			if got := r.api.client; strings.HasSuffix(c.first, wrote) && r.api.status == 0 && (len(got.Status.Usage) != 1 || got.Status.Usage[0].Version != "1-13t1") {
				t.Errorf("usage %v", got.Status.Usage)
			}
			if logged := r.log.String() != ""; logged != (r.api.down || r.api.status == http.StatusForbidden) {
				t.Errorf("log: %s", r.log)
			}
		})
	}
}

// A server is ready when its Lease is there, and it goes with it.
func TestPresence(t *testing.T) {
	r := newReporting(t)
	r.api.down = true
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { r.Run(ctx); close(ended) }()
	wait(t, func() bool { return r.api.requests() != "" })
	if err := r.Ready(); err == nil || err.Error() != "the server has not announced itself yet" {
		t.Errorf("ready: %v", err)
	}
	r.api.do(func() { r.api.down = false })
	wait(t, func() bool { return r.Ready() == nil })
	r.api.do(func() {
		lease := r.api.lease
		if lease.Labels[v1alpha1.LabelRole] != v1alpha1.RoleServer || lease.Labels[v1alpha1.LabelManagedBy] != v1alpha1.ManagedBy {
			t.Errorf("labels %v", lease.Labels)
		}
		if lease.Name != FieldManager+"-"+*lease.Spec.HolderIdentity || *lease.Spec.LeaseDurationSeconds != 180 || lease.Spec.AcquireTime == nil || lease.Spec.RenewTime == nil {
			t.Errorf("%s: %+v", lease.Name, lease.Spec)
		}
		if _, err := time.Parse(time.RFC3339, lease.Annotations[v1alpha1.AnnotationReportedUntil]); err != nil {
			t.Error(err)
		}
	})
	stop()
	<-ended
	if r.api.lease != nil || r.api.client.Status.Usage == nil {
		t.Errorf("after the last report Lease %v, usage %v", r.api.lease, r.api.client.Status.Usage)
	}
}

// What a server couldn't report when it stopped it leaves behind.
func TestStopUnreported(t *testing.T) {
	for name, change := range map[string]func(*reporting){
		"refused": func(r *reporting) { r.api.status = http.StatusForbidden },
		"a broken watch": func(r *reporting) {
			r.o.Heard, r.started = func() time.Time { return time.Time{} }, time.Now().Add(-time.Hour)
		},
	} {
		r := newReporting(t)
		change(r)
		r.leave(t.Context())
		lease := r.api.lease
		if lease == nil || lease.Annotations[v1alpha1.AnnotationStoppedAt] == "" || *lease.Spec.HolderIdentity != "" {
			t.Fatalf("%s: Lease %+v", name, lease)
		}
		until, err := time.Parse(time.RFC3339, lease.Annotations[v1alpha1.AnnotationReportedUntil])
		if err != nil || time.Since(until) < 59*time.Second {
			t.Errorf("%s: reported until %v, %v", name, until, err)
		}
	}
}

func wait(t *testing.T, until func() bool) {
	t.Helper()
	for range 3000 {
		if until() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("it never comes")
}

// A server that doesn't hear of rotations doesn't claim to report what they need.
func TestHorizon(t *testing.T) {
	now, started := time.Unix(10_000, 0), time.Unix(5_000, 0)
	for name, c := range map[string]struct{ heard, started, want time.Time }{
		"just heard":         {now, started, now},
		"a bookmark ago":     {now.Add(-time.Minute), started, now},
		"silence":            {now.Add(-time.Hour), started, now.Add(-time.Hour)},
		"never, just begun":  {time.Time{}, now.Add(-time.Minute), now},
		"never":              {time.Time{}, started, started},
		"before this server": {started.Add(-time.Minute), started, started},
	} {
		if got := horizon(now, c.heard, c.started); !got.Equal(c.want) {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestHeard(t *testing.T) {
	w := &Watches{clients: map[string]*sink{"": {}}}
	if !w.Heard().IsZero() {
		t.Error("heard of clients before there was anything")
	}
	w.clients[""].UpdateResourceVersion("7")
	if since := time.Since(w.Heard()); since < 0 || since > time.Hour {
		t.Errorf("heard %v ago", since)
	}
}

func TestStanding(t *testing.T) {
	w := newWorld(t)
	x := newTestIndex()
	plain, replacing := w.client(1), w.replacing(2)
	w.load(x, plain, replacing)
	check := func(what string, c *v1alpha1.M2MClient, ref string, want usage.Standing) {
		t.Helper()
		if got := x.standing(usage.Client{Issuer: v1alpha1.DefaultIssuer, ID: c.Status.ClientID}, ref); got != want {
			t.Errorf("%s: %+v; want %+v", what, got, want)
		}
	}
	check("served", plain, "", usage.Standing{Ref: "uid-1", Served: true})
	check("with a replaced secret", replacing, "", usage.Standing{Ref: "uid-2", Served: true, Replacing: true})
	if p, ok := x.place("uid-2"); !ok || p != (place{"default", "c2"}) {
		t.Errorf("it is at %+v, %v", p, ok)
	}
	if p, ok := x.place("uid-3"); ok {
		t.Errorf("a client that doesn't exist is at %+v", p)
	}
	check("another issuer's", &v1alpha1.M2MClient{}, "", usage.Standing{})
	x.SetPepper(nil)
	check("not served", plain, "uid-1", usage.Standing{Ref: "uid-1", Replacing: true})
	check("not served, and never seen", plain, "", usage.Standing{})
	x.SetPepper(w.pepperSecret())
	check("served again", plain, "uid-1", usage.Standing{Ref: "uid-1", Served: true})
	x.RemoveClient(plain.UID)
	check("gone", plain, "uid-1", usage.Standing{Ref: "uid-1", Gone: true})
}

func TestIdentity(t *testing.T) {
	for host, want := range map[string]string{
		"m2m-operator-server-6d4cf56db6-x7k2p": "m2m-operator-server-6d4cf56db6-x7k-abcde",
		"Host.Example_1":                       "host-example-1-abcde",
		"":                                     "abcde",
		"ÄÖÜ":                                  "abcde",
	} {
		if got := identityOf(host, "abcde"); got != want || len(got) > 40 {
			t.Errorf("%q: %q", host, got)
		}
	}
	if got := fmt.Sprint(len(identityOf(strings.Repeat("-a", 100), "abcde"))); got != "40" {
		t.Errorf("%s characters", got)
	}
}
