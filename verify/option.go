package verify

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// What holds unless an option says otherwise.
const (
	// DefaultLeeway is by how much clocks may differ.
	DefaultLeeway = 5 * time.Second
	// DefaultRefreshInterval is how often keys are fetched.
	DefaultRefreshInterval = 5 * time.Minute
	// DefaultRefetchFloor is the least time between two fetches.
	DefaultRefetchFloor = 10 * time.Second
	// DefaultMaxKeyAge is for how long keys are used that could not be fetched again. Where
	// tokens live as long as they do by default, none is left after an outage of that length.
	DefaultMaxKeyAge = time.Hour
)

// MaxLeeway bounds [WithLeeway].
const MaxLeeway = 5 * time.Minute

// Option changes what [New] returns.
type Option func(*config) error

type config struct {
	rules         rules
	now           func() time.Time
	keysURL       string
	discoveryURL  string // the issuer's URL, whose metadata names the keys' URL
	fixedKeys     keySource
	refresh       time.Duration
	floor         time.Duration
	maxKeyAge     time.Duration
	denied        DenyList
	introspection *Introspection
	client        *http.Client
	log           *slog.Logger
}

func newConfig(issuer, audience string) *config {
	return &config{
		rules: rules{
			issuer:     issuer,
			audience:   audience,
			profiles:   []Profile{Stytch},
			algorithms: []Algorithm{ES256},
			leeway:     DefaultLeeway,
		},
		now:       time.Now,
		refresh:   DefaultRefreshInterval,
		floor:     DefaultRefetchFloor,
		maxKeyAge: DefaultMaxKeyAge,
		client:    newClient(),
		log:       slog.Default(),
	}
}

func (c *config) checkNames() error {
	switch {
	case c.rules.issuer == "":
		return errors.New("the issuer is empty: say whose tokens to accept")
	case c.rules.audience == "":
		return errors.New("the audience is empty: say which audience this service is, or the project id")
	}
	return nil
}

// complete fills in where keys come from, and checks what depends on several options.
func (c *config) complete() error {
	sources := 0
	for _, given := range []bool{c.keysURL != "", c.discoveryURL != "", c.fixedKeys != nil} {
		if given {
			sources++
		}
	}
	switch {
	case sources > 1:
		return errors.New("the keys come from one place: use one of WithJWKSURL, WithDiscovery and WithJWKS")
	case sources == 0:
		if checkURL(c.rules.issuer) != nil {
			return errors.New("the issuer is no https URL to find keys at: use WithJWKSURL or WithDiscovery")
		}
		c.discoveryURL = c.rules.issuer
	}
	if strings.Contains(c.discoveryURL, "?") {
		return errors.New("an issuer's URL has no query (RFC 8414 section 2)")
	}
	if c.maxKeyAge < c.refresh || c.refresh < c.floor {
		return errors.New("the refetch floor must not exceed the refresh interval, nor that the greatest age of keys")
	}
	return nil
}

// WithJWKSURL fetches the keys from a URL, https or on loopback.
func WithJWKSURL(jwksURL string) Option {
	return func(c *config) error {
		c.keysURL = jwksURL
		return checkURL(jwksURL)
	}
}

// WithDiscovery finds the keys in the metadata of this issuer (RFC 8414), which is needed
// where the `iss` claim is not the issuer's URL, such as `stytch.com/PROJECT_ID`.
func WithDiscovery(issuerURL string) Option {
	return func(c *config) error {
		c.discoveryURL = issuerURL
		return checkURL(issuerURL)
	}
}

// WithJWKS uses the keys of this JWK Set, and no others ever.
func WithJWKS(set []byte) Option {
	return func(c *config) error {
		keys, err := parseKeySet(set)
		if err == nil && len(keys) == 0 {
			err = errors.New("the JWK Set has no key that can be used: each needs kid and alg")
		}
		c.fixedKeys = fixedKeys(keys)
		return err
	}
}

// WithProfiles accepts tokens of these profiles, of others none: a verifier of [RFC9068]
// refuses those of [Stytch], and the other way round. Both at once are for a migration.
func WithProfiles(profiles ...Profile) Option {
	return func(c *config) error {
		c.rules.profiles = slices.Clone(profiles)
		for _, p := range profiles {
			if p != Stytch && p != RFC9068 {
				return fmt.Errorf("there is no token profile %q", p)
			}
		}
		return refuseEmpty(profiles, "token profile")
	}
}

// WithAlgorithms accepts tokens that are signed with one of these algorithms.
func WithAlgorithms(algorithms ...Algorithm) Option {
	return func(c *config) error {
		c.rules.algorithms = slices.Clone(algorithms)
		for _, a := range algorithms {
			if methods[a] == nil {
				return fmt.Errorf("the algorithm %q is not one that may be accepted", a)
			}
		}
		return refuseEmpty(algorithms, "algorithm")
	}
}

func refuseEmpty[T any](list []T, what string) error {
	if len(list) == 0 {
		return fmt.Errorf("name at least one %s", what)
	}
	return nil
}

// WithLeeway allows clocks to differ by so much, at most [MaxLeeway].
func WithLeeway(leeway time.Duration) Option {
	return func(c *config) error {
		c.rules.leeway = leeway
		if leeway < 0 || leeway > MaxLeeway {
			return fmt.Errorf("the leeway must be from 0 to %s", MaxLeeway)
		}
		return nil
	}
}

// WithClock takes the time for the claims of tokens from a function. The ages of keys and
// of cached answers are measured by the process's own clock.
func WithClock(now func() time.Time) Option {
	return func(c *config) error {
		c.now = now
		if now == nil {
			return errors.New("the clock is nil")
		}
		return nil
	}
}

// WithRefreshInterval fetches the keys at least so often. A key that is gone is refused
// from the next fetch on. A shorter max-age of the answer shortens it, down to a minute.
func WithRefreshInterval(interval time.Duration) Option {
	return positive("refresh interval", interval, func(c *config) { c.refresh = interval })
}

// WithRefetchFloor lets so much time pass between two fetches, however many tokens with
// unknown key ids come.
func WithRefetchFloor(floor time.Duration) Option {
	return positive("refetch floor", floor, func(c *config) { c.floor = floor })
}

// WithMaxKeyAge uses keys for so long after they were fetched last. Then nothing can be
// verified, and everything is refused with [ErrKeysUnavailable].
func WithMaxKeyAge(age time.Duration) Option {
	return positive("greatest age of keys", age, func(c *config) { c.maxKeyAge = age })
}

func positive(what string, d time.Duration, set func(*config)) Option {
	return func(c *config) error {
		if d <= 0 {
			return fmt.Errorf("the %s must be more than zero", what)
		}
		set(c)
		return nil
	}
}

// WithHTTPClient fetches with the transport of a client, for a CA of your own for
// instance. Its timeout applies beside ours, its redirect policy and cookies don't.
func WithHTTPClient(client *http.Client) Option {
	return func(c *config) error {
		if client == nil {
			return errors.New("the HTTP client is nil")
		}
		c.client = &http.Client{Transport: client.Transport, Timeout: client.Timeout}
		return nil
	}
}

// WithLogger logs failed fetches of keys there; unless given, to [slog.Default].
func WithLogger(log *slog.Logger) Option {
	return func(c *config) error {
		c.log = log
		if log == nil {
			return errors.New("the logger is nil")
		}
		return nil
	}
}

// WithDenyList asks a deny list about each token that is valid otherwise.
func WithDenyList(denied DenyList) Option {
	return func(c *config) error {
		c.denied = denied
		if denied == nil {
			return errors.New("the deny list is nil")
		}
		return nil
	}
}

// WithIntrospection asks the issuer about each token that is valid otherwise.
func WithIntrospection(i Introspection) Option {
	return func(c *config) error {
		c.introspection = &i
		return i.check()
	}
}

// checkURL takes what nobody on the way can change.
func checkURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.Opaque != "":
		return fmt.Errorf("%q is not a URL", text)
	case u.User != nil || strings.Contains(text, "#"):
		return errors.New("a URL must not have a user or a fragment")
	case u.Scheme == "https", u.Scheme == "http" && isLoopback(u.Hostname()):
		return nil
	default:
		return fmt.Errorf("%q must be https: plain http is for loopback only", text)
	}
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
