package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/jws"
)

// signer signs tokens, and has the JWK Set that they are verified with.
type signer struct {
	key  *ecdsa.PrivateKey
	jwks []byte
}

func newSigner(t *testing.T) signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	b := base64.RawURLEncoding
	return signer{key, fmt.Appendf(nil, `{"keys":[{"kty":"EC","crv":"P-256","kid":"k","x":%q,"y":%q}]}`, b.EncodeToString(point[1:33]), b.EncodeToString(point[33:]))}
}

func (s signer) sign(t *testing.T, typ string, claims map[string]any) string {
	t.Helper()
	token := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims(claims))
	token.Header["kid"], token.Header["typ"] = "k", typ
	text, err := token.SignedString(s.key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// Each thing that is wrong with a token is named, and that alone.
func TestJudge(t *testing.T) {
	s, other := newSigner(t), newSigner(t)
	now := time.Unix(1_800_000_000, 0)
	good := func() map[string]any {
		return map[string]any{"iss": "https://auth.test", "sub": "m2m-client-1", "aud": []string{"project-1"}, "scope": "read:* write:x",
			"iat": 1_799_999_990, "nbf": 1_799_999_930, "exp": 1_800_000_001}
	}
	want := expectation{issuer: "it", iss: "https://auth.test", audience: "project-1", profile: v1alpha1.ProfileStytch, algorithms: []string{"ES256"}}
	for name, test := range map[string]struct {
		claim  string
		value  any // nil: the claim is taken out
		typ    string
		by     signer
		change func(*expectation)
		wrong  string
	}{
		"good":                 {typ: "JWT", by: s},
		"scopes it has":        {typ: "JWT", by: s, change: func(e *expectation) { e.scopes = []string{"write:x", "read:users", "read:a:b", "read:*"} }},
		"a scope it has not":   {typ: "JWT", by: s, change: func(e *expectation) { e.scopes = []string{"write:y"} }, wrong: "scope"},
		"no wildcard of all":   {typ: "JWT", by: s, change: func(e *expectation) { e.scopes = []string{"read"} }, wrong: "scope"},
		"no resource":          {typ: "JWT", by: s, change: func(e *expectation) { e.scopes = []string{"read:"} }, wrong: "scope"},
		"another's key":        {typ: "JWT", by: other, wrong: "signature"},
		"another algorithm":    {typ: "JWT", by: s, change: func(e *expectation) { e.algorithms = []string{"RS256"} }, wrong: "signature"},
		"another issuer":       {claim: "iss", value: "https://evil.test", typ: "JWT", by: s, wrong: "issuer"},
		"no issuer":            {claim: "iss", typ: "JWT", by: s, wrong: "issuer"},
		"another audience":     {claim: "aud", value: "project-2", typ: "JWT", by: s, wrong: "audience"},
		"no audience":          {claim: "aud", typ: "JWT", by: s, wrong: "audience"},
		"expires now":          {claim: "exp", value: 1_800_000_000, typ: "JWT", by: s, wrong: "expiry"},
		"no expiry":            {claim: "exp", typ: "JWT", by: s, wrong: "expiry"},
		"begins now":           {claim: "nbf", value: 1_800_000_000, typ: "JWT", by: s},
		"begins later":         {claim: "nbf", value: 1_800_000_000.5, typ: "JWT", by: s, wrong: "not before"},
		"no subject":           {claim: "sub", typ: "JWT", by: s, wrong: "subject"},
		"no nbf":               {claim: "nbf", typ: "JWT", by: s, wrong: "profile"},
		"no scope":             {claim: "scope", typ: "JWT", by: s, wrong: "profile"},
		"no iat":               {claim: "iat", typ: "JWT", by: s, wrong: "profile"},
		"the other profile":    {typ: "at+jwt", by: s, wrong: "profile"},
		"an ID token":          {typ: "id+jwt", by: s, wrong: "profile"},
		"RFC9068 without jti":  {claim: "client_id", value: "x", typ: "at+jwt", by: s, change: func(e *expectation) { e.profile = "" }, wrong: "profile"},
		"profile doesn't care": {typ: "JWT", by: s, change: func(e *expectation) { e.profile = "" }},
	} {
		claims, expected := good(), want
		if test.claim != "" {
			claims[test.claim] = test.value
			if test.value == nil {
				delete(claims, test.claim)
			}
		}
		if test.change != nil {
			test.change(&expected)
		}
		token, err := jws.Parse(test.by.sign(t, test.typ, claims))
		if err != nil {
			t.Fatal(err)
		}
		keys, err := jws.ParseKeySet(s.jwks)
		if err != nil {
			t.Fatal(err)
		}
		var wrong []string
		for _, c := range judge(token, keys, expected, now) {
			if !c.OK {
				wrong = append(wrong, c.Name)
			}
		}
		if got := strings.Join(wrong, " "); got != test.wrong {
			t.Errorf("%s: wrong is %q, want %q", name, got, test.wrong)
		}
	}
}

func TestIssuerOf(t *testing.T) {
	named := func(name, url, iss, kid string) (i v1alpha1.ClusterM2MIssuer) {
		i.Name, i.Spec.URL = name, url
		i.Spec.Token = &v1alpha1.IssuerTokenSpec{Issuer: iss}
		i.Status.Keys = []v1alpha1.SigningKeyStatus{{KeyID: kid}}
		return i
	}
	issuers := []v1alpha1.ClusterM2MIssuer{named("a", "https://a.test", "", "ka"), named("b", "https://b.test", "stytch.com/b", "kb")}
	for name, test := range map[string]struct{ iss, kid, asked, want string }{
		"by url":               {"https://a.test", "kb", "", "a"},
		"by iss":               {"stytch.com/b", "", "", "b"},
		"a url that isn't iss": {"https://b.test", "", "", ""},
		"by key":               {"https://c.test", "kb", "", "b"},
		"by name":              {"https://a.test", "ka", "b", "b"},
		"no such name":         {"https://a.test", "ka", "c", ""},
		"no key, no iss":       {"", "", "", ""},
	} {
		token := &jws.Token{KeyID: test.kid, Claims: jws.Claims{Issuer: test.iss}}
		i, err := issuerOf(issuers, token, test.asked)
		if (err == nil) != (test.want != "") || i != nil && i.Name != test.want {
			t.Errorf("%s: %v %v", name, i, err)
		}
	}
}

// The whole command, without a cluster.
func TestVerifyCommand(t *testing.T) {
	s := newSigner(t)
	now := time.Now().Unix()
	token := s.sign(t, "JWT", map[string]any{"iss": "i", "sub": "c", "aud": "a", "scope": "", "iat": now, "nbf": now - 60, "exp": now + 3600})
	file := filepath.Join(t.TempDir(), "jwks.json")
	if err := os.WriteFile(file, s.jwks, 0o600); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/jwks":
			_, _ = w.Write(s.jwks)
		case "/huge":
			_, _ = w.Write(bytes.Repeat([]byte(" "), maxKeySet+1))
		case "/other":
			fmt.Fprint(w, `{"a":1}`)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer server.Close()
	for name, test := range map[string]struct {
		stdin string
		args  []string
		valid bool
		says  string
	}{
		"a file":              {token + "\n", []string{"--jwks-file", file}, true, "The token is valid."},
		"a URL":               {"", []string{token, "--jwks-url", server.URL + "/jwks"}, true, "The token is valid."},
		"dash":                {token, []string{"-", "--jwks-file", file}, true, "The token is valid."},
		"wrong":               {token, []string{"--jwks-file", file, "--require-scope", "read:x"}, false, "WRONG  scope"},
		"no token":            {"hello", []string{"--jwks-file", file}, false, "WRONG  form"},
		"a long text":         {strings.Repeat("a", 1<<20), []string{"--jwks-file", file}, false, "more than"},
		"no keys there":       {token, []string{"--jwks-url", server.URL + "/"}, false, "answered 404"},
		"more than keys":      {token, []string{"--jwks-url", server.URL + "/huge"}, false, "more than"},
		"something else":      {token, []string{"--jwks-url", server.URL + "/other"}, false, "JWK Set"},
		"keys over http":      {token, []string{"--jwks-url", "http://auth.test/jwks"}, false, "plain"},
		"unknown format":      {token, []string{"--jwks-file", file, "-o", "yaml"}, false, "-o yaml"},
		"file that is no set": {token, []string{"--jwks-file", os.Args[0]}, false, "more than"},
	} {
		var out bytes.Buffer
		cmd := newCommand(genericiooptions.IOStreams{In: strings.NewReader(test.stdin), Out: &out, ErrOut: &out})
		cmd.SetArgs(slices.Concat([]string{"verify", "--iss=i", "--audience=a"}, test.args))
		err := cmd.ExecuteContext(t.Context())
		if (err == nil) != test.valid || !strings.Contains(out.String()+fmt.Sprint(err), test.says) {
			t.Errorf("%s: %v\n%s", name, err, out.String())
		}
	}
	var out bytes.Buffer
	cmd := newCommand(genericiooptions.IOStreams{In: strings.NewReader(token), Out: &out, ErrOut: &out})
	cmd.SetArgs([]string{"verify", "--iss=i", "--audience=b", "--jwks-file", file, "-o", "json"})
	err := cmd.ExecuteContext(t.Context())
	var result struct {
		Valid  *bool
		Checks []check
		Claims map[string]any
	}
	if json.Unmarshal(out.Bytes(), &result) != nil || err == nil || result.Valid == nil || *result.Valid || len(result.Checks) < 5 || result.Claims["sub"] != "c" {
		t.Errorf("%v\n%s", err, out.String())
	}
}
