package tokenserver

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/m2m-operator/m2m-operator/internal/token"
)

// TestDocuments: keys and metadata are where verifiers look for them.
func TestDocuments(t *testing.T) {
	f := newFixture(t, nil)
	const metadata = `{"issuer":"https://auth.example.com",`
	const tenant = `{"issuer":"https://auth.example.com/tenant",`
	for path, want := range map[string]string{
		"/v1/sessions/jwks/" + projectID:                     `{"keys":[{"kty":"EC",`,
		"/v1/b2b/sessions/jwks/" + projectID:                 `{"keys":[{"kty":"EC",`,
		"/v1/public/" + projectID + "/oauth2/jwks":           `{"keys":[{"kty":"EC",`,
		"/tenant/v1/public/tenant/oauth2/jwks":               `{"keys":[{"kty":"EC",`,
		"/v1/b2b/sessions/jwks/tenant":                       `{"keys":[{"kty":"EC",`,
		"/.well-known/oauth-authorization-server":            metadata,
		"/.well-known/openid-configuration":                  metadata,
		"/.well-known/oauth-authorization-server/tenant":     tenant,
		"/tenant/.well-known/openid-configuration":           tenant,
		"/.well-known/openid-configuration?client_id=ignore": metadata,
	} {
		t.Run(path, func(t *testing.T) {
			a := f.send(t, request("GET", path, ""))
			if a.status != http.StatusOK || !strings.HasPrefix(a.raw, want) || a.header.Get("Content-Type") != "application/json" || a.header.Get("Cache-Control") != "public, max-age=300" {
				t.Fatalf("%d %v %s", a.status, a.header, a.raw)
			}
			head := f.send(t, request("HEAD", path, ""))
			if head.status != http.StatusOK || head.raw != "" || head.header.Get("Content-Length") != itoa(len(a.raw)) {
				t.Errorf("HEAD: %d %v %q", head.status, head.header, head.raw)
			}
			etag := a.header.Get("ETag")
			for condition, status := range map[string]int{
				etag: http.StatusNotModified, `"other", W/` + etag: http.StatusNotModified, "*": http.StatusNotModified,
				`"other"`: http.StatusOK, strings.Trim(etag, `"`): http.StatusOK,
			} {
				if got := f.send(t, request("GET", path, "", "If-None-Match", condition)); got.status != status {
					t.Errorf("If-None-Match: %s gives %d", condition, got.status)
				}
			}
			refused := f.send(t, request("POST", path, "a"))
			checkRefusal(t, refused, http.StatusMethodNotAllowed, "invalid_request")
			if refused.header.Get("Allow") != "GET, HEAD" {
				t.Errorf("Allow: %q", refused.header.Get("Allow"))
			}
		})
	}
}

// TestNotFound: what isn't there is a 404 in the form of all errors.
func TestNotFound(t *testing.T) {
	f := newFixture(t, nil)
	for _, path := range []string{
		"/", "//", "/v1", "/v1/public/" + projectID, "/v1/sessions/jwks/", "/v1/sessions/jwks/other", "/v1/b2b/sessions/jwks/other",
		"/v1/public/other/oauth2/jwks", "/v1/public//oauth2/jwks", "/oauth2/token", "/oauth2/jwks", "/v1/sessions/jwks/" + projectID + "/",
		"/v1/sessions/jwks/" + projectID + "%2F", "/v1/sessions/jwks/../jwks/" + projectID, "/other/v1/sessions/jwks/" + projectID,
		"/.well-known/oauth-authorization-server/other", "/other/.well-known/openid-configuration", "/.well-known/oauth-authorization-servers",
		"/healthz", "/metrics", "/%00",
	} {
		checkRefusal(t, f.send(t, request("GET", path, "")), http.StatusNotFound, "invalid_request")
	}
	other := strings.Replace(request("GET", "/.well-known/openid-configuration", ""), "auth.example.com", "other.example.com", 1)
	checkRefusal(t, f.send(t, other), http.StatusNotFound, "invalid_request")
}

// TestRoutes: the URLs that issuers publish lead to their endpoints.
func TestRoutes(t *testing.T) {
	for _, prefix := range []string{"", "/a", "/a/b", "/v1/public/x"} {
		base := "https://auth.example.com" + prefix
		for u, want := range map[string]endpoint{
			token.EndpointURL(base, projectID):      tokenEndpoint,
			token.JWKSURL(base, projectID):          jwksEndpoint,
			token.IntrospectionURL(base, projectID): introspectionEndpoint,
			token.RevocationURL(base, projectID):    revocationEndpoint,
		} {
			if got := route(mustParse(u)); got != (target{want, projectID, prefix}) {
				t.Errorf("%s leads to %+v", u, got)
			}
		}
	}
}

// TestOps: what the cluster asks for, on a listener of its own or on the same.
func TestOps(t *testing.T) {
	f := newFixture(t, nil)
	f.send(t, post(goodForm))
	f.send(t, post(goodForm+"x"))
	f.send(t, request("POST", "/v1/public/other/oauth2/token", ""))
	var notReady error
	ops := NewOps(f.metrics, func() error { return notReady }, func() []string { return []string{"watch of clients: whole"} })
	shared := WithOps(f.handler, ops)
	get := func(h http.Handler, method, path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(method, "https://auth.example.com"+path, nil))
		return w
	}
	for _, h := range []http.Handler{ops, shared} {
		notReady = nil
		for path, want := range map[string]string{
			"/healthz": "ok\n", "/readyz": "ok\nwatch of clients: whole\n",
			"/metrics": `m2m_token_requests_total{issuer="default",outcome="issued"} 1`,
		} {
			if w := get(h, "GET", path); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), want) {
				t.Errorf("%s: %d %s", path, w.Code, w.Body)
			}
		}
		notReady = errors.New("clients are not synced")
		if w := get(h, "GET", "/readyz"); w.Code != http.StatusServiceUnavailable || w.Body.String() != "not ready: clients are not synced\nwatch of clients: whole\n" {
			t.Errorf("/readyz: %d %s", w.Code, w.Body)
		}
		if w := get(h, "GET", "/healthz"); w.Code != http.StatusOK {
			t.Errorf("/healthz: %d %s", w.Code, w.Body)
		}
		if w := get(h, "POST", "/metrics"); w.Code != http.StatusMethodNotAllowed {
			t.Errorf("POST /metrics: %d", w.Code)
		}
	}
	if w := get(shared, "GET", "/.well-known/openid-configuration"); w.Code != http.StatusOK {
		t.Errorf("the public side of a shared listener: %d", w.Code)
	}
}

// TestMetrics: labels are known beforehand, whatever callers send.
func TestMetrics(t *testing.T) {
	f := newFixture(t, nil)
	f.send(t, post(goodForm))
	f.send(t, post(goodForm+"x"))
	f.send(t, post("grant_type="+secret))
	f.send(t, request("POST", "/v1/public/"+secret+"/oauth2/token", ""))
	families, err := f.metrics.Gather()
	check(t, err)
	got := map[string]float64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			name := family.GetName()
			for _, label := range m.GetLabel() {
				name += " " + label.GetValue()
			}
			if m.GetCounter().GetValue() > 0 {
				got[name] = m.GetCounter().GetValue()
			}
			if m.GetHistogram() != nil {
				got[name] = float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	want := map[string]float64{
		"m2m_token_requests_total default issued":                 1,
		"m2m_token_requests_total default invalid_client":         1,
		"m2m_token_requests_total default unsupported_grant_type": 1,
		"m2m_token_requests_total - invalid_request":              1,
		"m2m_token_request_duration_seconds":                      4,
	}
	for name := range want {
		if got[name] != want[name] {
			t.Errorf("%s is %v, not %v", name, got[name], want[name])
		}
	}
	if len(got) != len(want) {
		t.Errorf("%v, not %v", got, want)
	}
	if _, err := NewHandler(Config{}); err == nil {
		t.Error("an empty configuration is accepted")
	}
	config := Config{Issuers: f.handler.issuers, Authority: f.handler.authority, Usage: f.used, Revocations: f.revoked, Audit: f.audit, LogID: logID, Metrics: f.metrics, Log: f.handler.log, Now: f.handler.now, Random: f.handler.random}
	if _, err := NewHandler(config); !errors.As(err, new(prometheus.AlreadyRegisteredError)) {
		t.Errorf("metrics that are registered twice: %v", err)
	}
}
