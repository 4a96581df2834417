package verify

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/json"
	"flag"
	"fmt"
	"math/big"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

var mutations = flag.Int("mutations", 1_000_000, "how many mutated tokens TestMutations tries")

// TestMutations: of a million tokens that were changed after they were signed none is
// accepted. What is accepted another JOSE library must verify too, as the same header and
// claims; only an ECDSA signature has a second text, its complement, and that is no change.
func TestMutations(t *testing.T) {
	v := newVerifier(t, WithProfiles(Stytch, RFC9068))
	issued := issuedTokens()
	var refused, complements atomic.Int64
	var group sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	for worker := range workers {
		group.Go(func() {
			m := mutator{rand.New(rand.NewPCG(1, uint64(worker))), issued}
			for n := worker; n < *mutations && !t.Failed(); n += workers {
				original := &issued[m.IntN(len(issued))]
				text := m.mutate(original.text)
				if known(issued, text) {
					continue // the same, or put together to another that was issued
				}
				if _, err := v.AuthenticateToken(context.Background(), text); err != nil {
					refused.Add(1)
					continue
				}
				if err := judge(issued, text); err != nil {
					t.Errorf("accepted %q, made of %q: %v", text, original.text, err)
					return
				}
				complements.Add(1)
			}
		})
	}
	group.Wait()
	t.Logf("refused: %d; accepted complements: %d", refused.Load(), complements.Load())
	if *mutations >= 10_000 && (refused.Load() < int64(*mutations)*9/10 || complements.Load() == 0) {
		t.Error("the mutations are not what they should be")
	}
}

// issuedToken is a token and the key that signed it.
type issuedToken struct {
	text string
	key  *signingKey
}

// issuedTokens has more of the algorithms that are fast to verify.
func issuedTokens() []issuedToken {
	var issued []issuedToken
	for n := range 28 {
		k := testKeys()[allAlgorithms[[28]int{1, 2, 2, 3, 3, 4, 4, 5, 5, 5, 5, 5, 5, 5}[n]]]
		issued = append(issued,
			issuedToken{k.token(k.header("JWT"), claimsWith(Stytch, map[string]any{"n": len(issued)})), k},
			issuedToken{k.token(k.header("at+jwt"), claimsWith(RFC9068, map[string]any{"scope": "a", "n": len(issued)})), k})
	}
	return issued
}

func known(issued []issuedToken, text string) bool {
	return slices.ContainsFunc(issued, func(i issuedToken) bool { return i.text == text })
}

// judge says why an accepted text should not have been.
func judge(issued []issuedToken, text string) error {
	jws, err := jose.ParseSignedCompact(text, []jose.SignatureAlgorithm{jose.ES256, jose.ES384, jose.RS256, jose.RS384, jose.PS256, jose.EdDSA})
	if err != nil {
		return fmt.Errorf("the judge can't read it: %w", err)
	}
	parts := strings.Split(text, ".")
	header, errHeader := encoding.DecodeString(parts[0])
	for _, original := range issued {
		signed, signature := cutLast(original.text)
		if !strings.HasPrefix(text, signed+".") {
			continue
		}
		was, _ := encoding.DecodeString(strings.Split(signed, ".")[0])
		payload, err := jws.Verify(original.key.private.Public())
		if err != nil || errHeader != nil || !bytes.Equal(was, header) {
			continue
		}
		claims, _ := encoding.DecodeString(strings.Split(signed, ".")[1])
		raw, _ := encoding.DecodeString(signature)
		if bytes.Equal(claims, payload) && isComplement(original.key, raw, jws.Signatures[0].Signature) {
			return nil
		}
	}
	return fmt.Errorf("the judge finds it to be none of the issued tokens")
}

func cutLast(text string) (signed, signature string) {
	last := strings.LastIndexByte(text, '.')
	return text[:last], text[last+1:]
}

// isComplement tells whether two ECDSA signatures are (r, s) and (r, n-s).
func isComplement(k *signingKey, a, b []byte) bool {
	public, ok := k.private.Public().(*ecdsa.PublicKey)
	return ok && bytes.Equal(complement(public.Curve, a), b)
}

func complement(curve elliptic.Curve, signature []byte) []byte {
	half := len(signature) / 2
	s := new(big.Int).SetBytes(signature[half:])
	return append(bytes.Clone(signature[:half]), s.Sub(curve.Params().N, s).FillBytes(make([]byte, half))...)
}

// mutator changes tokens at random, as texts and as what they mean.
type mutator struct {
	*rand.Rand
	issued []issuedToken
}

func (m *mutator) mutate(text string) string {
	if text == "" {
		return "."
	}
	switch m.IntN(12) {
	case 0, 1: // another character of the alphabet
		return m.replace(text, alphabet[m.IntN(len(alphabet))])
	case 2: // any byte
		return m.replace(text, byte(m.IntN(256)))
	case 3:
		at := m.IntN(len(text))
		return text[:at] + text[at+1:]
	case 4:
		at := m.IntN(len(text) + 1)
		return text[:at] + string([]byte{"=.\n\r A-_+/"[m.IntN(10)]}) + text[at:]
	case 5:
		return text[:m.IntN(len(text))]
	case 6:
		return text + strings.Repeat(string([]byte{"=.A\n"[m.IntN(4)]}), 1+m.IntN(3))
	case 7:
		return m.splice(text)
	case 8: // a bit of what is encoded
		return m.recode(text, func(raw []byte) []byte { raw[m.IntN(len(raw))] ^= 1 << m.IntN(8); return raw })
	case 9:
		return m.remember(text)
	case 10:
		return m.spoil(text)
	default: // two at once
		return m.mutate(m.mutate(text))
	}
}

func (m *mutator) replace(text string, c byte) string {
	at := m.IntN(len(text))
	return text[:at] + string([]byte{c}) + text[at+1:]
}

// splice takes a part from another token.
func (m *mutator) splice(text string) string {
	parts, other := strings.Split(text, "."), strings.Split(m.issued[m.IntN(len(m.issued))].text, ".")
	at := m.IntN(len(parts))
	parts[at] = other[m.IntN(len(other))]
	return strings.Join(parts, ".")
}

// recode changes the bytes of one part.
func (m *mutator) recode(text string, change func([]byte) []byte) string {
	parts := strings.Split(text, ".")
	at := m.IntN(len(parts))
	raw, err := encoding.DecodeString(parts[at])
	if err != nil || len(raw) == 0 {
		return text + "A"
	}
	parts[at] = encoding.EncodeToString(change(raw))
	return strings.Join(parts, ".")
}

// remember writes header or claims anew with one member changed: valid JSON, wrong signature.
func (m *mutator) remember(text string) string {
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return text + "."
	}
	at := m.IntN(2)
	raw, _ := encoding.DecodeString(parts[at])
	values := map[string]any{}
	if json.Unmarshal(raw, &values) != nil {
		return text + "-"
	}
	names := [2][]string{{"alg", "kid", "typ", "crit", "jwk"}, {"iss", "sub", "aud", "exp", "scope", "iat", "admin"}}[at]
	kinds := []any{nil, "none", "HS256", "ES256", "RS256", "key-RS256", "at+jwt", "JWT", "admin", 1, 1.9e9, 1_900_000_000, []string{audience}, true, map[string]any{}}
	values[names[m.IntN(len(names))]] = kinds[m.IntN(len(kinds))]
	changed, _ := json.Marshal(values)
	parts[at] = encoding.EncodeToString(changed)
	return strings.Join(parts, ".")
}

// spoil makes another signature: special values, permutations, the complement.
func (m *mutator) spoil(text string) string {
	if !strings.Contains(text, ".") {
		return text
	}
	signed, encoded := cutLast(text)
	raw, err := encoding.DecodeString(encoded)
	if err != nil || len(raw) < 2 {
		return text + "_"
	}
	half := len(raw) / 2
	n := elliptic.P256().Params().N.FillBytes(make([]byte, 32))
	var other []byte
	switch m.IntN(8) {
	case 0:
		other = make([]byte, len(raw))
	case 1:
		other = append(bytes.Clone(raw[half:]), raw[:half]...)
	case 2:
		other = append(bytes.Clone(raw), 0)
	case 3:
		other = append([]byte{0}, raw...)
	case 4:
		other = append(bytes.Clone(n), n...)
	case 5:
		other = bytes.Repeat([]byte{0xff}, len(raw))
	case 6: // the order of the group added to S of an Ed25519 signature, or of nothing
		other = addOrder(raw)
	default:
		curve := elliptic.P256()
		if len(raw) == 96 {
			curve = elliptic.P384()
		}
		if s := new(big.Int).SetBytes(raw[half:]); len(raw) != 64 && len(raw) != 96 || s.Cmp(curve.Params().N) >= 0 {
			return signed + "." + encoded + "A"
		}
		other = complement(curve, raw)
	}
	return signed + "." + encoding.EncodeToString(other)
}

func addOrder(raw []byte) []byte {
	order, _ := new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)
	other, half := bytes.Clone(raw), len(raw)/2
	s := make([]byte, half)
	for i := range s {
		s[i] = raw[len(raw)-1-i]
	}
	sum := new(big.Int).Add(new(big.Int).SetBytes(s), order).Bytes()
	for i := range min(len(sum), half) {
		other[half+i] = sum[len(sum)-1-i]
	}
	return other
}

// TestJudge: tokens as another library makes them are accepted, so a refusal means something.
func TestJudge(t *testing.T) {
	v := newVerifier(t)
	for _, a := range allAlgorithms {
		k := testKeys()[a]
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(a), Key: jose.JSONWebKey{Key: k.private, KeyID: k.id}}, (&jose.SignerOptions{}).WithType("JWT"))
		check(t, err)
		jws, err := signer.Sign([]byte(stytchClaims))
		check(t, err)
		text, err := jws.CompactSerialize()
		check(t, err)
		if _, err := v.AuthenticateToken(t.Context(), text); err != nil {
			t.Errorf("%s: %v", a, err)
		}
	}
}
