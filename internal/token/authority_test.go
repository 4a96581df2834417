package token

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/m2m-operator/m2m-operator/internal/credential"
	"github.com/m2m-operator/m2m-operator/internal/keyring"
)

var algorithms = []keyring.Algorithm{
	keyring.ES256, keyring.ES384, keyring.RS256, keyring.RS384, keyring.PS256, keyring.EdDSA,
}

// TestTokens has another implementation verify tokens of every algorithm and
// profile, and looks at each byte that a verifier may.
func TestTokens(t *testing.T) {
	for _, alg := range algorithms {
		key := newKey(t, alg, testNow)
		for profile, want := range map[Profile]struct{ typ, claims string }{
			Stytch: {"JWT", `{"iss":"https://auth.example.com","sub":"` + testID + `","aud":["` + testProject + `","orders"],` +
				`"iat":1795341600,"nbf":1795341540,"exp":1795345200,"scope":"read:settings"}`},
			RFC9068: {"at+jwt", `{"iss":"https://auth.example.com","sub":"` + testID + `","client_id":"` + testID + `","jti":"JTI",` +
				`"aud":["orders"],"iat":1795341600,"exp":1795345200,"scope":"read:settings"}`},
		} {
			t.Run(fmt.Sprintf("%s %s", alg, profile), func(t *testing.T) {
				d := newDirectory(t)
				d.add(t, testID, testSecret, func(c *ClientConfig) {
					c.Audiences = []string{"orders"}
					if profile == Stytch {
						c.Audiences = []string{testProject, "orders"}
					}
				})
				issuer := newIssuer(t, profile, key)
				signed := issue(t, d, issuer, ask(clientCredentials, testID, testSecret, "read:settings"))

				header, claims := verify(t, signed, key)
				wantHeader := map[string]any{"alg": string(alg), "kid": key.ID, "typ": want.typ}
				if !maps.Equal(header, wantHeader) {
					t.Errorf("header %v, not %v", header, wantHeader)
				}
				var id struct {
					ID string `json:"jti"`
				}
				if err := json.Unmarshal([]byte(claims), &id); err != nil {
					t.Fatal(err)
				}
				if got := strings.Replace(claims, `"jti":"`+id.ID, `"jti":"JTI`, 1); got != want.claims {
					t.Errorf("claims\n%s, not\n%s", got, want.claims)
				}
				if profile == RFC9068 && len(id.ID) != 22 {
					t.Errorf("jti %q is not 128 bits", id.ID)
				}
			})
		}
	}
}

// TestManySignatures meets integers with leading zeros, which one in 128 has.
func TestManySignatures(t *testing.T) {
	for alg, signatures := range map[keyring.Algorithm]int{keyring.ES256: 1000, keyring.ES384: 100} {
		key := newKey(t, alg, testNow)
		issuer, d := newIssuer(t, Stytch, key), newDirectory(t)
		d.add(t, testID, testSecret, nil)
		for range signatures {
			verify(t, issue(t, d, issuer, ask(clientCredentials, testID, testSecret, "")), key)
		}
	}
}

// TestTargets: with RFC9068 a request may ask for some of the client's audiences, and
// with either profile it can't ask for others (RFC 8707).
func TestTargets(t *testing.T) {
	key := newKey(t, keyring.EdDSA, testNow)
	for _, c := range []struct {
		profile          Profile
		held, asked, aud []string // no aud: refused
	}{
		{Stytch, []string{testProject}, nil, []string{testProject}},
		{Stytch, []string{testProject, `b"\\`}, nil, []string{testProject, `b"\\`}},
		{Stytch, []string{testProject, "a"}, []string{"a"}, []string{testProject, "a"}},
		{Stytch, []string{testProject, "a"}, []string{"b"}, nil},
		{RFC9068, []string{"a", "b"}, nil, []string{"a", "b"}},
		{RFC9068, []string{"a", "b", "c"}, []string{"c", "a", "c"}, []string{"c", "a"}},
		{RFC9068, []string{"a", "b"}, []string{"a", "x"}, nil},
		{RFC9068, []string{"aa", "b"}, []string{"a"}, nil},
		{RFC9068, []string{"aa", `a","b`}, []string{"b"}, nil},
		{RFC9068, []string{"a", "b"}, []string{`a","b`}, nil},
		{RFC9068, []string{"a", "b"}, []string{""}, nil},
	} {
		d := newDirectory(t)
		d.add(t, testID, testSecret, func(config *ClientConfig) { config.Audiences = c.held })
		r := ask(clientCredentials, testID, testSecret, "")
		r.Resources = c.asked
		issuer := newIssuer(t, c.profile, key)
		if c.aud == nil {
			_, err := NewAuthority(d, rand.Reader).Authorize(testNow, issuer, &r)
			if refusal, ok := errors.AsType[*Error](err); !ok || refusal.Code != InvalidTarget {
				t.Errorf("%s, %q of %q: %v", c.profile, c.asked, c.held, err)
			}
			continue
		}
		_, claims := verify(t, issue(t, d, issuer, r), key)
		var got struct {
			Audience []string `json:"aud"`
		}
		if err := json.Unmarshal([]byte(claims), &got); err != nil || !slices.Equal(got.Audience, c.aud) {
			t.Errorf("%s, %q of %q: aud is %q (%v)", c.profile, c.asked, c.held, got.Audience, err)
		}
	}
}

// TestKeysSwitchByDate: the key's own date decides, not when anybody heard of it.
func TestKeysSwitchByDate(t *testing.T) {
	first, second := newKey(t, keyring.ES256, testNow), newKey(t, keyring.ES256, testNow.Add(time.Hour))
	issuer, d := newIssuer(t, Stytch, first, second), newDirectory(t)
	d.add(t, testID, testSecret, nil)
	authority := NewAuthority(d, rand.Reader)
	for at, want := range map[time.Time]keyring.Key{
		testNow:                                      first,
		testNow.Add(-time.Hour):                      first,
		second.ActiveFrom.Add(-time.Nanosecond):      first,
		second.ActiveFrom:                            second,
		second.ActiveFrom.Add(1000 * 24 * time.Hour): second,
	} {
		signed, err := authority.AppendToken(nil, at, issuer, &Grant{Client: d.clients[testID], audiences: `"a"`})
		if err != nil {
			t.Fatal(err)
		}
		verify(t, string(signed), want)
	}
}

// TestRefusals checks who is refused and why. All that fail to authenticate get
// one answer; only the reason, which the operator reads, differs.
func TestRefusals(t *testing.T) {
	d := newDirectory(t)
	d.add(t, testID, testSecret, nil)
	d.add(t, "inactive", testSecret, func(c *ClientConfig) { c.Active = false })
	d.add(t, "no-credential", testSecret, func(c *ClientConfig) { c.Credentials = nil })
	d.add(t, "expired", testSecret, func(c *ClientConfig) { c.Credentials[0].NotAfter = testNow.Truncate(time.Second) })
	d.add(t, "other-pepper", testSecret, func(c *ClientConfig) { c.Credentials[0].Hash = newDirectory(t).pepper.Hash("other-pepper", testSecret) })
	d.add(t, "other-client", testSecret, func(c *ClientConfig) { c.Credentials[0].Hash = d.pepper.Hash(testID, testSecret) })
	issuer := newIssuer(t, Stytch, newKey(t, keyring.ES256, testNow))
	const one = "client authentication failed"
	for _, c := range []struct {
		request                   Request
		code                      Code
		description, reason, name string
	}{
		{ask(clientCredentials, "unknown", testSecret, ""), InvalidClient, one, "unknown_client", ""},
		{ask(clientCredentials, testID, testSecret+"x", ""), InvalidClient, one, "wrong_secret", ""},
		{ask(clientCredentials, testID, testSecret[1:], "not:held"), InvalidClient, one, "wrong_secret", ""},
		{ask(clientCredentials, "inactive", testSecret, ""), InvalidClient, one, "inactive", "1-x8Fa"},
		{ask(clientCredentials, "inactive", "wrong", ""), InvalidClient, one, "wrong_secret", ""},
		{ask(clientCredentials, "expired", testSecret, ""), InvalidClient, one, "expired_version", "1-x8Fa"},
		{ask(clientCredentials, "no-credential", testSecret, ""), InvalidClient, one, "wrong_secret", ""},
		{ask(clientCredentials, "other-pepper", testSecret, ""), InvalidClient, one, "wrong_secret", ""},
		{ask(clientCredentials, "other-client", testSecret, ""), InvalidClient, one, "wrong_secret", ""},
		{ask(clientCredentials, "", testSecret, ""), InvalidClient, "", "no_credential", ""},
		{ask(clientCredentials, testID, "", ""), InvalidClient, "", "no_credential", ""},
		{ask("", testID, testSecret, ""), InvalidRequest, "", "no_grant_type", ""},
		{ask("password", testID, testSecret, ""), UnsupportedGrantType, "", "grant_type", ""},
		{ask(clientCredentials, testID, testSecret, "read:users"), InvalidScope, "", "scope_not_held", "1-x8Fa"},
		{ask(clientCredentials, testID, testSecret, "read:*"), InvalidScope, "", "scope_not_held", "1-x8Fa"},
		{ask(clientCredentials, testID, testSecret, " "), InvalidScope, "", "malformed_scope", "1-x8Fa"},
		{ask(clientCredentials, testID, testSecret, "read:settings  write:settings"), InvalidScope, "", "malformed_scope", "1-x8Fa"},
		{ask(clientCredentials, testID, testSecret, "read:settings\n"), InvalidScope, "", "malformed_scope", "1-x8Fa"},
		{ask(clientCredentials, testID, testSecret, `read:"settings"`), InvalidScope, "", "malformed_scope", "1-x8Fa"},
		{ask(clientCredentials, testID, testSecret, strings.Repeat("read:settings ", MaxScopes)+"a"), InvalidScope, "", "malformed_scope", "1-x8Fa"},
	} {
		asked := c.request.ClientID + " " + c.request.Scope
		grant, err := NewAuthority(d, rand.Reader).Authorize(testNow, issuer, &c.request)
		refusal, ok := errors.AsType[*Error](err)
		if !ok || refusal.Code != c.code || refusal.Reason != c.reason || grant.Version != c.name {
			t.Errorf("%.80q: %v with version %q, not %s (%s) with %q", asked, err, grant.Version, c.code, c.reason, c.name)
			continue
		}
		if c.description != "" && refusal.Description != c.description {
			t.Errorf("%.80q: described as %q, not %q", asked, refusal.Description, c.description)
		}
		if authenticated := refusal.Code == InvalidScope; (grant.Client != nil) != authenticated {
			t.Errorf("%.80q: a grant names the client: %t", asked, grant.Client != nil)
		}
	}
}

// TestVersions: any of the valid versions authenticates, and the grant says which.
func TestVersions(t *testing.T) {
	d := newDirectory(t)
	d.add(t, testID, "", func(c *ClientConfig) {
		c.Credentials = nil
		for n := range credential.MaxVersions {
			c.Credentials = append(c.Credentials, Credential{
				Version:  fmt.Sprintf("%d-abcd", n+1),
				Hash:     d.pepper.Hash(testID, fmt.Sprint("secret", n)),
				NotAfter: testNow.Add(time.Duration(n) * time.Minute).Truncate(time.Second),
			})
		}
	})
	issuer, authority := newIssuer(t, Stytch, newKey(t, keyring.ES256, testNow)), NewAuthority(d, rand.Reader)
	for n := range credential.MaxVersions {
		r := ask(clientCredentials, testID, fmt.Sprint("secret", n), "")
		want := fmt.Sprintf("%d-abcd", n+1)
		notAfter := testNow.Add(time.Duration(n) * time.Minute).Truncate(time.Second)
		for _, at := range []time.Time{notAfter.Add(-time.Nanosecond), notAfter} {
			grant, err := authority.Authorize(at, issuer, &r)
			if live := at.Before(notAfter); (err == nil) != live || grant.Version != want {
				t.Errorf("version %s at %s: %v, granted to version %q", want, at, err, grant.Version)
			}
		}
	}
}

// TestNoPepper: without it nobody can be told from anybody.
func TestNoPepper(t *testing.T) {
	d := newDirectory(t)
	d.add(t, testID, testSecret, nil)
	d.pepper = nil
	_, err := NewAuthority(d, rand.Reader).Authorize(testNow, newIssuer(t, Stytch, newKey(t, keyring.ES256, testNow)),
		new(ask(clientCredentials, testID, testSecret, "")))
	if refusal, ok := errors.AsType[*Error](err); !ok || refusal.Code != TemporarilyUnavailable {
		t.Errorf("without a pepper: %v", err)
	}
}

// TestDecoy: what a presented secret is compared with in place of a version costs
// what a version costs.
func TestDecoy(t *testing.T) {
	d := newDirectory(t)
	real := d.pepper.Hash(testID, testSecret)
	if len(decoy.KeyID) != len(real.KeyID) {
		t.Errorf("a decoy's key id %q is not as long as %q", decoy.KeyID, real.KeyID)
	}
	for _, secret := range []string{"", testSecret} {
		digests := d.pepper.Digests("", secret)
		if digests.Matches(&decoy) {
			t.Errorf("the decoy matches %q", secret)
		}
	}
}

// ask is a token request of a client with a secret.
func ask(grantType, clientID, secret, scope string) Request {
	return Request{GrantType: grantType, ClientID: clientID, ClientSecret: secret, Scope: scope}
}

func issue(t testing.TB, d *directory, issuer *Issuer, r Request) string {
	t.Helper()
	authority := NewAuthority(d, rand.Reader)
	grant, err := authority.Authorize(testNow, issuer, &r)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := authority.AppendToken([]byte("kept:"), testNow, issuer, &grant)
	if err != nil {
		t.Fatal(err)
	}
	token, ok := strings.CutPrefix(string(signed), "kept:")
	if !ok {
		t.Fatalf("AppendToken overwrote what it appends to: %.20s", signed)
	}
	return token
}

// verify has golang-jwt verify a token, and returns its header and its claims as
// they are written.
func verify(t testing.TB, signed string, key keyring.Key) (header map[string]any, claims string) {
	t.Helper()
	parser := jwt.NewParser(jwt.WithValidMethods([]string{string(key.Algorithm)}), jwt.WithStrictDecoding(), jwt.WithoutClaimsValidation())
	parsed, err := parser.Parse(signed, func(*jwt.Token) (any, error) { return key.Signer.Public(), nil })
	if err != nil {
		t.Fatalf("%s: %v", signed, err)
	}
	raw, err := base64.RawURLEncoding.DecodeString(strings.Split(signed, ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	return parsed.Header, string(raw)
}
