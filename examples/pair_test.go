// Package examples runs the examples as the programs that they are.
package examples

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const (
	audience = "project-test-1"
	clientID = "m2m-client-test-1"
	scope    = "read:*"
)

// issuer is the network side of a token endpoint: the real one is in another module.
type issuer struct {
	*httptest.Server
	key *ecdsa.PrivateKey

	mu     sync.Mutex
	secret string         // the one that is valid
	issued map[string]int // tokens by secret
}

func newIssuer(t *testing.T) *issuer {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	i := &issuer{key: key, issued: map[string]int{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /token", i.token)
	mux.HandleFunc("GET /jwks", func(w http.ResponseWriter, _ *http.Request) {
		point, _ := key.PublicKey.Bytes() // 4 | X | Y
		encode := base64.RawURLEncoding.EncodeToString
		_, _ = fmt.Fprintf(w, `{"keys":[{"kty":"EC","crv":"P-256","use":"sig","alg":"ES256","kid":"1","x":%q,"y":%q}]}`, encode(point[1:33]), encode(point[33:]))
	})
	mux.HandleFunc("GET /.well-known/oauth-authorization-server", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]string{"issuer": i.URL, "jwks_uri": i.URL + "/jwks"})
	})
	i.Server = httptest.NewServer(mux)
	t.Cleanup(i.Close)
	return i
}

// token issues tokens that live so shortly that each call asks for another.
func (i *issuer) token(w http.ResponseWriter, r *http.Request) {
	id, secret, _ := r.BasicAuth()
	i.mu.Lock()
	defer i.mu.Unlock()
	if id != clientID || secret != i.secret || r.FormValue("grant_type") != "client_credentials" {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	i.issued[secret]++
	now := time.Now().Unix()
	token := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{
		"iss": i.URL, "sub": id, "aud": []string{audience}, "iat": now, "nbf": now - 60, "exp": now + 30, "scope": r.FormValue("scope"),
	})
	token.Header["kid"] = "1"
	text, _ := token.SignedString(i.key)
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"access_token": text, "token_type": "bearer", "expires_in": 30, "scope": scope})
}

// rotate makes another secret the valid one, and writes it where the client's Secret is mounted.
func (i *issuer) rotate(t *testing.T, dir, secret string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.secret = secret
	for name, text := range map[string]string{"client_id": clientID, "client_secret": secret, "token_url": i.URL + "/token"} {
		check(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
}

func (i *issuer) issuedFor(secret string) int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.issued[secret]
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// build returns a directory with the programs.
func build(t *testing.T) string {
	dir := t.TempDir()
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", dir, "./orders", "./billing").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir
}

// startOrders starts the service, and returns its URL.
func startOrders(t *testing.T, bin string, args ...string) string {
	cmd := exec.CommandContext(t.Context(), filepath.Join(bin, "orders"), append(args, "-addr", "127.0.0.1:0", "-audience", audience)...)
	log, err := cmd.StderrPipe()
	check(t, err)
	check(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Signal(os.Interrupt); _ = cmd.Wait() })
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		if _, addr, ok := strings.Cut(lines.Text(), "addr="); ok {
			return "http://" + addr
		}
	}
	t.Fatal("orders doesn't listen")
	return ""
}

// TestPair: one service calls the other, with a token and not without, through a rotation.
func TestPair(t *testing.T) {
	bin, dir, i := build(t), t.TempDir(), newIssuer(t)
	i.rotate(t, dir, "first")
	discovered := startOrders(t, bin, "-issuer", i.URL)
	orders := startOrders(t, bin, "-issuer", i.URL, "-jwks-url", i.URL+"/jwks")
	billing := func(args ...string) *exec.Cmd {
		return exec.CommandContext(t.Context(), filepath.Join(bin, "billing"), append([]string{"-credential-dir", dir}, args...)...)
	}
	const answer = `{"caller":"m2m-client-test-1","orders":["order-1","order-2"]}` + "\n"
	for _, target := range []string{orders, discovered} {
		if out, err := billing("-target", target+"/orders", "-scopes", scope).Output(); err != nil || string(out) != answer {
			t.Fatalf("%v: %s", err, out)
		}
	}
	if out, err := billing("-target", orders+"/orders", "-scopes", "write:orders").CombinedOutput(); err == nil || !strings.Contains(string(out), "insufficient_scope") {
		t.Errorf("%v: %s", err, out)
	}
	response, err := http.Get(orders + "/orders")
	check(t, err)
	_ = response.Body.Close()
	if response.StatusCode != http.StatusUnauthorized {
		t.Errorf("without a token: %d", response.StatusCode)
	}

	long := billing("-target", orders+"/orders", "-scopes", scope, "-every", "10ms")
	var out bytes.Buffer
	long.Stdout = &out
	check(t, long.Start())
	first := i.issuedFor("first")
	eventually(t, func() bool { return i.issuedFor("first") > first+2 })
	i.rotate(t, dir, "second")
	eventually(t, func() bool { return i.issuedFor("second") > 2 })
	check(t, long.Process.Signal(os.Interrupt))
	check(t, long.Wait())
	if rest := strings.ReplaceAll(out.String(), answer, ""); rest != "" || out.Len() < 4*len(answer) {
		t.Errorf("billing printed %q", out.String())
	}
}

func eventually(t *testing.T, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it didn't come")
		}
	}
}

// TestHelp: each flag is explained, and mistakes are errors.
func TestHelp(t *testing.T) {
	bin := build(t)
	for program, flags := range map[string][]string{
		"orders":  {"-addr", "-issuer", "-jwks-url", "-audience", "-profile", "-algorithms"},
		"billing": {"-credential-dir", "-target", "-scopes", "-every"},
	} {
		out, err := exec.CommandContext(t.Context(), filepath.Join(bin, program), "--help").CombinedOutput()
		for _, flag := range flags {
			if err != nil || !strings.Contains(string(out), "\n  "+flag) {
				t.Errorf("%s --help: %v, no %s in\n%s", program, err, flag, out)
			}
		}
		for _, args := range [][]string{{"-nothing"}, {"-credential-dir", "/nowhere"}, {"-issuer", "https://auth.example.com"}} {
			if out, err := exec.CommandContext(t.Context(), filepath.Join(bin, program), args...).CombinedOutput(); err == nil {
				t.Errorf("%s %v: %s", program, args, out)
			}
		}
	}
}
