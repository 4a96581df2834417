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
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/credential"
	"github.com/m2m-operator/m2m-operator/internal/journal"
	"github.com/m2m-operator/m2m-operator/internal/keyring"
	"github.com/m2m-operator/m2m-operator/internal/registry"
	"github.com/m2m-operator/m2m-operator/internal/token"
	"github.com/m2m-operator/m2m-operator/internal/tokenserver"
	uses "github.com/m2m-operator/m2m-operator/internal/usage"
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
	index, err := newIndex(clients)
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
		Issuers:   index,
		Authority: token.NewAuthority(index, rand.Reader),
		Usage:     uses.NewLedger(time.Hour),
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

// newIndex is the index of the token server, fed as its watches feed it.
func newIndex(clients int) (*registry.Index, error) {
	index := registry.NewIndex(slog.New(slog.NewTextHandler(os.Stderr, nil)))
	pepper, err := credential.NewPepper(rand.Reader)
	if err != nil {
		return nil, err
	}
	ring, _, err := keyring.Ring{}.Ensure(rand.Reader, keyring.ES256, time.Now())
	if err != nil {
		return nil, err
	}
	keys, err := ring.Data()
	if err != nil {
		return nil, err
	}
	index.SetPepper(&corev1.Secret{Data: pepper.Data()})
	index.SetKeys(v1alpha1.DefaultIssuer, &corev1.Secret{Data: keys})
	index.SetIssuer(&v1alpha1.ClusterM2MIssuer{
		ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.DefaultIssuer},
		Spec:       v1alpha1.ClusterM2MIssuerSpec{URL: "https://auth.example.com", ProjectID: projectID},
	})
	for n := range clients {
		index.SetClient(newClient(pepper, n))
	}
	if index.Clients() != clients {
		return nil, fmt.Errorf("the index serves %d of %d clients", index.Clients(), clients)
	}
	return index, nil
}

// newClient is a client as the controller leaves it.
func newClient(pepper *credential.Pepper, n int) *v1alpha1.M2MClient {
	clientID, secret := credentialOf(n)
	c := &v1alpha1.M2MClient{ObjectMeta: metav1.ObjectMeta{UID: types.UID(fmt.Sprintf("00000000-0000-4000-8000-%012d", n))}}
	c.Spec.Scopes = []string{"read:settings", "write:settings"}
	credentials := []credential.Credential{{
		Version:   credential.Version{Number: 1, LastFour: secret[len(secret)-4:]},
		Role:      credential.RoleCurrent,
		Hash:      pepper.Hash(clientID, secret),
		CreatedAt: time.Now().Truncate(time.Second),
	}}
	record := credential.Record{ClientID: clientID, Credentials: credentials}
	record.Seal = pepper.SealRecord(string(c.UID), record)
	journal.Write(&c.Status, record)
	return c
}
