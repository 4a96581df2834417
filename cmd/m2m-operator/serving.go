package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/credential"
)

// follow is called with what a Secret of the operator's namespace holds, now and whenever
// it changes.
type follow func(name string, changed func(*corev1.Secret)) error

// secretCertificate is a serving certificate that is taken from a Secret.
type secretCertificate struct {
	name  string
	shown atomic.Pointer[tls.Certificate]
}

// set takes a certificate. One that can't be used is left where it is: the last good one
// goes on.
func (c *secretCertificate) set(s *corev1.Secret) {
	pair, err := tls.X509KeyPair(s.Data[corev1.TLSCertKey], s.Data[corev1.TLSPrivateKeyKey])
	if err != nil {
		slog.Error("The Secret's certificate can't be served", "secret", c.name, "reason", err.Error(), "served", c.shown.Load() != nil)
		return
	}
	c.shown.Store(&pair)
	slog.Info("Serving a certificate", "secret", c.name, "until", pair.Leaf.NotAfter.UTC().Format(time.RFC3339), "names", pair.Leaf.DNSNames)
}

// errNoCertificate says why nobody can be served yet.
var errNoCertificate = errors.New("the serving certificate is not there yet")

func (c *secretCertificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if pair := c.shown.Load(); pair != nil {
		return pair, nil
	}
	return nil, errNoCertificate
}

func (c *secretCertificate) ready() error {
	if _, err := c.get(nil); err != nil {
		return fmt.Errorf("secret %s: %w", c.name, err)
	}
	return nil
}

// secretAuthorities are what another server is trusted by, taken from a Secret.
type secretAuthorities struct {
	name string
	pool atomic.Pointer[x509.CertPool]
}

func (a *secretAuthorities) set(s *corev1.Secret) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(s.Data[v1alpha1.AuthorityBundleKey]) {
		slog.Error("The Secret has no certificate that the management API could be checked with", "secret", a.name, "key", v1alpha1.AuthorityBundleKey)
		return
	}
	a.pool.Store(pool)
}

func (a *secretAuthorities) get() (*x509.CertPool, error) {
	if pool := a.pool.Load(); pool != nil {
		return pool, nil
	}
	return nil, fmt.Errorf("secret %s with what the management API is checked with is not there yet", a.name)
}

// newTLSConfig speaks TLS 1.3 with a certificate that may change.
func newTLSConfig(get func(*tls.ClientHelloInfo) (*tls.Certificate, error), pepper func() *credential.Pepper) *tls.Config {
	config := &tls.Config{GetCertificate: get, MinVersion: tls.VersionTLS13, NextProtos: []string{"h2", "http/1.1"}}
	config.GetConfigForClient = (&resumption{base: config.Clone(), pepper: pepper}).config
	return config
}

// resumption lets sessions that began at one replica go on at another: their tickets are
// sealed with keys that all derive from the pepper, another each day.
type resumption struct {
	base    *tls.Config
	pepper  func() *credential.Pepper
	current atomic.Pointer[ticketed]
}

// ticketed is a configuration with the ticket keys of a day.
type ticketed struct {
	*tls.Config
	day    int64
	pepper *credential.Pepper
}

const ticketDay = 24 * 60 * 60 // seconds

// config returns the configuration of a connection; nil: that of the listener, whose tickets
// are this process' own.
func (r *resumption) config(*tls.ClientHelloInfo) (*tls.Config, error) {
	pepper := r.pepper()
	if pepper == nil {
		return nil, nil
	}
	day := time.Now().Unix() / ticketDay
	if now := r.current.Load(); now != nil && now.day == day && now.pepper == pepper {
		return now.Config, nil
	}
	config := r.base.Clone()
	config.SetSessionTicketKeys([][32]byte{pepper.TicketKey(day), pepper.TicketKey(day - 1)})
	r.current.Store(&ticketed{config, day, pepper})
	return config, nil
}

// isLoopback tells whether nobody else can reach an address of this machine.
func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
