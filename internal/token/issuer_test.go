package token

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"encoding/asn1"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/m2m-operator/m2m-operator/internal/keyring"
)

// TestNewIssuerRefuses: an issuer that can't work doesn't load.
func TestNewIssuerRefuses(t *testing.T) {
	key, other := newKey(t, keyring.ES256, testNow), newKey(t, keyring.ES256, testNow)
	config := func() IssuerConfig {
		return IssuerConfig{Name: "default", URL: testURL, ProjectID: testProject, Profile: Stytch, Keys: keyring.Ring{Keys: []keyring.Key{key}}}
	}
	change := func(f func(*keyring.Key)) func(*IssuerConfig) {
		return func(c *IssuerConfig) { f(&c.Keys.Keys[0]) }
	}
	for name, change := range map[string]func(*IssuerConfig){
		"no URL":             func(c *IssuerConfig) { c.URL = "" },
		"URL without scheme": func(c *IssuerConfig) { c.URL = "auth.example.com" },
		"other scheme":       func(c *IssuerConfig) { c.URL = "ftp://auth.example.com" },
		"query":              func(c *IssuerConfig) { c.URL += "?a" },
		"fragment":           func(c *IssuerConfig) { c.URL += "#a" },
		"user":               func(c *IssuerConfig) { c.URL = "https://a:b@auth.example.com" },
		"trailing slash":     func(c *IssuerConfig) { c.URL += "/" },
		"path with Stytch":   func(c *IssuerConfig) { c.URL += "/a" },
		"no project id":      func(c *IssuerConfig) { c.ProjectID = "" },
		"odd project id":     func(c *IssuerConfig) { c.ProjectID = "a/b" },
		"no profile":         func(c *IssuerConfig) { c.Profile = "" },
		"no key":             func(c *IssuerConfig) { c.Keys = keyring.Ring{} },
		"no key id":          change(func(k *keyring.Key) { k.ID = "" }),
		"no signer":          change(func(k *keyring.Key) { k.Signer = nil }),
		"no algorithm":       change(func(k *keyring.Key) { k.Algorithm = "" }),
		"HMAC":               change(func(k *keyring.Key) { k.Algorithm = "HS256" }),
		"other algorithm":    change(func(k *keyring.Key) { k.Algorithm = keyring.ES384 }),
		"key of other type":  change(func(k *keyring.Key) { k.Algorithm = keyring.RS256 }),
		"damaged key":        change(func(k *keyring.Key) { k.Signer = damaged{key.Signer, other.Signer} }),
	} {
		c := config()
		if _, err := NewIssuer(rand.Reader, c); err != nil {
			t.Fatal(err)
		}
		change(&c)
		if _, err := NewIssuer(rand.Reader, c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// damaged signs with another key than it says.
type damaged struct{ public, private crypto.Signer }

func (d damaged) Public() crypto.PublicKey { return d.public.Public() }

func (d damaged) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return d.private.Sign(random, digest, opts)
}

// TestPublished: the metadata is true, and no private key is published or printed.
func TestPublished(t *testing.T) {
	issuer := newIssuer(t, Stytch, newKey(t, keyring.ES256, testNow), newKey(t, keyring.PS256, testNow))
	const methods, algorithms = `["client_secret_basic","client_secret_post","private_key_jwt"]`, `["ES256","ES384","RS256","RS384","PS256","EdDSA"]`
	const want = `{"issuer":"https://auth.example.com",` +
		`"token_endpoint":"https://auth.example.com/v1/public/` + testProject + `/oauth2/token",` +
		`"introspection_endpoint":"https://auth.example.com/v1/public/` + testProject + `/oauth2/introspect",` +
		`"revocation_endpoint":"https://auth.example.com/v1/public/` + testProject + `/oauth2/revoke",` +
		`"jwks_uri":"https://auth.example.com/v1/public/` + testProject + `/oauth2/jwks",` +
		`"grant_types_supported":["client_credentials"],` +
		`"token_endpoint_auth_methods_supported":` + methods + `,"token_endpoint_auth_signing_alg_values_supported":` + algorithms + `,` +
		`"introspection_endpoint_auth_methods_supported":` + methods + `,"introspection_endpoint_auth_signing_alg_values_supported":` + algorithms + `,` +
		`"revocation_endpoint_auth_methods_supported":` + methods + `,"revocation_endpoint_auth_signing_alg_values_supported":` + algorithms + `,` +
		`"response_types_supported":[],"subject_types_supported":["public"],` +
		`"id_token_signing_alg_values_supported":["ES256","PS256"]}`
	if string(issuer.Metadata) != want {
		t.Errorf("metadata\n%s, not\n%s", issuer.Metadata, want)
	}
	var set struct{ Keys []map[string]any }
	if err := json.Unmarshal(issuer.JWKS, &set); err != nil || len(set.Keys) != 2 {
		t.Fatalf("%s: %v", issuer.JWKS, err)
	}
	for _, key := range set.Keys {
		for _, private := range []string{"d", "p", "q", "dp", "dq", "qi", "k"} {
			if _, ok := key[private]; ok {
				t.Errorf("a published key has a member %q", private)
			}
		}
	}
	if printed := fmt.Sprintf("%v %+v %s", issuer, issuer, issuer); printed != "default default default" {
		t.Errorf("an issuer prints more than its name: %.100s", printed)
	}
}

func TestIssuers(t *testing.T) {
	build := func(name, url, project string, profile Profile) *Issuer {
		issuer, err := NewIssuer(rand.Reader, IssuerConfig{
			Name: name, URL: url, ProjectID: project, Profile: profile, Keys: keyring.Ring{Keys: []keyring.Key{newKey(t, keyring.EdDSA, testNow)}},
		})
		if err != nil {
			t.Fatal(err)
		}
		return issuer
	}
	plain := build("plain", "https://auth.example.com", "p1", Stytch)
	path := build("path", "https://auth.example.com/a/b", "p2", RFC9068)
	local := build("local", "http://127.0.0.1:8080", "p3", Stytch)
	rival := build("rival", "https://auth.example.com", "p1", Stytch)
	onlyPath := build("only", "https://auth.example.com/a", "p4", RFC9068)
	several, none := NewIssuers(plain, path, local, rival), NewIssuers()
	for _, c := range []struct {
		issuers    *Issuers
		host, path string
		want       *Issuer
	}{
		{several, "auth.example.com", "", plain},
		{several, "AUTH.example.com:443", "", plain},
		{several, "auth.example.com", "/a/b", path},
		{several, "auth.example.com", "/a", nil},
		{several, "127.0.0.1:8080", "", local},
		{several, "127.0.0.1", "", nil},
		{several, "other.example.com", "", nil},
		{several, "", "", nil},
		{NewIssuers(plain), "other.example.com", "", plain},
		{NewIssuers(plain), "other.example.com", "/a", nil},
		{NewIssuers(onlyPath), "10.0.0.1:8080", "/a", onlyPath},
		{NewIssuers(onlyPath), "10.0.0.1:8080", "", onlyPath},
		{none, "auth.example.com", "", nil},
	} {
		if got, ok := c.issuers.IssuerAt(c.host, c.path); got != c.want || ok != (c.want != nil) {
			t.Errorf("at %s%s: %v, not %v", c.host, c.path, got, c.want)
		}
	}
	for project, want := range map[string]*Issuer{"p1": plain, "p2": path, "p3": local, "p4": nil, "": nil} {
		if got, ok := several.Issuer(project); got != want || ok != (want != nil) {
			t.Errorf("project %q: %v, not %v", project, got, want)
		}
	}
}

// TestAppendFixed: both integers of a signature arrive, whatever their size, and
// nothing else is taken for a signature.
func TestAppendFixed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		half := rapid.SampledFrom([]int{32, 48}).Draw(t, "half")
		r := rapid.SliceOfN(rapid.Byte(), 0, half).Draw(t, "r")
		s := rapid.SliceOfN(rapid.Byte(), 0, half).Draw(t, "s")
		der, err := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(r), new(big.Int).SetBytes(s)})
		if err != nil {
			t.Fatal(err)
		}
		fixed, ok := appendFixed(nil, der, half)
		want := append(new(big.Int).SetBytes(r).FillBytes(make([]byte, half)), new(big.Int).SetBytes(s).FillBytes(make([]byte, half))...)
		if !ok || !bytes.Equal(fixed, want) {
			t.Fatalf("%x became %x, not %x", der, fixed, want)
		}
		if _, ok := appendFixed(nil, append(der, 0), half); ok {
			t.Fatal("something after the signature is accepted")
		}
		if _, ok := appendFixed(nil, der[:rapid.IntRange(0, len(der)-1).Draw(t, "cut")], half); ok {
			t.Fatal("a part of a signature is accepted")
		}
	})
	for name, der := range map[string]string{
		"three integers": "\x30\x09\x02\x01\x01\x02\x01\x01\x02\x01\x01",
		"one integer":    "\x30\x03\x02\x01\x01",
		"no sequence":    "\x31\x06\x02\x01\x01\x02\x01\x01",
		"too long":       "\x30\x26\x02\x21" + strings.Repeat("\x01", 33) + "\x02\x01\x01",
		"long form":      "\x30\x81\x06\x02\x01\x01\x02\x01\x01",
	} {
		if _, ok := appendFixed(nil, []byte(der), 32); ok {
			t.Errorf("%s: accepted", name)
		}
	}
}
