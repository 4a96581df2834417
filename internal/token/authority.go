package token

import (
	"encoding/base64"
	"fmt"
	"io"
	"time"

	"github.com/m2m-operator/m2m-operator/internal/assertion"
	"github.com/m2m-operator/m2m-operator/internal/credential"
	"github.com/m2m-operator/m2m-operator/internal/jws"
)

// clientCredentials is the one grant type (RFC 6749 section 4.4).
const clientCredentials = "client_credentials"

// Directory knows the clients. It is asked in every request, so its answers are in
// memory and cost the same however many clients there are.
type Directory interface {
	// Client finds an issuer's client. Where there is none, it may return another whose
	// secrets and keys are tried all the same: so that it takes as long, in memory too.
	Client(issuer *Issuer, clientID string) (client *Client, known bool)
	// ClientsOf returns the issuer's clients that a ServiceAccount authenticates as.
	ClientsOf(issuer *Issuer, account Account) []*Client
	// AccountUID returns the UID of a ServiceAccount that exists; empty: none does.
	AccountUID(account Account) string
	// Cluster returns what the cluster's ServiceAccount tokens are checked with; nil:
	// that isn't known yet.
	Cluster() *Cluster
	// UnknownClusterKey is told that a token names a key that the cluster doesn't have,
	// as far as is known. It mustn't wait for anything.
	UnknownClusterKey()
	// Pepper returns the keys of the clients' hashes; nil: there are none, and
	// no secret can be checked.
	Pepper() *credential.Pepper
	// Freshness tells how far all of these answers can be relied on.
	Freshness(now time.Time) Freshness
}

// Account is a Kubernetes ServiceAccount.
type Account struct{ Namespace, Name string }

// Cluster is what its ServiceAccount tokens are checked with.
type Cluster struct {
	Issuer string // their `iss` claim
	Keys   jws.KeySet
}

// Freshness is how far a directory's answers can be relied on.
type Freshness int

const (
	// Fresh answers are at most a watch event old.
	Fresh Freshness = iota
	// Stale answers may lack the latest: what is unknown may exist.
	Stale
	// Expired answers are older than the operator allows.
	Expired
)

// Authority authenticates clients, mints their tokens and says what became of these.
// It never calls anybody: all that it needs is in its directory.
type Authority struct {
	directory Directory
	random    io.Reader
	replays   *assertion.Replays
	// verify checks the signature of a client's assertion, once and alike for all clients.
	verify func(jws.KeySet, *jws.Token) error
	spent  *spending
}

// How many signed assertions are remembered until they expire: of one client, and in all.
const (
	assertionsPerClient = 10_000
	assertionsInAll     = 500_000
)

// NewAuthority returns an authority over a directory; random is cryptographically
// secure and safe for concurrent use.
func NewAuthority(directory Directory, random io.Reader) *Authority {
	return &Authority{
		directory: directory,
		random:    random,
		replays:   assertion.NewReplays(assertionsPerClient, assertionsInAll),
		verify:    jws.KeySet.VerifyAlike,
		spent:     newSpending(),
	}
}

// Request is what a request to an issuer's endpoints says, decoded. What is empty was
// not sent. The credential comes first: RFC 6749 section 2.3.1, RFC 7521 section 4.2.
type Request struct {
	ClientID      string
	ClientSecret  string
	Assertion     string
	AssertionType string

	GrantType string
	Scope     string
	Resources []string // `resource` and `audience` (RFC 8707 section 2)
	// Parameter returns another parameter, which a template of custom claims may ask for.
	Parameter func(name string) (string, bool)
}

// Method is how a client authenticates.
type Method string

// The methods.
const (
	BySecret         Method = "client_secret"
	ByServiceAccount Method = "service_account"
	ByPrivateKey     Method = "private_key_jwt"
)

// Grant is what a client gets. In one that comes with an error, Version is set if
// the secret was right, Account if the ServiceAccount's token was, and Client if the
// client authenticated.
type Grant struct {
	Client  *Client
	Method  Method
	Claimed string  // the client id that a signed assertion names, proven or not
	Version string  // of the secret that authenticated
	Account Account // that authenticated
	Scope   string  // of the token

	audiences string // of the token: elements of a JSON array
	claims    string // members of a JSON object, each after a comma
}

// Authorize authenticates the client of a token request and decides what its token
// says. A refusal is an [*Error].
func (a *Authority) Authorize(now time.Time, issuer *Issuer, r *Request) (Grant, error) {
	switch r.GrantType {
	case clientCredentials:
	case "":
		return Grant{}, errNoGrantType
	default:
		return Grant{}, errGrantType
	}
	if issuer.Halted {
		return Grant{}, errHalted
	}
	g, err := a.Authenticate(now, issuer, r)
	if err != nil {
		return g, err
	}
	if g.Scope, err = g.Client.grant(r.Scope); err != nil {
		return g, err
	}
	if g.audiences, err = issuer.target(g.Client, r.Resources); err != nil {
		return g, err
	}
	g.claims, err = g.Client.customClaims(r.Parameter)
	return g, err
}

// AppendToken appends a signed token for a grant to dst.
func (a *Authority) AppendToken(dst []byte, now time.Time, issuer *Issuer, g *Grant) ([]byte, error) {
	s := issuer.signerAt(now)
	if s == nil {
		return dst, fmt.Errorf("issuer %q has no signing key", issuer.Name)
	}
	var jti string
	if issuer.Profile == RFC9068 {
		var err error
		if jti, err = newTokenID(a.random); err != nil {
			return dst, err
		}
	}
	start := len(dst)
	var scratch [1024]byte // keeps the usual claims off the heap
	claims := issuer.appendClaims(scratch[:0], g, now.Unix(), jti)
	dst = append(dst, s.header...)
	dst = base64.RawURLEncoding.AppendEncode(dst, claims)
	return s.appendSignature(a.random, dst, start)
}

// newTokenID returns 128 random bits.
func newTokenID(random io.Reader) (string, error) {
	var id [16]byte
	if _, err := io.ReadFull(random, id[:]); err != nil {
		return "", fmt.Errorf("reading random bytes for a token's id: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(id[:]), nil
}
