package tokenserver

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/m2m-operator/m2m-operator/internal/credential"
	"github.com/m2m-operator/m2m-operator/internal/token"
)

var itoa = strconv.Itoa

func basic(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

// TestIssue: all that a well-meaning client may send gets a token.
func TestIssue(t *testing.T) {
	f := newFixture(t, nil)
	const grant = "grant_type=client_credentials"
	escaped := "%" + strings.ToUpper(hexOf(clientID[0])) + clientID[1:]
	for name, c := range map[string]struct{ request, scope string }{
		"form":                         {post(goodForm), "read:settings write:settings"},
		"empty scope is none":          {post(goodForm + "&scope="), "read:settings write:settings"},
		"one scope":                    {post(goodForm + "&scope=write%3Asettings"), "write:settings"},
		"a scope twice":                {post(goodForm + "&scope=write:settings+read:settings+write:settings"), "write:settings read:settings"},
		"percent-encoded":              {post("grant%5ftype=client%5Fcredentials&client_id=" + escaped + "&client_secret=" + secret), "read:settings write:settings"},
		"unknown parameters":           {post(goodForm + "&nonce=1&=&foo=%C3%A4"), "read:settings write:settings"},
		"charset":                      {request("POST", tokenPath, goodForm, "Content-Type", "Application/X-WWW-Form-Urlencoded; Charset=utf-8"), "read:settings write:settings"},
		"harmless query":               {request("POST", tokenPath+"?tenant=1", goodForm, "Content-Type", formType), "read:settings write:settings"},
		"JSON":                         {request("POST", tokenPath, jsonOf(t, goodForm), "Content-Type", jsonType), "read:settings write:settings"},
		"JSON, null":                   {request("POST", tokenPath, ` {"scope":null,`+jsonOf(t, goodForm)[1:]+"\r\n", "Content-Type", jsonType+"; charset=UTF-8"), "read:settings write:settings"},
		"JSON, escaped":                {request("POST", tokenPath, strings.ReplaceAll(jsonOf(t, goodForm), "m2m", `\u006D2\u006d`), "Content-Type", jsonType), "read:settings write:settings"},
		"Basic":                        {post(grant, "Authorization", basic(clientID, secret)), "read:settings write:settings"},
		"Basic, percent-encoded":       {post(grant, "Authorization", basic(escaped, secret)), "read:settings write:settings"},
		"Basic, other case and spaces": {post(grant, "Authorization", strings.Replace(basic(clientID, secret), "Basic", "bASIC  ", 1)), "read:settings write:settings"},
		"Basic, and the id in body":    {post(grant+"&client_id="+clientID, "Authorization", basic(clientID, secret)), "read:settings write:settings"},
		"Basic without secret":         {post(goodForm, "Authorization", basic(clientID, "")), "read:settings write:settings"},
		"Basic of the project":         {post(goodForm, "Authorization", basic(projectID, "%%% anything"+secret)), "read:settings write:settings"},
		"chunked": {"POST " + tokenPath + " HTTP/1.1\r\nHost: a\r\nContent-Type: " + formType + "\r\nTransfer-Encoding: chunked\r\n\r\n" +
			chunk(goodForm[:7]) + chunk(goodForm[7:]) + "0\r\n\r\n", "read:settings write:settings"},
		"a body of 64 KiB": {post(goodForm + "&a=" + strings.Repeat("a", maxBody-len(goodForm)-3)), "read:settings write:settings"},
	} {
		t.Run(name, func(t *testing.T) {
			a := f.send(t, c.request)
			if a.status != http.StatusOK || a.body.StatusCode != http.StatusOK || a.body.TokenType != "bearer" || a.body.ExpiresIn != 3600 || a.body.Scope != c.scope {
				t.Fatalf("%d %s", a.status, a.raw)
			}
			if !strings.HasPrefix(a.body.RequestID, "request-id-test-") || !requestIDForm.MatchString(a.body.RequestID) {
				t.Errorf("request id %q", a.body.RequestID)
			}
			checkNotKept(t, a)
			if length := a.header.Get("Content-Length"); length != itoa(len(a.raw)) {
				t.Errorf("Content-Length %q of %d bytes", length, len(a.raw))
			}
			claims := f.verify(t, a.body.AccessToken)
			if claims["sub"] != clientID || claims["iss"] != "https://auth.example.com" || claims["scope"] != c.scope {
				t.Errorf("claims %v", claims)
			}
			line := f.audited(t, a)
			host, _, err := net.SplitHostPort(line.Peer)
			line.Time, line.Peer, line.Duration, line.RequestID = time.Time{}, "", 0, ""
			want := auditLine{Event: "token", Issuer: "default", ClientID: clientID, Method: "client_secret", Version: "1-0tXx", Scope: c.scope, Outcome: "issued"}
			if line != want || err != nil || host != "127.0.0.1" {
				t.Errorf("audited as %+v from %q", line, host)
			}
		})
	}
}

// TestIssuerPath: an issuer is found with the path of its URL, and where a proxy
// cut it off.
func TestIssuerPath(t *testing.T) {
	f := newFixture(t, nil)
	for path, status := range map[string]int{
		"/tenant/v1/public/tenant/oauth2/token": http.StatusOK,
		"/v1/public/tenant/oauth2/token":        http.StatusOK,
		"/other/v1/public/tenant/oauth2/token":  http.StatusNotFound,
		"/tenant" + tokenPath:                   http.StatusNotFound,
	} {
		a := f.send(t, request("POST", path, goodForm, "Content-Type", formType))
		if a.status != status || status == http.StatusOK && !strings.HasPrefix(a.body.RequestID, "request-id-live-") {
			t.Errorf("%s: %d %s", path, a.status, a.raw)
		}
	}
}

// TestClientLibrary: a common OAuth 2.0 client works as it is, whichever way it
// authenticates and whatever has to be escaped.
func TestClientLibrary(t *testing.T) {
	f := newFixture(t, nil)
	const odd = "id: with %, + and ä&="
	client, err := token.NewClient(token.ClientConfig{
		ID: odd, Active: true, Lifetime: time.Minute, Audiences: []string{projectID}, Scopes: []string{"a:b", "c"},
		Credentials: []token.Credential{{Version: "1-", Hash: f.directory.pepper.Hash(odd, "sec:ret %+&=ä")}},
	})
	check(t, err)
	f.directory.clients[odd] = client
	for _, style := range []oauth2.AuthStyle{oauth2.AuthStyleAutoDetect, oauth2.AuthStyleInHeader, oauth2.AuthStyleInParams} {
		config := clientcredentials.Config{
			ClientID: odd, ClientSecret: "sec:ret %+&=ä", TokenURL: f.url + tokenPath, Scopes: []string{"c", "a:b"}, AuthStyle: style,
		}
		got, err := config.Token(context.Background())
		check(t, err)
		if claims := f.verify(t, got.AccessToken); claims["sub"] != odd || claims["scope"] != "c a:b" || !got.Valid() || got.Type() != "Bearer" {
			t.Errorf("style %d: %v, claims %v", style, got.Type(), claims)
		}
	}
}

// TestOneAnswer: who fails to authenticate learns nothing from the answer but its
// request id.
func TestOneAnswer(t *testing.T) {
	f := newFixture(t, nil)
	var first answer
	for _, c := range []struct{ id, secret, reason, version string }{
		{"unknown", secret, "unknown_client", ""},
		{clientID, "wrong" + secret, "wrong_secret", ""},
		{clientID, secret + "&scope=%22", "", ""}, // authenticates: only then is a scope looked at
		{clientID, "wrong" + secret + "&scope=%22", "wrong_secret", ""},
		{"inactive", secret, "inactive", "1-0tXx"},
		{"inactive", "wrong", "wrong_secret", ""},
		{"expired", secret, "expired_version", "1-0tXx"},
		{projectID, secret, "unknown_client", ""},
	} {
		a := f.send(t, post("grant_type=client_credentials&client_id="+c.id+"&client_secret="+c.secret))
		if c.reason == "" {
			checkRefusal(t, a, http.StatusBadRequest, "invalid_scope")
			continue
		}
		checkRefusal(t, a, http.StatusUnauthorized, "invalid_client")
		line, id := f.audited(t, a), c.id
		if c.reason == "unknown_client" {
			id = logID(c.id)
		}
		if line.Outcome != "invalid_client" || line.Reason != c.reason || line.ClientID != id || line.Version != c.version || line.Scope != "" {
			t.Errorf("audited as %+v", line)
		}
		a.raw = strings.ReplaceAll(a.raw, a.body.RequestID, "")
		a.header.Del("Date")
		if first.raw == "" {
			first = a
		}
		if a.raw != first.raw || len(a.header) != len(first.header) {
			t.Errorf("%s: %v %s, not %v %s", c.reason, a.header, a.raw, first.header, first.raw)
		}
		for name := range a.header {
			if a.header.Get(name) != first.header.Get(name) {
				t.Errorf("%s: header %s is %q, not %q", c.reason, name, a.header.Get(name), first.header.Get(name))
			}
		}
	}
}

// TestAuditWithheld: what may be a secret in the wrong place isn't logged, and
// what comes from callers is bounded and can't forge a line.
func TestAuditWithheld(t *testing.T) {
	f := newFixture(t, nil)
	ask := func(id string) auditLine {
		body := "grant_type=client_credentials&client_secret=s&client_id=" + url.QueryEscape(id)
		return f.audited(t, f.send(t, post(body)))
	}
	for name, leaked := range map[string]string{
		"ours": secret, "Keycloak's": "kQ3pVd0sWmZ8yXn4RtLb7HcJ2fGa5UoE", "Azure's": "Zx8Q~aB3dE6fG9hJ2kL5mN8pQ1rS4tU7vW0xY3zA",
		"Auth0's": "n0_Vt-4hQ8wJx2LrYd5pKc7mSb9gUf3aZe6iTo1XlWqEvRyHjNkMzPsDuCtBgFaO", "short": "hunter2hunter2", "a line": "\"}\n{\"a\":\"b",
	} {
		if line := ask(leaked); line.ClientID != logID(leaked) {
			t.Errorf("%s secret as client_id is audited as %q", name, line.ClientID)
		}
	}
	if line := ask(strings.Repeat("é", 1000)); len(line.ClientID) > maxAuditedID+4 {
		t.Errorf("%d bytes of client_id are audited", len(line.ClientID))
	}
	a := f.send(t, post(goodForm+"&scope=not%3Aheld"))
	checkRefusal(t, a, http.StatusBadRequest, "invalid_scope")
	if line := f.audited(t, a); line.Scope != "not:held" || line.Reason != "scope_not_held" || line.Version != "1-0tXx" {
		t.Errorf("audited as %+v", line)
	}
}

// TestUnknownCause: whatever breaks inside is an opaque 500, audited, with the
// cause in the log under the request id.
func TestUnknownCause(t *testing.T) {
	for name, c := range map[string]struct {
		change  func(*Config, *http.Server)
		cause   string
		audited bool
	}{
		"panic": {func(c *Config, _ *http.Server) {
			c.Authority = token.NewAuthority(broken{}, strings.NewReader(""))
		}, "boom", true},
		"audit log": {func(c *Config, _ *http.Server) { c.Audit = broken{} }, "disk full", false},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, c.change)
			a := f.send(t, post(goodForm))
			checkRefusal(t, a, http.StatusInternalServerError, "server_error")
			if strings.Contains(a.raw, c.cause) || !strings.Contains(f.log.String(), c.cause) || !strings.Contains(f.log.String(), a.body.RequestID) {
				t.Errorf("answer %s, log %s", a.raw, f.log)
			}
			if c.audited {
				if line := f.audited(t, a); line.Outcome != "server_error" || line.Reason != "internal" {
					t.Errorf("audited as %+v", line)
				}
			}
		})
	}
}

// TestUses: a use is a token that was given, and nothing else.
func TestUses(t *testing.T) {
	f := newFixture(t, nil)
	for _, body := range []string{goodForm + "x", goodForm + "&scope=not:held", strings.Replace(goodForm, clientID, "inactive", 1), "grant_type=client_credentials"} {
		if a := f.send(t, post(body)); a.status == http.StatusOK {
			t.Errorf("%s: %s", body, a.raw)
		}
	}
	if got := f.used.String(); got != "" {
		t.Errorf("refusals are uses: %s", got)
	}
	f.send(t, post(goodForm))
	f.send(t, request("POST", "/v1/public/tenant/oauth2/token", goodForm, "Content-Type", formType))
	if got, want := f.used.String(), "default "+clientID+" 1-0tXx\ntenant "+clientID+" 1-0tXx"; got != want {
		t.Errorf("uses %s", got)
	}
	f = newFixture(t, func(c *Config, _ *http.Server) { c.Audit = broken{} })
	f.send(t, post(goodForm))
	if got := f.used.String(); got != "" {
		t.Errorf("a token that wasn't handed out is a use: %s", got)
	}
}

// broken is a directory and an audit log that don't work.
type broken struct{ *directory }

func (broken) Pepper() *credential.Pepper { panic("boom") }
func (broken) Write([]byte) (int, error)  { return 0, errors.New("disk full") }

// TestNoPepper: a server that can't tell says so, and refuses nobody for good.
func TestNoPepper(t *testing.T) {
	f := newFixture(t, nil)
	f.directory.pepper = nil
	checkRefusal(t, f.send(t, post(goodForm)), http.StatusServiceUnavailable, "temporarily_unavailable")
}

// TestNoKeys: an issuer whose keys are lost is known, and publishes no empty set of
// keys that verifiers would believe.
func TestNoKeys(t *testing.T) {
	f := newFixture(t, func(c *Config, _ *http.Server) {
		issuer, err := token.NewUnavailableIssuer(token.IssuerConfig{Name: "default", URL: "https://auth.example.com", ProjectID: projectID, Profile: token.Stytch})
		check(t, err)
		c.Issuers = token.NewIssuers(issuer)
	})
	for _, request := range []string{
		post(goodForm),
		request("GET", "/v1/sessions/jwks/"+projectID, ""),
		request("GET", "/.well-known/openid-configuration", ""),
	} {
		checkRefusal(t, f.send(t, request), http.StatusServiceUnavailable, "temporarily_unavailable")
	}
}

// TestConcurrently: requests share buffers one after another, and never answers or
// audit lines.
func TestConcurrently(t *testing.T) {
	f := newFixture(t, nil)
	bodies := []string{goodForm, goodForm + "&scope=read:settings", goodForm + "x", "client_id=a&client_secret=" + secret, strings.Repeat("&", 9000) + goodForm}
	var group sync.WaitGroup
	for worker := range 8 {
		group.Go(func() {
			for n := range 40 {
				body := bodies[(worker+n)%len(bodies)]
				response, err := http.Post(f.url+tokenPath, formType, strings.NewReader(body))
				if err != nil {
					t.Error(err)
					return
				}
				raw, err := io.ReadAll(response.Body)
				response.Body.Close()
				if want := (worker + n) % len(bodies); err != nil || (response.StatusCode == http.StatusOK) != (want < 2 || want == 4) || !json.Valid(raw) {
					t.Errorf("request %d: %d %s %v", want, response.StatusCode, raw, err)
				}
			}
		})
	}
	group.Wait()
	if lines := strings.Count(f.audit.String(), "\n"); lines != 8*40 {
		t.Errorf("%d audit lines", lines)
	}
	for line := range strings.Lines(f.audit.String()) {
		if !json.Valid([]byte(line)) {
			t.Errorf("audit line %q", line)
		}
	}
}

func (f *fixture) verify(t testing.TB, signed string) jwt.MapClaims {
	t.Helper()
	claims := jwt.MapClaims{}
	_, err := jwt.NewParser(jwt.WithValidMethods([]string{"ES256"}), jwt.WithAudience(projectID), jwt.WithExpirationRequired(), jwt.WithIssuedAt()).
		ParseWithClaims(signed, claims, func(*jwt.Token) (any, error) { return f.key.Signer.Public(), nil })
	check(t, err)
	return claims
}

func jsonOf(t testing.TB, form string) string {
	t.Helper()
	values, err := url.ParseQuery(form)
	check(t, err)
	flat := map[string]string{}
	for name := range values {
		flat[name] = values.Get(name)
	}
	encoded, err := json.Marshal(flat)
	check(t, err)
	return string(encoded)
}

func hexOf(c byte) string { return strconv.FormatInt(int64(c), 16) }

func chunk(s string) string { return strconv.FormatInt(int64(len(s)), 16) + "\r\n" + s + "\r\n" }
