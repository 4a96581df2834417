package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"
	"sigs.k8s.io/controller-runtime/pkg/certwatcher"

	"github.com/m2m-operator/m2m-operator/internal/credential"
	"github.com/m2m-operator/m2m-operator/internal/tokenserver"
)

// listen are the flags of the roles that serve HTTP.
type listen struct {
	address     string
	opsAddress  string
	certFile    string
	keyFile     string
	secret      string // in the operator's namespace
	gracePeriod time.Duration

	certificate *secretCertificate // of secret
}

func (o *listen) addFlags(flags *pflag.FlagSet, address, what string) {
	flags.StringVar(&o.address, "bind-address", address, "`address` of "+what)
	flags.StringVar(&o.opsAddress, "ops-bind-address", "", "`address` of /healthz, /readyz and /metrics; empty serves them beside "+what)
	flags.StringVar(&o.certFile, "tls-cert-file", "", "`file` with the serving certificate in PEM, read again when it changes; without it, and --tls-secret, plain HTTP is spoken, on loopback only")
	flags.StringVar(&o.keyFile, "tls-key-file", "", "`file` with the serving certificate's key in PEM")
	flags.StringVar(&o.secret, "tls-secret", "", "`name` of a Secret of type kubernetes.io/tls in the operator's namespace, in place of files: what it holds is served as soon as it changes")
	flags.DurationVar(&o.gracePeriod, "shutdown-grace-period", 20*time.Second, "how long requests may take to end when the process is stopped")
}

func (o listen) check() error {
	switch {
	case (o.certFile == "") != (o.keyFile == ""):
		return errors.New("--tls-cert-file and --tls-key-file go together")
	case o.certFile != "" && o.secret != "":
		return errors.New("--tls-secret and --tls-cert-file exclude each other")
	case o.certFile == "" && o.secret == "" && !isLoopback(o.address):
		return fmt.Errorf("--bind-address %s can be reached from elsewhere, and plain HTTP would show secrets: name a certificate by --tls-secret or --tls-cert-file, or bind to loopback, such as 127.0.0.1:8080", o.address)
	}
	return nil
}

// follow takes the serving certificate from its Secret, if it comes from one.
func (o *listen) follow(secrets follow) error {
	if o.secret == "" {
		return nil
	}
	o.certificate = &secretCertificate{name: o.secret}
	return secrets(o.secret, o.certificate.set)
}

// ready tells why nobody can be served yet.
func (o listen) ready() error {
	if o.certificate == nil {
		return nil
	}
	return o.certificate.ready()
}

// serveAll serves on one address or on two, until the context ends.
func (o listen) serveAll(ctx context.Context, public, ops http.Handler, pepper func() *credential.Pepper) error {
	tlsConfig, err := o.certificates(ctx, pepper)
	if err != nil {
		return err
	}
	servedCertificate.of(tlsConfig)
	group, ctx := errgroup.WithContext(ctx)
	if o.opsAddress == "" {
		public = tokenserver.WithOps(public, ops)
	} else {
		group.Go(func() error { return serve(ctx, "ops", o.opsAddress, ops, nil, o.gracePeriod) })
	}
	group.Go(func() error { return serve(ctx, "public", o.address, public, tlsConfig, o.gracePeriod) })
	return group.Wait()
}

// certificates watches the serving certificate; nil: plain HTTP.
func (o listen) certificates(ctx context.Context, pepper func() *credential.Pepper) (*tls.Config, error) {
	switch {
	case o.certificate != nil:
		return newTLSConfig(o.certificate.get, pepper), nil
	case o.certFile == "":
		return nil, nil
	}
	watcher, err := certwatcher.New(o.certFile, o.keyFile)
	if err != nil {
		return nil, fmt.Errorf("reading the serving certificate: %w", err)
	}
	go func() {
		if err := watcher.Start(ctx); err != nil {
			slog.Error("The serving certificate is no longer watched", "reason", err.Error())
		}
	}()
	return newTLSConfig(watcher.GetCertificate, pepper), nil
}

// serve serves until the context ends, and lets what has begun end.
func serve(ctx context.Context, name, address string, handler http.Handler, tlsConfig *tls.Config, grace time.Duration) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("listening for %s requests: %w", name, err)
	}
	server := tokenserver.NewServer(handler, slog.Default())
	server.TLSConfig = tlsConfig
	stopped := make(chan error, 1)
	go func() {
		<-ctx.Done()
		// The requests that it waits for outlive the context that ended.
		wait, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
		defer cancel()
		stopped <- server.Shutdown(wait)
	}()
	slog.Info("Serving", "name", name, "address", listener.Addr().String(), "tls", tlsConfig != nil)
	if tlsConfig != nil {
		err = server.ServeTLS(listener, "", "")
	} else {
		err = server.Serve(listener)
	}
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving %s requests: %w", name, err)
	}
	return <-stopped
}
