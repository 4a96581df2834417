package main

import (
	"errors"
	"fmt"

	"github.com/m2m-operator/m2m-operator/internal/keyring"
)

// runToken measures the usual request, of one client and of one among very many.
func runToken(args []string) error {
	c, flags := newContest("token")
	many := flags.Int("clients", 100_000, "clients in the index, beside the run with one")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *many < 1 {
		return errors.New("-clients is out of bounds")
	}
	var matches []match
	for _, clients := range []int{1, *many} {
		m := newMatch(fmt.Sprintf("clients: %d", clients), secretPost, setup{Algorithm: keyring.ES256, Clients: 1})
		m.ours.Clients = clients
		matches = append(matches, m)
	}
	return c.run("Token endpoint, ES256, keep-alive", matches)
}

// newMatch is one of servers of a kind each that are set up alike.
func newMatch(name string, m method, s setup) match {
	s.Method = m.name
	floor, ours := s, s
	floor.Kind, ours.Kind = "floor", "m2m"
	return match{name, m, floor, ours}
}

// runAlgorithms measures the usual request with each signature algorithm.
func runAlgorithms(args []string) error {
	c, flags := newContest("algorithms")
	if err := flags.Parse(args); err != nil {
		return err
	}
	var matches []match
	for _, a := range []keyring.Algorithm{keyring.ES256, keyring.ES384, keyring.RS256, keyring.RS384, keyring.PS256, keyring.EdDSA} {
		matches = append(matches, newMatch(string(a), secretPost, setup{Algorithm: a, Clients: 1}))
	}
	return c.run("Token endpoint, keep-alive; RSA keys of 2048 bits", matches)
}

// assertingClients share what the product remembers of used assertions: it bounds how
// many of one client's.
const assertingClients = 1000

// runMethods measures each way to authenticate.
func runMethods(args []string) error {
	c, flags := newContest("methods")
	if err := flags.Parse(args); err != nil {
		return err
	}
	matches, err := methodMatches()
	if err != nil {
		return err
	}
	return c.run("Token endpoint, ES256, keep-alive", matches)
}

func methodMatches() ([]match, error) {
	client, clientKey, err := newKey(keyring.ES256)
	if err != nil {
		return nil, err
	}
	cluster, clusterKey, err := newKey(keyring.RS256)
	if err != nil {
		return nil, err
	}
	account, err := serviceAccountToken(cluster)
	if err != nil {
		return nil, err
	}
	s := setup{Algorithm: keyring.ES256, Clients: 1, ClientKey: clientKey, ClusterKey: clusterKey}
	var matches []match
	for _, m := range []method{secretPost, secretJSON, secretBasic, account} {
		matches = append(matches, newMatch(m.name, m, s))
	}
	s.Clients = assertingClients
	return append(matches, newMatch(byPrivateKey, privateKeyJWT(client), s)), nil
}

// runTLS measures the usual request over a connection of its own.
func runTLS(args []string) error {
	c, flags := newContest("tls")
	if err := flags.Parse(args); err != nil {
		return err
	}
	return c.run("Token endpoint, ES256, a TLS 1.3 handshake (ECDSA P-256) for each token", []match{
		newMatch("handshake and token", secretPost, setup{Algorithm: keyring.ES256, Clients: 1, TLS: true}),
	})
}
