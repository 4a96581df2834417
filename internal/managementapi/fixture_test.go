package managementapi

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	projectID     = "project-test-11111111-1111-4111-8111-111111111111"
	projectSecret = "m2mP7rGq2vX9bTn4LkWc8ZsHd3JfYe6RuA5iOo1tMxN"
	kubeToken     = "eyJhbGciOiJSUzI1NiJ9.eyJhdWQiOiJ4In0.c2lnbmF0dXJl"
	foreignToken  = "eyJhbGciOiJSUzI1NiJ9.eyJhdWQiOiJ5In0.c2lnbmF0dXJl" // of an issuer that only others know
	chosenSecret  = "Xk29fjQw81LmZpRt"
	madeSecret    = "jZ3kq8vT1mYx5RbN7cWd2LfH9sGpA4uE6oKiQ0tXx8F"
	clientID      = "m2m-client-test-22222222-2222-4222-8222-222222222222"
	clientPath    = "/v1/m2m/clients/" + clientID
	peer          = "192.0.2.7"
)

var errUnauthorized = &Problem{Status: 401, Type: TypeUnauthorized, Message: "the credentials are not valid", Reason: "wrong_project_secret"}

// fixture is a handler over fakes.
type fixture struct {
	handler *Handler
	clients *fakeClients
	audit   *auditBuffer
	log     *bytes.Buffer
	metrics *prometheus.Registry
	now     time.Time
}

func newFixture(t testing.TB, change func(*Config)) *fixture {
	t.Helper()
	f := &fixture{clients: &fakeClients{}, audit: &auditBuffer{}, log: &bytes.Buffer{}, metrics: prometheus.NewRegistry(), now: time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)}
	config := Config{
		Authenticator: fakeAuthenticator{},
		Clients:       f.clients,
		Peer:          func(*http.Request) string { return peer },
		Audit:         f.audit,
		LogID:         logID,
		Metrics:       f.metrics,
		Log:           slog.New(slog.NewTextHandler(f.log, nil)),
		Now:           func() time.Time { return f.now },
		Random:        zeros{},
	}
	if change != nil {
		change(&config)
	}
	var err error
	if f.handler, err = NewHandler(config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, secret := range []string{projectSecret, kubeToken, chosenSecret, madeSecret, basic(projectID, projectSecret)} {
			if strings.Contains(f.audit.String()+f.log.String(), secret) {
				t.Errorf("a secret is in the logs: %s%s", f.audit, f.log)
			}
		}
	})
	return f
}

// do calls the handler with a path as it stands in the request line. Headers are names and
// values; without any, the project authenticates and the body is JSON.
func (f *fixture) do(t testing.TB, method, path, body string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	u, err := url.ParseRequestURI(path)
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest(method, "/", strings.NewReader(body))
	r.URL = u
	if headers == nil {
		headers = []string{"Authorization", basic(projectID, projectSecret), "Content-Type", "application/json"}
	}
	for pair := range slices.Chunk(headers, 2) {
		r.Header.Add(pair[0], pair[1])
	}
	w := httptest.NewRecorder()
	f.handler.ServeHTTP(w, r)
	return w
}

// problem checks that an answer is an error as Stytch's SDKs read it, and returns its type
// and message.
func problemIn(t testing.TB, w *httptest.ResponseRecorder) (kind, message string) {
	t.Helper()
	var members map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &members); err != nil {
		t.Fatalf("%q: %v", w.Body, err)
	}
	if names := slices.Sorted(maps.Keys(members)); !slices.Equal(names, []string{"error_message", "error_type", "error_url", "request_id", "status_code"}) {
		t.Errorf("the members are %q", names)
	}
	if members["status_code"] != float64(w.Code) {
		t.Errorf("status_code is %v, but the status %d", members["status_code"], w.Code)
	}
	checkHeaders(t, w)
	kind, _ = members["error_type"].(string)
	message, _ = members["error_message"].(string)
	if kind == "" || message == "" {
		t.Errorf("%s says nothing", w.Body)
	}
	return kind, message
}

var requestIDs = regexp.MustCompile(`^request-id-((test|live)-)?[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)

func checkHeaders(t testing.TB, w *httptest.ResponseRecorder) {
	t.Helper()
	for name, want := range map[string]string{"Content-Type": "application/json", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"} {
		if got := w.Header().Get(name); got != want {
			t.Errorf("%s is %q, not %q", name, got, want)
		}
	}
	var answer struct {
		RequestID string `json:"request_id"`
	}
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || !requestIDs.MatchString(answer.RequestID) {
		t.Errorf("the request id is %q, %v", answer.RequestID, err)
	}
}

// audited returns the lines of the audit log, and forgets them.
func (f *fixture) audited(t testing.TB) (lines []map[string]any) {
	t.Helper()
	for line := range strings.Lines(f.audit.take()) {
		var members map[string]any
		if err := json.Unmarshal([]byte(line), &members); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		lines = append(lines, members)
	}
	return lines
}

func basic(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

// fakeAuthenticator knows one project, one secret and one token.
type fakeAuthenticator struct{}

func (fakeAuthenticator) Basic(_ context.Context, project, secret string) (Caller, error) {
	switch project {
	case "broken":
		return Caller{}, errors.New("no idea")
	case "later":
		return Caller{}, &Problem{Status: 503, Type: TypeUnavailable, Message: "later"}
	}
	if project != projectID {
		return Caller{}, errUnauthorized
	}
	by := Caller{Issuer: "default", ProjectID: projectID}
	if secret != projectSecret {
		return by, errUnauthorized
	}
	by.Method, by.Credential, by.User.Name = ByProjectSecret, "ci", "m2m-operator.dev:project:"+projectID
	return by, nil
}

func (fakeAuthenticator) Bearer(_ context.Context, token string, limited func() error) (Caller, error) {
	switch token {
	case kubeToken:
	case foreignToken: // only others can tell
		if err := limited(); err != nil {
			return Caller{}, err
		}
	default:
		return Caller{}, errUnauthorized
	}
	return Caller{Issuer: "default", ProjectID: projectID, Live: true, Method: ByToken, User: User{Name: "jane"}}, nil
}

// fakeClients records calls as text, and answers with one client.
type fakeClients struct {
	mu    sync.Mutex
	calls []string
	err   error
	panic any
	page  Page
}

func (c *fakeClients) called(name string, by Caller, arguments ...any) (Changed, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	text, err := encodeJSON(arguments)
	if err != nil || by.ProjectID != projectID {
		panic("an odd call")
	}
	c.calls = append(c.calls, name+" "+string(text))
	if c.panic != nil {
		panic(c.panic)
	}
	return Changed{Client: aClient(), Version: 42, Namespace: "apis"}, c.err
}

func (c *fakeClients) take() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer func() { c.calls = nil }()
	return strings.Join(c.calls, "\n")
}

func aClient() Client {
	return Client{
		ID: clientID, Name: `Billing <"service">`, Description: "Charges cards", Active: true, Scopes: []string{"read:users"}, LastFour: "xx8F",
		TrustedMetadata: map[string]json.RawMessage{"tier": json.RawMessage(`{ "n" : 1.50, "big":12345678901234567890 }`)},
	}
}

func (c *fakeClients) Create(_ context.Context, by Caller, creation Creation) (Changed, error) {
	after, err := c.called("Create", by, creation)
	after.Secret = madeSecret
	return after, err
}

func (c *fakeClients) Get(_ context.Context, by Caller, id string) (Client, error) {
	after, err := c.called("Get", by, id)
	return after.Client, err
}

func (c *fakeClients) Search(_ context.Context, by Caller, s Search) (Page, error) {
	_, err := c.called("Search", by, s)
	return c.page, err
}

func (c *fakeClients) Update(_ context.Context, by Caller, id string, change Change) (Changed, error) {
	after, err := c.called("Update", by, id, change)
	after.Client.Active = false
	return after, err
}

// The rest answer with a secret too: only the answers that it is for may hold it.

func (c *fakeClients) Delete(_ context.Context, by Caller, id string) (Changed, error) {
	after, err := c.called("Delete", by, id)
	after.Secret = madeSecret
	return after, err
}

func (c *fakeClients) StartRotation(_ context.Context, by Caller, id string) (Changed, error) {
	after, err := c.called("StartRotation", by, id)
	after.Client.NextLastFour, after.Secret = "N3xt", madeSecret
	return after, err
}

func (c *fakeClients) Rotate(_ context.Context, by Caller, id string) (Changed, error) {
	after, err := c.called("Rotate", by, id)
	after.Secret = madeSecret
	return after, err
}

func (c *fakeClients) CancelRotation(_ context.Context, by Caller, id string) (Changed, error) {
	after, err := c.called("CancelRotation", by, id)
	after.Secret = madeSecret
	return after, err
}

// auditBuffer fails from the failAt'th Write on, where that isn't 0.
type auditBuffer struct {
	mu             sync.Mutex
	text           bytes.Buffer
	writes, failAt int
}

func (b *auditBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.writes++; b.failAt != 0 && b.writes >= b.failAt {
		return 0, errors.New("the disk is full")
	}
	return b.text.Write(p)
}

func (b *auditBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func (b *auditBuffer) take() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.text.Reset()
	return b.text.String()
}

// zeros is a random source for request ids that are known before.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

var _ io.Reader = zeros{}

// logID stands for ids that are nobody's, as far as is known, but those of the operator's form.
func logID(id string) string {
	if strings.HasPrefix(id, "m2m-client-") {
		return id
	}
	return "(unknown)"
}
