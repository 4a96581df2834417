package token

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	"unique"

	"github.com/m2m-operator/m2m-operator/internal/claims"
	"github.com/m2m-operator/m2m-operator/internal/credential"
	"github.com/m2m-operator/m2m-operator/internal/jws"
)

// MaxScopes bounds what a client can hold, and what a request can ask for.
const MaxScopes = 256

// Credential is one version of a client's secret.
type Credential struct {
	Version  string // such as 3-x8Fa
	Hash     credential.Hash
	NotAfter time.Time // it authenticates before this instant; zero: no end
}

// ClientConfig says what a client is.
type ClientConfig struct {
	ID          string
	Active      bool
	Scopes      []string
	Lifetime    time.Duration       // of its tokens; whole seconds count
	Audiences   []string            // of its tokens, all of them: the project id is not added here
	Claims      claims.Bound        // what its tokens say further
	Credentials []Credential        // at most credential.MaxVersions
	PublicKeys  jws.KeySet          // that its assertions are checked with
	NotBefore   time.Time           // tokens that were issued before aren't active
	Revoked     [][sha256.Size]byte // digests of tokens that aren't active
}

// Client is one that may get tokens. It doesn't change and may be shared. There may
// be very many, and the garbage collector visits each: so a client is few objects,
// and what clients have in common is stored once.
type Client struct {
	id        string
	versions  []version
	scope     unique.Handle[string] // all that it holds, as the `scope` of a token
	audiences unique.Handle[string] // elements of a JSON array
	claims    unique.Handle[claims.Bound]
	lifetime  time.Duration
	since     int64 // Unix time in seconds: tokens that were issued before aren't active
	more      *more // nil for most
	active    bool
}

// more is what few clients have.
type more struct {
	keys    jws.KeySet
	revoked [][sha256.Size]byte
}

// version is a Credential, compact.
type version struct {
	hash     credential.Hash
	name     string
	notAfter int64 // Unix time in seconds
}

// NewClient checks and prepares a client. What it refuses must not get tokens.
func NewClient(c ClientConfig) (*Client, error) {
	switch {
	case c.ID == "":
		return nil, errors.New("a client has no id")
	case c.Lifetime < time.Second:
		return nil, fmt.Errorf("client %q: tokens that live %s have expired when they arrive", c.ID, c.Lifetime)
	case len(c.Audiences) == 0:
		return nil, fmt.Errorf("client %q has no audience: its tokens would be for nobody", c.ID)
	case len(c.Scopes) > MaxScopes:
		return nil, fmt.Errorf("client %q holds %d scopes, more than %d", c.ID, len(c.Scopes), MaxScopes)
	case len(c.Credentials) > credential.MaxVersions:
		return nil, fmt.Errorf("client %q has %d secrets, more than %d", c.ID, len(c.Credentials), credential.MaxVersions)
	case slices.ContainsFunc(c.Scopes, func(s string) bool { return !wellFormedScope(s) }):
		return nil, fmt.Errorf("client %q holds a malformed scope", c.ID)
	}
	client := &Client{
		id:        c.ID,
		scope:     unique.Make(strings.Join(c.Scopes, " ")),
		audiences: unique.Make(string(appendStrings(nil, c.Audiences))),
		lifetime:  c.Lifetime.Truncate(time.Second),
		claims:    unique.Make(c.Claims),
		since:     math.MinInt64,
		active:    c.Active,
	}
	if !c.NotBefore.IsZero() {
		client.since = c.NotBefore.Unix()
	}
	if len(c.Revoked) > 0 || c.PublicKeys.Len() > 0 {
		client.more = &more{keys: c.PublicKeys, revoked: c.Revoked}
	}
	client.setVersions(c.Credentials)
	return client, nil
}

// setVersions stores the client's id and the names of its versions as parts of one
// string, and shares the ids of pepper keys between clients.
func (c *Client) setVersions(credentials []Credential) {
	if len(credentials) == 0 {
		return
	}
	text := c.id
	for i := range credentials {
		text += credentials[i].Version
	}
	c.id, text = text[:len(c.id)], text[len(c.id):]
	c.versions = make([]version, len(credentials))
	for i := range credentials {
		from, to := &credentials[i], &c.versions[i]
		to.hash = credential.Hash{KeyID: unique.Make(from.Hash.KeyID).Value(), Sum: from.Hash.Sum}
		to.name, text = text[:len(from.Version)], text[len(from.Version):]
		to.notAfter = math.MaxInt64
		if !from.NotAfter.IsZero() {
			to.notAfter = from.NotAfter.Unix()
		}
	}
}

// ID returns the client's OAuth client_id.
func (c *Client) ID() string { return c.id }

// Lifetime returns how long the client's tokens live: whole seconds.
func (c *Client) Lifetime() time.Duration { return c.lifetime }

// Replacing tells whether a secret of the client was replaced and still authenticates,
// or did until lately.
func (c *Client) Replacing() bool {
	return slices.ContainsFunc(c.versions, func(v version) bool { return v.notAfter != math.MaxInt64 })
}

func (c *Client) publicKeys() jws.KeySet {
	if c.more == nil {
		return jws.KeySet{}
	}
	return c.more.keys
}

func (c *Client) hasRevoked(digest [sha256.Size]byte) bool {
	return c.more != nil && slices.Contains(c.more.revoked, digest)
}

// customClaims returns what the client's tokens say further; parameter returns what the
// caller of a request says.
func (c *Client) customClaims(parameter func(string) (string, bool)) (string, error) {
	bound := c.claims.Value()
	if text, static := bound.Static(); static {
		return text, nil
	}
	if parameter == nil {
		parameter = func(string) (string, bool) { return "", false }
	}
	text, err := bound.Append(nil, parameter)
	if err != nil {
		return "", errClaims
	}
	return string(text), nil
}

// nobody stands in for a client that doesn't exist: it holds only decoys.
var nobody = &Client{}

// decoy is a hash that no secret has, in the form of all hashes: its key is drawn
// here, from zeros, and belongs to no installation.
var decoy = func() credential.Hash {
	pepper, err := credential.NewPepper(bytes.NewReader(make([]byte, 64)))
	if err != nil {
		panic("token: a pepper can't be made: " + err.Error())
	}
	return pepper.Hash("", "")
}()

// authenticate returns the version whose secret was presented. It compares with as
// many hashes whoever the client is, and decides only then.
func (c *Client) authenticate(digests *credential.Digests, now time.Time) (name string, err error) {
	var matched *version
	for i := range credential.MaxVersions {
		hash := &decoy
		if i < len(c.versions) {
			hash = &c.versions[i].hash
		}
		if digests.Matches(hash) && hash != &decoy {
			matched = &c.versions[i]
		}
	}
	switch {
	case matched == nil:
		return "", errWrongSecret
	case now.Unix() >= matched.notAfter:
		return matched.name, errExpiredVersion
	case !c.active:
		return matched.name, errInactive
	}
	return matched.name, nil
}

// grant returns the scope of a token: all that the client holds where nothing is
// asked for, else what is asked for, each scope once. Matching is exact: holding
// `read:*` doesn't allow asking for `read:users`.
func (c *Client) grant(asked string) (string, error) {
	held := c.scope.Value()
	if asked == "" || asked == held {
		return held, nil
	}
	var granted strings.Builder
	count := 0
	for scope := range strings.SplitSeq(asked, " ") {
		if count++; count > MaxScopes || !wellFormedScope(scope) {
			return "", errMalformedScope
		}
		if !holds(held, scope) {
			return "", errScopeNotHeld
		}
		if holds(granted.String(), scope) {
			continue
		}
		if granted.Len() > 0 {
			granted.WriteByte(' ')
		}
		granted.WriteString(scope)
	}
	return granted.String(), nil
}

// holds tells whether a scope is in a list of scopes.
func holds(list, scope string) bool {
	for held := range strings.SplitSeq(list, " ") {
		if held == scope {
			return true
		}
	}
	return false
}

// wellFormedScope is `scope-token` of RFC 6749 section 3.3.
func wellFormedScope(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c == '"' || c == '\\' || c > '~' {
			return false
		}
	}
	return s != ""
}
