package verify

import (
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

func wraps(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got %v, want %v", err, want)
	}
}

// TestNew: what can't be safe is refused before the first token.
func TestNew(t *testing.T) {
	keys := WithJWKS(allJWKS(t))
	for name, make := range map[string]func() (*Verifier, error){
		"no issuer":           func() (*Verifier, error) { return New("", audience, keys) },
		"no audience":         func() (*Verifier, error) { return New(issuer, "", keys) },
		"no algorithm":        func() (*Verifier, error) { return New(issuer, audience, keys, WithAlgorithms()) },
		"alg none":            func() (*Verifier, error) { return New(issuer, audience, keys, WithAlgorithms("none")) },
		"alg HS256":           func() (*Verifier, error) { return New(issuer, audience, keys, WithAlgorithms(ES256, "HS256")) },
		"no profile":          func() (*Verifier, error) { return New(issuer, audience, keys, WithProfiles()) },
		"unknown profile":     func() (*Verifier, error) { return New(issuer, audience, keys, WithProfiles("OIDC")) },
		"negative leeway":     func() (*Verifier, error) { return New(issuer, audience, keys, WithLeeway(-1)) },
		"unbounded leeway":    func() (*Verifier, error) { return New(issuer, audience, keys, WithLeeway(time.Hour)) },
		"two sources of keys": func() (*Verifier, error) { return New(issuer, audience, keys, WithDiscovery(issuer)) },
		"no source of keys":   func() (*Verifier, error) { return New("stytch.com/project", audience) },
		"no keys":             func() (*Verifier, error) { return New(issuer, audience, WithJWKS([]byte(`{"keys":[]}`))) },
		"keys that are not":   func() (*Verifier, error) { return New(issuer, audience, WithJWKS([]byte(`{`))) },
		"plain http":          func() (*Verifier, error) { return New(issuer, audience, WithJWKSURL("http://auth.example.com/jwks")) },
		"plain http issuer":   func() (*Verifier, error) { return New("http://auth.example.com", audience) },
		"user in URL": func() (*Verifier, error) {
			return New(issuer, audience, WithJWKSURL("https://a:b@auth.example.com/jwks"))
		},
		"file":                func() (*Verifier, error) { return New(issuer, audience, WithJWKSURL("file:///etc/keys")) },
		"query in an issuer":  func() (*Verifier, error) { return New(issuer, audience, WithDiscovery(issuer+"?a=b")) },
		"ages in wrong order": func() (*Verifier, error) { return New(issuer, audience, WithMaxKeyAge(time.Minute)) },
		"no refetch floor":    func() (*Verifier, error) { return New(issuer, audience, keys, WithRefetchFloor(0)) },
		"nil clock":           func() (*Verifier, error) { return New(issuer, audience, keys, WithClock(nil)) },
		"nil deny list":       func() (*Verifier, error) { return New(issuer, audience, keys, WithDenyList(nil)) },
		"nil client":          func() (*Verifier, error) { return New(issuer, audience, keys, WithHTTPClient(nil)) },
		"nil logger":          func() (*Verifier, error) { return New(issuer, audience, keys, WithLogger(nil)) },
		"no credential to ask": func() (*Verifier, error) {
			return New(issuer, audience, keys, WithIntrospection(Introspection{URL: issuer}))
		},
	} {
		if v, err := make(); err == nil || v != nil {
			t.Errorf("%s: made", name)
		}
	}
}

// TestAccepts: tokens of both profiles and all algorithms, with what they say.
func TestAccepts(t *testing.T) {
	for _, p := range []Profile{Stytch, RFC9068} {
		v := newVerifier(t, WithProfiles(p))
		other := newVerifier(t, WithProfiles(map[Profile]Profile{Stytch: RFC9068, RFC9068: Stytch}[p]))
		for _, a := range allAlgorithms {
			token := testKeys()[a].token(testKeys()[a].header(map[Profile]string{Stytch: "JWT", RFC9068: "at+jwt"}[p]), claimsWith(p, nil))
			c, err := v.AuthenticateToken(t.Context(), token, RequiredScopes("read:orders", "write:all:of:it"))
			check(t, err)
			var tier struct{ Name string }
			check(t, c.DecodeCustom("tier", &tier))
			if c.ClientID != clientID || c.Issuer != issuer || !slices.Equal(c.Audience, []string{audience, "orders"}) || !c.ExpiresAt.Equal(now.Add(3540*time.Second)) ||
				!c.IssuedAt.Equal(now.Add(-time.Minute)) || !slices.Equal(c.Scopes, []string{"read:orders", "write:*"}) || tier.Name != "gold" || len(c.Custom) != 1 {
				t.Errorf("%s %s: %+v", p, a, c)
			}
			if c.NotBefore.IsZero() != (p == RFC9068) || (c.ID == "") != (p == Stytch) || c.DecodeCustom("iss", &tier) == nil {
				t.Errorf("%s %s: %+v", p, a, c)
			}
			if want := sha256.Sum256([]byte(token[:strings.LastIndex(token, ".")])); c.Digest != want {
				t.Errorf("another digest: %x", c.Digest)
			}
			checkRefused(t, other, token, ErrInvalidToken)
			check(t, second(newVerifier(t, WithProfiles(Stytch, RFC9068)).AuthenticateToken(t.Context(), token)))
			v.Close()
			checkRefused(t, v, token, ErrKeysUnavailable)
			v = newVerifier(t, WithProfiles(p))
		}
	}
}

func second[T any](_ T, err error) error { return err }

// TestDefaults: ES256 and the Stytch profile, and nothing else.
func TestDefaults(t *testing.T) {
	v, err := New(issuer, audience, WithJWKS(allJWKS(t)), WithClock(func() time.Time { return now }))
	check(t, err)
	defer v.Close()
	check(t, v.Ready(t.Context()))
	for _, a := range allAlgorithms {
		if a == ES256 {
			check(t, second(v.AuthenticateToken(t.Context(), testKeys()[a].good())))
			continue
		}
		checkRefused(t, v, testKeys()[a].good(), ErrInvalidToken)
	}
}

// TestHeaders: headers that attack.
func TestHeaders(t *testing.T) {
	v := newVerifier(t, WithProfiles(Stytch, RFC9068))
	k := testKeys()[ES256]
	jwk, err := json.Marshal(k.jwk())
	check(t, err)
	with := func(more string) string { return `{"alg":"ES256","kid":"key-ES256","typ":"JWT",` + more + `}` }
	for name, header := range map[string]string{
		"alg none":           `{"alg":"none","kid":"key-ES256","typ":"JWT"}`,
		"alg NONE":           `{"alg":"NONE","kid":"key-ES256","typ":"JWT"}`,
		"alg empty":          `{"alg":"","kid":"key-ES256","typ":"JWT"}`,
		"no alg":             `{"kid":"key-ES256","typ":"JWT"}`,
		"alg null":           `{"alg":null,"kid":"key-ES256","typ":"JWT"}`,
		"alg list":           `{"alg":["ES256"],"kid":"key-ES256","typ":"JWT"}`,
		"alg lower case":     `{"alg":"es256","kid":"key-ES256","typ":"JWT"}`,
		"alg of another key": `{"alg":"ES384","kid":"key-ES256","typ":"JWT"}`,
		"alg of another fit": `{"alg":"RS256","kid":"key-PS256","typ":"JWT"}`,
		"HMAC":               `{"alg":"HS256","kid":"key-ES256","typ":"JWT"}`,
		"kid of another key": `{"alg":"ES256","kid":"key-ES384","typ":"JWT"}`,
		"no kid":             `{"alg":"ES256","typ":"JWT"}`,
		"empty kid":          `{"alg":"ES256","kid":"","typ":"JWT"}`,
		"number as kid":      `{"alg":"ES256","kid":1,"typ":"JWT"}`,
		"null kid":           `{"alg":"ES256","kid":null,"typ":"JWT"}`,
		"huge kid":           `{"alg":"ES256","kid":"` + strings.Repeat("k", 5000) + `","typ":"JWT"}`,
		"path as kid":        `{"alg":"ES256","kid":"../../../../dev/null","typ":"JWT"}`,
		"query as kid":       `{"alg":"ES256","kid":"' OR 1=1 --","typ":"JWT"}`,
		"NUL in kid":         `{"alg":"ES256","kid":"key-ES256\u0000","typ":"JWT"}`,
		"kid of other case":  `{"alg":"ES256","kid":"KEY-ES256","typ":"JWT"}`,
		"kid twice":          `{"alg":"ES256","kid":"other","kid":"key-ES256","typ":"JWT"}`,
		"kid twice, escaped": `{"alg":"ES256","\u006bid":"other","kid":"key-ES256","typ":"JWT"}`,
		"alg twice":          `{"alg":"none","alg":"ES256","kid":"key-ES256","typ":"JWT"}`,
		"Alg beside alg":     with(`"Alg":"none"`),
		"no typ":             `{"alg":"ES256","kid":"key-ES256"}`,
		"typ of an ID token": `{"alg":"ES256","kid":"key-ES256","typ":"id+jwt"}`,
		"typ lower case":     `{"alg":"ES256","kid":"key-ES256","typ":"jwt"}`,
		"jwk":                with(`"jwk":` + string(jwk)),
		"jku":                with(`"jku":"https://evil.example.com/jwks"`),
		"x5u":                with(`"x5u":"https://evil.example.com/cert"`),
		"x5c":                with(`"x5c":["MIIB"]`),
		"crit":               with(`"crit":["exp"],"exp":1`),
		"empty crit":         with(`"crit":[]`),
		"b64 false":          with(`"b64":false,"crit":["b64"]`),
		"b64 without crit":   with(`"b64":false`),
		"zip":                with(`"zip":"DEF"`),
		"enc":                with(`"enc":"A256GCM"`),
		"deep":               with(`"x":` + strings.Repeat("[", 2000) + strings.Repeat("]", 2000)),
		"array":              `["ES256"]`,
		"empty":              ``,
		"null":               `null`,
		"not JSON":           `{"alg":"ES256"`,
		"two objects":        k.header("JWT") + `{}`,
		"invalid UTF-8":      with("\"x\":\"\xff\""),
		"byte order mark":    "\ufeff" + k.header("JWT"),
	} {
		t.Run(name, func(t *testing.T) { checkRefused(t, v, k.token(header, stytchClaims), ErrInvalidToken) })
	}
	for _, id := range []string{strings.Repeat("k", maxKeyID+1), `a\n`, ""} {
		if h, err := parseHeader([]byte(`{"alg":"ES256","kid":"` + id + `"}`)); err == nil {
			t.Errorf("parsed: %q", h.keyID)
		}
	}
}

// TestClaims: claims that are signed and still not acceptable.
func TestClaims(t *testing.T) {
	v := newVerifier(t, WithProfiles(Stytch, RFC9068))
	k := testKeys()[ES256]
	type changes = map[string]any
	for name, c := range map[string]changes{
		"no iss": {"iss": nil}, "empty iss": {"iss": ""}, "another iss": {"iss": "https://evil.example.com"},
		"iss with slash": {"iss": issuer + "/"}, "iss of other case": {"iss": "https://AUTH.example.com"}, "iss list": {"iss": []string{issuer}},
		"iss number": {"iss": 1}, "no aud": {"aud": nil}, "empty aud": {"aud": []string{}}, "another aud": {"aud": "orders"}, "part of aud": {"aud": "project-live"},
		"more than aud": {"aud": audience + "2"}, "aud in text": {"aud": "x " + audience}, "aud of numbers": {"aud": []any{audience, 1}},
		"nested aud": {"aud": []any{[]string{audience}}}, "aud object": {"aud": changes{audience: true}}, "aud null": {"aud": []any{nil}},
		"no exp": {"exp": nil}, "exp string": {"exp": fmt.Sprint(now.Unix() + 100)}, "exp fraction": {"exp": json.Number("1800000100.5")},
		"exp huge": {"exp": json.Number("1e308")}, "exp exponent": {"exp": json.Number("1.9e9")}, "exp past int64": {"exp": json.Number("99999999999999999999")},
		"exp past year 9999": {"exp": json.Number("253402300800")}, "exp negative": {"exp": -1}, "exp 0": {"exp": 0}, "exp true": {"exp": true}, "exp null": {"exp": json.RawMessage("null")},
		"no iat": {"iat": nil}, "iat string": {"iat": "1"}, "no nbf": {"nbf": nil}, "nbf string": {"nbf": "1"}, "nbf ahead": {"nbf": now.Unix() + 6}, "iat ahead": {"iat": now.Unix() + 66},
		"no sub": {"sub": nil}, "empty sub": {"sub": ""}, "sub number": {"sub": 1}, "another client_id": {"client_id": "other"}, "empty client_id": {"client_id": ""},
		"no scope": {"scope": nil}, "scope list": {"scope": []string{"a"}}, "scope tab": {"scope": "a\tb"}, "scope two spaces": {"scope": "a  b"}, "scope quote": {"scope": `a"b`},
	} {
		t.Run(name, func(t *testing.T) {
			checkRefused(t, v, k.token(k.header("JWT"), claimsWith(Stytch, c)), ErrInvalidToken)
		})
	}
	for name, c := range map[string]changes{
		"no client_id": {"client_id": nil}, "another client_id": {"client_id": "other"}, "no jti": {"jti": nil}, "no iat": {"iat": nil}, "no sub": {"sub": nil},
	} {
		t.Run("RFC 9068: "+name, func(t *testing.T) {
			checkRefused(t, v, k.token(k.header("at+jwt"), claimsWith(RFC9068, c)), ErrInvalidToken)
		})
	}
	many := changes{}
	for i := range 200 {
		many[fmt.Sprint("claim", i)] = i
	}
	more := func(claims string) string { return strings.TrimSuffix(stytchClaims, "}") + "," + claims + "}" }
	for name, claims := range map[string]string{
		"exp twice": more(`"exp":1900000000`), "aud twice": more(`"aud":"x"`), "custom twice": more(`"tier":1`), "escaped twice": more(`"\u0069ss":"x"`),
		"deep": more(`"x":` + strings.Repeat(`{"a":`, 100) + "1" + strings.Repeat("}", 100)), "many": claimsWith(Stytch, many),
		"array": "[" + stytchClaims + "]", "string": `"claims"`, "trailing": stytchClaims + "x", "empty": "", "invalid UTF-8": more("\"x\":\"\xc0\xaf\""),
		"names of other case": strings.ReplaceAll(stytchClaims, `"exp"`, `"EXP"`),
	} {
		t.Run(name, func(t *testing.T) { checkRefused(t, v, k.token(k.header("JWT"), claims), ErrInvalidToken) })
	}
	for name, c := range map[string]changes{
		"aud alone": {"aud": audience}, "empty scope": {"scope": ""}, "fits the leeway": {"nbf": now.Unix() + 5}, "an issuer a minute ahead": {"iat": now.Unix() + 65}, "just expired": {"exp": now.Unix() - 4},
		"client_id": {"client_id": clientID}, "custom of any kind": {"x": []any{nil, true, 1.5, changes{"a": "]}"}, "\"\\"}},
	} {
		t.Run("accepted: "+name, func(t *testing.T) {
			check(t, second(v.AuthenticateToken(t.Context(), k.token(k.header("JWT"), claimsWith(Stytch, c)))))
		})
	}
}

// TestTexts: texts that are no compact JWS, or not the one that was issued.
func TestTexts(t *testing.T) {
	v := newVerifier(t)
	k := testKeys()[EdDSA]
	good := k.good()
	parts := strings.Split(good, ".")
	check(t, second(v.AuthenticateToken(t.Context(), good)))
	last := strings.IndexByte(alphabet, good[len(good)-1])
	for name, text := range map[string]string{
		"empty": "", "a dot": ".", "two dots": "..", "millions of dots": strings.Repeat(".", 5_000_000), "a million characters": strings.Repeat("A", 1_000_000),
		"four parts": good + ".", "five parts (JWE)": good + ".a.b", "two parts": parts[0] + "." + parts[1], "detached": parts[0] + ".." + parts[2],
		"no signature": parts[0] + "." + parts[1] + ".", "padding": good + "=", "two paddings": good + "==", "space": good + " ", "line break": good + "\n", "line break inside": good[:40] + "\r\n" + good[40:],
		"bits that mean nothing": good[:len(good)-1] + string(alphabet[last^1]), "a base64 that is not base64url": strings.NewReplacer("-", "+", "_", "/").Replace(good) + "+",
		"JSON": `{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`,
		"two":  good + "," + good, "long claims": k.token(k.header("JWT"), claimsWith(Stytch, map[string]any{"x": strings.Repeat("x", maxToken)})),
		"other claims": parts[0] + "." + encoding.EncodeToString([]byte(claimsWith(Stytch, map[string]any{"scope": "admin"}))) + "." + parts[2],
		"half":         good[:len(good)/2], "signature of another": parts[0] + "." + parts[1] + "." + strings.Split(testKeys()[ES256].good(), ".")[2],
		"NUL": good + "\x00", "not ASCII": good + "\u00e9",
	} {
		t.Run(name, func(t *testing.T) { checkRefused(t, v, text, ErrInvalidToken) })
	}
}

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

// TestPublicKeyAsSecret: tokens whose HMAC secret is what everybody knows.
func TestPublicKeyAsSecret(t *testing.T) {
	v := newVerifier(t)
	set := allJWKS(t)
	for _, a := range allAlgorithms {
		jwk, err := json.Marshal(testKeys()[a].jwk())
		check(t, err)
		for _, secret := range [][]byte{jwk, set, []byte(testKeys()[a].id), nil} {
			header := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256","kid":"key-` + string(a) + `","typ":"JWT"}`))
			signed := header + "." + encoding.EncodeToString([]byte(stytchClaims))
			mac, err := jwt.SigningMethodHS256.Sign(signed, secret)
			check(t, err)
			checkRefused(t, v, signed+"."+encoding.EncodeToString(mac), ErrInvalidToken)
		}
	}
}

// TestOtherSalt: PS256 with a salt that is not as long as the hash.
func TestOtherSalt(t *testing.T) {
	k := testKeys()[PS256]
	parts := strings.SplitAfterN(k.good(), ".", 3)
	signed := strings.TrimSuffix(parts[0]+parts[1], ".")
	lax := *jwt.SigningMethodPS256
	lax.Options = &rsa.PSSOptions{SaltLength: 20}
	signature, err := lax.Sign(signed, k.private)
	check(t, err)
	check(t, jwt.SigningMethodPS256.Verify(signed, signature, k.private.Public()))
	checkRefused(t, newVerifier(t), signed+"."+encoding.EncodeToString(signature), ErrInvalidToken)
}

// TestTimes: each limit of a token's life, and of its age.
func TestTimes(t *testing.T) {
	k := testKeys()[ES256]
	token := k.good() // nbf -120 s, iat -60 s, exp +3540 s
	for _, c := range []struct {
		after  time.Duration
		leeway time.Duration
		age    time.Duration
		want   error
	}{
		{after: 3544 * time.Second, leeway: DefaultLeeway},
		{after: 3545 * time.Second, leeway: DefaultLeeway, want: ErrTokenExpired},
		{after: 3539 * time.Second},
		{after: 3540 * time.Second, want: ErrTokenExpired},
		{after: 3540*time.Second - 1},
		{after: 3600 * time.Second, leeway: MaxLeeway},
		{after: -120 * time.Second},
		{after: -121 * time.Second, want: ErrInvalidToken},
		{age: time.Minute},
		{age: time.Minute - 1, want: ErrTokenExpired},
		{age: time.Second, leeway: time.Minute},
		{age: -1, leeway: MaxLeeway, want: ErrTokenExpired},
	} {
		v := newVerifier(t, WithLeeway(c.leeway), WithClock(func() time.Time { return now.Add(c.after) }))
		var required []Requirement
		if c.age != 0 {
			required = append(required, MaxTokenAge(time.Hour), MaxTokenAge(c.age))
		}
		if _, err := v.AuthenticateToken(t.Context(), token, required...); !errors.Is(err, c.want) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	if _, err := newVerifier(t).AuthenticateToken(t.Context(), token, MaxTokenAge(0)); !errors.Is(err, ErrTokenExpired) {
		t.Errorf("an age of nothing: %v", err)
	}
}

// TestScopes: wildcards cover the resources of their action and nothing else.
func TestScopes(t *testing.T) {
	for _, c := range []struct {
		held, required string
		want           bool
	}{
		{"read:users", "read:users", true}, {"read:*", "read:users", true}, {"read:*", "read:users:all", true}, {"read:*", "read:*", true},
		{"a read:* b", "read:users a", true}, {"admin", "admin", true}, {"read:*", "", true}, {"", "", true}, {"read", "read", true},
		{"read:*", "read", false}, {"read:*", "read:", false}, {"read:*", "write:users", false}, {"read:*", "reader:users", false}, {"read:*", ":users", false},
		{"read:users", "read:*", false}, {"read:users read:orders", "read:*", false}, {"*", "read:users", false}, {"*:*", "read:users", false}, {"*:users", "read:users", false},
		{"read:u*", "read:users", false}, {"read:users:*", "read:users:all", false}, {"read:**", "read:users", false}, {"read*", "read:users", false}, {"READ:*", "read:users", false},
		{"", "read:users", false}, {"read:users", "read:users write:users", false}, {"read", "read:users", false},
	} {
		held := Claims{Scopes: strings.Fields(c.held)}
		if got := held.HasScopes(strings.Fields(c.required)...); got != c.want {
			t.Errorf("%q covers %q: %v", c.held, c.required, got)
		}
	}
	for _, never := range []string{"", " ", "read:orders write:x", `read:"`} {
		_, err := newVerifier(t).AuthenticateToken(t.Context(), testKeys()[ES256].good(), RequiredScopes("read:orders"), RequiredScopes(never))
		var lacking *ScopeError
		if !errors.Is(err, ErrInsufficientScope) || !errors.As(err, &lacking) || !slices.Equal(lacking.Required, []string{"read:orders", never}) {
			t.Errorf("%q: %v", never, err)
		}
	}
}
