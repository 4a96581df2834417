// Package integration runs the operator as it is shipped, each role as its own
// process under its own ServiceAccount and RBAC, against a real control plane.
package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"github.com/m2m-operator/m2m-operator/test/installation"
)

// shared is the operator that tests share which don't break it.
var shared *operator

// binary is the operator, built with the race detector.
var binary string

func TestMain(m *testing.M) { installation.Main(m, start) }

func start(ctx context.Context, dir string) (stop func() error, err error) {
	binary = filepath.Join(dir, "m2m-operator")
	if err := installation.Build(ctx, binary, "-race"); err != nil {
		return nil, err
	}
	if shared, err = startOperator(ctx, installation.Options{Dir: filepath.Join(dir, "shared"), ControllerManager: true, ManagementAPI: true}); err != nil {
		return nil, err
	}
	if err := shared.restrict(ctx); err != nil {
		return nil, errors.Join(err, shared.Stop())
	}
	return shared.Stop, nil
}

// operator is an installation with what tests do to it.
type operator struct{ *installation.Installation }

func startOperator(ctx context.Context, options installation.Options) (*operator, error) {
	options.Binary = binary
	// All tests come from one address, and many are refused while they wait.
	options.ServerArgs = append([]string{"--failure-limit=off"}, options.ServerArgs...)
	options.Servers = max(options.Servers, 2)
	i, err := installation.Start(ctx, options)
	return &operator{i}, err
}

// server is a replica of the token server.
type server struct{ *installation.Server }

func (o *operator) servers() []server {
	var all []server
	for _, s := range o.Servers {
		all = append(all, server{s})
	}
	return all
}

// answer is what the token endpoint says.
type answer struct {
	status      int
	body        string
	retryAfter  string
	AccessToken string `json:"access_token"`
	Scope       string `json:"scope"`
	Error       string `json:"error"`
	RequestID   string `json:"request_id"`
}

// anonymous is the body without what differs from one request to the next.
func (a answer) anonymous() string { return strings.ReplaceAll(a.body, a.RequestID, "") }

// token asks a replica for a token. The token URL names the issuer's own host, so
// only its path counts.
func (s server) token(t *testing.T, tokenURL, clientID, clientSecret string, extra ...string) answer {
	t.Helper()
	return s.post(t, tokenURL, append([]string{"grant_type", "client_credentials", "client_id", clientID, "client_secret", clientSecret}, extra...)...)
}

// claims verifies a token against the keys that a replica publishes.
func (s server) claims(t *testing.T, jwksURL, token string) jwt.MapClaims {
	t.Helper()
	u, err := url.Parse(jwksURL)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.Get(s.URL + u.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var set struct{ Keys []json.RawMessage }
	if err := json.NewDecoder(response.Body).Decode(&set); err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("JWKS: HTTP %d, %v", response.StatusCode, err)
	}
	claims := jwt.MapClaims{}
	_, err = jwt.ParseWithClaims(token, claims, func(token *jwt.Token) (any, error) {
		for _, raw := range set.Keys {
			if key, kid := publicKey(t, raw); kid == token.Header["kid"] {
				return key, nil
			}
		}
		return nil, fmt.Errorf("no key %v in the JWKS", token.Header["kid"])
	}, jwt.WithValidMethods([]string{"ES256", "RS256"}))
	if err != nil {
		t.Fatal(err)
	}
	return claims
}
