package verify

import (
	"context"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

type brokenList struct{}

func (brokenList) Denies(context.Context, *Claims) (bool, error) { return false, errors.New("down") }

// TestDenyList: by client and time, and by token, whichever of its signatures it has.
func TestDenyList(t *testing.T) {
	var l MemoryDenyList
	v := newVerifier(t, WithDenyList(&l))
	k := testKeys()[ES256]
	token := k.good() // issued a minute ago
	claims, err := v.AuthenticateToken(t.Context(), token)
	check(t, err)
	l.DenyClient("another", now)
	l.DenyClient(clientID, now.Add(-time.Minute)) // not before that
	check(t, authenticate(v, token))
	l.DenyClient(clientID, now.Add(-59*time.Second))
	l.DenyClient(clientID, now.Add(-time.Hour)) // takes nothing back
	checkRefused(t, v, token, ErrTokenRevoked)
	wraps(t, authenticate(v, token), ErrInvalidToken)
	l.Forget(now.Add(-58 * time.Second))
	check(t, authenticate(v, token))
	l.DenyToken(claims.Digest, claims.ExpiresAt)
	signed, signature := cutLast(token)
	raw, err := encoding.DecodeString(signature)
	check(t, err)
	other := signed + "." + encoding.EncodeToString(complement(elliptic.P256(), raw))
	checkRefused(t, v, token, ErrTokenRevoked)
	checkRefused(t, v, other, ErrTokenRevoked)
	l.Forget(claims.ExpiresAt)
	checkRefused(t, v, token, ErrTokenRevoked)
	l.Forget(claims.ExpiresAt.Add(1))
	check(t, authenticate(v, other))
	checkRefused(t, newVerifier(t, WithDenyList(brokenList{})), token, ErrRevocationUnavailable)
}

// TestIntrospection: the issuer has the last word, and no word is a refusal.
func TestIntrospection(t *testing.T) {
	token := testKeys()[ES256].good()
	about := fmt.Sprintf(`"client_id":%q,"sub":%q,"iss":%q,`, clientID, clientID, issuer)
	for name, c := range map[string]struct {
		serve server
		want  error
	}{
		"active":             {reply(200, `{"active":true}`), nil},
		"active, about it":   {reply(200, `{`+about+`"active":true}`), nil},
		"inactive":           {reply(200, `{"active":false}`), ErrTokenRevoked},
		"inactive, about it": {reply(200, `{`+about+`"active":false}`), ErrTokenRevoked},
		"about another":      {reply(200, `{"active":true,"client_id":"other"}`), ErrRevocationUnavailable},
		"about another sub":  {reply(200, `{"active":true,"sub":"other"}`), ErrRevocationUnavailable},
		"of another issuer":  {reply(200, `{"active":true,"iss":"other"}`), ErrRevocationUnavailable},
		"twice":              {reply(200, `{"active":false,"active":true}`), ErrRevocationUnavailable},
		"text":               {reply(200, `{"active":"true"}`), ErrRevocationUnavailable},
		"number":             {reply(200, `{"active":1}`), ErrRevocationUnavailable},
		"null":               {reply(200, `{"active":null}`), ErrTokenRevoked},
		"other case":         {reply(200, `{"Active":true}`), ErrRevocationUnavailable},
		"nothing":            {reply(200, `{}`), ErrRevocationUnavailable},
		"empty":              {reply(200, ``), ErrRevocationUnavailable},
		"HTML":               {reply(200, `<html>`), ErrRevocationUnavailable},
		"own credential":     {reply(401, `{"active":true}`), ErrRevocationUnavailable},
		"broken":             {reply(500, `{"active":true}`), ErrRevocationUnavailable},
		"elsewhere":          {reply(307, `{"active":true}`, "Location", issuer+"/other"), ErrRevocationUnavailable},
		"huge":               {reply(200, `{"active":true}`+strings.Repeat(" ", maxBody)), ErrRevocationUnavailable},
		"down":               {down, ErrRevocationUnavailable},
		"hangs":              {hang, ErrRevocationUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := &origin{serve: c.serve}
				v := newVerifier(t, WithHTTPClient(&http.Client{Transport: o}), WithIntrospection(introspection(0)))
				err := authenticate(v, token)
				if !errors.Is(err, c.want) || o.count() != 1 {
					t.Errorf("%v after %d requests", err, o.count())
				}
				if err != nil && strings.Contains(err.Error(), "s3cr") {
					t.Errorf("the error quotes the secret: %v", err)
				}
				checkRefused(t, v, token[:len(token)-4]+"AAAA", ErrInvalidToken)
				if o.count() != 1 {
					t.Error("a forged token was shown to the issuer")
				}
			})
		})
	}
}

func introspection(maxAge time.Duration) Introspection {
	credential := func() (string, string, error) { return "id:1", "s3cr&t", nil }
	return Introspection{URL: issuer + "/introspect", Credential: credential, MaxAge: maxAge}
}

// TestIntrospectionRequest: what the issuer gets (RFC 7662 section 2.1).
func TestIntrospectionRequest(t *testing.T) {
	token := testKeys()[ES256].good()
	o := &origin{serve: func(r *http.Request) page {
		id, secret, _ := r.BasicAuth()
		body, _ := io.ReadAll(r.Body)
		form, err := url.ParseQuery(string(body))
		if r.Method != http.MethodPost || id != "id%3A1" || secret != "s3cr%26t" || err != nil || form.Get("token") != token || r.URL.RawQuery != "" || r.Header.Get("Content-Type") != "application/x-www-form-urlencoded" {
			t.Errorf("%s %s %v %s", r.Method, r.URL, r.Header, body)
		}
		return reply(200, `{"active":true}`)(r)
	}}
	check(t, authenticate(newVerifier(t, WithHTTPClient(&http.Client{Transport: o}), WithIntrospection(introspection(0))), token))
	failing := introspection(0)
	failing.Credential = func() (string, string, error) { return "", "", errors.New("no file") }
	checkRefused(t, newVerifier(t, WithHTTPClient(&http.Client{Transport: o}), WithIntrospection(failing)), token, ErrRevocationUnavailable)
	if o.count() != 1 {
		t.Errorf("%d requests", o.count())
	}
}

// TestIntrospectionCache: an answer is used as long as it may be, and no failure is.
func TestIntrospectionCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		active := reply(200, `{"active":true}`)
		o := &origin{serve: active}
		v := newVerifier(t, WithHTTPClient(&http.Client{Transport: o}), WithIntrospection(introspection(time.Minute)))
		token, other := testKeys()[ES256].good(), testKeys()[EdDSA].good()
		step := func(token string, serve server, want error, requests int) {
			t.Helper()
			o.set(serve)
			if err := authenticate(v, token); !errors.Is(err, want) || o.count() != requests {
				t.Fatalf("%v after %d requests", err, o.count())
			}
		}
		step(token, active, nil, 1)
		step(token, down, nil, 1)
		step(other, down, ErrRevocationUnavailable, 2)
		step(other, down, ErrRevocationUnavailable, 3)
		time.Sleep(time.Minute - 1)
		step(token, down, nil, 3)
		time.Sleep(time.Nanosecond)
		step(token, down, ErrRevocationUnavailable, 4)
		step(token, reply(200, `{"active":false}`), ErrTokenRevoked, 5)
		step(token, active, ErrTokenRevoked, 5)
		time.Sleep(time.Minute)
		step(token, active, nil, 6)
		for n := range 3 * maxAnswers {
			v.asked.remember(sha256.Sum256(fmt.Append(nil, n)), answer{true, time.Now()})
		}
		if len(v.asked.answers) > maxAnswers {
			t.Errorf("%d answers are kept", len(v.asked.answers))
		}
	})
}

// FuzzIntrospection: an answer means active only if it says so, of this token.
func FuzzIntrospection(f *testing.F) {
	for _, seed := range []string{`{"active":true}`, `{"active":false}`, `{"active":true,"sub":"x"}`, `{"active":true,"active":false}`, `{"\u0061ctive":true}`, ``, `{`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		active, err := parseIntrospection(text, &Claims{ClientID: clientID, Issuer: issuer})
		if !active {
			return
		}
		var said map[string]any
		if err != nil || json.Unmarshal(text, &said) != nil || said["active"] != true {
			t.Fatalf("active: %s, %v", text, err)
		}
		for name, want := range map[string]string{"sub": clientID, "client_id": clientID, "iss": issuer} {
			if got, ok := said[name]; ok && got != want {
				t.Fatalf("active, of %v: %s", got, text)
			}
		}
	})
}
