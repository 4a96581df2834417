package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"

	"github.com/m2m-operator/m2m-operator/internal/forwarded"
	"github.com/m2m-operator/m2m-operator/internal/limit"
	"github.com/m2m-operator/m2m-operator/internal/managementapi"
	"github.com/m2m-operator/m2m-operator/internal/peer"
	"github.com/m2m-operator/m2m-operator/internal/registry"
	"github.com/m2m-operator/m2m-operator/internal/token"
	"github.com/m2m-operator/m2m-operator/internal/tokenserver"
	"github.com/m2m-operator/m2m-operator/internal/tracing"
)

// serverOptions are the flags of the server role.
type serverOptions struct {
	listen
	traces     tracing.Options
	auditFile  string
	usageTick  time.Duration
	usageEvery time.Duration
	staleness  time.Duration
	review     time.Duration
	failures   string
	proxies    string
	management string
	authority  string
	// authoritySecret names a Secret in place of the file authority; fromSecret is what it holds.
	authoritySecret string
	fromSecret      *secretAuthorities
}

// shortestStaleness is what a whole watch may seem to be: bookmarks come about once a minute.
const shortestStaleness = 150 * time.Second

// longestTick is well below the hour after which the controller takes a server for
// lost that says nothing.
const longestTick = 10 * time.Minute

func newServerCommand(c *common) *cobra.Command {
	var o serverOptions
	cmd := &cobra.Command{
		Use:   "server",
		Short: "Exchange credentials for tokens and publish the keys that verify them",
		Long: `The server is the token endpoint of all issuers (OAuth 2.0 client credentials),
and publishes their keys (JWKS) and metadata. Every replica serves; none leads.

It answers from memory, which watches of the API server keep up to date. Each
token given or refused is one line of JSON in the audit log, never with a secret.

While a watch is broken it goes on with what it knows, and answers 503 to
credentials that it doesn't know; after --max-staleness it refuses everything.

A pod may authenticate with a projected token of its ServiceAccount, made for the
issuer's URL. It is checked with the cluster's keys, without asking anybody; with
--token-review the API server is asked too, and notices deleted pods.

It reports in the clients' statuses when each version of a secret was last used, so
that a replaced secret goes when nobody uses it. Its Lease says that it lives.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runServer(cmd.Context(), c, o) },
	}
	flags := cmd.Flags()
	o.addFlags(flags, "127.0.0.1:8080", "the token endpoint")
	addTracingFlags(flags, &o.traces)
	flags.StringVar(&o.auditFile, "audit-log", "-", "`file` that audit lines are appended to; - is the standard output")
	flags.DurationVar(&o.usageTick, "usage-tick", time.Minute, "how often uses of secrets are looked through, and this replica says that it is alive; at most 10m")
	flags.DurationVar(&o.usageEvery, "usage-interval", time.Hour, "least time between two writes of a client's usage while a replaced secret is valid; 24 times that otherwise")
	flags.DurationVar(&o.staleness, "max-staleness", time.Hour, "how long tokens are given after a watch of the API server has broken; at least 2m30s")
	flags.DurationVar(&o.review, "token-review", 0, "ask the API server about each ServiceAccount token (TokenReview), and use its answer for so long; 0 asks never. It needs the permission in config/token-review")
	flags.StringVar(&o.failures, "failure-limit", "20/1m", "how many authentications as one client may fail from one address in a `time`, and ten times as many from the address as whoever, before 429 answers another; off: no limit")
	flags.StringVar(&o.proxies, "trusted-proxies", "", "`networks` (CIDR), separated by commas, of the proxies whose X-Forwarded-For says where requests come from, for limits and the audit log")
	flags.StringVar(&o.management, "management-api-url", "", "`URL` of the management API, which calls below /v1/m2m/ are forwarded to; https, or http on loopback. Empty: there is none")
	flags.StringVar(&o.authority, "management-api-ca-file", "", "`file` with the certificates in PEM that the management API's is checked with, read for each connection; empty: the system's")
	flags.StringVar(&o.authoritySecret, "management-api-ca-secret", "", "`name` of a Secret in the operator's namespace, in place of the file, with these certificates as ca.crt")
	return cmd
}

func (o serverOptions) check() error {
	switch {
	case o.staleness < shortestStaleness:
		return fmt.Errorf("--max-staleness must be at least %s", shortestStaleness)
	case o.review < 0:
		return errors.New("--token-review must not be negative")
	case o.usageTick <= 0 || o.usageTick > longestTick:
		return fmt.Errorf("--usage-tick must be more than zero and at most %s", longestTick)
	case o.usageEvery <= 0:
		return errors.New("--usage-interval must be more than zero")
	}
	_, _, err := o.limits()
	_, targetErr := parseManagementURL(o.management)
	if o.authority != "" {
		_, authorityErr := readAuthorities(o.authority)
		targetErr = errors.Join(targetErr, authorityErr)
	}
	if o.authority != "" && o.authoritySecret != "" {
		targetErr = errors.Join(targetErr, errors.New("--management-api-ca-file and --management-api-ca-secret exclude each other"))
	}
	return errors.Join(o.listen.check(), err, targetErr)
}

func runServer(ctx context.Context, c *common, o serverOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	config, err := c.restConfig()
	if err != nil {
		return err
	}
	config.UserAgent = "m2m-operator-server/" + version
	tracer, err := startTracing("server", o.traces)
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
	tokenserver.TuneGC()
	index := registry.NewIndex(slog.Default())
	watches, err := registry.NewWatches(config, c.namespace, c.namespaces, index)
	if err != nil {
		return err
	}
	cluster, err := registry.NewCluster(config, slog.Default())
	if err != nil {
		return err
	}
	secrets := func(name string, changed func(*corev1.Secret)) error {
		return watches.AddSecret(config, c.namespace, name, changed)
	}
	if err := errors.Join(o.follow(secrets), o.followAPI(secrets)); err != nil {
		return err
	}
	directory := registry.NewDirectory(index, watches, cluster, o.staleness)
	metrics := newMetrics(index, watches)
	reporter, err := registry.NewReporter(config, registry.ReporterOptions{
		Namespace: c.namespace,
		Index:     index,
		Heard:     watches.Heard,
		Tick:      o.usageTick,
		Interval:  o.usageEvery,
		Metrics:   metrics,
		Log:       slog.Default(),
	})
	if err != nil {
		return err
	}
	public, err := newHandler(config, o, directory, reporter, audit, metrics, tracer)
	if err != nil {
		return err
	}
	ready := func() error { return errors.Join(directory.Ready(), reporter.Ready(), o.ready()) }
	metrics.MustRegister(newReadiness(ready), &servedCertificate)
	// What requests use until they end is reported too.
	stop := inBackground(context.WithoutCancel(ctx), reporter.Run)
	defer stop()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { watches.Run(ctx); return nil })
	group.Go(func() error { cluster.Run(ctx); return nil })
	group.Go(func() error {
		return o.serveAll(ctx, public, tokenserver.NewOps(metrics, ready, directory.State), directory.Pepper)
	})
	return group.Wait()
}

func newHandler(config *rest.Config, o serverOptions, directory *registry.Directory, reporter *registry.Reporter, audit io.Writer, metrics *prometheus.Registry, tracer *tracing.Tracer) (*tokenserver.Handler, error) {
	revoker, err := registry.NewRevoker(config, directory.Index)
	if err != nil {
		return nil, err
	}
	options := tokenserver.Config{
		Issuers:     directory,
		Authority:   token.NewAuthority(directory, rand.Reader),
		Usage:       reporter,
		Revocations: revoker,
		Audit:       audit,
		LogID:       func(id string) string { return directory.Pepper().LogID(id) },
		Tracer:      tracedTokens(tracer),
		Metrics:     metrics,
		Log:         slog.Default(),
		Now:         time.Now,
		Random:      rand.Reader,
	}
	if o.review > 0 {
		if options.Reviewer, err = registry.NewReviewer(config, o.review); err != nil {
			return nil, err
		}
	}
	rate, proxies, err := o.limits()
	if err != nil {
		return nil, err
	}
	if !rate.IsZero() {
		options.Failures = limit.NewFailures(rate, rate.Times(addressFailures))
	}
	if len(proxies) > 0 {
		options.Peer = proxies.Address
	}
	if o.management != "" {
		if options.Management, err = newForwarder(o.management, o.authorities(), proxies, directory, tracer); err != nil {
			return nil, err
		}
	}
	return tokenserver.NewHandler(options)
}

// addressFailures is how many times as often as one client of an address the address
// itself may fail.
const addressFailures = 10

// limits reads what failed authentications are limited by.
func (o serverOptions) limits() (limit.Rate, peer.Proxies, error) {
	rate, err := failureLimit(o.failures)
	if err != nil {
		return limit.Rate{}, nil, err
	}
	proxies, err := peer.ParseProxies(o.proxies)
	if err != nil {
		return limit.Rate{}, nil, fmt.Errorf("--trusted-proxies: %w", err)
	}
	return rate, proxies, nil
}

// failureLimit reads how many authentications may fail.
func failureLimit(text string) (limit.Rate, error) {
	rate, err := limit.ParseRate(text)
	if err != nil {
		return limit.Rate{}, fmt.Errorf("--failure-limit: %w", err)
	}
	return rate, nil
}

// newForwarder forwards to the management API.
func newForwarder(address string, authorities func() (*x509.CertPool, error), proxies peer.Proxies, directory *registry.Directory, tracer *tracing.Tracer) (http.Handler, error) {
	target, err := parseManagementURL(address)
	if err != nil {
		return nil, err
	}
	seal := func(parts ...string) (string, bool) {
		pepper := directory.Pepper()
		if pepper == nil {
			return "", false
		}
		return pepper.SealPeer(parts...), true
	}
	forwarder, err := tokenserver.NewForwarder(tokenserver.ForwarderConfig{
		Target:        target,
		Transport:     tracer.Transport(newManagementTransport(authorities), managementCall),
		Mark:          func(r *http.Request, address string) bool { return forwarded.Mark(r, address, time.Now(), seal) },
		Peer:          proxies.Address,
		VersionHeader: managementapi.VersionHeader,
		Await:         directory.Await,
		Log:           slog.Default(),
		Random:        rand.Reader,
	})
	if err != nil {
		return nil, err
	}
	return tracer.Handler("management forward", forwarder), nil
}

// parseManagementURL refuses what would send project secrets over a network in the clear.
func parseManagementURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, errors.New("--management-api-url is not a URL")
	}
	address, _ := netip.ParseAddr(u.Hostname())
	if text != "" && u.Scheme != "https" && u.Scheme != "http" {
		return nil, errors.New("--management-api-url must be a URL, such as https://m2m-api.m2m-system.svc:8443")
	}
	if u.Scheme == "http" && u.Hostname() != "localhost" && !address.IsLoopback() {
		return nil, errors.New("--management-api-url must be https, because project secrets pass there: http is for loopback")
	}
	return u, nil
}

// newManagementTransport connects to the management API, whose certificate may be
// renewed together with what it is checked with.
func newManagementTransport(authorities func() (*x509.CertPool, error)) *http.Transport {
	plain := &net.Dialer{Timeout: 5 * time.Second}
	transport := &http.Transport{
		DialContext:         plain.DialContext,
		DisableCompression:  true, // answers pass as they are
		MaxIdleConnsPerHost: 16,
		IdleConnTimeout:     time.Minute, // shorter than the other side's
		TLSHandshakeTimeout: 5 * time.Second,
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12},
	}
	if authorities == nil {
		return transport
	}
	transport.DialTLSContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		pool, err := authorities()
		if err != nil {
			return nil, err
		}
		dialer := tls.Dialer{NetDialer: plain, Config: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}}
		return dialer.DialContext(ctx, network, address)
	}
	return transport
}

// followAPI takes what the management API is checked with from a Secret, if it comes from one.
func (o *serverOptions) followAPI(secrets follow) error {
	if o.authoritySecret == "" {
		return nil
	}
	o.fromSecret = &secretAuthorities{name: o.authoritySecret}
	return secrets(o.authoritySecret, o.fromSecret.set)
}

// authorities are what the management API is checked with; nil: the system's.
func (o *serverOptions) authorities() func() (*x509.CertPool, error) {
	switch {
	case o.fromSecret != nil:
		return o.fromSecret.get
	case o.authority != "":
		return func() (*x509.CertPool, error) { return readAuthorities(o.authority) }
	}
	return nil
}

func readAuthorities(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("--management-api-ca-file: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("--management-api-ca-file: there is no certificate in %s", file)
	}
	return pool, nil
}

// inBackground runs something until stop is called, which waits for its end.
func inBackground(ctx context.Context, run func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { run(ctx) })
	return func() {
		cancel()
		running.Wait()
	}
}

func newMetrics(index *registry.Index, watches *registry.Watches) *prometheus.Registry {
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(
		newBuildInfo(),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "m2m_clients",
			Help: "Clients that can authenticate or are inactive.",
		}, func() float64 { return float64(index.Clients()) }),
		watches,
	)
	return metrics
}

// openAudit opens the audit log for appending.
func openAudit(name string) (io.WriteCloser, error) {
	if name == "-" {
		return os.Stdout, nil
	}
	f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("--audit-log: %w", err)
	}
	return f, nil
}
