// Orders is a service that callers need a token for: an example of the package verify.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/m2m-operator/m2m-operator/verify"
)

const usage = `Orders serves GET /orders to callers whose token has the scope read:orders, and
GET /healthz to everybody. It verifies tokens locally, with the issuer's public keys.

  orders -issuer https://auth.example.com -audience project-live-1

Flags:
`

// options are the flags.
type options struct {
	addr       string
	issuer     string
	jwksURL    string
	audience   string
	profile    string
	algorithms string
}

func parseFlags(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("orders", flag.ContinueOnError)
	flags.StringVar(&o.addr, "addr", "127.0.0.1:8081", "`address` to listen on; with port 0 a free one, which the log says")
	flags.StringVar(&o.issuer, "issuer", "", "the `iss` claim of the tokens to accept (required)")
	flags.StringVar(&o.jwksURL, "jwks-url", "", "`URL` of the issuer's keys; unless given, the metadata at the issuer names it")
	flags.StringVar(&o.audience, "audience", "", "the `aud` that tokens must have: this service, or the issuer's project id (required)")
	flags.StringVar(&o.profile, "profile", string(verify.Stytch), "token `profile` of the issuer: Stytch or RFC9068")
	flags.StringVar(&o.algorithms, "algorithms", string(verify.ES256), "signature `algorithms` to accept, with commas between them")
	flags.Usage = func() {
		_, _ = fmt.Fprint(flags.Output(), usage)
		flags.PrintDefaults()
	}
	return o, flags.Parse(args)
}

func main() {
	if err := run(os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		slog.Error("orders ends", "error", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	o, err := parseFlags(args)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	verifier, err := newVerifier(o)
	if err != nil {
		return err
	}
	defer verifier.Close()
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", o.addr)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: newHandler(verifier), ReadHeaderTimeout: 5 * time.Second}
	defer context.AfterFunc(ctx, func() {
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_ = server.Shutdown(grace)
	})()
	slog.Info("orders listens", "addr", listener.Addr().String())
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func newVerifier(o options) (*verify.Verifier, error) {
	var algorithms []verify.Algorithm
	for a := range strings.SplitSeq(o.algorithms, ",") {
		algorithms = append(algorithms, verify.Algorithm(a))
	}
	opts := []verify.Option{verify.WithAlgorithms(algorithms...), verify.WithProfiles(verify.Profile(o.profile))}
	if o.jwksURL != "" {
		opts = append(opts, verify.WithJWKSURL(o.jwksURL))
	}
	return verify.New(o.issuer, o.audience, opts...)
}

func newHandler(verifier *verify.Verifier) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /orders", verifier.Middleware(verify.RequiredScopes("read:orders"))(http.HandlerFunc(listOrders)))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	return mux
}

func listOrders(w http.ResponseWriter, r *http.Request) {
	claims, _ := verify.FromContext(r.Context()) // the middleware let nobody else in
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"orders": []string{"order-1", "order-2"}, "caller": claims.ClientID})
}
