package verify

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/go-jose/go-jose/v4"
)

// FuzzToken: whatever the text, nothing but an issued token is accepted, and what is
// parsed is its only text.
func FuzzToken(f *testing.F) {
	v := newVerifier(f, WithProfiles(Stytch, RFC9068))
	issued := issuedTokens()
	for _, i := range issued {
		f.Add(i.text)
	}
	for _, seed := range []string{"", "..", "e30.e30.", "eyJhbGciOiJub25lIn0.e30.", strings.Repeat(".", 100)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if p, err := parseToken(text); err == nil {
			header, claims, _ := strings.Cut(p.signed, ".")
			for _, part := range []string{header, claims} {
				raw, err := encoding.DecodeString(part)
				if err != nil || encoding.EncodeToString(raw) != part || !json.Valid(raw) || !utf8.Valid(raw) {
					t.Fatalf("parsed: %q", text)
				}
			}
			if p.signed+"."+encoding.EncodeToString(p.signature) != text {
				t.Fatalf("another text: %q", text)
			}
		}
		if _, err := v.AuthenticateToken(t.Context(), text); err == nil && !known(issued, text) {
			if err := judge(issued, text); err != nil {
				t.Fatalf("accepted %q: %v", text, err)
			}
		}
	})
}

// FuzzClaims: what is parsed is what encoding/json finds.
func FuzzClaims(f *testing.F) {
	for _, seed := range []string{stytchClaims, claimsWith(RFC9068, nil), `{}`, `{"aud":["a"],"x":{"a":[1,"}"]}}`, `{"a":1,"\u0061":2}`, `{"exp":1e308}`, `{ "a" : "\\\"" , "b" : [ ] }`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var c Claims
		if err := parseClaims(&c, text); err != nil {
			return
		}
		var reference map[string]json.RawMessage
		if err := json.Unmarshal(text, &reference); err != nil {
			t.Fatalf("parsed %q: %v", text, err)
		}
		for name, value := range c.Custom {
			if string(reference[name]) != string(value) {
				t.Fatalf("%q is %q, not %q", name, value, reference[name])
			}
		}
		text, ok := reference["exp"]
		if exp, err := json.Number(text).Int64(); ok && (err != nil || exp != c.ExpiresAt.Unix()) {
			t.Fatalf("exp is %v, not %s", c.ExpiresAt, text)
		}
		var subject string
		if text, ok := reference["sub"]; ok && (json.Unmarshal(text, &subject) != nil || subject != c.ClientID) {
			t.Fatalf("sub is %q, not %s", c.ClientID, text)
		}
	})
}

// FuzzKeySet: keys that are used are public, of a known kind, and those go-jose reads.
func FuzzKeySet(f *testing.F) {
	f.Add(allJWKS(f))
	for _, seed := range []string{`{"keys":[]}`, `{"keys":[{}]}`, `{"keys":[{"kty":"oct","k":"AQ","kid":"a","alg":"HS256"}]}`, `{"keys":[1,[[]],"x"]}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		keys, err := parseKeySet(text)
		if err != nil || len(keys) == 0 {
			return
		}
		for id, k := range keys {
			if id == "" || methods[k.algorithm] == nil {
				t.Fatalf("%q is for %q", id, k.algorithm)
			}
			known := jose.JSONWebKey{Key: k.key, KeyID: id, Algorithm: string(k.algorithm)}
			if !known.Valid() || !known.IsPublic() {
				t.Fatalf("%q is no public key: %+v", id, k.key)
			}
		}
	})
}

// FuzzBearer: the token is what stands in the header, and nothing that could end it.
func FuzzBearer(f *testing.F) {
	for _, seed := range []string{"Bearer a", "bearer a.b.c", "Bearer", "Bearer  a", "Basic a", "", "Bearer a, Bearer b", "Bearer \u00e9", "Bearer " + strings.Repeat("a", maxToken+1)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		token, err := ParseBearer([]string{value})
		if err == nil && (token == "" || len(token) > maxToken || len(value) != 7+len(token) || !strings.EqualFold(value[:7], "bearer ") || strings.ContainsAny(token, " \t\r\n,\"\x00")) {
			t.Fatalf("%q has the token %q", value, token)
		}
	})
}

// FuzzMetadata: keys come from https, and from nobody else's metadata.
func FuzzMetadata(f *testing.F) {
	f.Add([]byte(`{"issuer":"` + issuer + `","jwks_uri":"` + jwksURL + `"}`))
	f.Add([]byte(`{"issuer":"` + issuer + `","jwks_uri":"http://127.0.0.1/"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if u, err := parseMetadata(text, issuer); err == nil && !strings.HasPrefix(u, "https://") {
			t.Fatalf("%s gives %q", text, u)
		}
	})
}
