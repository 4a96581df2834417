package managementapi

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// TestAuthentication: who may call, and that others learn nothing, whatever they ask for.
func TestAuthentication(t *testing.T) {
	f := newFixture(t, nil)
	good := basic(projectID, projectSecret)
	for name, test := range map[string]struct {
		authorization []string
		want          string
		issuer        any
	}{
		"project secret":      {[]string{good}, "200 ok ", "default"},
		"small letters":       {[]string{"basic  " + good[6:]}, "200 ok ", "default"},
		"Kubernetes token":    {[]string{"Bearer " + kubeToken}, "200 ok ", "default"},
		"nothing":             {nil, "401 unauthorized_credentials no_credential", ""},
		"empty":               {[]string{""}, "401 unauthorized_credentials unsupported_scheme", ""},
		"twice":               {[]string{good, good}, "401 unauthorized_credentials two_authorizations", ""},
		"another scheme":      {[]string{"Digest " + projectSecret}, "401 unauthorized_credentials unsupported_scheme", ""},
		"no scheme":           {[]string{projectSecret}, "401 unauthorized_credentials unsupported_scheme", ""},
		"not base64":          {[]string{"Basic " + projectID + ":" + projectSecret}, "401 unauthorized_credentials malformed_basic", ""},
		"no padding":          {[]string{"Basic YTpiYw"}, "401 unauthorized_credentials malformed_basic", ""},
		"trailing bits":       {[]string{"Basic YTpiYx=="}, "401 unauthorized_credentials malformed_basic", ""},
		"more behind":         {[]string{good + " "}, "401 unauthorized_credentials malformed_basic", ""},
		"base64 of the web":   {[]string{"Basic YTpi_w=="}, "401 unauthorized_credentials malformed_basic", ""},
		"no colon":            {[]string{"Basic YWI="}, "401 unauthorized_credentials malformed_basic", ""},
		"no id":               {[]string{basic("", projectSecret)}, "401 unauthorized_credentials malformed_basic", ""},
		"no secret":           {[]string{basic(projectID, "")}, "401 unauthorized_credentials malformed_basic", ""},
		"control":             {[]string{basic(projectID, "a\x00")}, "401 unauthorized_credentials malformed_basic", ""},
		"not UTF-8":           {[]string{basic(projectID, "\xff")}, "401 unauthorized_credentials malformed_basic", ""},
		"colon in the secret": {[]string{basic(projectID, "a:b")}, "401 unauthorized_credentials wrong_project_secret", "default"},
		"wrong secret":        {[]string{basic(projectID, chosenSecret)}, "401 unauthorized_credentials wrong_project_secret", "default"},
		"unknown project":     {[]string{basic("project-test-x", projectSecret)}, "401 unauthorized_credentials wrong_project_secret", ""},
		"the wrong way round": {[]string{basic(projectSecret, projectID)}, "401 unauthorized_credentials wrong_project_secret", ""},
		"no token":            {[]string{"Bearer "}, "401 unauthorized_credentials malformed_bearer", ""},
		"padding alone":       {[]string{"Bearer =="}, "401 unauthorized_credentials malformed_bearer", ""},
		"odd token":           {[]string{"Bearer a b"}, "401 unauthorized_credentials malformed_bearer", ""},
		"wrong token":         {[]string{"Bearer " + strings.Repeat("a", maxBearer)}, "401 unauthorized_credentials wrong_project_secret", ""},
		"long token":          {[]string{"Bearer " + strings.Repeat("a", maxBearer+1)}, "401 unauthorized_credentials malformed_bearer", ""},
		"a broken other side": {[]string{basic("broken", "x")}, "500 internal_server_error internal", ""},
	} {
		t.Run(name, func(t *testing.T) {
			headers := []string{"Content-Type", "application/json"}
			for _, a := range test.authorization {
				headers = append(headers, "Authorization", a)
			}
			f.clients.take()
			w := f.do(t, "GET", clientPath, "", headers...)
			line := f.audited(t)[0]
			if got := fmt.Sprint(w.Code, " ", line["outcome"], " ", line["reason"]); got != test.want || line["issuer"] != test.issuer {
				t.Errorf("it is %q of issuer %q, not %q", got, line["issuer"], test.want)
			}
			if w.Code == 200 {
				return
			}
			first := w.Body.String()
			if calls := f.clients.take(); calls != "" || !strings.Contains(first, `"request-id-00000000-`) {
				t.Errorf("a stranger learned %s, or got as far as %s", first, calls)
			}
			if challenge := w.Header().Get("WWW-Authenticate"); w.Code == 401 && challenge != `Basic realm="management API", Bearer` {
				t.Errorf("the challenge is %q", challenge)
			}
			for _, other := range []string{"POST /v1/m2m/frob", "HEAD /v1/m2m/clients", "POST /v1/m2m/clients", "DELETE /v1/m2m/clients/x"} {
				method, path, _ := strings.Cut(other, " ")
				if got := f.do(t, method, path, "{", headers...).Body.String(); got != first {
					t.Errorf("%s is answered %s, not %s", other, got, first)
				}
			}
			f.audited(t)
		})
	}
}

// FuzzAuthorization: only the right credentials let anybody in, and no header is an error of
// this side.
func FuzzAuthorization(f *testing.F) {
	for _, seed := range []string{basic(projectID, projectSecret), basic(projectID, "a:b"), "Bearer " + kubeToken, "Bearer  a=", "Basic YTpiYx==", "Basic", "", "bearer \x00"} {
		f.Add(seed)
	}
	x := newFixture(f, nil)
	f.Fuzz(func(t *testing.T, authorization string) {
		scheme, rest, _ := strings.Cut(authorization, " ")
		rest = strings.TrimLeft(rest, " ")
		if project, _, _ := parseBasic(rest); project == "broken" || project == "later" {
			return // so is the authenticator
		}
		w := x.do(t, "GET", clientPath, "", "Authorization", authorization)
		x.audit.take()
		right := strings.EqualFold(scheme, "Basic") && rest == basic(projectID, projectSecret)[6:] || strings.EqualFold(scheme, "Bearer") && rest == kubeToken
		if called := x.clients.take() != ""; called != right || (w.Code == 200) != right || !right && w.Code != 401 {
			t.Errorf("%q is answered %d", authorization, w.Code)
		}
	})
}

// failures counts, and limits from the third on.
type failures struct{ keys [][]string }

func (f *failures) Limited(_ time.Time, keys ...string) (time.Duration, bool) {
	f.keys = append(f.keys, keys)
	return 1500 * time.Millisecond, len(f.keys) > 2
}

func (f *failures) Spent(time.Time, string) (time.Duration, bool) {
	return time.Second, len(f.keys) > 2
}

// TestFailures: wrong credentials are limited by who is named and from where; a right one
// never is, nor does what needs no looking up count.
func TestFailures(t *testing.T) {
	counted := &failures{}
	f := newFixture(t, func(c *Config) { c.Failures = counted })
	call := func(authorization string) *httptest.ResponseRecorder {
		return f.do(t, "GET", clientPath, "", "Authorization", authorization)
	}
	call("Basic frob")
	call("Digest frob")
	call(basic("broken", "x"))
	call(basic("later", "x"))
	if counted.keys != nil {
		t.Errorf("%q were counted", counted.keys)
	}
	for i, status := range []int{401, 401, 429} {
		if w := call(basic(projectID, "wrong")); w.Code != status {
			t.Errorf("failure %d is answered %d", i, w.Code)
		}
	}
	w := call("Bearer wrong")
	if kind, _ := problemIn(t, w); w.Code != 429 || kind != TypeTooManyRequests || w.Header().Get("Retry-After") != "2" || w.Header().Get("WWW-Authenticate") != "" {
		t.Errorf("it is answered %d %v %s", w.Code, w.Header(), w.Body)
	}
	if w := call("Bearer " + foreignToken); w.Code != 429 || w.Header().Get("Retry-After") != "1" {
		t.Errorf("what only others can check is answered %d %v", w.Code, w.Header())
	}
	for _, right := range []string{basic(projectID, projectSecret), "Bearer " + kubeToken} {
		if w := call(right); w.Code != 200 {
			t.Errorf("a right credential is answered %d", w.Code)
		}
	}
	if want := []string{"project", projectID, peer}; !slices.Equal(counted.keys[0], want) || !slices.Equal(counted.keys[3], []string{peer}) || len(counted.keys) != 4 {
		t.Errorf("the keys are %q", counted.keys)
	}
}

// TestProblems: what the cluster side says is passed on as it is; what it doesn't explain
// is opaque, and logged.
func TestProblems(t *testing.T) {
	for name, test := range map[string]struct {
		err        error
		panic      any
		want       string
		retryAfter string
		logged     string
	}{
		"not found":   {err: NotFound(), want: "404 m2m_client_not_found m2m_client_not_found"},
		"conflict":    {err: fmt.Errorf("wrapped: %w", &Problem{Status: 409, Type: TypeConflict, Message: "Git owns it", Reason: "owned"}), want: "409 conflict owned"},
		"busy":        {err: &Problem{Status: 429, Type: TypeTooManyRequests, Message: "too much"}, want: "429 too_many_requests too_many_requests", retryAfter: "1"},
		"unavailable": {err: &Problem{Status: 503, Type: TypeUnavailable, Message: "later", RetryAfter: 3 * time.Second}, want: "503 service_unavailable service_unavailable", retryAfter: "3"},
		"no time":     {err: &Problem{Status: 503, Type: TypeUnavailable, Message: "later"}, want: "503 service_unavailable service_unavailable"},
		"cancelled":   {err: fmt.Errorf("patch: %w", context.Canceled), want: "503 service_unavailable timeout", retryAfter: "2"},
		"too late":    {err: context.DeadlineExceeded, want: "503 service_unavailable timeout", retryAfter: "2"},
		"unknown":     {err: errors.New("etcd says no"), want: "500 internal_server_error internal", logged: "etcd says no"},
		"no problem":  {err: &Problem{Status: 200, Type: "fine"}, want: "500 internal_server_error internal", logged: "fine"},
		"panic":       {panic: "at the disco", want: "500 internal_server_error panic", logged: "at the disco"},
		"net/http's":  {panic: http.ErrAbortHandler, want: "500 internal_server_error panic", logged: "abort"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, call := range []string{"POST /v1/m2m/clients", "GET " + clientPath, "POST /v1/m2m/clients/search", "PUT " + clientPath, "DELETE " + clientPath, "POST " + clientPath + "/secrets/rotate"} {
				f := newFixture(t, nil)
				f.clients.err, f.clients.panic = test.err, test.panic
				method, path, _ := strings.Cut(call, " ")
				w := f.do(t, method, path, `{}`)
				kind, message := problemIn(t, w)
				lines := f.audited(t)
				if got := fmt.Sprint(w.Code, " ", kind, " ", lines[len(lines)-1]["reason"]); got != test.want {
					t.Errorf("%s is answered %q, not %q", call, got, test.want)
				}
				if got := w.Header().Get("Retry-After"); got != test.retryAfter || w.Header().Get(VersionHeader) != "" {
					t.Errorf("%s is answered with %v", call, w.Header())
				}
				logged := f.log.String()
				if test.logged != "" && (!strings.Contains(logged, test.logged) || strings.Contains(message, test.logged)) || test.logged == "" && logged != "" {
					t.Errorf("%s: the log is %q, the answer %q", call, logged, message)
				}
			}
		})
	}
}

// TestBrokenAnswer: what can't be written as JSON is an error of this side.
func TestBrokenAnswer(t *testing.T) {
	f := newFixture(t, nil)
	f.clients.page = Page{Clients: []Client{{TrustedMetadata: map[string]json.RawMessage{"a": json.RawMessage("{")}}}}
	if w := f.do(t, "POST", "/v1/m2m/clients/search", `{}`); w.Code != 500 || f.log.Len() == 0 {
		t.Errorf("it is answered %d %s", w.Code, w.Body)
	}
}

// TestAudit: every call leaves one line, before it is answered; a change is announced by
// another before it is made.
func TestAudit(t *testing.T) {
	secretly := strings.Repeat("aB3", 15)
	for name, test := range map[string]struct {
		method, path, body, authorization string
		want                              []string
	}{
		"get":             {"GET", clientPath, "", "", []string{"get " + clientID + " ok  200"}},
		"get, by token":   {"GET", clientPath, "", "Bearer " + kubeToken, []string{"get " + clientID + " ok  200"}},
		"create":          {"POST", "/v1/m2m/clients", `{"client_secret":"` + chosenSecret + `","client_id":"chosen"}`, "", []string{"create (unknown) attempt  0", "create " + clientID + " ok  200"}},
		"create, made id": {"POST", "/v1/m2m/clients", `{}`, "", []string{"create  attempt  0", "create " + clientID + " ok  200"}},
		"update":          {"PUT", clientPath, `{"trusted_metadata":{"a":"b"}}`, "", []string{"update " + clientID + " attempt  0", "update " + clientID + " ok  200"}},
		"delete":          {"DELETE", clientPath, ``, "", []string{"delete " + clientID + " attempt  0", "delete " + clientID + " ok  200"}},
		"start":           {"POST", clientPath + "/secrets/rotate/start", ``, "", []string{"rotate_start " + clientID + " attempt  0", "rotate_start " + clientID + " ok  200"}},
		"rotate":          {"POST", clientPath + "/secrets/rotate", ``, "", []string{"rotate " + clientID + " attempt  0", "rotate " + clientID + " ok  200"}},
		"cancel":          {"POST", clientPath + "/secrets/rotate/cancel", ``, "", []string{"rotate_cancel " + clientID + " attempt  0", "rotate_cancel " + clientID + " ok  200"}},
		"bad input":       {"PUT", clientPath, `{"status":"frob"}`, "", []string{"update " + clientID + " invalid_argument status 400"}},
		"nowhere":         {"PUT", "/v1/m2m/frob", `{}`, "", []string{"  route_not_found route_not_found 404"}},
		"method":          {"PATCH", clientPath, `{}`, "", []string{"  method_not_allowed method_not_allowed 405"}},
		"a secret as id":  {"DELETE", "/v1/m2m/clients/" + secretly, "", "", []string{"delete (unknown) attempt  0", "delete " + secretly + " ok  200"}},
		"a long id":       {"GET", "/v1/m2m/clients/" + strings.Repeat("a-", 100), "", "", []string{"get " + strings.Repeat("a-", 64) + " ok  200"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, nil)
			if test.authorization == "" {
				test.authorization = basic(projectID, projectSecret)
			}
			w := f.do(t, test.method, test.path, test.body, "Authorization", test.authorization, "Content-Type", "application/json")
			var got []string
			for _, line := range f.audited(t) {
				got = append(got, fmt.Sprint(line["action"], " ", line["client_id"], " ", line["outcome"], " ", line["reason"], " ", line["status"]))
				caller, method, credential := "m2m-operator.dev:project:"+projectID, "project_secret", "ci"
				if strings.HasPrefix(test.authorization, "Bearer") {
					caller, method, credential = "jane", "kubernetes", ""
				}
				for name, want := range map[string]any{
					"time": "2026-11-23T08:00:00Z", "event": "management", "project_id": projectID, "issuer": "default", "caller": caller, "method": method, "credential": credential, "peer": peer, "duration_us": 0.0,
				} {
					if line[name] != want {
						t.Errorf("%s is %v, not %v", name, line[name], want)
					}
				}
				if id, _ := line["request_id"].(string); !strings.Contains(w.Body.String(), id) {
					t.Errorf("the line is of request %s, not %s", id, w.Body)
				}
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("the lines are %q, not %q", got, test.want)
			}
		})
	}
}

// TestUnknownSecretAsID: an id that looks like a secret, and is nobody's, is withheld.
func TestUnknownSecretAsID(t *testing.T) {
	f := newFixture(t, nil)
	f.clients.err = NotFound()
	w := f.do(t, "GET", "/v1/m2m/clients/"+madeSecret, "") // the fixture looks for it in the logs
	if w.Code != 404 || strings.Contains(w.Body.String(), madeSecret) {
		t.Errorf("it is answered %s", w.Body)
	}
}

// TestBrokenAudit: without an audit line nothing is changed, and nothing given out.
func TestBrokenAudit(t *testing.T) {
	for name, test := range map[string]struct {
		method, path string
		failAt       int
		calls        string
		message      string
	}{
		"before a change": {"POST", "/v1/m2m/clients", 1, "", "something went wrong"},
		"after a change":  {"POST", "/v1/m2m/clients", 2, "Create", "was carried out, but"},
		"after a start":   {"POST", clientPath + "/secrets/rotate/start", 2, "StartRotation", "was carried out, but"},
		"after a get":     {"GET", clientPath, 1, "Get", "something went wrong"},
		"after a search":  {"POST", "/v1/m2m/clients/search", 1, "Search", "something went wrong"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, nil)
			f.audit.failAt = test.failAt
			w := f.do(t, test.method, test.path, `{}`)
			_, message := problemIn(t, w)
			if w.Code != 500 || !strings.Contains(message, test.message) || strings.Contains(w.Body.String(), clientID) || strings.Contains(w.Body.String(), madeSecret) {
				t.Errorf("it is answered %d %s", w.Code, w.Body)
			}
			if calls := f.clients.take(); !strings.HasPrefix(calls, test.calls) || (calls == "") != (test.calls == "") {
				t.Errorf("the calls are %q", calls)
			}
			if got := w.Header().Get(VersionHeader); (got == "42/apis") != (test.failAt == 2) {
				t.Errorf("the version of what was changed is %q", got)
			}
			if !strings.Contains(f.log.String(), "the disk is full") {
				t.Errorf("the log is %q", f.log)
			}
			if got := gathered(t, f, "m2m_management_audit_failures_total"); got < 1 {
				t.Errorf("%v failures were counted", got)
			}
		})
	}
}

// TestMetrics: calls are counted by what they come to, in names that no caller makes up.
func TestMetrics(t *testing.T) {
	f := newFixture(t, nil)
	f.do(t, "GET", clientPath, "")
	f.do(t, "GET", clientPath, "", "Authorization", basic(projectID, "wrong"))
	f.do(t, "GET", clientPath, "", "Authorization", basic("project-unknown", "wrong"))
	f.do(t, "FROB", "/v1/m2m/frob", "")
	f.clients.err = &Problem{Status: 418, Type: "teapot", Message: "no coffee"}
	f.do(t, "PUT", clientPath, `{}`)
	want := []string{
		"- - unauthorized_credentials 1",
		"- default route_not_found 1",
		"- default unauthorized_credentials 1",
		"get default ok 1",
		"update default other 1",
	}
	got := requests(t, f)
	if counted := slices.DeleteFunc(slices.Clone(got), func(s string) bool { return strings.HasSuffix(s, " 0") }); !slices.Equal(counted, want) {
		t.Errorf("the counters are %q, not %q", counted, want)
	}
	if !slices.Contains(got, "get default internal_server_error 0") || !slices.Contains(got, "update default service_unavailable 0") {
		t.Errorf("what alerts look for isn't there: %q", got)
	}
}

// requests are the counters of calls, with the values of their labels: action, issuer, outcome.
func requests(t *testing.T, f *fixture) (all []string) {
	t.Helper()
	families, err := f.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != "m2m_management_requests_total" {
			continue
		}
		for _, m := range family.GetMetric() {
			var words []string
			for _, label := range m.GetLabel() {
				words = append(words, label.GetValue())
			}
			all = append(all, fmt.Sprint(strings.Join(words, " "), " ", m.GetCounter().GetValue()))
		}
	}
	return all
}

func gathered(t *testing.T, f *fixture, name string) float64 {
	t.Helper()
	families, err := f.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == name {
			return family.GetMetric()[0].GetCounter().GetValue()
		}
	}
	return 0
}

// brokenBody fails in the middle.
type brokenBody struct{ err error }

func (b brokenBody) Read([]byte) (int, error) { return 0, b.err }

// TestBrokenBody: bodies that stop, or take too long.
func TestBrokenBody(t *testing.T) {
	f := newFixture(t, nil)
	for cause, want := range map[error]string{io.ErrUnexpectedEOF: "400 bad_request", os.ErrDeadlineExceeded: "408 bad_request"} {
		r := httptest.NewRequest(http.MethodPost, "/v1/m2m/clients", brokenBody{cause})
		r.Header.Set("Authorization", basic(projectID, projectSecret))
		w := httptest.NewRecorder()
		f.handler.ServeHTTP(w, r)
		if kind, _ := problemIn(t, w); fmt.Sprint(w.Code, " ", kind) != want {
			t.Errorf("%v is answered %d %s", cause, w.Code, kind)
		}
	}
}

// TestOverTheNetwork: many callers at once, through net/http, each get an answer with a
// request id of its own.
func TestOverTheNetwork(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Random, c.Peer, c.Now = rand.Reader, nil, time.Now })
	server := httptest.NewServer(f.handler)
	defer server.Close()
	var group sync.WaitGroup
	var ids sync.Map
	for i := range 8 {
		group.Go(func() {
			for range 5 {
				method := []string{"GET", "PUT", "DELETE", "HEAD"}[i%4]
				r, err := http.NewRequestWithContext(t.Context(), method, server.URL+clientPath, strings.NewReader("{}"))
				if err != nil {
					t.Error(err)
					return
				}
				r.Header.Set("Authorization", basic(projectID, projectSecret))
				r.Header.Set("Content-Type", "application/json")
				answer, err := server.Client().Do(r)
				if err != nil {
					t.Error(err)
					return
				}
				var members struct {
					RequestID string `json:"request_id"`
				}
				err = json.NewDecoder(answer.Body).Decode(&members)
				answer.Body.Close()
				if method == "HEAD" {
					if answer.StatusCode != http.StatusMethodNotAllowed || !errors.Is(err, io.EOF) {
						t.Errorf("HEAD is answered %d, %v", answer.StatusCode, err)
					}
					continue
				}
				if _, twice := ids.LoadOrStore(members.RequestID, true); twice || err != nil || answer.StatusCode != http.StatusOK {
					t.Errorf("%s is answered %d with %q, %v", method, answer.StatusCode, members.RequestID, err)
				}
			}
		})
	}
	group.Wait()
	lines := f.audited(t)
	if want := 8*5 + 4*5; len(lines) != want {
		t.Errorf("there are %d lines, not %d", len(lines), want)
	}
	if address, _ := lines[0]["peer"].(string); !strings.HasPrefix(address, "127.0.0.1:") {
		t.Errorf("the peer is %q", address)
	}
}

// TestBrokenRandom: without random bytes nothing is done.
func TestBrokenRandom(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Random = brokenBody{errors.New("no entropy")} })
	if w := f.do(t, "DELETE", clientPath, ""); w.Code != 500 || f.clients.take() != "" {
		t.Errorf("it is answered %d %s", w.Code, w.Body)
	}
}

// TestIncomplete: a handler that lacks something isn't made, nor one whose metrics are
// there already.
func TestIncomplete(t *testing.T) {
	complete := func() Config {
		return Config{Authenticator: fakeAuthenticator{}, Clients: &fakeClients{}, Audit: io.Discard, Metrics: prometheus.NewRegistry(), Log: newFixture(t, nil).handler.log, Now: time.Now, Random: zeros{}}
	}
	for i, without := range []func(*Config){
		func(c *Config) { c.Authenticator = nil }, func(c *Config) { c.Clients = nil }, func(c *Config) { c.Audit = nil }, func(c *Config) { c.Metrics = nil },
		func(c *Config) { c.Log = nil }, func(c *Config) { c.Now = nil }, func(c *Config) { c.Random = nil },
		func(c *Config) {
			c.Metrics.MustRegister(prometheus.NewCounter(prometheus.CounterOpts{Name: "m2m_management_audit_failures_total"}))
		},
	} {
		c := complete()
		without(&c)
		if _, err := NewHandler(c); err == nil {
			t.Errorf("case %d is taken", i)
		}
	}
}
