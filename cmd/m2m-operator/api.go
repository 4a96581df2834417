package main

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"

	"github.com/m2m-operator/m2m-operator/internal/admin"
	"github.com/m2m-operator/m2m-operator/internal/credential"
	"github.com/m2m-operator/m2m-operator/internal/limit"
	"github.com/m2m-operator/m2m-operator/internal/managementapi"
	"github.com/m2m-operator/m2m-operator/internal/registry"
	"github.com/m2m-operator/m2m-operator/internal/tokenserver"
	"github.com/m2m-operator/m2m-operator/internal/tracing"
)

// apiOptions are the flags of the api role.
type apiOptions struct {
	listen
	traces      tracing.Options
	auditFile   string
	propagation time.Duration
	// acceptIssuerURL is the way over from tokens that were made for the issuer's URL.
	acceptIssuerURL bool
	patience        time.Duration
	failures        string
}

func newAPICommand(c *common) *cobra.Command {
	var o apiOptions
	cmd := &cobra.Command{
		Use:   "api",
		Short: "Serve the management API: create, find, change and delete clients over HTTP",
		Long: `The management API is Stytch's M2M API over the M2MClients of the cluster, for
programs that were written for it. Servers with --management-api-url pass its calls
on to this role, so that one URL serves all. Every replica serves; none leads.

Callers authenticate with a project id and a project secret (kubectl m2m
project-secret create), or with a Kubernetes token made for the issuer's URL. With a
project secret they may do as they like with the clients that the API makes, in the
namespace that spec.managementAPI of the ClusterM2MIssuer names; beyond that RBAC
decides for both.

Each call is one line of JSON in the audit log, never with a secret.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runAPI(cmd.Context(), c, o) },
	}
	flags := cmd.Flags()
	o.addFlags(flags, "127.0.0.1:8082", "the management API")
	addTracingFlags(flags, &o.traces)
	flags.StringVar(&o.auditFile, "audit-log", "-", "`file` that audit lines are appended to; - is the standard output")
	flags.BoolVar(&o.acceptIssuerURL, "accept-issuer-url-audience", false, "also take Kubernetes tokens that were made for the issuer's URL alone, as earlier versions did: pods hold such tokens for the token endpoint. Make yours for the URL and "+admin.AudiencePath+", then leave this out")
	flags.DurationVar(&o.propagation, "propagation-delay", 200*time.Millisecond, "how long a call that changes something waits after the change holds here, for the servers that it doesn't go through: more than the time of a watch event")
	flags.DurationVar(&o.patience, "patience", 10*time.Second, "how long a call waits for the controller before it answers 503")
	flags.StringVar(&o.failures, "failure-limit", "20/1m", "how many authentications as one project may fail from one address in a `time`, and ten times as many from the address as whoever, before 429 answers another; off: no limit")
	return cmd
}

func (o apiOptions) check() error {
	switch {
	case o.propagation < 0 || o.patience <= 0:
		return errors.New("--propagation-delay must not be negative, and --patience must be more than zero")
	default:
		_, err := failureLimit(o.failures)
		return errors.Join(err, o.listen.check())
	}
}

func runAPI(ctx context.Context, c *common, o apiOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	config, err := c.restConfig()
	if err != nil {
		return err
	}
	config.UserAgent = "m2m-operator-api/" + version
	tracer, err := startTracing("api", o.traces)
	if err != nil {
		return err
	}
	defer tracer.Stop()
	config.Wrap(tracer.Kubernetes)
	audit, err := openAudit(o.auditFile)
	if err != nil {
		return err
	}
	defer func() { _ = audit.Close() }()
	cluster := admin.NewCluster(slog.Default())
	watches, err := registry.NewManagementWatches(config, c.namespace, c.namespaces, cluster.Receivers())
	if err != nil {
		return err
	}
	err = o.follow(func(name string, changed func(*corev1.Secret)) error {
		return watches.AddSecret(config, c.namespace, name, changed)
	})
	if err != nil {
		return err
	}
	directory := registry.NewDirectory(nil, watches, nil, apiStaleness)
	ready := func() error { return errors.Join(directory.Ready(), o.ready()) }
	accounts, err := registry.NewCluster(config, slog.Default())
	if err != nil {
		return err
	}
	service, err := admin.NewService(config, admin.Options{
		Cluster:         cluster,
		Ready:           directory.Ready,
		Propagation:     o.propagation,
		Patience:        o.patience,
		ClusterKeys:     accounts.ServiceAccountKeys,
		AcceptIssuerURL: o.acceptIssuerURL,
		Now:             time.Now,
		Rand:            rand.Reader,
	})
	if err != nil {
		return err
	}
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), watches,
		newBuildInfo(), newReadiness(ready), &servedCertificate)
	handler, err := newManagementHandler(o, cluster.Pepper, service, audit, metrics, tracer)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { watches.Run(ctx); return nil })
	group.Go(func() error { accounts.Run(ctx); return nil })
	group.Go(func() error {
		return o.serveAll(ctx, handler, tokenserver.NewOps(metrics, ready, directory.State), cluster.Pepper)
	})
	return group.Wait()
}

// apiStaleness is how long what the watches brought is shown after one has broken. Who
// manages clients would rather know.
const apiStaleness = 5 * time.Minute

func newManagementHandler(o apiOptions, pepper func() *credential.Pepper, service *admin.Service, audit io.Writer, metrics *prometheus.Registry, tracer *tracing.Tracer) (http.Handler, error) {
	options := managementapi.Config{
		Authenticator: service,
		Clients:       service,
		Audit:         audit,
		LogID:         func(id string) string { return pepper().LogID(id) },
		Metrics:       metrics,
		Log:           slog.Default(),
		Now:           time.Now,
		Random:        rand.Reader,
		Peer:          service.Peer,
		Tracer:        tracedCalls(tracer, service.PassedOn),
	}
	rate, err := failureLimit(o.failures)
	if err != nil {
		return nil, err
	}
	if !rate.IsZero() {
		options.Failures = limit.NewFailures(rate, rate.Times(addressFailures))
	}
	return managementapi.NewHandler(options)
}
