// Package token is the authority behind the token endpoint: it authenticates a
// client, decides its scope and mints a signed JWT. It is pure: the clock and the
// source of randomness are parameters, and nothing here knows HTTP or Kubernetes.
package token

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/m2m-operator/m2m-operator/internal/assertion"
	"github.com/m2m-operator/m2m-operator/internal/jws"
	"github.com/m2m-operator/m2m-operator/internal/keyring"
)

// Profile is a form of tokens.
type Profile string

// The profiles.
const (
	Stytch  Profile = "Stytch"  // what Stytch's SDKs verify
	RFC9068 Profile = "RFC9068" // JWT access tokens of RFC 9068
)

// IssuerConfig says what an issuer is.
type IssuerConfig struct {
	Name      string // in logs and metrics
	URL       string // what the endpoints' URLs begin with
	Claim     string // the `iss` claim; empty: the URL
	ProjectID string
	Live      bool // or for tests; shows in request ids
	Profile   Profile
	Keys      keyring.Ring // all are published, one signs
	Halted    bool         // no tokens are given, and those that were are good
	Quota     Quota        // of tokens for each client; zero: there is none
	// AudienceIntrospects lets nobody introspect another's token but who is its audience.
	AudienceIntrospects bool
}

// Issuer signs tokens. It doesn't change and may be shared.
type Issuer struct {
	Name      string
	URL       string
	Claim     string // the `iss` claim
	Path      string // of the URL: empty, or with a leading slash
	ProjectID string
	Live      bool
	Profile   Profile
	Halted    bool   // no tokens are given, and those that were are good
	JWKS      []byte // the set of public keys (RFC 7517 section 5)
	Metadata  []byte // describes the endpoints (RFC 8414, OpenID Connect Discovery 1.0)

	audienceIntrospects bool

	quota     Quota
	host      string // of the URL, with the port if it has one
	keys      keyring.Ring
	signers   []*signer  // one a key
	verifying jws.KeySet // the same keys
}

// NewIssuer checks and prepares an issuer, and signs a probe with each key.
func NewIssuer(random io.Reader, c IssuerConfig) (*Issuer, error) {
	i, err := NewUnavailableIssuer(c)
	if err != nil {
		return nil, err
	}
	if len(c.Keys.Keys) == 0 {
		return nil, fmt.Errorf("issuer %q has no signing key", c.Name)
	}
	i.keys = c.Keys
	for _, k := range c.Keys.Keys {
		s, err := newSigner(random, k, c.Profile.typ())
		if err != nil {
			return nil, fmt.Errorf("issuer %q: %w", c.Name, err)
		}
		i.signers = append(i.signers, s)
	}
	var errs [3]error
	i.JWKS, errs[0] = keyring.MarshalJWKS(c.Keys.Keys)
	i.verifying, errs[1] = jws.ParseKeySet(i.JWKS)
	i.Metadata, errs[2] = json.Marshal(i.metadata())
	if err := errors.Join(errs[:]...); err != nil {
		return nil, fmt.Errorf("issuer %q: encoding what it publishes: %w", c.Name, err)
	}
	return i, nil
}

// NewUnavailableIssuer returns an issuer that is known and can't sign: its keys are
// lost or damaged. It gives no tokens and publishes nothing, because verifiers would
// take an empty set of keys for the truth.
func NewUnavailableIssuer(c IssuerConfig) (*Issuer, error) {
	i := &Issuer{Name: c.Name, URL: c.URL, Claim: cmp.Or(c.Claim, c.URL), ProjectID: c.ProjectID, Live: c.Live, Profile: c.Profile, Halted: c.Halted, quota: c.Quota, audienceIntrospects: c.AudienceIntrospects}
	switch {
	case c.Profile.typ() == "":
		return nil, fmt.Errorf("issuer %q: unknown token profile %q", c.Name, c.Profile)
	case c.ProjectID == "" || strings.Contains(c.ProjectID, "/"):
		return nil, fmt.Errorf("issuer %q: %q is not a project id", c.Name, c.ProjectID)
	case c.Quota != Quota{} && !c.Quota.valid():
		return nil, fmt.Errorf("issuer %q: a quota is from 1 to %d tokens in 1s to 24h", c.Name, maxQuota)
	}
	if err := i.parseURL(); err != nil {
		return nil, fmt.Errorf("issuer %q: %w", c.Name, err)
	}
	return i, nil
}

// Available tells whether the issuer can sign.
func (i *Issuer) Available() bool { return len(i.signers) > 0 }

// typ is the `typ` of a token's JOSE header; empty: there is no such profile.
func (p Profile) typ() string {
	switch p {
	case Stytch:
		return "JWT"
	case RFC9068:
		return "at+jwt"
	default:
		return ""
	}
}

// String names the issuer, and keeps its keys out of what prints it.
func (i *Issuer) String() string { return i.Name }

func (i *Issuer) parseURL() error {
	u, err := url.Parse(i.URL)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return fmt.Errorf("%q is not an issuer URL", i.URL)
	case u.User != nil || strings.ContainsAny(i.URL, "?#") || strings.HasSuffix(i.URL, "/"):
		return errors.New("the URL must not have a user, query, fragment or trailing slash")
	case i.Profile == Stytch && u.Path != "":
		return errors.New("with the Stytch profile the URL must not have a path")
	}
	i.host, i.Path = u.Host, u.Path
	return nil
}

// signerAt returns the signer of the key that is active at an instant.
func (i *Issuer) signerAt(now time.Time) *signer {
	if len(i.signers) == 1 {
		return i.signers[0]
	}
	active, _ := i.keys.Active(now)
	n := slices.IndexFunc(i.signers, func(s *signer) bool { return s.keyID == active.ID })
	if n < 0 {
		return nil
	}
	return i.signers[n]
}

// authMethods are how a client authenticates (RFC 7591 section 2); a ServiceAccount's
// token goes where a signed assertion would.
var authMethods = []string{"client_secret_basic", "client_secret_post", "private_key_jwt"}

// metadata is what RFC 8414 section 2 and OpenID Connect Discovery 1.0 section 3
// require, as far as it is true here.
type metadata struct {
	Issuer                           string   `json:"issuer"`
	TokenEndpoint                    string   `json:"token_endpoint"`
	IntrospectionEndpoint            string   `json:"introspection_endpoint"`
	RevocationEndpoint               string   `json:"revocation_endpoint"`
	JWKSURI                          string   `json:"jwks_uri"`
	GrantTypesSupported              []string `json:"grant_types_supported"`
	TokenEndpointAuthMethods         []string `json:"token_endpoint_auth_methods_supported"`
	TokenEndpointSigningAlgs         []string `json:"token_endpoint_auth_signing_alg_values_supported"`
	IntrospectionAuthMethods         []string `json:"introspection_endpoint_auth_methods_supported"`
	IntrospectionSigningAlgs         []string `json:"introspection_endpoint_auth_signing_alg_values_supported"`
	RevocationAuthMethods            []string `json:"revocation_endpoint_auth_methods_supported"`
	RevocationSigningAlgs            []string `json:"revocation_endpoint_auth_signing_alg_values_supported"`
	ResponseTypesSupported           []string `json:"response_types_supported"`
	SubjectTypesSupported            []string `json:"subject_types_supported"`
	IDTokenSigningAlgValuesSupported []string `json:"id_token_signing_alg_values_supported"`
}

func (i *Issuer) metadata() metadata {
	var algorithms []string
	for _, k := range i.keys.Keys {
		if !slices.Contains(algorithms, string(k.Algorithm)) {
			algorithms = append(algorithms, string(k.Algorithm))
		}
	}
	return metadata{
		Issuer:                           i.URL,
		TokenEndpoint:                    EndpointURL(i.URL, i.ProjectID),
		IntrospectionEndpoint:            IntrospectionURL(i.URL, i.ProjectID),
		RevocationEndpoint:               RevocationURL(i.URL, i.ProjectID),
		JWKSURI:                          JWKSURL(i.URL, i.ProjectID),
		GrantTypesSupported:              []string{clientCredentials},
		TokenEndpointAuthMethods:         authMethods,
		TokenEndpointSigningAlgs:         assertion.Algorithms,
		IntrospectionAuthMethods:         authMethods,
		IntrospectionSigningAlgs:         assertion.Algorithms,
		RevocationAuthMethods:            authMethods,
		RevocationSigningAlgs:            assertion.Algorithms,
		ResponseTypesSupported:           []string{}, // there is no authorization endpoint
		SubjectTypesSupported:            []string{"public"},
		IDTokenSigningAlgValuesSupported: algorithms, // no ID tokens, but verifiers read here what to expect
	}
}
