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

	"github.com/m2m-operator/m2m-operator/internal/tokenserver"
)

// listen are the flags of the roles that serve HTTP.
type listen struct {
	address     string
	opsAddress  string
	certFile    string
	keyFile     string
	gracePeriod time.Duration
}

func (o *listen) addFlags(flags *pflag.FlagSet, address, what string) {
	flags.StringVar(&o.address, "bind-address", address, "`address` of "+what)
	flags.StringVar(&o.opsAddress, "ops-bind-address", "", "`address` of /healthz, /readyz and /metrics; empty serves them beside "+what)
	flags.StringVar(&o.certFile, "tls-cert-file", "", "`file` with the serving certificate in PEM, read again when it changes; without it plain HTTP is spoken, for loopback or behind a proxy that ends TLS")
	flags.StringVar(&o.keyFile, "tls-key-file", "", "`file` with the serving certificate's key in PEM")
	flags.DurationVar(&o.gracePeriod, "shutdown-grace-period", 20*time.Second, "how long requests may take to end when the process is stopped")
}

func (o listen) check() error {
	if (o.certFile == "") != (o.keyFile == "") {
		return errors.New("--tls-cert-file and --tls-key-file go together")
	}
	return nil
}

// serveAll serves on one address or on two, until the context ends.
func (o listen) serveAll(ctx context.Context, public, ops http.Handler) error {
	tlsConfig, err := o.certificates(ctx)
	if err != nil {
		return err
	}
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
func (o listen) certificates(ctx context.Context) (*tls.Config, error) {
	if o.certFile == "" {
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
	return &tls.Config{GetCertificate: watcher.GetCertificate, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}, nil
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
