package token

import (
	"crypto/rand"
	"testing"
	"time"

	"github.com/m2m-operator/m2m-operator/internal/credential"
	"github.com/m2m-operator/m2m-operator/internal/keyring"
)

const (
	testURL     = "https://auth.example.com"
	testProject = "project-test-11111111-1111-4111-8111-111111111111"
	testID      = "m2m-client-test-22222222-2222-4222-8222-222222222222"
	testSecret  = "jZ3kq8vT1mYx5RbN7cWd2LfH9sGpA4uE6oKiQ0tXx8Fa"
)

var testNow = time.Date(2026, 11, 22, 10, 0, 0, 123456789, time.UTC)

func newKey(t testing.TB, alg keyring.Algorithm, activeFrom time.Time) keyring.Key {
	t.Helper()
	key, err := keyring.Generate(rand.Reader, alg, activeFrom)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newIssuer(t testing.TB, profile Profile, keys ...keyring.Key) *Issuer {
	t.Helper()
	issuer, err := NewIssuer(rand.Reader, IssuerConfig{
		Name: "default", URL: testURL, ProjectID: testProject, Profile: profile, Keys: keyring.Ring{Keys: keys},
	})
	if err != nil {
		t.Fatal(err)
	}
	return issuer
}

// directory is a Directory of one issuer's clients.
type directory struct {
	pepper    *credential.Pepper
	clients   map[string]*Client
	workloads map[Account][]*Client
	accounts  map[Account]string
	cluster   *Cluster
	freshness Freshness
	unknown   int // keys that the cluster didn't have
}

func newDirectory(t testing.TB) *directory {
	t.Helper()
	pepper, err := credential.NewPepper(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &directory{pepper: pepper, clients: map[string]*Client{}, workloads: map[Account][]*Client{}, accounts: map[Account]string{}}
}

func (d *directory) Client(_ *Issuer, clientID string) (*Client, bool) {
	client, ok := d.clients[clientID]
	return client, ok
}

func (d *directory) ClientsOf(_ *Issuer, account Account) []*Client { return d.workloads[account] }
func (d *directory) AccountUID(account Account) string              { return d.accounts[account] }
func (d *directory) Cluster() *Cluster                              { return d.cluster }
func (d *directory) UnknownClusterKey()                             { d.unknown++ }
func (d *directory) Freshness(time.Time) Freshness                  { return d.freshness }

func (d *directory) Pepper() *credential.Pepper { return d.pepper }

// add adds a client with one secret; change may change it first.
func (d *directory) add(t testing.TB, id, secret string, change func(*ClientConfig)) {
	t.Helper()
	config := ClientConfig{
		ID: id, Active: true, Lifetime: time.Hour,
		Scopes:      []string{"read:settings", "write:settings"},
		Audiences:   []string{testProject},
		Credentials: []Credential{{Version: "1-x8Fa", Hash: d.pepper.Hash(id, secret)}},
	}
	if change != nil {
		change(&config)
	}
	client, err := NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	d.clients[id] = client
}
