package token

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/m2m-operator/m2m-operator/internal/keyring"
)

// Tokens are active to those whom they concern, until something cuts them off.
func TestIntrospect(t *testing.T) {
	key := newKey(t, keyring.ES256, testNow)
	issuer, d := newIssuer(t, RFC9068, key), newDirectory(t)
	hold := func(audiences ...string) func(*ClientConfig) {
		return func(c *ClientConfig) { c.Audiences = audiences }
	}
	d.add(t, testID, testSecret, hold("orders", "invoices"))
	d.add(t, "service", testSecret, hold("invoices"))
	d.add(t, "stranger", testSecret, hold("order", "voices"))
	signed := issue(t, d, issuer, ask(clientCredentials, testID, testSecret, ""))
	digest := sha256.Sum256([]byte(signed[:strings.LastIndexByte(signed, '.')]))
	owner := func(change func(*ClientConfig)) func() {
		return func() {
			d.add(t, testID, testSecret, func(c *ClientConfig) { c.Audiences = []string{"orders", "invoices"}; change(c) })
		}
	}
	for _, test := range []struct {
		name   string
		change func()
		caller string
		token  string
		at     time.Duration
		active bool
	}{
		{"its own", nil, testID, signed, 0, true},
		{"a service's", nil, "service", signed, 0, true},
		{"a stranger's", nil, "stranger", signed, 0, false},
		{"at its last second", nil, testID, signed, time.Hour - time.Second, true},
		{"expired", nil, testID, signed, time.Hour, false},
		{"not a token", nil, testID, "token", 0, false},
		{"with another signature", nil, testID, signed[:len(signed)-4] + "AAAA", 0, false},
		{"inactive", owner(func(c *ClientConfig) { c.Active = false }), "service", signed, 0, false},
		{"cut off later", owner(func(c *ClientConfig) { c.NotBefore = testNow.Truncate(time.Second) }), "service", signed, 0, true},
		{"cut off", owner(func(c *ClientConfig) { c.NotBefore = testNow.Truncate(time.Second).Add(time.Second) }), "service", signed, 0, false},
		{"another revoked", owner(func(c *ClientConfig) { c.Revoked = [][32]byte{{1}} }), "service", signed, 0, true},
		{"revoked", owner(func(c *ClientConfig) { c.Revoked = [][32]byte{{1}, digest} }), "service", signed, 0, false},
		{"deleted", func() { delete(d.clients, testID) }, "service", signed, 0, false},
	} {
		owner(func(*ClientConfig) {})()
		caller := d.clients[test.caller]
		if test.change != nil {
			test.change()
		}
		found, active := NewAuthority(d, rand.Reader).Introspect(testNow.Add(test.at), issuer, caller, test.token)
		if active != test.active {
			t.Errorf("%s: active is %t", test.name, active)
		}
		if !active {
			continue
		}
		var says map[string]any
		if err := json.Unmarshal(found.Append(nil), &says); err != nil {
			t.Fatalf("%s: %v", found.Append(nil), err)
		}
		if says["client_id"] != testID || says["scope"] != "read:settings write:settings" || says["active"] != true || says["jti"] == "" {
			t.Errorf("%v", says)
		}
	}
	owner(func(*ClientConfig) {})()
	others := newIssuer(t, RFC9068, newKey(t, keyring.ES256, testNow))
	if _, active := NewAuthority(d, rand.Reader).Introspect(testNow, others, d.clients[testID], signed); active {
		t.Error("a token of a key that was dropped is active")
	}
}

// An issuer may let a token be seen by nobody but its client and what it is for.
func TestIntrospectionByAudience(t *testing.T) {
	issuer, d := newIssuer(t, RFC9068, newKey(t, keyring.ES256, testNow)), newDirectory(t)
	for _, id := range []string{testID, "orders", "another"} {
		d.add(t, id, testSecret, func(c *ClientConfig) { c.Audiences = []string{"orders"} })
	}
	signed := issue(t, d, issuer, ask(clientCredentials, testID, testSecret, ""))
	for _, narrow := range []bool{false, true} {
		issuer.audienceIntrospects = narrow
		for caller, want := range map[string]bool{testID: true, "orders": true, "another": !narrow} {
			if _, active := NewAuthority(d, rand.Reader).Introspect(testNow, issuer, d.clients[caller], signed); active != want {
				t.Errorf("only its audience %t: active to %s is %t", narrow, caller, active)
			}
		}
	}
}

// What is signed with an issuer's key and isn't a token of its is none: an assertion, or
// a token of another profile or issuer.
func TestOtherTokens(t *testing.T) {
	key := newKey(t, keyring.ES256, testNow)
	issuer, d := newIssuer(t, RFC9068, key), newDirectory(t)
	d.add(t, testID, testSecret, nil)
	for name, change := range map[string]func(*jwt.Token, jwt.MapClaims){
		"as it is":       func(*jwt.Token, jwt.MapClaims) {},
		"another type":   func(token *jwt.Token, _ jwt.MapClaims) { token.Header["typ"] = "JWT" },
		"no type":        func(token *jwt.Token, _ jwt.MapClaims) { delete(token.Header, "typ") },
		"another issuer": func(_ *jwt.Token, c jwt.MapClaims) { c["iss"] = testURL + "/" },
		"no end":         func(_ *jwt.Token, c jwt.MapClaims) { delete(c, "exp") },
		"no beginning":   func(_ *jwt.Token, c jwt.MapClaims) { delete(c, "iat") },
		"nobody's":       func(_ *jwt.Token, c jwt.MapClaims) { c["sub"] = "nobody" },
	} {
		claims := jwt.MapClaims{"iss": testURL, "sub": testID, "aud": []string{testProject}, "iat": testNow.Unix(), "exp": testNow.Unix() + 60}
		token := jwt.NewWithClaims(jwt.SigningMethodES256, claims)
		token.Header["kid"], token.Header["typ"] = key.ID, "at+jwt"
		change(token, claims)
		signed, err := token.SignedString(key.Signer)
		if err != nil {
			t.Fatal(err)
		}
		_, active := NewAuthority(d, rand.Reader).Introspect(testNow, issuer, d.clients[testID], signed)
		if active != (name == "as it is") {
			t.Errorf("%s: active is %t", name, active)
		}
	}
}

func TestRevocable(t *testing.T) {
	issuer, d := newIssuer(t, RFC9068, newKey(t, keyring.ES256, testNow)), newDirectory(t)
	d.add(t, testID, testSecret, nil)
	d.add(t, "other", testSecret, nil)
	signed := issue(t, d, issuer, ask(clientCredentials, testID, testSecret, ""))
	authority := NewAuthority(d, rand.Reader)
	if found, ok, err := authority.Revocable(testNow, issuer, d.clients[testID], signed); err != nil || !ok || !found.ExpiresAt().Equal(testNow.Truncate(time.Second).Add(time.Hour)) {
		t.Errorf("its own: %t, %v", ok, err)
	}
	_, _, err := authority.Revocable(testNow, issuer, d.clients["other"], signed)
	if refusal, ok := errors.AsType[*Error](err); !ok || refusal.Code != UnauthorizedClient {
		t.Errorf("another's: %v", err)
	}
	if _, ok, err := authority.Revocable(testNow.Add(time.Hour), issuer, d.clients[testID], signed); ok || err != nil {
		t.Errorf("expired: %t, %v", ok, err)
	}
}
