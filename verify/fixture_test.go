package verify

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"
)

const (
	issuer   = "https://auth.example.com"
	audience = "project-live-1"
	clientID = "m2m-client-live-5d8d8822-5c29-41a8-ad12-2adac3328320"
)

// now is when the tests' tokens are verified; they were issued a minute before.
var now = time.Unix(1_800_000_000, 0)

// signingKey is a private key, as issuers have them.
type signingKey struct {
	algorithm Algorithm
	id        string
	private   crypto.Signer
}

func (k *signingKey) sign(signed string) string {
	signature, err := methods[k.algorithm].Sign(signed, k.private)
	if err != nil {
		panic(err)
	}
	return encoding.EncodeToString(signature)
}

// token signs any header and any claims.
func (k *signingKey) token(header, claims string) string {
	signed := encoding.EncodeToString([]byte(header)) + "." + encoding.EncodeToString([]byte(claims))
	return signed + "." + k.sign(signed)
}

func (k *signingKey) header(typ string) string {
	return `{"alg":"` + string(k.algorithm) + `","kid":"` + k.id + `","typ":"` + typ + `"}`
}

// good is a token of the Stytch profile.
func (k *signingKey) good() string { return k.token(k.header("JWT"), stytchClaims) }

// jwk is the public key; go-jose writes it.
func (k *signingKey) jwk() jose.JSONWebKey {
	return jose.JSONWebKey{Key: k.private.Public(), KeyID: k.id, Algorithm: string(k.algorithm), Use: "sig"}
}

// testKeys are one key of each algorithm.
var testKeys = sync.OnceValue(func() map[Algorithm]*signingKey {
	p256, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	rsa2048, _ := rsa.GenerateKey(rand.Reader, 2048)
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	keys := map[Algorithm]*signingKey{}
	for a, private := range map[Algorithm]crypto.Signer{
		ES256: p256, ES384: p384, RS256: rsa2048, RS384: rsa2048, PS256: rsa2048, EdDSA: ed,
	} {
		keys[a] = &signingKey{a, "key-" + string(a), private}
	}
	return keys
})

var allAlgorithms = []Algorithm{ES256, ES384, RS256, RS384, PS256, EdDSA}

func jwks(t testing.TB, keys ...*signingKey) []byte {
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{}}
	for _, k := range keys {
		set.Keys = append(set.Keys, k.jwk())
	}
	text, err := json.Marshal(set)
	check(t, err)
	return text
}

func allJWKS(t testing.TB) []byte {
	var keys []*signingKey
	for _, a := range allAlgorithms {
		keys = append(keys, testKeys()[a])
	}
	return jwks(t, keys...)
}

// claimsWith returns claims of a profile with other values; nil removes one.
func claimsWith(profile Profile, changes map[string]any) string {
	claims := map[string]any{
		"iss": issuer, "sub": clientID, "aud": []string{audience, "orders"}, "iat": now.Unix() - 60,
		"exp": now.Unix() + 3540, "scope": "read:orders write:*", "tier": map[string]any{"name": "gold"},
	}
	if profile == Stytch {
		claims["nbf"] = now.Unix() - 120
	} else {
		claims["client_id"], claims["jti"] = clientID, "id-1"
	}
	maps.Copy(claims, changes)
	maps.DeleteFunc(claims, func(_ string, value any) bool { return value == nil })
	text, err := json.Marshal(claims)
	if err != nil {
		panic(err)
	}
	return string(text)
}

var stytchClaims = claimsWith(Stytch, nil)

// newVerifier returns one that takes all algorithms, at the tests' time.
func newVerifier(t testing.TB, options ...Option) *Verifier {
	v, err := New(issuer, audience, append([]Option{
		WithJWKS(allJWKS(t)), WithAlgorithms(allAlgorithms...), WithClock(func() time.Time { return now }),
	}, options...)...)
	check(t, err)
	t.Cleanup(v.Close)
	return v
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func checkRefused(t *testing.T, v *Verifier, token string, want error) {
	t.Helper()
	claims, err := v.AuthenticateToken(t.Context(), token)
	wraps(t, err, want)
	if claims != nil {
		t.Fatalf("a refused token has claims: %+v", claims)
	}
	for part := range strings.SplitSeq(token, ".") {
		if len(part) > 20 && strings.Contains(err.Error(), part) {
			t.Fatalf("the error quotes the token: %v", err)
		}
	}
}

// TestMethods: the tests' signatures are those of the library's own methods.
func TestMethods(t *testing.T) {
	for _, a := range allAlgorithms {
		if methods[a].Alg() != string(a) {
			t.Errorf("%s is %s", a, methods[a].Alg())
		}
		method := jwt.GetSigningMethod(string(a))
		if _, err := jwt.Parse(testKeys()[a].good(), func(*jwt.Token) (any, error) { return testKeys()[a].private.Public(), nil }, jwt.WithValidMethods([]string{method.Alg()}), jwt.WithTimeFunc(func() time.Time { return now })); err != nil {
			t.Errorf("%s: %v", a, err)
		}
	}
}
