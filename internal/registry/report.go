package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/flowcontrol"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	ac "github.com/m2m-operator/m2m-operator/api/v1alpha1/applyconfiguration/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/credential"
	"github.com/m2m-operator/m2m-operator/internal/token"
	"github.com/m2m-operator/m2m-operator/internal/usage"
)

// FieldManager is the servers' name in what they write.
const FieldManager = "m2m-operator-server"

const (
	// writesPerSecond bounds what one server writes: reports can wait.
	writesPerSecond = 20
	// requestTimeout is how long the API server may take.
	requestTimeout = 10 * time.Second
	// announceEvery is how soon a Lease is tried again that could not be made.
	announceEvery = time.Second
	// farewell is how long a server that stops reports what it has seen.
	farewell = 5 * time.Second
	// silence is how long the watch of clients may bring nothing: some bookmarks.
	silence = 3 * time.Minute
)

// ReporterOptions are what a reporter needs. All of it is required.
type ReporterOptions struct {
	Namespace string           // the operator's
	Index     *Index           // knows the clients
	Heard     func() time.Time // when the index last heard of clients
	Tick      time.Duration    // between two looks at what was used
	Interval  time.Duration    // least time between two writes, see [usage.Gap]
	Metrics   prometheus.Registerer
	Log       *slog.Logger
}

// Reporter writes into clients' statuses when their secrets were used, and keeps
// the Lease that says up to when this server has done so. It is the one thing in a
// server that writes.
type Reporter struct {
	o         ReporterOptions
	ledger    *usage.Ledger
	clients   rest.Interface
	pace      flowcontrol.RateLimiter
	presence  *presence
	started   time.Time
	announced atomic.Bool

	writes, failures prometheus.Counter
	covered          prometheus.Gauge
}

// NewReporter makes the reporter of a server.
func NewReporter(config *rest.Config, o ReporterOptions) (*Reporter, error) {
	own, err := restClient(config, v1alpha1.SchemeGroupVersion, "/apis", v1alpha1.AddToScheme)
	if err != nil {
		return nil, err
	}
	leases, err := restClient(config, coordinationv1.SchemeGroupVersion, "/apis", clientgoscheme.AddToScheme)
	if err != nil {
		return nil, err
	}
	started := time.Now()
	r := &Reporter{
		o:        o,
		ledger:   usage.NewLedger(o.Interval),
		clients:  own,
		pace:     flowcontrol.NewTokenBucketRateLimiter(writesPerSecond, writesPerSecond),
		presence: newPresence(leases, o.Namespace, started, o.Tick),
		started:  started,
		writes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "m2m_usage_writes_total",
			Help: "Writes of when a client's secrets were last used.",
		}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "m2m_usage_write_failures_total",
			Help: "Attempts to report when a client's secrets were last used that failed; they are repeated.",
		}),
		covered: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "m2m_usage_covered_timestamp_seconds",
			Help: "Up to when all uses of clients with a replaced secret are in their statuses, as this server's Lease says.",
		}),
	}
	for _, c := range []prometheus.Collector{r.writes, r.failures, r.covered} {
		if err := o.Metrics.Register(c); err != nil {
			return nil, fmt.Errorf("registering the metrics of usage: %w", err)
		}
	}
	return r, nil
}

// Used records that a client got a token for a version of its secret.
func (r *Reporter) Used(issuer, clientID, version string, at time.Time) {
	r.ledger.Used(issuer, clientID, version, at)
}

// Ready tells why this server's uses can't be waited for yet; nil: they can.
func (r *Reporter) Ready() error {
	if !r.announced.Load() {
		return errors.New("the server has not announced itself yet")
	}
	return nil
}

// Run announces the server and reports until the context ends, and then what is
// left: no more secrets may be used from then on.
func (r *Reporter) Run(ctx context.Context) {
	r.announce(ctx)
	ticker := time.NewTicker(r.o.Tick)
	defer ticker.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-ticker.C:
			r.round(ctx)
		}
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
	defer cancel()
	r.leave(last)
}

// announce makes the Lease: before that nobody waits for what this server sees.
func (r *Reporter) announce(ctx context.Context) {
	for ctx.Err() == nil {
		err := r.renew(ctx)
		if err == nil {
			r.announced.Store(true)
			return
		}
		r.warn(ctx, "The server can't announce itself and is not ready", err)
		select {
		case <-ctx.Done():
		case <-time.After(announceEvery):
		}
	}
}

// round reports what may be reported, for no longer than half the time to the next
// round, so that the Lease is renewed in time.
func (r *Reporter) round(ctx context.Context) {
	r.flush(ctx, time.Now().Add(r.o.Tick/2))
	if err := r.renew(ctx); err != nil {
		r.warn(ctx, "The server's Lease could not be renewed", err)
	}
}

func (r *Reporter) renew(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	now := time.Now()
	until, _ := r.ledger.Covered(horizon(now, r.o.Heard(), r.started))
	err := r.presence.renew(ctx, now, until)
	if err == nil {
		r.covered.Set(float64(until.Unix()))
	}
	return err
}

// horizon is up to when this server knows which clients have replaced secrets: now,
// unless the watch of clients brings nothing any more.
func horizon(now, heard, started time.Time) time.Time {
	if heard.Before(started) {
		heard = started
	}
	if now.Sub(heard) > silence {
		return heard
	}
	return now
}

// leave takes the Lease away, or leaves it behind with what wasn't reported.
func (r *Reporter) leave(ctx context.Context) {
	deadline, _ := ctx.Deadline()
	r.flush(ctx, deadline.Add(-farewell/2))
	now := time.Now()
	known := horizon(now, r.o.Heard(), r.started)
	until, all := r.ledger.Covered(known)
	leave := func() error { return r.presence.stop(ctx, now, until) }
	if all && known.Equal(now) {
		leave = func() error { return r.presence.end(ctx) }
	}
	if err := leave(); err != nil {
		r.o.Log.Warn("The server's Lease is left as it was", "lease", r.presence.name, "reason", err.Error())
	}
}

// flush gives clients their turns until it must end.
func (r *Reporter) flush(ctx context.Context, end time.Time) {
	failed := 0
	var sample error
	for _, turn := range r.ledger.Due(time.Now(), r.o.Index.standing) {
		if ctx.Err() != nil || !time.Now().Before(end) {
			break
		}
		if err := r.report(ctx, turn); err != nil {
			failed, sample = failed+1, err
		}
	}
	if failed > 0 {
		r.failures.Add(float64(failed))
		r.warn(ctx, fmt.Sprintf("Uses of secrets of %d clients could not be reported yet", failed), sample)
	}
}

// report asks for a client as it is now, and writes its usage if that is due.
func (r *Reporter) report(ctx context.Context, turn usage.Turn) error {
	at, ok := r.o.Index.place(types.UID(turn.Ref))
	if !ok {
		return nil // it has just gone
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	c := &v1alpha1.M2MClient{}
	err := r.clients.Get().Namespace(at.Namespace).Resource("m2mclients").Name(at.Name).Do(ctx).Into(c)
	if apierrors.IsNotFound(err) {
		r.ledger.Forget(turn.Client)
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading %s/%s: %w", at.Namespace, at.Name, err)
	}
	if string(c.UID) != turn.Ref || c.Status.ClientID != turn.ID || !c.DeletionTimestamp.IsZero() {
		return nil // the index hears of it soon
	}
	uses := r.ledger.Decide(time.Now(), turn.Client, stateOf(c))
	if uses == nil {
		return nil
	}
	err = r.write(ctx, c, uses)
	switch {
	case apierrors.IsConflict(err), apierrors.IsNotFound(err):
		return nil // another was faster: it is looked at again
	case err != nil:
		return fmt.Errorf("writing the usage of %s/%s: %w", at.Namespace, at.Name, err)
	}
	r.writes.Inc()
	r.ledger.Wrote(time.Now(), turn.Client, uses)
	return nil
}

// stateOf is what matters of a client here.
func stateOf(c *v1alpha1.M2MClient) usage.State {
	s := usage.State{Paused: c.Annotations[v1alpha1.AnnotationPause] == "true"}
	for i := range c.Status.Credentials {
		version := &c.Status.Credentials[i]
		s.Valid = append(s.Valid, version.Version)
		s.Replacing = s.Replacing || version.Role == string(credential.RolePrevious)
	}
	if len(c.Spec.WorkloadIdentities) > 0 {
		s.Valid = append(s.Valid, string(token.ByServiceAccount))
	}
	if c.Spec.PublicKeys != nil {
		s.Valid = append(s.Valid, string(token.ByPrivateKey))
	}
	for _, u := range c.Status.Usage {
		s.Reported = append(s.Reported, usage.Use{Version: u.Version, At: u.LastUsedAt.Time})
	}
	for i := range c.ManagedFields {
		f := &c.ManagedFields[i]
		if f.Manager == FieldManager && f.Subresource == "status" && f.Time != nil && f.Time.After(s.Wrote) {
			s.Wrote = f.Time.Time // the API server's stamp, of whichever server wrote
		}
	}
	return s
}

// write applies a client's usage, fenced by the UID and resourceVersion that were
// read: of servers that decide at one time, one writes.
func (r *Reporter) write(ctx context.Context, c *v1alpha1.M2MClient, uses []usage.Use) error {
	if err := r.pace.Wait(ctx); err != nil {
		return err
	}
	status := ac.M2MClientStatus()
	for _, u := range uses {
		status.WithUsage(ac.VersionUsage().WithVersion(u.Version).WithLastUsedAt(metav1.NewTime(u.At)))
	}
	client := ac.M2MClient(c.Name, c.Namespace).WithUID(c.UID).WithResourceVersion(c.ResourceVersion).WithStatus(status)
	return apply(ctx, r.clients, "m2mclients", c.Namespace, c.Name, client, "status")
}

// apply is server-side apply of an object or of its subresource.
func apply(ctx context.Context, client rest.Interface, resource, namespace, name string, configuration any, subresource ...string) error {
	body, err := json.Marshal(configuration)
	if err != nil {
		return err
	}
	return client.Patch(types.ApplyPatchType).Namespace(namespace).Resource(resource).Name(name).SubResource(subresource...).
		Param("fieldManager", FieldManager).Param("force", "true").Body(body).Do(ctx).Error()
}

// warn says what failed, unless it failed because the server stops.
func (r *Reporter) warn(ctx context.Context, what string, err error) {
	if ctx.Err() == nil {
		r.o.Log.Warn(what, "reason", err.Error())
	}
}
