package tokenserver

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/m2m-operator/m2m-operator/internal/credential"
	"github.com/m2m-operator/m2m-operator/internal/keyring"
	"github.com/m2m-operator/m2m-operator/internal/token"
)

const (
	projectID = "project-test-11111111-1111-4111-8111-111111111111"
	clientID  = "m2m-client-test-22222222-2222-4222-8222-222222222222"
	secret    = "jZ3kq8vT1mYx5RbN7cWd2LfH9sGpA4uE6oKiQ0tXx8F"
	tokenPath = "/v1/public/" + projectID + "/oauth2/token"
	goodForm  = "grant_type=client_credentials&client_id=" + clientID + "&client_secret=" + secret
)

// fixture is a token server on the loopback interface, with one issuer at
// https://auth.example.com and one at https://auth.example.com/tenant.
type fixture struct {
	url, address string
	key          keyring.Key
	directory    *directory
	used         *uses
	revoked      *revocations
	audit        *buffer
	log          *buffer
	metrics      *prometheus.Registry
	server       *http.Server
	handler      *Handler
}

// newFixture starts a server; change may change its configuration first. No test
// may bring the secret into a log.
func newFixture(t testing.TB, change func(*Config, *http.Server)) *fixture {
	t.Helper()
	key, err := keyring.Generate(rand.Reader, keyring.ES256, time.Now())
	check(t, err)
	issuers := token.NewIssuers(
		newIssuer(t, key, token.IssuerConfig{Name: "default", URL: "https://auth.example.com", ProjectID: projectID, Profile: token.Stytch}),
		newIssuer(t, key, token.IssuerConfig{Name: "tenant", URL: "https://auth.example.com/tenant", ProjectID: "tenant", Live: true, Profile: token.RFC9068}),
	)
	f := &fixture{key: key, directory: newDirectory(t), used: &uses{}, revoked: &revocations{}, audit: &buffer{}, log: &buffer{}, metrics: prometheus.NewRegistry()}
	log := slog.New(slog.NewTextHandler(f.log, nil))
	config := Config{
		Issuers:     issuers,
		Authority:   token.NewAuthority(f.directory, rand.Reader),
		Usage:       f.used,
		Revocations: f.revoked,
		Audit:       f.audit,
		LogID:       logID,
		Metrics:     f.metrics,
		Log:         log,
		Now:         time.Now,
		Random:      rand.Reader,
	}
	f.server = NewServer(nil, log)
	if change != nil {
		change(&config, f.server)
	}
	f.handler, err = NewHandler(config)
	check(t, err)
	f.server.Handler = f.handler
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	f.address = listener.Addr().String()
	f.url = "http://" + f.address
	go func() { _ = f.server.Serve(listener) }()
	t.Cleanup(func() {
		if err := f.server.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if logs := f.audit.String() + f.log.String(); strings.Contains(logs, secret) {
			t.Errorf("a secret is in the logs: %s", logs)
		}
	})
	return f
}

func newIssuer(t testing.TB, key keyring.Key, c token.IssuerConfig) *token.Issuer {
	t.Helper()
	c.Keys = keyring.Ring{Keys: []keyring.Key{key}}
	issuer, err := token.NewIssuer(rand.Reader, c)
	check(t, err)
	return issuer
}

// directory is what the server asks for clients.
type directory struct {
	pepper  *credential.Pepper
	clients map[string]*token.Client
}

// newDirectory holds the usual client, one that is inactive and one whose secret
// has expired, for whatever issuer.
func newDirectory(t testing.TB) *directory {
	t.Helper()
	pepper, err := credential.NewPepper(rand.Reader)
	check(t, err)
	d := &directory{pepper, map[string]*token.Client{}}
	for _, c := range []struct {
		id       string
		active   bool
		notAfter time.Time
	}{
		{clientID, true, time.Time{}},
		{"inactive", false, time.Time{}},
		{"expired", true, time.Now().Add(-time.Hour)},
	} {
		client, err := token.NewClient(token.ClientConfig{
			ID: c.id, Active: c.active, Lifetime: time.Hour,
			Scopes:      []string{"read:settings", "write:settings"},
			Audiences:   []string{projectID},
			Credentials: []token.Credential{{Version: "1-0tXx", Hash: pepper.Hash(c.id, secret), NotAfter: c.notAfter}},
		})
		check(t, err)
		d.clients[c.id] = client
	}
	return d
}

func (d *directory) Client(_ *token.Issuer, id string) (*token.Client, bool) {
	client, ok := d.clients[id]
	return client, ok
}

func (d *directory) ClientsOf(*token.Issuer, token.Account) []*token.Client { return nil }
func (d *directory) AccountUID(token.Account) string                        { return "" }
func (d *directory) Cluster() *token.Cluster                                { return nil }
func (d *directory) UnknownClusterKey()                                     {}
func (d *directory) Freshness(time.Time) token.Freshness                    { return token.Fresh }

func (d *directory) Pepper() *credential.Pepper { return d.pepper }

// uses are the secrets that got tokens: issuer, client and version.
type uses struct {
	mu  sync.Mutex
	all []string
}

func (u *uses) Used(issuer, clientID, version string, _ time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.all = append(u.all, issuer+" "+clientID+" "+version)
}

func (u *uses) String() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return strings.Join(u.all, "\n")
}

// revocations keep what was revoked, unless they are to fail.
type revocations struct {
	mu   sync.Mutex
	all  []string
	fail error
}

func (r *revocations) Revoke(_ context.Context, issuer, clientID string, digest [32]byte, _ time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fail == nil {
		r.all = append(r.all, fmt.Sprintf("%s %s %x", issuer, clientID, digest[:4]))
	}
	return r.fail
}

// buffer is a log that is read while it is written.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// answer is what a caller gets.
type answer struct {
	status int
	header http.Header
	raw    string
	body   struct {
		AccessToken string `json:"access_token"`
		TokenType   string `json:"token_type"`
		ExpiresIn   int    `json:"expires_in"`
		Scope       string `json:"scope"`
		Error       string `json:"error"`
		Description string `json:"error_description"`
		URI         string `json:"error_uri"`
		StatusCode  int    `json:"status_code"`
		RequestID   string `json:"request_id"`
	}
}

// request makes an HTTP/1.1 request. Headers are pairs; a Content-Type is only
// sent if it is among them.
func request(method, target, body string, headers ...string) string {
	var b strings.Builder
	b.WriteString(method + " " + target + " HTTP/1.1\r\nHost: auth.example.com\r\n")
	for i := 0; i < len(headers); i += 2 {
		b.WriteString(headers[i] + ": " + headers[i+1] + "\r\n")
	}
	b.WriteString("Content-Length: " + itoa(len(body)) + "\r\n\r\n" + body)
	return b.String()
}

func post(body string, headers ...string) string {
	return request(http.MethodPost, tokenPath, body, append([]string{"Content-Type", formType}, headers...)...)
}

// send sends bytes as they are, over a connection of its own, and reads the answer.
func (f *fixture) send(t testing.TB, raw string) answer {
	t.Helper()
	conn, err := net.Dial("tcp", f.address)
	check(t, err)
	defer conn.Close()
	go func() { _, _ = io.WriteString(conn, raw) }() // the server may hang up first
	method, _, _ := strings.Cut(raw, " ")
	return read(t, conn, method)
}

func read(t testing.TB, conn net.Conn, method string) answer {
	t.Helper()
	check(t, conn.SetReadDeadline(time.Now().Add(30*time.Second)))
	response, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	check(t, err)
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	check(t, err)
	a := answer{status: response.StatusCode, header: response.Header, raw: string(raw)}
	if len(raw) > 0 && json.Valid(raw) {
		check(t, json.Unmarshal(raw, &a.body))
	}
	return a
}

// auditLine is a line of the audit log.
type auditLine struct {
	Time      time.Time `json:"time"`
	Event     string    `json:"event"`
	RequestID string    `json:"request_id"`
	Issuer    string    `json:"issuer"`
	ClientID  string    `json:"client_id"`
	Method    string    `json:"method"`
	Account   string    `json:"service_account"`
	Digest    string    `json:"token_digest"`
	Version   string    `json:"version"`
	Scope     string    `json:"scope"`
	Outcome   string    `json:"outcome"`
	Reason    string    `json:"reason"`
	Peer      string    `json:"peer"`
	Duration  int64     `json:"duration_us"`
}

// audited returns the audit line of an answer.
func (f *fixture) audited(t testing.TB, a answer) auditLine {
	t.Helper()
	var found []auditLine
	for line := range strings.Lines(f.audit.String()) {
		var l auditLine
		decoder := json.NewDecoder(strings.NewReader(line))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&l); err != nil {
			t.Fatalf("audit line %q: %v", line, err)
		}
		if l.RequestID == a.body.RequestID {
			found = append(found, l)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d audit lines for %s", len(found), a.raw)
	}
	return found[0]
}

var (
	requestIDForm = regexp.MustCompile(`^request-id-(live-|test-)?[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	// descriptionForm is RFC 6749 section 5.2.
	descriptionForm = regexp.MustCompile(`^[ !#-\[\]-~]+$`)
)

// checkRefusal checks what is true of every refusal.
func checkRefusal(t testing.TB, a answer, status int, code string) {
	t.Helper()
	if a.status != status || a.body.StatusCode != status || a.body.Error != code {
		t.Fatalf("%d, %s; not %d, %q", a.status, a.raw, status, code)
	}
	if !descriptionForm.MatchString(a.body.Description) || !requestIDForm.MatchString(a.body.RequestID) {
		t.Errorf("description or request id are malformed: %s", a.raw)
	}
	if u, err := url.Parse(a.body.URI); err != nil || !u.IsAbs() {
		t.Errorf("error_uri is malformed: %s", a.raw)
	}
	if a.body.AccessToken != "" || strings.Contains(a.raw, secret) {
		t.Errorf("a refusal gives something away: %s", a.raw)
	}
	if got := a.header.Get("WWW-Authenticate"); strings.HasPrefix(got, "Basic realm=") != (status == http.StatusUnauthorized) {
		t.Errorf("%d comes with WWW-Authenticate %q", status, got)
	}
	checkNotKept(t, a)
}

func checkNotKept(t testing.TB, a answer) {
	t.Helper()
	if a.header.Get("Cache-Control") != "no-store" || a.header.Get("Pragma") != "no-cache" || a.header.Get("Content-Type") != "application/json" {
		t.Errorf("headers %v", a.header)
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// logID stands for ids that are nobody's: not keyed, as tests can tell.
func logID(id string) string {
	sum := sha256.Sum256([]byte(id))
	return "(unknown: " + hex.EncodeToString(sum[:8]) + ")"
}
