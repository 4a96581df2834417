package token

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/m2m-operator/m2m-operator/internal/assertion"
	"github.com/m2m-operator/m2m-operator/internal/jws"
	"github.com/m2m-operator/m2m-operator/internal/keyring"
)

const (
	clusterURL = "https://kubernetes.default.svc"
	accountUID = "33333333-3333-4333-8333-333333333333"
)

var billing = Account{"payments", "billing"}

// assertionKey is a key outside of ours, with its JWK Set.
func assertionKey(t testing.TB, kid string) (*ecdsa.PrivateKey, jws.KeySet) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	jwk, err := keyring.Key{ID: kid, Algorithm: keyring.ES256, Signer: key}.JWK()
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := json.Marshal(map[string]any{"keys": []any{jwk}})
	if err != nil {
		t.Fatal(err)
	}
	set, err := jws.ParseKeySet(encoded)
	if err != nil {
		t.Fatal(err)
	}
	return key, set
}

func sign(t testing.TB, method jwt.SigningMethod, key any, kid string, claims jwt.MapClaims) string {
	t.Helper()
	token := jwt.NewWithClaims(method, claims)
	token.Header["kid"] = kid
	signed, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// accountClaims are those of a projected ServiceAccount token.
func accountClaims(change func(jwt.MapClaims)) jwt.MapClaims {
	claims := jwt.MapClaims{
		"iss": clusterURL, "aud": []string{testURL}, "sub": "system:serviceaccount:payments:billing",
		"iat": testNow.Unix(), "nbf": testNow.Unix(), "exp": testNow.Add(time.Hour).Unix(), "jti": "1",
		"kubernetes.io": map[string]any{
			"namespace": "payments", "serviceaccount": map[string]any{"name": "billing", "uid": accountUID},
			"pod": map[string]any{"name": "billing-1", "uid": "p"},
		},
	}
	if change != nil {
		change(claims)
	}
	return claims
}

// A ServiceAccount's token authenticates as a client of its account, while the account
// lives, for this issuer alone.
func TestByServiceAccount(t *testing.T) {
	key, keys := assertionKey(t, "k")
	stranger, _ := assertionKey(t, "k")
	issuer := newIssuer(t, Stytch, newKey(t, keyring.ES256, testNow))
	setUp := func() *directory {
		d := newDirectory(t)
		d.cluster = &Cluster{Issuer: clusterURL, Keys: keys}
		d.accounts[billing] = accountUID
		d.add(t, testID, testSecret, nil)
		d.workloads[billing] = []*Client{d.clients[testID]}
		return d
	}
	claim := func(name string, value any) func(jwt.MapClaims) { return func(c jwt.MapClaims) { c[name] = value } }
	for name, test := range map[string]struct {
		key    *ecdsa.PrivateKey
		kid    string
		claims func(jwt.MapClaims)
		change func(*directory, *Request)
		reason string // empty: it authenticates
	}{
		"as it is":             {},
		"with the client's id": {change: func(_ *directory, r *Request) { r.ClientID = testID }},
		"with another's id":    {change: func(_ *directory, r *Request) { r.ClientID = "other" }, reason: "no_client_of_account"},
		"of nobody":            {change: func(d *directory, _ *Request) { clear(d.workloads) }, reason: "no_client_of_account"},
		"of two": {change: func(d *directory, _ *Request) {
			d.add(t, "second", testSecret, nil)
			d.workloads[billing] = []*Client{d.clients[testID], d.clients["second"]}
		}, reason: "several_clients"},
		"of an inactive client": {change: func(d *directory, _ *Request) {
			d.add(t, testID, testSecret, func(c *ClientConfig) { c.Active = false })
			d.workloads[billing] = []*Client{d.clients[testID]}
		}, reason: "inactive"},
		"account gone":           {change: func(d *directory, _ *Request) { clear(d.accounts) }, reason: "account_gone"},
		"account made again":     {change: func(d *directory, _ *Request) { d.accounts[billing] = "other" }, reason: "account_gone"},
		"another's signature":    {key: stranger, reason: "*"},
		"a key that isn't known": {kid: "other", reason: "*"},
		"for another":            {claims: claim("aud", []string{"https://other.example.com"}), reason: "*"},
		"for two":                {claims: claim("aud", []string{testURL, "https://other.example.com"}), reason: "*"},
		"for this one twice":     {claims: claim("aud", []string{testURL, testURL}), reason: "*"},
		"trailing slash":         {claims: claim("aud", []string{testURL + "/"}), reason: "*"},
		"expired":                {claims: claim("exp", testNow.Unix()), reason: "*"},
		"without end":            {claims: func(c jwt.MapClaims) { delete(c, "exp") }, reason: "*"},
		"another namespace's":    {claims: claim("sub", "system:serviceaccount:other:billing"), reason: "*"},
		"a user's":               {claims: claim("sub", "admin"), reason: "*"},
		"of another cluster":     {claims: claim("iss", "https://other.example.com"), reason: "*"},
	} {
		d := setUp()
		k, kid := key, "k"
		if test.key != nil {
			k = test.key
		}
		if test.kid != "" {
			kid = test.kid
		}
		r := Request{GrantType: clientCredentials, AssertionType: jwtBearer, Assertion: sign(t, jwt.SigningMethodES256, k, kid, accountClaims(test.claims))}
		if test.change != nil {
			test.change(d, &r)
		}
		authority := NewAuthority(d, rand.Reader)
		for range 2 { // pods use a token again
			g, err := authority.Authorize(testNow, issuer, &r)
			checkRefused(t, name, g, err, test.reason)
			if err == nil && (g.Method != ByServiceAccount || g.Account != billing || g.Version != "") {
				t.Errorf("%s: %+v", name, g)
			}
		}
		if d.cluster = nil; test.reason == "" {
			_, err := authority.Authorize(testNow, issuer, &r)
			if refusal, ok := errors.AsType[*Error](err); !ok || refusal.Code != TemporarilyUnavailable {
				t.Errorf("%s, while the cluster's keys are not known: %v", name, err)
			}
		}
		if asked := d.unknown > 0; asked != (test.kid != "") {
			t.Errorf("%s: the cluster's keys are asked for again: %t", name, asked)
		}
	}
}

// checkRefused checks who is refused; `*` is any reason, and none is for who isn't.
func checkRefused(t *testing.T, name string, g Grant, err error, reason string) {
	t.Helper()
	if reason == "" {
		if err != nil || g.Client == nil {
			t.Errorf("%s: %v", name, err)
		}
		return
	}
	refusal, ok := errors.AsType[*Error](err)
	if !ok || refusal.Code != InvalidClient || reason != "*" && refusal.Reason != reason || g.Client != nil {
		t.Errorf("%s: %v, client %v; want reason %s", name, err, g.Client, reason)
	}
}

// A signed assertion authenticates once, if it is the client's own, short and for this
// issuer alone.
func TestByPrivateKey(t *testing.T) {
	key, keys := assertionKey(t, "k")
	stranger, _ := assertionKey(t, "k")
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	issuer := newIssuer(t, Stytch, newKey(t, keyring.ES256, testNow))
	base := jwt.MapClaims{
		"iss": testID, "sub": testID, "aud": testURL, "jti": "1", "iat": testNow.Unix(), "exp": testNow.Add(time.Minute).Unix(),
	}
	d := newDirectory(t)
	d.cluster = &Cluster{Issuer: clusterURL}
	d.add(t, testID, testSecret, func(c *ClientConfig) { c.PublicKeys = keys })
	d.add(t, "second", testSecret, func(c *ClientConfig) { c.PublicKeys = keys })
	d.add(t, "no-keys", testSecret, nil)
	d.add(t, "inactive", testSecret, func(c *ClientConfig) { c.PublicKeys, c.Active = keys, false })
	public, err := json.Marshal(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		method jwt.SigningMethod
		key    any
		claims jwt.MapClaims
		id     string
		reason string
	}{
		"as it is":            {},
		"with its id":         {id: testID},
		"with another id":     {id: "second", reason: "assertion_of_another"},
		"of nobody":           {claims: jwt.MapClaims{"iss": "nobody", "sub": "nobody"}, reason: "unknown_client"},
		"of another":          {claims: jwt.MapClaims{"iss": "no-keys", "sub": "no-keys"}, reason: "unknown_key"},
		"of an inactive one":  {claims: jwt.MapClaims{"iss": "inactive", "sub": "inactive"}, reason: "inactive"},
		"about another":       {claims: jwt.MapClaims{"sub": "second"}, reason: "*"},
		"another's key":       {key: stranger, reason: "wrong_signature"},
		"another kind of key": {method: jwt.SigningMethodRS256, key: rsaKey, reason: "wrong_algorithm"},
		"HMAC with the key":   {method: jwt.SigningMethodHS256, key: public, reason: "*"},
		"not signed":          {method: jwt.SigningMethodNone, key: jwt.UnsafeAllowNoneSignatureType, reason: "*"},
		"for another":         {claims: jwt.MapClaims{"aud": "https://other.example.com"}, reason: "*"},
		"for the endpoint":    {claims: jwt.MapClaims{"aud": EndpointURL(testURL, testProject)}, reason: "*"},
		"for two":             {claims: jwt.MapClaims{"aud": []string{testURL, "https://other.example.com"}}, reason: "*"},
		"expired":             {claims: jwt.MapClaims{"exp": testNow.Unix() - 1}, reason: "*"},
		"without end":         {claims: jwt.MapClaims{"exp": nil}, reason: "*"},
		"for long":            {claims: jwt.MapClaims{"exp": testNow.Add(time.Hour).Unix()}, reason: "*"},
		"without id":          {claims: jwt.MapClaims{"jti": ""}, reason: "*"},
	} {
		claims := maps.Clone(base)
		maps.Copy(claims, test.claims)
		if test.method == nil {
			test.method = jwt.SigningMethodES256
		}
		if test.key == nil {
			test.key = key
		}
		authority := NewAuthority(d, rand.Reader)
		r := Request{GrantType: clientCredentials, ClientID: test.id, AssertionType: jwtBearer, Assertion: sign(t, test.method, test.key, "k", claims)}
		g, err := authority.Authorize(testNow, issuer, &r)
		checkRefused(t, name, g, err, test.reason)
		if test.reason == "" {
			g, err = authority.Authorize(testNow, issuer, &r)
			checkRefused(t, name+", again", g, err, "*")
		}
	}
}

// junkJWT is an assertion with a signature of the right size that is nobody's.
func junkJWT(t *testing.T, algorithm string, size int, kid, claims string) string {
	t.Helper()
	header := fmt.Sprintf(`{"alg":%q}`, algorithm)
	if kid != "" {
		header = fmt.Sprintf(`{"alg":%q,"kid":%q}`, algorithm, kid)
	}
	part := base64.RawURLEncoding.EncodeToString
	return part([]byte(header)) + "." + part([]byte(claims)) + "." + part(bytes.Repeat([]byte{1}, size))
}

// An assertion with junk for a signature gets one answer for one signature check, whatever
// the client is, and whether there is one. So does one with something else wrong, which is
// found without asking for the client.
func TestAssertionsOfStrangersAreAlike(t *testing.T) {
	_, ec := assertionKey(t, "k")
	_, other := assertionKey(t, "other")
	d := newDirectory(t)
	clients := map[string]func(*ClientConfig){
		"without-keys":      nil,
		"with-key":          func(c *ClientConfig) { c.PublicKeys = ec },
		"inactive":          func(c *ClientConfig) { c.PublicKeys, c.Active = ec, false },
		"with-another-kid":  func(c *ClientConfig) { c.PublicKeys = other },
		"with-rsa":          func(c *ClientConfig) { c.PublicKeys = rsaKeys(t, "k") },
		"with-several":      func(c *ClientConfig) { c.PublicKeys = rsaKeys(t, "a", "b", "k") },
		"inactive-with-rsa": func(c *ClientConfig) { c.PublicKeys, c.Active = rsaKeys(t, "k"), false },
	}
	for id, change := range clients {
		d.add(t, id, testSecret, change)
	}
	d.cluster = &Cluster{Issuer: clusterURL, Keys: ec}
	issuer := newIssuer(t, Stytch, newKey(t, keyring.ES256, testNow))
	authority := NewAuthority(d, rand.Reader)
	checks := 0
	authority.verify = func(keys jws.KeySet, token *jws.Token) error {
		checks++
		return keys.VerifyAlike(token)
	}
	sizes := map[string]int{"ES256": 64, "ES384": 96, "ES512": 132, "RS256": 256, "RS384": 256, "RS512": 256, "PS256": 384, "EdDSA": 64, "HS256": 32, "none": 0}
	for algorithm, size := range sizes {
		for _, kid := range []string{"k", "nobody's", ""} {
			for what, format := range map[string]string{
				"as it should be": `{"iss":%[1]q,"sub":%[1]q,"aud":%[2]q,"jti":"1","exp":%[3]d}`,
				"another subject": `{"iss":%[1]q,"sub":"with-key","aud":%[2]q,"jti":"1","exp":%[3]d}`,
				"another aud":     `{"iss":%[1]q,"sub":%[1]q,"aud":"b","jti":"1","exp":%[3]d}`,
				"expired":         `{"iss":%[1]q,"sub":%[1]q,"aud":%[2]q,"jti":"1","exp":1}`,
				"no jti":          `{"iss":%[1]q,"sub":%[1]q,"aud":%[2]q,"exp":%[3]d}`,
			} {
				ask := func(id string) (Code, string, int) {
					checks = 0
					claims := fmt.Sprintf(format, id, testURL, testNow.Add(time.Minute).Unix())
					r := Request{GrantType: clientCredentials, AssertionType: jwtBearer, Assertion: junkJWT(t, algorithm, size, kid, claims)}
					g, err := authority.Authorize(testNow, issuer, &r)
					refusal, ok := errors.AsType[*Error](err)
					if !ok || g.Client != nil {
						t.Fatalf("%s %s: %v", algorithm, id, err)
					}
					return refusal.Code, refusal.Description, checks
				}
				code, description, cost := ask("nobody")
				if taken := slices.Contains(assertion.Algorithms, algorithm) && what == "as it should be"; taken != (cost == 1) || taken != (description == failed) || cost > 1 {
					t.Errorf("%s, %s: %d signature checks, %q", algorithm, what, cost, description)
				}
				for id := range clients {
					if id == "with-key" && what == "another subject" {
						continue // it is its own
					}
					if c, text, n := ask(id); c != code || text != description || n != cost {
						t.Errorf("%s, kid %q, %s, client %s: %d checks, %s %q; nobody's: %d, %s %q", algorithm, kid, what, id, n, c, text, cost, code, description)
					}
				}
			}
		}
	}
}

// rsaKeys is a set of RSA keys whose factors nobody knows.
func rsaKeys(t *testing.T, kids ...string) jws.KeySet {
	t.Helper()
	var keys []any
	for _, kid := range kids {
		n := bytes.Repeat([]byte{0xa5}, 256)
		keys = append(keys, map[string]string{"kty": "RSA", "kid": kid, "e": "AQAB", "n": base64.RawURLEncoding.EncodeToString(n)})
	}
	encoded, err := json.Marshal(map[string]any{"keys": keys})
	if err != nil {
		t.Fatal(err)
	}
	set, err := jws.ParsePublicKeys(encoded)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func TestAuthenticationMethods(t *testing.T) {
	d := newDirectory(t)
	d.add(t, testID, testSecret, nil)
	issuer := newIssuer(t, Stytch, newKey(t, keyring.ES256, testNow))
	for name, test := range map[string]struct {
		request Request
		code    Code
	}{
		"two methods":    {Request{ClientID: testID, ClientSecret: testSecret, Assertion: "a", AssertionType: jwtBearer}, InvalidRequest},
		"no type":        {Request{Assertion: "a"}, InvalidRequest},
		"another type":   {Request{Assertion: "a", AssertionType: "urn:ietf:params:oauth:client-assertion-type:saml2-bearer"}, InvalidRequest},
		"not a JWT":      {Request{Assertion: "a", AssertionType: jwtBearer}, InvalidClient},
		"only a type":    {Request{AssertionType: jwtBearer}, InvalidClient},
		"no client":      {Request{ClientSecret: testSecret}, InvalidClient},
		"type, a secret": {Request{ClientID: testID, ClientSecret: "wrong", AssertionType: jwtBearer}, InvalidClient},
	} {
		_, err := NewAuthority(d, rand.Reader).Authenticate(testNow, issuer, &test.request)
		if refusal, ok := errors.AsType[*Error](err); !ok || refusal.Code != test.code {
			t.Errorf("%s: %v, want %s", name, err, test.code)
		}
	}
}

// A server that is cut off goes on with what it knows, and says of the rest that it
// can't tell; in the end it gives no tokens at all.
func TestFreshness(t *testing.T) {
	d := newDirectory(t)
	d.add(t, testID, testSecret, nil)
	issuer := newIssuer(t, Stytch, newKey(t, keyring.ES256, testNow))
	for _, test := range []struct {
		freshness          Freshness
		id, secret, reason string
		code               Code
	}{
		{Fresh, testID, testSecret, "", ""},
		{Fresh, testID, "wrong", "wrong_secret", InvalidClient},
		{Stale, testID, testSecret, "", ""},
		{Stale, testID, "wrong", "stale_wrong_secret", TemporarilyUnavailable},
		{Stale, "unknown", testSecret, "stale_unknown_client", TemporarilyUnavailable},
		{Stale, testID, "", "no_credential", InvalidClient},
		{Expired, testID, testSecret, "expired_state", TemporarilyUnavailable},
		{Expired, "unknown", testSecret, "expired_state", TemporarilyUnavailable},
	} {
		d.freshness = test.freshness
		r := ask(clientCredentials, test.id, test.secret, "")
		_, err := NewAuthority(d, rand.Reader).Authorize(testNow, issuer, &r)
		got := ""
		if refusal, ok := errors.AsType[*Error](err); ok {
			got = fmt.Sprint(refusal.Code, refusal.Reason)
		}
		if got != fmt.Sprint(test.code, test.reason) {
			t.Errorf("%v: %v", test, err)
		}
	}
}
