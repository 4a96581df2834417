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
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/test/controlplane"
	"github.com/m2m-operator/m2m-operator/test/process"
)

const operatorNamespace = "m2m-system"

// shared is the operator that tests share which don't break it.
var shared *operator

// binary is the operator, built with the race detector.
var binary string

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (int, error) {
	dir, err := os.MkdirTemp("", "integration-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "m2m-operator")
	build := exec.Command("go", "build", "-race", "-o", binary, "github.com/m2m-operator/m2m-operator/cmd/m2m-operator")
	if out, err := build.CombinedOutput(); err != nil {
		return 1, fmt.Errorf("building the operator: %w\n%s", err, out)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	if shared, err = startOperator(ctx, filepath.Join(dir, "shared"), true); err != nil {
		return 1, err
	}
	code := m.Run()
	if err := shared.stop(); err != nil {
		return 1, err
	}
	return code, nil
}

// operator is an installation: a control plane, and the roles that run beside it.
type operator struct {
	client.Client // an administrator's
	cluster       *controlplane.Cluster
	dir           string
	controller    *process.Process
	servers       []*server
	processes     []*process.Process
	issuerURL     string
}

// server is a replica of the token server.
type server struct {
	url   string
	audit string // the file with its audit lines
}

// startOperator starts a control plane and the roles: a controller, and two servers.
func startOperator(ctx context.Context, dir string, controllerManager bool) (*operator, error) {
	cluster, err := controlplane.Start(ctx, controlplane.Options{
		Install:           []string{"config/crd", "config/rbac"},
		ControllerManager: controllerManager,
		Dir:               dir,
	})
	if err != nil {
		return nil, err
	}
	o := &operator{cluster: cluster, dir: dir}
	if err := o.start(ctx); err != nil {
		return nil, errors.Join(err, o.stop())
	}
	return o, nil
}

func (o *operator) start(ctx context.Context) error {
	scheme := runtime.NewScheme()
	err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme))
	if err != nil {
		return err
	}
	if o.Client, err = client.New(o.cluster.Config(), client.Options{Scheme: scheme}); err != nil {
		return err
	}
	for range 2 {
		if err := o.startServer(ctx); err != nil {
			return err
		}
	}
	o.issuerURL = o.servers[0].url
	if err := o.startController(ctx); err != nil {
		return err
	}
	for _, s := range o.servers {
		if err := s.waitReady(ctx); err != nil {
			return fmt.Errorf("%w\n%s", err, process.LogTail(o.processes[0].Log))
		}
	}
	return nil
}

func (o *operator) startController(ctx context.Context) error {
	p, err := o.role(ctx, "controller",
		"--default-issuer-url", o.issuerURL, "--default-issuer-environment", "Test",
		"--metrics-bind-address", "0", "--health-probe-bind-address", "0", "--leader-elect=true")
	o.controller = p
	return err
}

// restartController ends the controller and starts another.
func (o *operator) restartController(ctx context.Context) error {
	o.controller.Stop(10 * time.Second)
	return o.startController(ctx)
}

func (o *operator) startServer(ctx context.Context) error {
	address, err := controlplane.FreeAddress()
	if err != nil {
		return err
	}
	s := &server{url: "http://" + address, audit: filepath.Join(o.dir, fmt.Sprintf("audit-%d.log", len(o.servers)))}
	if _, err := o.role(ctx, "server", "--bind-address", address, "--audit-log", s.audit); err != nil {
		return err
	}
	o.servers = append(o.servers, s)
	return nil
}

// role starts a role of the operator as its own ServiceAccount.
func (o *operator) role(ctx context.Context, name string, args ...string) (*process.Process, error) {
	kubeconfig, err := o.cluster.ServiceAccountKubeconfig(ctx, operatorNamespace, "m2m-operator-"+name)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(o.dir, name+".kubeconfig")
	if err := os.WriteFile(file, kubeconfig, 0o600); err != nil {
		return nil, err
	}
	args = append([]string{name, "--kubeconfig", file, "--namespace", operatorNamespace}, args...)
	log := filepath.Join(o.dir, fmt.Sprintf("%s-%d.log", name, len(o.processes)))
	p, err := process.Start(name, log, exec.Command(binary, args...))
	if err == nil {
		o.processes = append(o.processes, p)
	}
	return p, err
}

// stop stops everything, and reports the data races that were seen.
func (o *operator) stop() error {
	var errs []error
	for _, p := range o.processes {
		p.Stop(10 * time.Second)
		log, err := os.ReadFile(p.Log)
		if err != nil {
			errs = append(errs, err)
		}
		for _, bad := range []string{"DATA RACE", "panic:"} {
			if strings.Contains(string(log), bad) {
				errs = append(errs, fmt.Errorf("%s: %s\n%s", p.Name, bad, log))
			}
		}
	}
	o.cluster.Stop()
	return errors.Join(errs...)
}

// waitReady waits until the replica has a pepper, a signing key and its watches.
func (s *server) waitReady(ctx context.Context) error {
	for {
		response, err := http.Get(s.url + "/readyz")
		if err == nil {
			_ = response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the server at %s is not ready: %w", s.url, ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// answer is what the token endpoint says.
type answer struct {
	status      int
	body        string
	AccessToken string `json:"access_token"`
	Scope       string `json:"scope"`
	Error       string `json:"error"`
	RequestID   string `json:"request_id"`
}

// anonymous is the body without what differs from one request to the next.
func (a answer) anonymous() string { return strings.ReplaceAll(a.body, a.RequestID, "") }

// token asks a replica for a token. The token URL names the issuer's own host, so
// only its path counts.
func (s *server) token(t *testing.T, tokenURL, clientID, clientSecret string, extra ...string) answer {
	t.Helper()
	u, err := url.Parse(tokenURL)
	if err != nil {
		t.Fatal(err)
	}
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {clientID}, "client_secret": {clientSecret}}
	for i := 0; i+1 < len(extra); i += 2 {
		form.Set(extra[i], extra[i+1])
	}
	response, err := http.PostForm(s.url+u.Path, form)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var raw json.RawMessage
	if err := json.NewDecoder(response.Body).Decode(&raw); err != nil {
		t.Fatalf("HTTP %d with a body that isn't JSON: %v", response.StatusCode, err)
	}
	a := answer{status: response.StatusCode, body: string(raw)}
	if err := json.Unmarshal(raw, &a); err != nil {
		t.Fatal(err)
	}
	return a
}

// claims verifies a token against the keys that a replica publishes.
func (s *server) claims(t *testing.T, jwksURL, token string) jwt.MapClaims {
	t.Helper()
	u, err := url.Parse(jwksURL)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.Get(s.url + u.Path)
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
