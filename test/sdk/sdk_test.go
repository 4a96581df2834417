// Package sdk proves that clients which were written for other servers work with this
// one, with nothing changed but the base URL: Stytch's SDK for Node and a standard OAuth
// client from npm, unmodified; what Stytch's SDKs for Python and Go send and require; and
// Go's own OAuth client. The operator runs as it is shipped, each role under its own RBAC.
package sdk

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"embed"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/test/installation"
)

// project is what a user of an SDK is given.
type project struct {
	name   string // says how its tokens are signed
	url    string // the base URL
	id     string
	secret string
}

// standard is the issuer `default` as it is installed; python is one as Stytch's SDK for
// Python wants it, with the `iss` claim that all versions of all the SDKs take.
var standard, python project

// web bounds each request of the tests.
var web = &http.Client{Timeout: time.Minute}

func TestMain(m *testing.M) { installation.Main(m, start) }

func start(ctx context.Context, dir string) (stop func() error, err error) {
	binary := filepath.Join(dir, "m2m-operator")
	if err := installation.Build(ctx, binary, "-race"); err != nil {
		return nil, err
	}
	shared, err := installation.Start(ctx, installation.Options{Dir: filepath.Join(dir, "shared"), Binary: binary, Servers: 1, ManagementAPI: true})
	if err != nil {
		return nil, err
	}
	url := shared.Servers[0].URL
	standard = project{"ES256", url, shared.ProjectID, shared.ProjectSecret}
	if err := standard.waitReady(ctx); err != nil {
		return nil, errors.Join(err, shared.Stop())
	}
	if python, err = newProject(ctx, shared, "RS256"); err != nil {
		return nil, errors.Join(err, shared.Stop())
	}
	return shared.Stop, nil
}

// newProject makes an issuer, and a project secret for it. Its own URL leads nowhere: the
// SDKs find it by its project id.
func newProject(ctx context.Context, i *installation.Installation, algorithm string) (p project, err error) {
	name := strings.ToLower(algorithm)
	namespace := "clients-" + name
	id := "project-test-" + strings.ToLower(rand.Text())
	p = project{name: algorithm, url: i.Servers[0].URL, id: id}
	if err := i.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}); err != nil {
		return p, err
	}
	err = i.Create(ctx, &v1alpha1.ClusterM2MIssuer{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v1alpha1.ClusterM2MIssuerSpec{
			URL: "https://" + name + ".example.com", ProjectID: id, Environment: v1alpha1.EnvironmentTest,
			Signing: &v1alpha1.SigningSpec{Algorithm: algorithm},
			Token:   &v1alpha1.IssuerTokenSpec{Issuer: "stytch.com/" + id},
			Grants: []v1alpha1.Grant{{
				Namespaces: v1alpha1.NamespaceSelection{Names: []string{namespace}},
				Scopes:     []string{"*"}, MetadataKeys: []string{"*"}, ChosenClientIDs: true,
			}},
			ManagementAPI: &v1alpha1.ManagementAPISpec{Namespace: namespace},
		},
	})
	if err != nil {
		return p, err
	}
	if p.secret, err = i.NewProjectSecret(ctx, name); err != nil {
		return p, err
	}
	return p, p.waitReady(ctx)
}

// waitReady waits until the servers know the project: its signing keys, and its secret.
func (p project) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		err := p.ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("project %s isn't ready: %w", p.id, err)
		}
	}
}

func (p project) ready(ctx context.Context) error {
	for _, probe := range []struct{ method, path, body string }{
		{http.MethodGet, "/v1/sessions/jwks/" + p.id, ""},
		{http.MethodPost, "/v1/m2m/clients/search", "{}"},
	} {
		request, err := http.NewRequestWithContext(ctx, probe.method, p.url+probe.path, strings.NewReader(probe.body))
		if err != nil {
			return err
		}
		request.SetBasicAuth(p.id, p.secret)
		request.Header.Set("Content-Type", "application/json")
		response, err := web.Do(request)
		if err != nil {
			return err
		}
		_ = response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("%s answers %s", probe.path, response.Status)
		}
	}
	return nil
}

// scripts are what runs on Node. Their packages are locked by their digests.
//
//go:embed node/*.mjs node/package.json node/package-lock.json
var scripts embed.FS

// Node: Stytch's SDK through the whole guide, for each kind of issuer, and openid-client.
func TestNode(t *testing.T) {
	dir := nodePackages(t)
	for _, run := range []struct {
		project project
		scripts []string
	}{
		{standard, []string{"guide.test.mjs", "oauth.test.mjs"}},
		{python, []string{"guide.test.mjs"}}, // discovery is by the issuer's own URL
	} {
		t.Run(run.project.name, func(t *testing.T) {
			t.Parallel()
			args := append([]string{"--test", "--test-reporter=spec"}, run.scripts...)
			execute(t, 8*time.Minute, dir, run.project, "node", args...)
		})
	}
}

// nodePackages returns a folder with the scripts and their packages.
func nodePackages(t *testing.T) string {
	t.Helper()
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("this test runs unmodified npm packages: install Node.js 20 or later, with npm (%v)", err)
		}
	}
	dir := t.TempDir()
	files, err := fs.Sub(scripts, "node")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(dir, files); err != nil {
		t.Fatal(err)
	}
	execute(t, 3*time.Minute, dir, standard, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
	return dir
}

// execute runs a program to its end, and shows what it says if it fails.
func execute(t *testing.T, timeout time.Duration, dir string, p project, program string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "M2M_URL="+p.url, "M2M_PROJECT_ID="+p.id, "M2M_PROJECT_SECRET="+p.secret)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // it ends its own children
	cmd.WaitDelay = 10 * time.Second
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), errors.Join(err, ctx.Err()), out)
	}
}

// eachProject runs a test for each kind of issuer.
func eachProject(t *testing.T, test func(*testing.T, project)) {
	t.Helper()
	t.Parallel()
	for _, p := range []project{standard, python} {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			test(t, p)
		})
	}
}

// jwk is a published key, with what the SDKs' libraries read of it.
type jwk struct {
	KeyType   string `json:"kty"`
	Use       string `json:"use"`
	Algorithm string `json:"alg"`
	KeyID     string `json:"kid"`
	Curve     string `json:"crv"`
	X         string `json:"x"`
	Y         string `json:"y"`
	N         string `json:"n"`
	E         string `json:"e"`
}

// keys fetches a JWK Set.
func (p project) keys(t *testing.T, path string) []jwk {
	t.Helper()
	response, err := web.Get(p.url + path + p.id)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var set struct{ Keys []jwk }
	if err := json.NewDecoder(response.Body).Decode(&set); err != nil || response.StatusCode != http.StatusOK || len(set.Keys) == 0 {
		t.Fatalf("%s: HTTP %d, %d keys, %v", path, response.StatusCode, len(set.Keys), err)
	}
	return set.Keys
}

// public is the key for golang-jwt: coordinates have their full length, and RSA numbers no
// leading zero (RFC 7518 section 6).
func (k jwk) public() (any, error) {
	var parts [4][]byte
	for n, text := range []string{k.X, k.Y, k.N, k.E} {
		var err error
		if parts[n], err = base64.RawURLEncoding.DecodeString(text); err != nil {
			return nil, fmt.Errorf("key %s: %w", k.KeyID, err)
		}
	}
	x, y, n, e := parts[0], parts[1], new(big.Int).SetBytes(parts[2]), new(big.Int).SetBytes(parts[3])
	switch {
	case k.KeyType == "RSA" && n.BitLen() >= 2048 && e.IsInt64():
		return &rsa.PublicKey{N: n, E: int(e.Int64())}, nil
	case k.KeyType == "EC" && k.Curve == "P-256" && len(x) == 32 && len(y) == 32:
		return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), slices.Concat([]byte{4}, x, y))
	}
	return nil, fmt.Errorf("key %s can't be read: %+v", k.KeyID, k)
}

// authorized is how Stytch's SDKs check scopes: what stands after the colon may be a `*`
// in what is held, and a scope without a colon is only itself.
func authorized(held []string, required ...string) bool {
	split := func(scope string) (action, resource string) {
		action, resource, found := strings.Cut(scope, ":")
		if !found {
			resource = "-"
		}
		return action, resource
	}
	return !slices.ContainsFunc(required, func(r string) bool {
		action, resource := split(r)
		return !slices.ContainsFunc(held, func(h string) bool {
			a, has := split(h)
			return a == action && (has == "*" || has == resource)
		})
	})
}
