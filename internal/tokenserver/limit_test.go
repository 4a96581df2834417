package tokenserver

import (
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/m2m-operator/m2m-operator/internal/keyring"
	"github.com/m2m-operator/m2m-operator/internal/token"
)

// failures has every failure after some be one too many, and remembers what it was asked.
type failures struct {
	mu    sync.Mutex
	allow int
	wait  time.Duration
	asked []string
}

func (f *failures) Limited(_ time.Time, keys ...string) (time.Duration, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, strings.Join(keys, " "))
	return f.wait, len(f.asked) > f.allow
}

// A failure too many is answered with 429, and says in the audit log what it was; whatever
// the table says, the right secret gets a token.
func TestFailureLimit(t *testing.T) {
	table := &failures{wait: 1200 * time.Millisecond}
	f := newFixture(t, func(c *Config, _ *http.Server) {
		c.Failures = table
		c.Peer = func(*http.Request) string { return "192.0.2.1" }
	})
	const grant = "grant_type=client_credentials"
	elsewhere := func(suffix string) string {
		return request(http.MethodPost, strings.Replace(tokenPath, tokenSuffix, suffix, 1), "token=a&client_id="+clientID+"&client_secret=x", "Content-Type", formType)
	}
	for name, c := range map[string]struct{ request, key, reason string }{
		"wrong secret":   {post(grant + "&client_id=" + clientID + "&client_secret=x"), "default " + clientID + " 192.0.2.1", "wrong_secret"},
		"unknown client": {post(grant+"&client_id=nobody", "Authorization", basic("nobody", secret)), "default nobody 192.0.2.1", "unknown_client"},
		"inactive":       {post(grant + "&client_id=inactive&client_secret=" + secret), "default inactive 192.0.2.1", "inactive"},
		"expired":        {post(grant + "&client_id=expired&client_secret=" + secret), "default expired 192.0.2.1", "expired_version"},
		"an assertion":   {post(grant + "&client_assertion=a&client_assertion_type=urn:ietf:params:oauth:client-assertion-type:jwt-bearer"), "default  192.0.2.1", "malformed"},
		"introspection":  {elsewhere(inspectSuffix), "default " + clientID + " 192.0.2.1", "wrong_secret"},
		"revocation":     {elsewhere(revokeSuffix), "default " + clientID + " 192.0.2.1", "wrong_secret"},
	} {
		t.Run(name, func(t *testing.T) {
			table.asked, table.allow = nil, 1
			first := f.send(t, c.request)
			checkRefusal(t, first, http.StatusUnauthorized, "invalid_client")
			a := f.send(t, c.request)
			checkRefusal(t, a, http.StatusTooManyRequests, "too_many_requests")
			if got := a.header.Get("Retry-After"); got != "2" {
				t.Errorf("Retry-After %q", got)
			}
			if line := f.audited(t, a); line.Outcome != "too_many_requests" || line.Reason != f.audited(t, first).Reason || line.Reason == "" || line.Peer != "192.0.2.1" {
				t.Errorf("audited as %+v", line)
			}
			if c.reason != "malformed" && f.audited(t, a).Reason != c.reason {
				t.Errorf("the reason is not %s", c.reason)
			}
			if !slices.Equal(table.asked, []string{c.key, c.key}) {
				t.Errorf("counted as %q", table.asked)
			}
		})
	}
	table.asked, table.allow = nil, 0
	for name, c := range map[string]struct {
		request string
		status  int
	}{
		"right secret":    {post(goodForm), http.StatusOK},
		"no credential":   {post(grant), http.StatusUnauthorized},
		"another scheme":  {post(grant, "Authorization", "Bearer a"), http.StatusUnauthorized},
		"scope not held":  {post(goodForm + "&scope=a"), http.StatusBadRequest},
		"malformed":       {post(goodForm + "&scope=%"), http.StatusBadRequest},
		"unknown project": {request(http.MethodPost, "/v1/public/nothing/oauth2/token", goodForm, "Content-Type", formType), http.StatusNotFound},
	} {
		if a := f.send(t, c.request); a.status != c.status {
			t.Errorf("%s: %d %s", name, a.status, a.raw)
		}
	}
	if len(table.asked) > 0 {
		t.Errorf("counted as failures: %q", table.asked)
	}
	if got := f.count(t, "default", "too_many_requests"); got != 5 {
		t.Errorf("the metric says %v", got)
	}
}

// count reads the metric of the token endpoint.
func (f *fixture) count(t testing.TB, issuer, outcome string) float64 {
	t.Helper()
	families, err := f.metrics.Gather()
	check(t, err)
	for _, family := range families {
		if family.GetName() != "m2m_token_requests_total" {
			continue
		}
		for _, m := range family.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if labels["issuer"] == issuer && labels["outcome"] == outcome {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

// A client is given as many tokens as its quota has, and what was refused or broke for
// another reason uses none of it.
func TestQuota(t *testing.T) {
	audit := &breakable{}
	f := newFixture(t, func(c *Config, _ *http.Server) {
		key, err := keyring.Generate(rand.Reader, keyring.ES256, time.Now())
		check(t, err)
		c.Issuers = token.NewIssuers(newIssuer(t, key, token.IssuerConfig{
			Name: "default", URL: "https://auth.example.com", ProjectID: projectID, Profile: token.Stytch, Quota: token.Quota{Tokens: 2, Per: time.Hour},
		}))
		audit.out, c.Audit = c.Audit, audit
	})
	refused := []struct {
		request string
		status  int
	}{
		{post(goodForm + "x"), http.StatusUnauthorized},
		{post(goodForm + "&scope=a"), http.StatusBadRequest},
		{post(goodForm + "&resource=a"), http.StatusBadRequest},
	}
	for range 5 {
		for _, c := range refused {
			if a := f.send(t, c.request); a.status != c.status {
				t.Fatalf("%d %s", a.status, a.raw)
			}
		}
		audit.set(true)
		if a := f.send(t, post(goodForm)); a.status != http.StatusInternalServerError {
			t.Fatalf("%d %s", a.status, a.raw)
		}
		audit.set(false)
	}
	for range 2 {
		if a := f.send(t, post(goodForm)); a.status != http.StatusOK {
			t.Fatalf("%d %s", a.status, a.raw)
		}
	}
	a := f.send(t, post(goodForm))
	checkRefusal(t, a, http.StatusTooManyRequests, "too_many_requests")
	if got := a.header.Get("Retry-After"); got != "1800" {
		t.Errorf("Retry-After %q", got)
	}
	if line := f.audited(t, a); line.Outcome != "too_many_requests" || line.Reason != "quota" || line.ClientID != clientID {
		t.Errorf("audited as %+v", line)
	}
	if used := strings.Count(f.used.String(), clientID); used != 2 {
		t.Errorf("%d uses were told of", used)
	}
}

// breakable is a log that can be broken.
type breakable struct {
	mu     sync.Mutex
	broken bool
	out    io.Writer
}

func (b *breakable) set(broken bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.broken = broken
}

func (b *breakable) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.broken {
		return 0, errors.New("no space left on device")
	}
	return b.out.Write(p)
}

func TestRetryAfter(t *testing.T) {
	for d, want := range map[time.Duration]string{0: "1", 1: "1", time.Second: "1", time.Second + 1: "2", 24 * time.Hour: "86400", -time.Hour: "1"} {
		if got := seconds(d); got != want {
			t.Errorf("%s: %s", d, got)
		}
	}
}

// BenchmarkToken is a token request without the network.
func BenchmarkToken(b *testing.B) {
	f := newFixture(b, nil)
	handler := f.server.Handler // as net/http calls it
	u := mustParse(tokenPath)
	header := http.Header{"Content-Type": {formType}}
	w := &discard{header: http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		clear(w.header)
		handler.ServeHTTP(w, &http.Request{
			Method: http.MethodPost, URL: u, Header: header, RemoteAddr: "192.0.2.1:80",
			Body: io.NopCloser(strings.NewReader(goodForm)), ContentLength: int64(len(goodForm)),
		})
	}
}

// discard is a ResponseWriter that keeps nothing.
type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) WriteHeader(int)             {}
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
