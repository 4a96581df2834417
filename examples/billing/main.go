// Billing calls the service orders with a token: an example of a client, whose credential
// is the Secret of an M2MClient, mounted as files.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

const usage = `Billing asks for a token with the credential in a directory, calls a service with it,
and prints what the service answers: once, or again and again with -every.

  billing -credential-dir /var/run/m2m -target http://orders:8081/orders

Flags:
`

// options are the flags.
type options struct {
	credentialDir string
	target        string
	scopes        string
	every         time.Duration
}

func parseFlags(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("billing", flag.ContinueOnError)
	flags.StringVar(&o.credentialDir, "credential-dir", "/var/run/m2m", "`directory` with the files client_id, client_secret and token_url")
	flags.StringVar(&o.target, "target", "http://127.0.0.1:8081/orders", "`URL` to call")
	flags.StringVar(&o.scopes, "scopes", "", "`scopes` to ask for, with spaces between them; empty asks for all that the client holds")
	flags.DurationVar(&o.every, "every", 0, "call again and again, so long after each other; 0 calls once")
	flags.Usage = func() {
		_, _ = fmt.Fprint(flags.Output(), usage)
		flags.PrintDefaults()
	}
	return o, flags.Parse(args)
}

// credential makes tokens. It reads the files for each one, so that a rotated secret is
// used as soon as it is there, without a restart.
type credential struct {
	ctx    context.Context
	dir    string
	scopes []string
}

func (c credential) Token() (*oauth2.Token, error) {
	var errs error
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(c.dir, name))
		errs = errors.Join(errs, err)
		return string(text)
	}
	config := clientcredentials.Config{
		ClientID:     read("client_id"),
		ClientSecret: read("client_secret"),
		TokenURL:     read("token_url"),
		Scopes:       c.scopes,
		AuthStyle:    oauth2.AuthStyleInHeader,
	}
	if errs != nil {
		return nil, fmt.Errorf("reading the credential: %w", errs)
	}
	web, err := c.web()
	if err != nil {
		return nil, err
	}
	return config.Token(context.WithValue(c.ctx, oauth2.HTTPClient, web))
}

// web trusts what the Secret has as ca.crt, which the operator replaces before it is needed;
// without one, the token endpoint has a certificate that the system knows.
func (c credential) web() (*http.Client, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DisableKeepAlives = true // it is called once in an hour
	pem, err := os.ReadFile(filepath.Join(c.dir, "ca.crt"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("reading the credential: %w", err)
	default:
		transport.TLSClientConfig = &tls.Config{RootCAs: x509.NewCertPool()}
		if !transport.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem) {
			return nil, errors.New("reading the credential: there is no certificate in ca.crt")
		}
	}
	return &http.Client{Timeout: 10 * time.Second, Transport: transport}, nil
}

func main() {
	if err := run(os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		slog.Error("billing ends", "error", err)
		os.Exit(1)
	}
}

// early is how long before its end a token is replaced, so that none expires on its way.
const early = time.Minute

func run(args []string) error {
	o, err := parseFlags(args)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	tokens := oauth2.ReuseTokenSourceWithExpiry(nil, credential{ctx, o.credentialDir, strings.Fields(o.scopes)}, early)
	client := oauth2.NewClient(ctx, tokens)
	client.Timeout = 10 * time.Second
	if o.every <= 0 {
		return call(ctx, client, o.target)
	}
	ticker := time.NewTicker(o.every)
	defer ticker.Stop()
	for {
		if err := call(ctx, client, o.target); err != nil && ctx.Err() == nil {
			slog.Warn("The call failed.", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

func call(ctx context.Context, client *http.Client, target string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %d: %s", target, response.StatusCode, response.Header.Get("WWW-Authenticate"))
	}
	fmt.Print(string(body))
	return nil
}
