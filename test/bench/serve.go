package main

import (
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/m2m-operator/m2m-operator/internal/credential"
	"github.com/m2m-operator/m2m-operator/internal/keyring"
	"github.com/m2m-operator/m2m-operator/internal/token"
	"github.com/m2m-operator/m2m-operator/internal/tokenserver"
)

// serveArg makes this program a server that is measured: `<kind> <clients>`.
const serveArg = "serve"

// serve listens on a free port, prints its address, and ends with its input.
func serve(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("%s wants a kind and a number of clients", serveArg)
	}
	clients, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	var s *http.Server
	switch args[0] {
	case "floor":
		var floor http.Handler
		floor, err = newFloor()
		s = &http.Server{Handler: floor}
	case "m2m":
		s, err = newProduct(clients)
	default:
		err = fmt.Errorf("no server is called %q", args[0])
	}
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	go func() { _ = s.Serve(listener) }()
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// newProduct is the token server as it is shipped, over an index in memory, with
// its audit log in a file and its metrics on.
func newProduct(clients int) (*http.Server, error) {
	index, issuer, err := newIndex(clients)
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
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	handler, err := tokenserver.NewHandler(tokenserver.Config{
		Issuers:   token.NewIssuers(issuer),
		Authority: token.NewAuthority(index, rand.Reader),
		Audit:     audit,
		Metrics:   prometheus.NewRegistry(),
		Log:       log,
		Now:       time.Now,
		Random:    rand.Reader,
	})
	if err != nil {
		return nil, err
	}
	return tokenserver.NewServer(handler, log), nil
}

// newIndex makes a directory of clients in memory, and their issuer.
func newIndex(clients int) (token.Directory, *token.Issuer, error) {
	key, err := keyring.Generate(rand.Reader, keyring.ES256, time.Now())
	if err != nil {
		return nil, nil, err
	}
	issuer, err := token.NewIssuer(rand.Reader, token.IssuerConfig{
		Name: "default", URL: "https://auth.example.com", ProjectID: projectID, Live: true,
		Profile: token.Stytch, Keys: keyring.Ring{Keys: []keyring.Key{key}},
	})
	if err != nil {
		return nil, nil, err
	}
	pepper, err := credential.NewPepper(rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	index := &index{pepper: pepper, clients: map[string]*token.Client{}}
	for n := range clients {
		clientID, secret := credentialOf(n)
		client, err := token.NewClient(token.ClientConfig{
			ID: clientID, Active: true, Lifetime: time.Hour,
			Scopes:      []string{"read:settings", "write:settings"},
			Credentials: []token.Credential{{Version: "1-" + secret[39:], Hash: pepper.Hash(clientID, secret)}},
		})
		if err != nil {
			return nil, nil, err
		}
		index.clients[client.ID()] = client
	}
	return index, issuer, nil
}

// index is a directory in memory, of the clients of one issuer.
type index struct {
	pepper  *credential.Pepper
	mu      sync.RWMutex
	clients map[string]*token.Client
}

func (i *index) Client(_ *token.Issuer, clientID string) (*token.Client, bool) {
	i.mu.RLock()
	defer i.mu.RUnlock()
	client, ok := i.clients[clientID]
	return client, ok
}

func (i *index) Pepper() *credential.Pepper { return i.pepper }
