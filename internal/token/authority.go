package token

import (
	"encoding/base64"
	"fmt"
	"io"
	"time"

	"github.com/m2m-operator/m2m-operator/internal/credential"
)

// clientCredentials is the one grant type (RFC 6749 section 4.4).
const clientCredentials = "client_credentials"

// Directory knows the clients. It is asked in every request, so its answers are in
// memory and cost the same however many clients there are.
type Directory interface {
	// Client finds an issuer's client.
	Client(issuer *Issuer, clientID string) (*Client, bool)
	// Pepper returns the keys of the clients' hashes; nil: there are none, and
	// nobody can be authenticated.
	Pepper() *credential.Pepper
}

// Authority authenticates clients and mints their tokens. It never calls anybody:
// all that it needs is in its directory.
type Authority struct {
	directory Directory
	random    io.Reader
}

// NewAuthority returns an authority over a directory; random is cryptographically
// secure and safe for concurrent use.
func NewAuthority(directory Directory, random io.Reader) *Authority {
	return &Authority{directory: directory, random: random}
}

// Request is what a token request says (RFC 6749 section 4.4.2), decoded. What is
// empty was not sent.
type Request struct {
	GrantType    string
	ClientID     string
	ClientSecret string
	Scope        string
}

// Grant is what a client gets. In one that comes with an error, Version is set if
// the secret was right, and Client if the client authenticated.
type Grant struct {
	Client  *Client
	Version string // of the secret that authenticated
	Scope   string // of the token
}

// Authorize authenticates the client of a request and decides its scope. A refusal
// is an [*Error].
func (a *Authority) Authorize(now time.Time, issuer *Issuer, r *Request) (Grant, error) {
	switch r.GrantType {
	case clientCredentials:
	case "":
		return Grant{}, errNoGrantType
	default:
		return Grant{}, errGrantType
	}
	if r.ClientID == "" || r.ClientSecret == "" {
		return Grant{}, errNoCredential
	}
	if !issuer.Available() {
		return Grant{}, errNoKey
	}
	pepper := a.directory.Pepper()
	if pepper == nil {
		return Grant{}, errNoPepper
	}
	client, known := a.directory.Client(issuer, r.ClientID)
	if !known {
		client = nobody
	}
	digests := pepper.Digests(r.ClientID, r.ClientSecret)
	version, err := client.authenticate(&digests, now)
	if err != nil {
		return Grant{Version: version}, err
	}
	scope, err := client.grant(r.Scope)
	return Grant{Client: client, Version: version, Scope: scope}, err
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
