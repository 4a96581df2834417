package controllers

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/tracing"
)

// Options are what an operator chooses when the controller is started.
type Options struct {
	Namespace string   // of the operator
	Within    []string // the namespaces whose clients it looks after; none means all
	Default   DefaultIssuer
	Workers   int
	// Propagation is how long a new secret is valid before it is visible: token servers
	// must have heard of it.
	Propagation time.Duration
	// RotationRate is how many rotations begin in a second that only intervals ask for.
	// RestartSpacing is the least time between two restarts of a workload.
	RestartSpacing time.Duration
	RotationRate   float64
	// OwnCertificates says that the controller makes the serving certificates of the
	// operator, for these DNS names by the names of their Secrets.
	OwnCertificates bool
	ServingNames    map[string][]string
	LeaderElection  bool
	OpsAddress      string           // of /healthz, /readyz and /metrics; "0": none
	Now             func() time.Time // nil: the system's clock
	// Adjust may change the manager's options; fault tests put their client in.
	Adjust func(*ctrl.Options)
	Tracer *tracing.Tracer // nil: nothing is followed
}

// keyLead is how far ahead the date of a key rotation on demand lies, in propagation
// delays: a minute for two seconds.
const keyLead = 30

// base is what the reconcilers and the installation all work with.
type base struct {
	Client client.Client // reads from the cache
	Live   client.Reader // reads from the API server
	Events events.EventRecorder
	Now    func() time.Time
	// Elapsed is a clock that nobody can set.
	Elapsed func() time.Duration
	Rand    io.Reader
	Tracer  *tracing.Tracer
}

// Leader election.
// +kubebuilder:rbac:groups=coordination.k8s.io,namespace=m2m-system,resources=leases,verbs=create
// +kubebuilder:rbac:groups=coordination.k8s.io,namespace=m2m-system,resources=leases,resourceNames=m2m-operator-controller,verbs=update
// +kubebuilder:rbac:groups="",namespace=m2m-system,resources=events,verbs=create;patch

// NewManager builds the controller role, ready to start.
func NewManager(ctx context.Context, config *rest.Config, o Options) (ctrl.Manager, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	config = rest.CopyConfig(config)
	config.QPS = -1 // the API server's priority and fairness is the limit
	readOwnWrites := true
	options := ctrl.Options{
		Scheme: scheme,
		Cache:  CacheOptions(o.Namespace, o.Within),
		// A reconciliation that follows a write sees it, so none acts on the state before.
		Client:                        client.Options{Cache: &client.CacheOptions{EnableReadYourWritesConsistency: &readOwnWrites}},
		LeaderElection:                o.LeaderElection,
		LeaderElectionID:              "m2m-operator-controller",
		LeaderElectionNamespace:       o.Namespace,
		LeaderElectionReleaseOnCancel: true,
		Metrics:                       metricsserver.Options{BindAddress: o.OpsAddress},
		HealthProbeBindAddress:        "0",
	}
	if o.Adjust != nil {
		o.Adjust(&options)
	}
	mgr, err := ctrl.NewManager(config, options)
	if err != nil {
		return nil, err
	}
	newClient := options.NewClient
	if newClient == nil {
		newClient = client.New
	}
	direct, err := newClient(config, client.Options{Scheme: scheme, HTTPClient: mgr.GetHTTPClient()})
	if err != nil {
		return nil, err
	}
	return mgr, setup(ctx, mgr, direct, o)
}

func setup(ctx context.Context, mgr ctrl.Manager, direct client.Client, o Options) error {
	with := base{
		Client: mgr.GetClient(),
		Live:   mgr.GetAPIReader(),
		Events: newMeasuredRecorder(mgr.GetEventRecorder("m2m-operator")),
		Now:    time.Now,
		Rand:   rand.Reader,
		Tracer: o.Tracer,
	}
	started := time.Now()
	with.Elapsed = func() time.Duration { return time.Since(started) }
	if o.Now != nil {
		with.Now = o.Now
	}
	installation := &Installation{base: with, Namespace: o.Namespace, Within: o.Within, Default: o.Default, Propagation: o.Propagation}
	issuers := &IssuerReconciler{base: with, Installation: installation, Lead: keyLead * o.Propagation}
	clients := &ClientReconciler{base: with, Installation: installation, Direct: direct, Propagation: o.Propagation, RestartSpacing: o.RestartSpacing, turns: newTurns(o.RotationRate)}
	changed := make(chan event.GenericEvent)
	certificates := &CertificateReconciler{base: with, Installation: installation, Own: o.OwnCertificates, Names: o.ServingNames, Changed: changed}
	clients.Authorities = changed
	shown.clients.Store(&clients.known)
	shown.issuers.Store(&issuers.known)
	for _, step := range []func() error{
		func() error { return SetupIndexes(ctx, mgr.GetFieldIndexer()) },
		func() error { return mgr.Add(installation) },
		func() error { return certificates.SetupWithManager(mgr) },
		func() error { return issuers.SetupWithManager(mgr) },
		func() error { return clients.SetupWithManager(mgr, o.Workers) },
		func() error { return serveCheck(mgr, "/healthz", healthz.Ping) },
		func() error { return serveCheck(mgr, "/readyz", cachesSynced(mgr)) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// serveCheck serves a probe beside the metrics.
func serveCheck(mgr ctrl.Manager, path string, check healthz.Checker) error {
	return mgr.AddMetricsServerExtraHandler(path, healthz.CheckHandler{Checker: check})
}

// cachesSynced makes a replica ready when it could take over at once.
func cachesSynced(mgr ctrl.Manager) healthz.Checker {
	kinds := []client.Object{&v1alpha1.M2MClient{}, &v1alpha1.ClusterM2MIssuer{}, &corev1.Secret{}}
	return func(r *http.Request) error {
		for _, kind := range kinds {
			informer, err := mgr.GetCache().GetInformer(r.Context(), kind, cache.BlockUntilSynced(false))
			if err != nil {
				return err
			}
			if !informer.HasSynced() {
				return fmt.Errorf("the watch of %T has not synced yet", kind)
			}
		}
		return nil
	}
}
