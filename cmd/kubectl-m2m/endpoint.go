package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
)

// endpoint is how a server is reached that isn't the API server.
type endpoint struct {
	base    string // scheme, host and port in place of those that the cluster names
	caFile  string
	ca      []byte // in place of the file, in PEM; nil: there is none
	extra   bool   // ca is trusted beside the system's, not in place of them
	timeout time.Duration
}

func (e *endpoint) addFlags(cmd *cobra.Command, base string) {
	flags := cmd.Flags()
	flags.StringVar(&e.base, "url", "", base)
	flags.StringVar(&e.caFile, "ca-file", "", "a file of the CAs (PEM) that may vouch for the server, in place of the operator's own, where the cluster has them, or the system's")
	flags.DurationVar(&e.timeout, "timeout", 30*time.Second, "how long a request may take")
}

// answered is what a server answers.
type answered struct {
	status int
	header http.Header
	body   []byte
}

// send sends a request, whose secrets go to nobody but the server that it names: no
// redirect is followed. host is whose certificate the server must have where the request
// goes through a port-forward; "": that of the URL.
func (e *endpoint) send(request *http.Request, host string, most int64) (*answered, error) {
	transport, err := e.transport(request.URL, host)
	if err != nil {
		return nil, err
	}
	defer transport.CloseIdleConnections()
	sender := &http.Client{
		Transport:     transport,
		Timeout:       e.timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	request.Header.Set("User-Agent", "kubectl-m2m/"+version)
	request.Header.Set("Accept", "application/json")
	response, err := sender.Do(request)
	if err != nil {
		return nil, unreachable(request.URL, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, most+1))
	switch {
	case err != nil:
		return nil, unreachable(request.URL, err)
	case int64(len(body)) > most:
		return nil, fmt.Errorf("%s answered with more than %d bytes: it is not what it should be", place(request.URL), most)
	case response.StatusCode >= 300 && response.StatusCode < 400:
		return nil, fmt.Errorf("%s answered %d with a redirect, which is not followed, as secrets go to the named server alone: check the URL", place(request.URL), response.StatusCode)
	}
	return &answered{response.StatusCode, response.Header, body}, nil
}

func (e *endpoint) transport(to *url.URL, host string) (*http.Transport, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	if host != "" && isLoopback(to.Hostname()) {
		transport.TLSClientConfig.ServerName = host
	}
	pem, from, extra := e.ca, "the cluster's ca.crt", e.extra
	if e.caFile != "" {
		var err error
		if pem, err = readFile(e.caFile, 1<<20); err != nil {
			return nil, fmt.Errorf("--ca-file: %w", err)
		}
		from, extra = "--ca-file "+e.caFile, false
	}
	if pem == nil {
		return transport, nil
	}
	transport.TLSClientConfig.RootCAs = x509.NewCertPool()
	if system, err := x509.SystemCertPool(); extra && err == nil {
		transport.TLSClientConfig.RootCAs = system
	}
	if !transport.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s has no certificate in PEM to check the server with", from)
	}
	return transport, nil
}

// trust adds the authority of the operator's own certificates, where it can be read: it
// vouches for servers inside of the cluster.
func (e *endpoint) trust(ctx context.Context, cluster client.Reader) {
	m := &corev1.ConfigMap{}
	if e.ca != nil || cluster.Get(ctx, client.ObjectKey{Namespace: operatorNamespace, Name: v1alpha1.AuthorityConfigMap}, m) != nil {
		return
	}
	if text := m.Data[v1alpha1.AuthorityBundleKey]; text != "" {
		e.ca, e.extra = []byte(text), true
	}
}

// rebase puts --url in place of the scheme, host and port of a URL. The host of the URL is
// whose certificate a server behind a port-forward has.
func (e *endpoint) rebase(text string) (to *url.URL, host string, err error) {
	to, err = parseURL(text)
	if err != nil {
		return nil, "", err
	}
	if e.base == "" {
		return to, "", nil
	}
	base, err := parseURL(e.base)
	if err != nil {
		return nil, "", fmt.Errorf("--url: %w", err)
	}
	if strings.Trim(base.Path, "/") != "" || base.RawQuery != "" {
		return nil, "", fmt.Errorf("--url %s: write scheme, host and port only: the path %s is put behind it", e.base, to.Path)
	}
	host = to.Hostname()
	to.Scheme, to.Host = base.Scheme, base.Host
	return to, host, nil
}

// parseURL takes https, and http on the loopback interface, so that no secret crosses a
// network in plain.
func parseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.Fragment != "":
		return nil, fmt.Errorf("%q is not a URL such as https://auth.example.com", text)
	case u.Scheme != "https" && (u.Scheme != "http" || !isLoopback(u.Hostname())):
		return nil, fmt.Errorf("%s would send secrets in plain: only https, or http on the loopback interface", place(u))
	}
	return u, nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// place is the server of a URL.
func place(u *url.URL) string { return clean(u.Scheme + "://" + u.Host) }

// unreachable says which server didn't answer, and what else to try.
func unreachable(u *url.URL, err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	why := err
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		why = wrapped.Err
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return fmt.Errorf("%s has no certificate that is trusted here: pass the CA that vouches for it by --ca-file: %w", place(u), why)
	}
	return &unreachableError{place(u), why}
}

// unreachableError is a server that didn't answer.
type unreachableError struct {
	place string
	why   error
}

func (e *unreachableError) Error() string { return fmt.Sprintf("can't reach %s: %v", e.place, e.why) }
func (e *unreachableError) Unwrap() error { return e.why }

// orForward adds how the operator's servers are reached from outside of the cluster.
func orForward(err error) error {
	if _, ok := errors.AsType[*unreachableError](err); !ok {
		return err
	}
	return fmt.Errorf("%w\nIf it is only reached inside the cluster, run `kubectl port-forward -n m2m-system svc/m2m-operator 8443:443`, and pass --url https://127.0.0.1:8443", err)
}

// readFile reads a small file; "-" is not special.
func readFile(name string, most int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAll(f, name, most)
}

func readAll(r io.Reader, name string, most int64) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, most+1))
	if err == nil && int64(len(text)) > most {
		err = fmt.Errorf("%s has more than %d bytes", name, most)
	}
	return text, err
}
