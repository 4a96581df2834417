package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"runtime/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/m2m-operator/m2m-operator/internal/jws"
	"github.com/m2m-operator/m2m-operator/internal/keyring"
	"github.com/m2m-operator/m2m-operator/internal/registry"
	"github.com/m2m-operator/m2m-operator/internal/token"
	"github.com/m2m-operator/m2m-operator/internal/tokenserver"
	uses "github.com/m2m-operator/m2m-operator/internal/usage"
)

// serveArg makes this program a server that is measured: `<setup as JSON>`.
const serveArg = "serve"

// setup is what a server is to be. Each is a process of its own, so keys go with it.
type setup struct {
	Kind       string // floor or m2m
	Algorithm  keyring.Algorithm
	Clients    int
	Refusals   bool       // the clients are those that refusals are measured with
	Method     string     // that a floor knows
	ClientKey  *publicKey // of all clients; nil: none
	ClusterKey *publicKey // of the cluster; nil: none
	TLS        bool
	Profile    string // file that a CPU profile is written to; empty: none
}

// serve listens on a free port, prints its address, and ends with its input.
func serve(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("%s wants a setup", serveArg)
	}
	var s setup
	if err := json.Unmarshal([]byte(args[0]), &s); err != nil {
		return err
	}
	server, err := s.newServer()
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	if s.TLS {
		go func() { _ = server.ServeTLS(listener, "", "") }()
	} else {
		go func() { _ = server.Serve(listener) }()
	}
	return s.profile(func() error {
		_, err := io.Copy(io.Discard, os.Stdin)
		return err
	})
}

func (s *setup) newServer() (*http.Server, error) {
	var server *http.Server
	var err error
	switch s.Kind {
	case "floor":
		var floor http.Handler
		floor, err = newFloor(s)
		server = &http.Server{Handler: floor}
	case "m2m":
		server, err = s.newProduct()
	default:
		err = fmt.Errorf("no server is called %q", s.Kind)
	}
	if err == nil && s.TLS {
		server.TLSConfig, err = newTLSConfig()
	}
	return server, err
}

// newTLSConfig is that of the product as it is shipped, but that a session can't be
// resumed: so each connection costs a whole handshake.
func newTLSConfig() (*tls.Config, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"auth.example.com"}, NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	certificate := &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	return &tls.Config{
		GetCertificate:         func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return certificate, nil },
		MinVersion:             tls.VersionTLS12,
		NextProtos:             []string{"h2", "http/1.1"},
		SessionTicketsDisabled: true,
	}, nil
}

// profile runs something, and profiles the process meanwhile if that is wanted.
func (s *setup) profile(run func() error) error {
	if s.Profile == "" {
		return run()
	}
	file, err := os.Create(s.Profile)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := pprof.StartCPUProfile(file); err != nil {
		return err
	}
	defer pprof.StopCPUProfile()
	return run()
}

// newProduct is the token server as it is shipped, over an index in memory, with
// its audit log in a file and its metrics on.
func (s *setup) newProduct() (*http.Server, error) {
	directory, err := s.newDirectory()
	if err != nil {
		return nil, err
	}
	audit, err := os.CreateTemp("", "m2m-bench-audit-*.log")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(audit.Name()); err != nil { // it goes with the process
		return nil, err
	}
	tokenserver.TuneGC()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	handler, err := tokenserver.NewHandler(tokenserver.Config{
		Issuers:     directory,
		Authority:   token.NewAuthority(directory, rand.Reader),
		Usage:       uses.NewLedger(time.Hour),
		Revocations: nobodyRevokes{},
		Audit:       audit,
		LogID:       func(id string) string { return id },
		Metrics:     prometheus.NewRegistry(),
		Log:         log,
		Now:         time.Now,
		Random:      rand.Reader,
	})
	if err != nil {
		return nil, err
	}
	return tokenserver.NewServer(handler, log), nil
}

// nobodyRevokes stands where tokens are revoked, which is not measured.
type nobodyRevokes struct{}

func (nobodyRevokes) Revoke(context.Context, string, string, [sha256.Size]byte, time.Time) error {
	return errors.New("nothing is revoked here")
}

// directory is the product's, with the keys of a cluster that isn't there.
type directory struct {
	*registry.Directory
	cluster *token.Cluster // nil: no ServiceAccount can authenticate
}

// Cluster implements [token.Directory].
func (d *directory) Cluster() *token.Cluster { return d.cluster }

// UnknownClusterKey implements [token.Directory].
func (*directory) UnknownClusterKey() {}

func (s *setup) newDirectory() (*directory, error) {
	index, err := s.newIndex()
	if err != nil {
		return nil, err
	}
	d := &directory{Directory: registry.NewDirectory(index, nil, nil, 0)}
	if s.ClusterKey != nil {
		keys, err := jws.ParseKeySet(s.ClusterKey.JWKS)
		if err != nil {
			return nil, err
		}
		d.cluster = &token.Cluster{Issuer: clusterIssuer, Keys: keys}
	}
	return d, nil
}
