package verify

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"
)

// TestMiddleware: what a service answers, and what it hands on.
func TestMiddleware(t *testing.T) {
	good := "Bearer " + testKeys()[ES256].good()
	k := testKeys()[EdDSA]
	expired := "Bearer " + k.token(k.header("JWT"), claimsWith(Stytch, map[string]any{"exp": now.Unix() - 60}))
	unavailable := newVerifier(t)
	unavailable.Close()
	v := newVerifier(t)
	var denied MemoryDenyList
	denied.DenyClient(clientID, now)
	for name, c := range map[string]struct {
		v         *Verifier
		headers   []string
		required  []string
		status    int
		challenge string
	}{
		"good":                {v, []string{good}, []string{"read:orders"}, 200, ""},
		"other case":          {v, []string{"bEARER " + good[7:]}, nil, 200, ""},
		"none":                {v, nil, nil, 401, `Bearer realm="oauth2"`},
		"empty":               {v, []string{""}, nil, 401, `Bearer realm="oauth2"`},
		"Basic":               {v, []string{"Basic YTpi"}, nil, 401, `Bearer realm="oauth2"`},
		"scheme glued":        {v, []string{"Bearer" + good[7:]}, nil, 401, `Bearer realm="oauth2"`},
		"bare":                {v, []string{"Bearer"}, nil, 400, `Bearer error="invalid_request"`},
		"two spaces":          {v, []string{"Bearer  " + good[7:]}, nil, 400, `Bearer error="invalid_request"`},
		"tab":                 {v, []string{"Bearer " + good[7:] + "\t"}, nil, 400, `Bearer error="invalid_request"`},
		"comma":               {v, []string{good + "," + good}, nil, 400, `Bearer error="invalid_request"`},
		"two headers":         {v, []string{good, good}, nil, 400, `Bearer error="invalid_request"`},
		"two schemes":         {v, []string{"Basic YTpi", good}, nil, 400, `Bearer error="invalid_request"`},
		"garbage":             {v, []string{"Bearer x"}, nil, 401, `Bearer error="invalid_token"`},
		"huge":                {v, []string{"Bearer " + strings.Repeat("a.", 500_000)}, nil, 401, `Bearer error="invalid_token"`},
		"forged":              {v, []string{good[:len(good)-4] + "AAAA"}, nil, 401, `Bearer error="invalid_token"`},
		"expired":             {v, []string{expired}, nil, 401, `Bearer error="invalid_token", error_description="the token has expired"`},
		"revoked":             {newVerifier(t, WithDenyList(&denied)), []string{good}, nil, 401, `Bearer error="invalid_token", error_description="the token has been revoked"`},
		"scope":               {v, []string{good}, []string{"read:orders", "admin"}, 403, `Bearer error="insufficient_scope", error_description="the token doesn't have the required scope", scope="read:orders admin"`},
		"scope no one has":    {v, []string{good}, []string{"admin", "a\"\r\nX: y"}, 403, `Bearer error="insufficient_scope", error_description="the token doesn't have the required scope", scope="admin"`},
		"no keys":             {unavailable, []string{good}, nil, 503, ""},
		"no word from issuer": {newVerifier(t, WithDenyList(brokenList{})), []string{good}, nil, 503, ""},
	} {
		t.Run(name, func(t *testing.T) {
			called := false
			h := c.v.Middleware(RequiredScopes(c.required...))(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				claims, ok := FromContext(r.Context())
				called = ok && claims.ClientID == clientID
			}))
			r := httptest.NewRequest(http.MethodGet, "/orders?access_token="+good[7:], nil)
			for _, value := range c.headers {
				r.Header.Add("Authorization", value)
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			checkAnswer(t, w, c.status, c.challenge)
			if called != (c.status == 200) {
				t.Errorf("the handler was called: %v", called)
			}
		})
	}
	if _, ok := FromContext(t.Context()); ok {
		t.Error("claims of nobody")
	}
}

func checkAnswer(t *testing.T, w *httptest.ResponseRecorder, status int, challenge string) {
	t.Helper()
	if w.Code != status || !strings.HasPrefix(w.Header().Get("WWW-Authenticate"), challenge) || (challenge == "") != (w.Header().Get("WWW-Authenticate") == "") {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
	if (status == 503) != (w.Header().Get("Retry-After") != "") {
		t.Errorf("Retry-After: %v", w.Header())
	}
	if status == 200 {
		return
	}
	var body map[string]string
	if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil || body["error_description"] == "" || w.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("%v %s", w.Header(), w.Body)
	}
}

// TestUnknownError: what isn't known is not told.
func TestUnknownError(t *testing.T) {
	w := httptest.NewRecorder()
	WriteError(w, errors.New("secret"))
	checkAnswer(t, w, 500, "")
	if strings.Contains(w.Body.String(), "secret") {
		t.Error(w.Body)
	}
}

// TestDependencies: who imports this package compiles golang-jwt and nothing else.
func TestDependencies(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".").Output()
	check(t, err)
	const want = "github.com/golang-jwt/jwt/v5\ngithub.com/m2m-operator/m2m-operator/verify"
	if got := strings.TrimSpace(string(out)); got != want {
		t.Errorf("it imports\n%s", got)
	}
}
