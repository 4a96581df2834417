package tokenserver

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// call is what the management API sees.
type call struct {
	method, uri, path, body string
	header                  http.Header
}

// upstream is a management API, and a fixture whose server forwards to it.
type upstream struct {
	*fixture
	seen   chan call
	config ForwarderConfig
}

const testVersionHeader = "M2m-Resource-Version"

// newUpstream starts both; change may change how they are connected first.
func newUpstream(t *testing.T, answer http.HandlerFunc, change func(*ForwarderConfig, *http.Server)) *upstream {
	t.Helper()
	u := &upstream{seen: make(chan call, 100)}
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		u.seen <- call{r.Method, r.RequestURI, r.URL.EscapedPath(), string(body), r.Header}
		answer(w, r)
	}))
	t.Cleanup(api.Close)
	target, err := url.Parse(api.URL)
	check(t, err)
	u.fixture = newFixture(t, func(c *Config, s *http.Server) {
		u.config = ForwarderConfig{
			Target:    target,
			Transport: &http.Transport{DisableCompression: true},
			Mark: func(out *http.Request, address string) bool {
				out.Header.Set("M2m-Forwarded", "from "+address)
				return true
			},
			Peer:          func(*http.Request) string { return "192.0.2.1" },
			VersionHeader: testVersionHeader,
			Await:         func(context.Context, string, uint64) bool { return true },
			Log:           c.Log,
			Random:        rand.Reader,
		}
		if change != nil {
			change(&u.config, s)
		}
		c.Management, err = NewForwarder(u.config)
		check(t, err)
	})
	return u
}

func ok(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"status_code":200}`) }

// A call arrives as it was made: its path as the caller escaped it, its body and what says
// who he is; and nothing that he must not say.
func TestForward(t *testing.T) {
	u := newUpstream(t, ok, nil)
	for _, path := range []string{
		"/v1/m2m/clients", "/v1/m2m/clients/", "/v1/m2m/clients/search", "/v1/m2m/clients/a%2Fb%25c", "/v1/m2m/clients/%2e%2e%2fb", "/v1/m2m/clients/a%2f..%2fb",
		"/v1/m2m/clients/%C3%A4", "/v1/m2m/clients//", "/v1/m2m/clients/a%00", "/v1/m2m/clients/a;b=c", "/v1/m2m/clients/a+b%20c?x=1&y=%2F", "/v1/m2m/clients/%252e%252e",
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete} {
			a := u.send(t, request(method, path, `{"a":1}`,
				"Content-Type", "application/json", "Authorization", "Basic YTpi", "Accept", "*/*", "User-Agent", "an SDK",
				"X-Forwarded-For", "127.0.0.1", "X-Forwarded-Host", "evil", "X-Forwarded-Proto", "https", "Forwarded", "for=127.0.0.1", "X-Real-Ip", "127.0.0.1",
				"M2m-Forwarded", "from 127.0.0.1", "m2m-forwarded", "from 127.0.0.1", "M2m-Other", "1",
				"Connection", "M2m-Forwarded, Authorization, Upgrade", "Upgrade", "websocket", "Keep-Alive", "1", "Te", "trailers", "Proxy-Authorization", "Basic YTpi",
				"Impersonate-User", "admin", "X-Remote-User", "admin", "X-Http-Method-Override", "DELETE", "Cookie", "a=b", "Accept-Encoding", "gzip"))
			if a.status != http.StatusOK {
				t.Fatalf("%d %s", a.status, a.raw)
			}
			got := <-u.seen
			if got.method != method || got.uri != path || got.body != `{"a":1}` {
				t.Errorf("%s %s arrived as %s %s with %q", method, path, got.method, got.uri, got.body)
			}
			got.header.Del("Content-Length")
			want := http.Header{"Content-Type": {"application/json"}, "Authorization": {"Basic YTpi"}, "Accept": {"*/*"}, "User-Agent": {"an SDK"}, "M2m-Forwarded": {"from 192.0.2.1"}}
			for name, values := range got.header {
				if !slices.Equal(values, want[name]) {
					t.Errorf("%s %s arrived with %s: %q", method, path, name, values)
				}
			}
			if len(got.header) != len(want) {
				t.Errorf("headers are missing: %v", got.header)
			}
		}
	}
	u.send(t, "GET http://user:pass@evil.example/v1/m2m/clients/a HTTP/1.1\r\nHost: evil.example\r\n\r\n")
	if got := <-u.seen; got.uri != "/v1/m2m/clients/a" || len(got.header["Authorization"]) > 0 || len(got.header["User-Agent"]) > 0 {
		t.Errorf("%+v", got)
	}
	u.send(t, request(http.MethodPost, "/v1/m2m/clients", strings.Repeat("a", maxForwardedBody), "Authorization", "a", "Authorization", "b"))
	if got := <-u.seen; len(got.body) != maxForwardedBody || len(got.header["Authorization"]) != 2 {
		t.Errorf("%d bytes arrived, and the headers %v", len(got.body), got.header)
	}
}

// What isn't a call of the management API stays here, and so does what can't be passed on.
func TestNotForwarded(t *testing.T) {
	u := newUpstream(t, ok, nil)
	for name, c := range map[string]struct {
		request string
		status  int
	}{
		"the token endpoint":     {post(goodForm), http.StatusOK},
		"no call":                {request(http.MethodGet, "/v1/m2m", ""), http.StatusNotFound},
		"another path":           {request(http.MethodGet, "/v1/m2mx/clients", ""), http.StatusNotFound},
		"an escaped prefix":      {request(http.MethodGet, "/v1/m2m%2Fclients", ""), http.StatusNotFound},
		"dots":                   {request(http.MethodGet, "/v1/m2m/../../metrics", ""), http.StatusNotFound},
		"escaped dots":           {request(http.MethodGet, "/v1/m2m/clients/%2e%2E/%2e%2e/%2e./metrics", ""), http.StatusNotFound},
		"one dot":                {request(http.MethodGet, "/v1/m2m/./clients", ""), http.StatusNotFound},
		"a body too large":       {request(http.MethodPost, "/v1/m2m/clients", strings.Repeat("a", maxForwardedBody+1)), http.StatusRequestEntityTooLarge},
		"chunks too large":       {chunkedCall(strings.Repeat(chunk(strings.Repeat("a", 1000)), 300) + "0\r\n\r\n"), http.StatusRequestEntityTooLarge},
		"a broken chunk":         {chunkedCall("zz\r\n"), http.StatusBadRequest},
		"a body said to be huge": {strings.Replace(request(http.MethodPost, "/v1/m2m/clients", "a"), "Length: 1", "Length: 99999999999", 1), http.StatusRequestEntityTooLarge},
	} {
		a := u.send(t, c.request)
		if a.status != c.status {
			t.Errorf("%s: %d %s", name, a.status, a.raw)
		}
		if c.status != http.StatusOK && !strings.Contains(a.raw, `"error":`) {
			checkManagementRefusal(t, a, c.status)
		}
	}
	if len(u.seen) > 0 {
		t.Errorf("%+v was forwarded", <-u.seen)
	}
	if a := newFixture(t, nil).send(t, request(http.MethodGet, "/v1/m2m/clients/a", "")); a.status != http.StatusNotFound {
		t.Errorf("without a management API: %d %s", a.status, a.raw)
	}
}

func chunkedCall(body string) string {
	return "POST /v1/m2m/clients HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + body
}

// checkManagementRefusal checks the one shape that Stytch's SDKs take for an error of theirs.
func checkManagementRefusal(t *testing.T, a answer, status int) {
	t.Helper()
	var body map[string]any
	check(t, json.Unmarshal([]byte(a.raw), &body))
	if a.status != status || body["status_code"] != float64(status) || !requestIDForm.MatchString(body["request_id"].(string)) || body["error_type"] == "" || body["error_message"] == "" {
		t.Errorf("%d %s", a.status, a.raw)
	}
	if _, has := body["error_url"]; !has || len(body) != 5 {
		t.Errorf("members of %s", a.raw)
	}
	checkNotKept(t, a)
}

// An answer comes back as it is, whatever it is.
func TestForwardedAnswers(t *testing.T) {
	u := newUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "7")
		w.Header().Set("Www-Authenticate", `Basic realm="management API"`)
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(http.StatusTooManyRequests)
		_, _ = io.WriteString(w, `{"status_code":429}`)
	}, nil)
	a := u.send(t, request(http.MethodGet, "/v1/m2m/clients/a", "", "Accept-Encoding", "gzip"))
	if a.status != http.StatusTooManyRequests || a.raw != `{"status_code":429}` || a.header.Get("Retry-After") != "7" || a.header.Get("Location") != "/elsewhere" || a.header.Get("Www-Authenticate") == "" {
		t.Errorf("%d %v %s", a.status, a.header, a.raw)
	}
}

// Where the management API can't be asked the answer is 503, and tells nothing of it.
func TestForwardFails(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	check(t, closed.Close())
	for name, change := range map[string]func(*ForwarderConfig, *http.Server){
		"nobody there": func(c *ForwarderConfig, _ *http.Server) {
			c.Target = &url.URL{Scheme: "http", Host: closed.Addr().String()}
		},
		"no TLS":   func(c *ForwarderConfig, _ *http.Server) { c.Target = &url.URL{Scheme: "https", Host: c.Target.Host} },
		"too slow": func(c *ForwarderConfig, _ *http.Server) { c.Transport = timesOut{} },
		"no seal":  func(c *ForwarderConfig, _ *http.Server) { c.Mark = func(*http.Request, string) bool { return false } },
	} {
		t.Run(name, func(t *testing.T) {
			u := newUpstream(t, ok, change)
			a := u.send(t, request(http.MethodPost, "/v1/m2m/clients", "{}"))
			checkManagementRefusal(t, a, http.StatusServiceUnavailable)
			if strings.Contains(a.raw, "127.0.0.1") {
				t.Errorf("the answer tells too much: %s", a.raw)
			}
			if (u.log.String() == "") != (name == "no seal") {
				t.Errorf("logged: %s", u.log)
			}
		})
	}
	t.Run("hangs up", func(t *testing.T) {
		u := newUpstream(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, nil)
		checkManagementRefusal(t, u.send(t, request(http.MethodPost, "/v1/m2m/clients", "{}")), http.StatusServiceUnavailable)
	})
}

// timesOut is a transport whose answers are all too late.
type timesOut struct{}

func (timesOut) RoundTrip(r *http.Request) (*http.Response, error) {
	if _, limited := r.Context().Deadline(); !limited {
		return nil, io.ErrUnexpectedEOF
	}
	return nil, context.DeadlineExceeded
}

// A management API that takes longer than a token request may is waited for.
func TestForwardToSlow(t *testing.T) {
	u := newUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(600 * time.Millisecond)
		ok(w, r)
	}, func(_ *ForwarderConfig, s *http.Server) {
		s.ReadTimeout, s.WriteTimeout = 200*time.Millisecond, 300*time.Millisecond
	})
	if a := u.send(t, request(http.MethodPost, "/v1/m2m/clients", "{}")); a.status != http.StatusOK {
		t.Errorf("%d %s", a.status, a.raw)
	}
}

// An answer that tells of a change comes when this server knows of it, or can't be waited for.
func TestForwardAwaits(t *testing.T) {
	version := "41/team-a"
	var awaited atomic.Uint64
	reached := make(chan bool)
	u := newUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(testVersionHeader, version)
		ok(w, r)
	}, func(c *ForwarderConfig, _ *http.Server) {
		c.Await = func(ctx context.Context, namespace string, version uint64) bool {
			awaited.Store(version)
			if namespace != "team-a" {
				t.Errorf("it waits for namespace %q", namespace)
			}
			if _, limited := ctx.Deadline(); !limited {
				t.Error("it waits without end")
			}
			return <-reached
		}
	})
	for _, known := range []bool{true, false} {
		answered := make(chan answer)
		go func() { answered <- u.send(t, request(http.MethodPost, "/v1/m2m/clients", "{}")) }()
		<-u.seen
		select {
		case a := <-answered:
			t.Fatalf("answered before it was known: %s", a.raw)
		case reached <- known:
		}
		a := <-answered
		if a.status != http.StatusOK || awaited.Load() != 41 || len(a.header[testVersionHeader]) > 0 {
			t.Errorf("%d %v %s; awaited %d", a.status, a.header, a.raw, awaited.Load())
		}
		if warned := strings.Contains(u.log.String(), "before this server knew"); warned == known {
			t.Errorf("logged: %s", u.log)
		}
	}
	version = "no number"
	if a := u.send(t, request(http.MethodPost, "/v1/m2m/clients", "{}")); a.status != http.StatusOK || len(a.header[testVersionHeader]) > 0 {
		t.Errorf("%d %v", a.status, a.header)
	}
}

// A forwarder is whole, and knows where to.
func TestNewForwarder(t *testing.T) {
	whole := newUpstream(t, ok, nil).config
	for name, spoil := range map[string]func(*ForwarderConfig){
		"target":    func(c *ForwarderConfig) { c.Target = nil },
		"path":      func(c *ForwarderConfig) { c.Target = mustParse("https://api/v1") },
		"scheme":    func(c *ForwarderConfig) { c.Target = mustParse("ftp://api") },
		"user":      func(c *ForwarderConfig) { c.Target = mustParse("https://a:b@api") },
		"host":      func(c *ForwarderConfig) { c.Target = mustParse("https:///") },
		"transport": func(c *ForwarderConfig) { c.Transport = nil },
		"mark":      func(c *ForwarderConfig) { c.Mark = nil },
		"await":     func(c *ForwarderConfig) { c.Await = nil },
		"log":       func(c *ForwarderConfig) { c.Log = (*slog.Logger)(nil) },
	} {
		c := whole
		spoil(&c)
		if _, err := NewForwarder(c); err == nil {
			t.Errorf("without a good %s there is a forwarder", name)
		}
	}
}
