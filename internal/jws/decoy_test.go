package jws

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"errors"
	"fmt"
	"maps"
	"math/big"
	mathrand "math/rand/v2"
	"testing"

	"github.com/golang-jwt/jwt/v5"
)

// checked is one signature check: of which size the key was, and whether it went as far
// as the arithmetic, which RSA only does for a number below its modulus.
type checked struct {
	size int
	work bool
}

// counting notes the checks that a method makes.
type counting struct {
	jwt.SigningMethod
	seen *[]checked
}

func (c counting) Verify(signed string, signature []byte, public any) error {
	one := checked{work: true}
	if k, ok := public.(*rsa.PublicKey); ok {
		one = checked{k.Size(), len(signature) == k.Size() && new(big.Int).SetBytes(signature).Cmp(k.N) < 0}
	}
	*c.seen = append(*c.seen, one)
	return c.SigningMethod.Verify(signed, signature, public)
}

// countChecks notes all signature checks of a test.
func countChecks(t *testing.T) *[]checked {
	t.Helper()
	seen := &[]checked{}
	were := maps.Clone(methods)
	t.Cleanup(func() { methods = were })
	counted := maps.Clone(methods)
	for algorithm, m := range counted {
		m.method = counting{m.method, seen}
		counted[algorithm] = m
	}
	methods = counted
	return seen
}

// rsaOf is a JWK of so many bits, whose factors nobody knows.
func rsaOf(bits int, members ...any) map[string]any {
	n := make([]byte, bits/8)
	for i := range n {
		n[i] = byte(mathrand.Uint32())
	}
	n[0], n[len(n)-1] = 0x80, n[len(n)-1]|1 // low, so that many signatures are too large for it
	return pair{jwk: map[string]any{"kty": "RSA", "n": b64.EncodeToString(n), "e": "AQAB"}}.with(members...)
}

// What a signature check costs, its sender alone decides: one, of the same size, whatever
// keys there are.
func TestVerifyAlikeIsTheSameWork(t *testing.T) {
	pairs := newPairs(t)
	seen := countChecks(t)
	sets := map[string]KeySet{"no keys": {}, "RSA of 3072 bits": setOf(t, rsaOf(3072)), "RSA of 4096 bits, another kid": setOf(t, rsaOf(4096, "kid", "other")), "RSA of 8192 bits": setOf(t, rsaOf(8192))}
	var all []map[string]any
	for i, holder := range pairs {
		sets[fmt.Sprintf("a key for %s", holder.algorithm)] = setOf(t, holder.with())
		sets[fmt.Sprintf("a key for %s alone", holder.algorithm)] = setOf(t, holder.with("alg", holder.algorithm))
		all = append(all, holder.with("kid", fmt.Sprint(i)))
	}
	sets["many keys"] = setOf(t, all...)
	sets["many keys, one of them named so"] = setOf(t, append(all, pairs[0].with())...)
	for _, p := range pairs {
		for _, size := range []int{1, 64, 96, 132, 255, 256, 257, 384, 512, 1024, 1025} {
			for _, first := range []byte{0, 0x7f, 0x81, 0xff} {
				signature := bytes.Repeat([]byte{7}, size)
				signature[0] = first
				var want *checked
				for name, set := range sets {
					*seen = nil
					err := set.VerifyAlike(&Token{Algorithm: p.algorithm, KeyID: "k", signed: "a.b", signature: signature})
					if len(*seen) != 1 || err == nil {
						t.Fatalf("%s, %d bytes, %s: %d checks, %v", p.algorithm, size, name, len(*seen), err)
					}
					if want == nil {
						want = &(*seen)[0]
					}
					if got := (*seen)[0]; got != *want {
						t.Errorf("%s, %d bytes from %#x, %s: %+v, and elsewhere %+v", p.algorithm, size, first, name, got, *want)
					}
				}
			}
		}
	}
}

// VerifyAlike decides as Verify does.
func TestVerifyAlikeDecidesAlike(t *testing.T) {
	pairs := newPairs(t)
	for _, signer := range pairs {
		right, err := Parse(signer.sign(t, `{"iss":"a"}`))
		if err != nil {
			t.Fatal(err)
		}
		junk := *right
		junk.signature = bytes.Clone(right.signature)
		junk.signature[len(junk.signature)/2] ^= 1
		long := *right
		long.signature = append(bytes.Clone(right.signature), 0)
		for _, holder := range pairs {
			for name, set := range map[string]KeySet{
				"its key": setOf(t, holder.with()), "for it alone": setOf(t, holder.with("alg", holder.algorithm)),
				"another kid": setOf(t, holder.with("kid", "other")), "none": {},
			} {
				for what, token := range map[string]*Token{"right": right, "junk": &junk, "long": &long} {
					if want, got := set.Verify(token, nil), set.VerifyAlike(token); !errors.Is(got, want) {
						t.Errorf("%s, %s, key for %s, %s: %v, not %v", signer.algorithm, what, holder.algorithm, name, got, want)
					}
				}
			}
		}
	}
	for _, algorithm := range []string{"none", "HS256", "RS512", ""} {
		if err := setOf(t, pairs[0].with()).VerifyAlike(&Token{Algorithm: algorithm, KeyID: "k"}); !errors.Is(err, ErrAlgorithm) {
			t.Errorf("%q: %v", algorithm, err)
		}
	}
}

// Who can sign as a decoy gets nowhere.
func TestDecoysProveNothing(t *testing.T) {
	pairs := newPairs(t)
	were := decoys
	t.Cleanup(func() { decoys = were })
	decoys = map[string]crypto.PublicKey{}
	for _, p := range pairs {
		decoys[methods[p.algorithm].kind] = p.private.Public()
	}
	for _, p := range pairs {
		token, err := Parse(p.sign(t, `{"iss":"a"}`))
		if err != nil {
			t.Fatal(err)
		}
		if p.algorithm[0] != 'E' {
			rsaDecoys[len(token.signature)].Store(p.private.Public().(*rsa.PublicKey))
			t.Cleanup(func() { rsaDecoys[len(token.signature)].Store(nil) })
		}
		for name, set := range map[string]KeySet{"no keys": {}, "RSA of 4096 bits": setOf(t, rsaOf(4096))} {
			if err := set.VerifyAlike(token); err == nil {
				t.Errorf("%s, %s: a decoy was believed", p.algorithm, name)
			}
		}
	}
}
