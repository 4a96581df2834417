package jws

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/big"
	mathrand "math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"
)

var b64 = base64.RawURLEncoding

// pairs are a key of each kind, with its JWK.
type pair struct {
	algorithm string
	private   crypto.Signer
	jwk       map[string]any
}

func newPairs(t testing.TB) []pair {
	t.Helper()
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	var pairs []pair
	for algorithm, curve := range map[string]elliptic.Curve{"ES256": elliptic.P256(), "ES384": elliptic.P384(), "ES512": elliptic.P521()} {
		k, err := ecdsa.GenerateKey(curve, rand.Reader)
		must(err)
		point, err := k.PublicKey.Bytes()
		must(err)
		half := len(point) / 2
		pairs = append(pairs, pair{algorithm, k, map[string]any{
			"kty": "EC", "crv": curve.Params().Name, "x": b64.EncodeToString(point[1 : 1+half]), "y": b64.EncodeToString(point[1+half:]),
		}})
	}
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	must(err)
	for _, algorithm := range []string{"RS256", "RS384", "PS256"} {
		pairs = append(pairs, pair{algorithm, k, map[string]any{
			"kty": "RSA", "n": b64.EncodeToString(k.N.Bytes()), "e": b64.EncodeToString(big.NewInt(int64(k.E)).Bytes()),
		}})
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	must(err)
	return append(pairs, pair{"EdDSA", private, map[string]any{"kty": "OKP", "crv": "Ed25519", "x": b64.EncodeToString(public)}})
}

func setOf(t testing.TB, jwks ...map[string]any) KeySet {
	t.Helper()
	encoded, err := json.Marshal(map[string]any{"keys": jwks})
	if err != nil {
		t.Fatal(err)
	}
	set, err := ParsePublicKeys(encoded)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func (p pair) with(members ...any) map[string]any {
	j := map[string]any{"kid": "k"}
	maps.Copy(j, p.jwk)
	for i := 0; i < len(members); i += 2 {
		j[members[i].(string)] = members[i+1]
	}
	return j
}

func (p pair) sign(t testing.TB, claims string) string {
	t.Helper()
	return signed(t, p.algorithm, p.private, fmt.Sprintf(`{"alg":%q,"kid":"k"}`, p.algorithm), claims)
}

// signed signs whatever header and claims, which no library would.
func signed(t testing.TB, algorithm string, private any, header, claims string) string {
	t.Helper()
	input := b64.EncodeToString([]byte(header)) + "." + b64.EncodeToString([]byte(claims))
	signature, err := jwt.GetSigningMethod(algorithm).Sign(input, private)
	if err != nil {
		t.Fatal(err)
	}
	return input + "." + b64.EncodeToString(signature)
}

// Each algorithm verifies with its own key, and with no other.
func TestVerify(t *testing.T) {
	pairs := newPairs(t)
	for _, signer := range pairs {
		token, err := Parse(signer.sign(t, `{"iss":"a"}`))
		if err != nil {
			t.Fatalf("%s: %v", signer.algorithm, err)
		}
		for _, holder := range pairs {
			fits := holder.algorithm == signer.algorithm
			if err := setOf(t, holder.with("alg", holder.algorithm)).Verify(token, nil); (err == nil) != fits {
				t.Errorf("%s with a key for %s: %v", signer.algorithm, holder.algorithm, err)
			}
		}
		own := setOf(t, signer.with())
		for name, test := range map[string]struct {
			set        KeySet
			algorithms []string
			want       error
		}{
			"without alg":         {own, nil, nil},
			"algorithm listed":    {own, []string{"ES999", signer.algorithm}, nil},
			"algorithm not asked": {own, []string{}, ErrAlgorithm},
			"another kid":         {setOf(t, signer.with("kid", "K")), nil, ErrUnknownKey},
			"no keys":             {KeySet{}, nil, ErrUnknownKey},
		} {
			if err := test.set.Verify(token, test.algorithms); !errors.Is(err, test.want) || test.want == nil && err != nil {
				t.Errorf("%s, %s: %v", signer.algorithm, name, err)
			}
		}
		unnamed, err := Parse(signed(t, signer.algorithm, signer.private, fmt.Sprintf(`{"alg":%q}`, signer.algorithm), `{}`))
		if err != nil {
			t.Fatal(err)
		}
		if err := own.Verify(unnamed, nil); err != nil {
			t.Errorf("%s, no kid and one key: %v", signer.algorithm, err)
		}
		if err := setOf(t, signer.with(), signer.with("kid", "other")).Verify(unnamed, nil); !errors.Is(err, ErrUnknownKey) {
			t.Errorf("%s, no kid and two keys: %v", signer.algorithm, err)
		}
	}
}

// What isn't a strict compact JWT with a known signature gets nowhere.
func TestHostile(t *testing.T) {
	pairs := newPairs(t)
	p := pairs[slices.IndexFunc(pairs, func(p pair) bool { return p.algorithm == "ES256" })]
	set := setOf(t, p.with())
	good := p.sign(t, `{"iss":"a","exp":1}`)
	parts := strings.Split(good, ".")
	public, err := json.Marshal(p.jwk)
	if err != nil {
		t.Fatal(err)
	}
	header := func(header string) string { return signed(t, "ES256", p.private, header, `{}`) }
	claims := func(claims string) string { return p.sign(t, claims) }
	deep := strings.Repeat(`{"a":`, 13) + "1" + strings.Repeat("}", 13)
	many := "{"
	for i := range maxMembers + 1 {
		many += fmt.Sprintf(`"m%d":1,`, i)
	}
	many = strings.TrimSuffix(many, ",") + "}"
	accepted := 0
	for name, text := range map[string]string{
		"as it is":           good,
		"claims in any form": claims(` { "aud" : [ ] , "exp" : 1.5 , "x" : [ 1 , { "a" : null } ] } `),
		"further members":    header(`{"alg":"ES256","kid":"k","typ":"JWT","x5t":"AAAA","cty":"JWT"}`),

		"empty":              "",
		"alg none":           b64.EncodeToString([]byte(`{"alg":"none"}`)) + "." + parts[1] + ".",
		"alg None":           b64.EncodeToString([]byte(`{"alg":"None","kid":"k"}`)) + "." + parts[1] + "." + parts[2],
		"no alg":             header(`{"kid":"k"}`),
		"alg a number":       header(`{"alg":256,"kid":"k"}`),
		"HMAC of the key":    signed(t, "HS256", public, `{"alg":"HS256","kid":"k"}`, `{}`),
		"another's alg":      header(`{"alg":"RS256","kid":"k"}`),
		"ES384 of P-256":     header(`{"alg":"ES384","kid":"k"}`),
		"embedded key":       header(`{"alg":"ES256","kid":"k","jwk":` + string(public) + `}`),
		"embedded chain":     header(`{"alg":"ES256","kid":"k","x5c":["AAAA"]}`),
		"key elsewhere":      header(`{"alg":"ES256","kid":"k","jku":"https://example.com"}`),
		"chain elsewhere":    header(`{"alg":"ES256","kid":"k","x5u":"https://example.com"}`),
		"unknown crit":       header(`{"alg":"ES256","kid":"k","crit":["exp"],"exp":1}`),
		"empty crit":         header(`{"alg":"ES256","kid":"k","crit":[]}`),
		"not encoded":        header(`{"alg":"ES256","kid":"k","b64":false}`),
		"compressed":         header(`{"alg":"ES256","kid":"k","zip":"DEF"}`),
		"kid a number":       header(`{"alg":"ES256","kid":1}`),
		"kid a path":         header(`{"alg":"ES256","kid":"../../dev/null"}`),
		"kid in quotes":      header(`{"alg":"ES256","kid":"k' OR '1'='1"}`),
		"huge kid":           header(`{"alg":"ES256","kid":"` + strings.Repeat("k", 300) + `"}`),
		"kid twice":          header(`{"alg":"ES256","kid":"k","kid":"k"}`),
		"kid escaped twice":  header(`{"alg":"ES256","kid":"k","\u006bid":"k"}`),
		"header an array":    header(`["ES256"]`),
		"header and more":    header(`{"alg":"ES256","kid":"k"}{}`),
		"JSON serialization": `{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`,
		"JWE":                good + ".AAAA.AAAA",
		"two parts":          parts[0] + "." + parts[1],
		"four parts":         good + ".",
		"millions of dots":   strings.Repeat(".", 4_000_000),
		"dots":               strings.Repeat(".", 16_000),
		"huge":               p.sign(t, `{"a":"`+strings.Repeat("a", MaxBytes)+`"}`),
		"deep":               claims(deep),
		"deeper":             claims(strings.Repeat(`[`, 6000) + strings.Repeat("]", 6000)),
		"many members":       claims(many),
		"claim twice":        claims(`{"iss":"a","iss":"b"}`),
		"claim twice below":  claims(`{"a":{"b":1,"b":2}}`),
		"claim escaped":      claims(`{"iss":"a","i\u0073s":"b"}`),
		"exp a text":         claims(`{"exp":"1"}`),
		"exp 1e308":          claims(`{"exp":1e308}`),
		"exp 1e999":          claims(`{"exp":1e999}`),
		"exp negative":       claims(`{"exp":-1}`),
		"exp null":           claims(`{"exp":null}`),
		"exp true":           claims(`{"exp":true}`),
		"nbf an array":       claims(`{"nbf":[1]}`),
		"aud an object":      claims(`{"aud":{"a":1}}`),
		"aud of numbers":     claims(`{"aud":[1]}`),
		"iss an array":       claims(`{"iss":["a"]}`),
		"not UTF-8":          claims("{\"iss\":\"\xff\"}"),
		"a comment":          claims(`{"iss":"a"/**/}`),
		"a trailing comma":   claims(`{"iss":"a",}`),
		"claims an array":    claims(`[]`),
		"no claims":          claims(``),
		"null":               claims(`null`),
		"padded":             good + "==",
		"standard alphabet":  strings.ReplaceAll(strings.ReplaceAll(good, "-", "+"), "_", "/") + "+",
		"line break":         parts[0] + "." + parts[1] + ".\n" + parts[2],
		"space":              " " + good,
		"lax last bits":      laxer(good),
		"signature cut":      good[:len(good)-2],
		"no signature":       parts[0] + "." + parts[1] + ".",
	} {
		token, err := Parse(text)
		if err == nil {
			err = set.Verify(token, nil)
		}
		if err == nil {
			accepted++
			continue
		}
		if _, ok := errors.AsType[*Error](err); !ok {
			t.Errorf("%s: %v is not an Error", name, err)
		}
		if name == "as it is" || name == "claims in any form" || name == "further members" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if accepted != 3 {
		t.Errorf("%d were accepted, not 3", accepted)
	}
}

// laxer sets a bit of the last character that stands for nothing.
func laxer(token string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, token[len(token)-1])
	return token[:len(token)-1] + string(alphabet[last|1])
}

func TestClaims(t *testing.T) {
	p := newPairs(t)[0]
	token, err := Parse(p.sign(t, `{"iss":"i","sub":"s","jti":"j","scope":"a b","aud":"one","exp":10.9,"nbf":10.1,"iat":10.9,"more":{"a":[1]}}`))
	if err != nil {
		t.Fatal(err)
	}
	c := token.Claims
	if c.Issuer != "i" || c.Subject != "s" || c.ID != "j" || c.Scope != "a b" || !slices.Equal(c.Audience, []string{"one"}) {
		t.Errorf("%+v", c)
	}
	// A fraction never makes a token valid for longer.
	if *c.ExpiresAt != 10 || *c.NotBefore != 11 || *c.IssuedAt != 10 {
		t.Errorf("exp %d, nbf %d, iat %d", *c.ExpiresAt, *c.NotBefore, *c.IssuedAt)
	}
	var more struct{ A []int }
	if err := token.Claim("more", &more); err != nil || !slices.Equal(more.A, []int{1}) {
		t.Errorf("%v, %v", more, err)
	}
	if err := token.Claim("more", new(string)); err == nil {
		t.Error("a claim of another type is no error")
	}
	other := p.sign(t, `{"iss":"i"}`)
	if o, err := Parse(other); err != nil || o.Digest() == token.Digest() {
		t.Errorf("two tokens have one digest, or %v", err)
	}
}

func TestParsePublicKeys(t *testing.T) {
	pairs := newPairs(t)
	p := pairs[slices.IndexFunc(pairs, func(p pair) bool { return p.algorithm == "ES256" })]
	r := pairs[slices.IndexFunc(pairs, func(p pair) bool { return p.algorithm == "RS256" })]
	// As such a key might be: in FIPS 140-only mode none can be made.
	small := bytes.Repeat([]byte{0xC1}, 1024/8)
	for name, jwk := range map[string]map[string]any{
		"private":        p.with("d", "AAAA"),
		"symmetric":      {"kty": "oct", "k": "AAAA", "kid": "k"},
		"for encryption": p.with("use", "enc"),
		"other alg":      p.with("alg", "RS256"),
		"HMAC":           p.with("alg", "HS256"),
		"unknown curve":  p.with("crv", "secp256k1"),
		"unknown type":   p.with("kty", "XX"),
		"off the curve":  p.with("x", p.jwk["y"]),
		"short x":        p.with("x", "AAAA"),
		"padded x":       p.with("x", p.jwk["x"].(string)+"="),
		"no y":           p.with("y", ""),
		"small RSA":      r.with("n", b64.EncodeToString(small)),
		"even exponent":  r.with("e", "AAAC"),
		"exponent 1":     r.with("e", "AQ"),
		"huge exponent":  r.with("e", "AQAAAAAB"),
		"no modulus":     r.with("n", ""),
		"huge modulus":   r.with("n", b64.EncodeToString(bytes.Repeat([]byte{255}, 2000))),
		"long kid":       p.with("kid", strings.Repeat("k", 300)),
		"kid a number":   p.with("kid", 1),
	} {
		encoded, err := json.Marshal(map[string]any{"keys": []any{jwk, p.with("kid", "good")}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParsePublicKeys(encoded); err == nil {
			t.Errorf("%s: accepted", name)
		} else if strings.Contains(err.Error(), p.jwk["x"].(string)) {
			t.Errorf("%s: the error quotes the key: %v", name, err)
		}
		if set, err := ParseKeySet(encoded); err != nil || set.Len() != 1 {
			t.Errorf("%s: %d keys are left, %v", name, set.Len(), err)
		}
	}
	for name, text := range map[string]string{
		"nothing": "", "no keys": "{}", "not an object": "[]", "keys an object": `{"keys":{}}`, "keys twice": `{"keys":[],"keys":[]}`,
		"too many": `{"keys":[` + strings.TrimSuffix(strings.Repeat("{},", maxKeys+1), ",") + `]}`,
	} {
		if _, err := ParseKeySet([]byte(text)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	twice, _ := json.Marshal(map[string]any{"keys": []any{p.with(), r.with()}})
	if _, err := ParsePublicKeys(twice); err == nil {
		t.Error("two keys with one kid: accepted")
	}
}

// No token but the one that was signed verifies, whatever is changed in its text.
func TestMutations(t *testing.T) {
	random := mathrand.New(mathrand.NewPCG(1, 2))
	for _, p := range newPairs(t) {
		set := setOf(t, p.with())
		good := p.sign(t, `{"iss":"https://auth.example.com","sub":"a","exp":1795345200}`)
		for range 3000 {
			text := mutate(random, good)
			if text == good {
				continue
			}
			if token, err := Parse(text); err == nil && set.Verify(token, nil) == nil {
				t.Fatalf("%s: a changed token verifies:\n%s\n%s", p.algorithm, good, text)
			}
		}
	}
}

// mutate changes, inserts, removes, swaps or repeats some of a text.
func mutate(random *mathrand.Rand, text string) string {
	const letters = "ABCabc019-_.=+/ \n\x00\xff"
	b := []byte(text)
	for range 1 + random.IntN(3) {
		at := random.IntN(len(b))
		switch random.IntN(5) {
		case 0:
			b[at] = letters[random.IntN(len(letters))]
		case 1:
			b = slices.Insert(b, at, letters[random.IntN(len(letters))])
		case 2:
			b = slices.Delete(b, at, at+1)
		case 3:
			other := random.IntN(len(b))
			b[at], b[other] = b[other], b[at]
		case 4:
			b[at] ^= 1 << random.IntN(8)
		}
	}
	return string(b)
}

func FuzzParse(f *testing.F) {
	p := newPairs(f)[0]
	f.Add(p.sign(f, `{"iss":"a","aud":["b","c"],"exp":1.5,"x":{"y":[1,{"z":null}]}}`))
	f.Add("e30.e30.")
	f.Add("....")
	f.Fuzz(func(t *testing.T, text string) {
		token, err := Parse(text)
		if err != nil {
			return
		}
		if strings.Count(text, ".") != 2 || token.Algorithm == "" {
			t.Errorf("%q was taken", text)
		}
		var any map[string]any
		if json.Unmarshal(token.payload, &any) != nil {
			t.Errorf("claims that encoding/json doesn't take: %q", token.payload)
		}
		if iss, _ := any["iss"].(string); iss != token.Claims.Issuer && any["iss"] != nil {
			t.Errorf("iss is read as %q from %q", token.Claims.Issuer, token.payload)
		}
	})
}

func FuzzParseKeySet(f *testing.F) {
	for _, p := range newPairs(f) {
		encoded, err := json.Marshal(map[string]any{"keys": []any{p.with()}})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(encoded)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		set, err := ParseKeySet(text)
		if strict, strictErr := ParsePublicKeys(text); strictErr == nil && (err != nil || set.Len() != strict.Len()) {
			t.Errorf("%q is read as %d and as %d keys", text, set.Len(), strict.Len())
		}
	})
}

// BenchmarkVerify and BenchmarkFloor are a pair: ours against golang-jwt's own Parse.
func BenchmarkVerify(b *testing.B) {
	p := newPairs(b)
	for _, p := range p {
		set, text := setOf(b, p.with()), p.sign(b, `{"iss":"https://auth.example.com","sub":"a","exp":4000000000}`)
		b.Run(p.algorithm, func(b *testing.B) {
			for b.Loop() {
				token, err := Parse(text)
				if err != nil || set.Verify(token, nil) != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(p.algorithm+"/floor", func(b *testing.B) {
			parser := jwt.NewParser(jwt.WithValidMethods([]string{p.algorithm}))
			for b.Loop() {
				if _, err := parser.Parse(text, func(*jwt.Token) (any, error) { return p.private.Public(), nil }); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
