package main

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"time"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/keyring"
)

// assertionRefusals are the clients that assertions are refused for, with each algorithm.
// The signature is junk, so whose key it is doesn't matter.
func assertionRefusals() []refusal {
	var all []refusal
	for _, a := range []struct{ algorithm, other keyring.Algorithm }{
		{keyring.ES256, keyring.RS256}, {keyring.RS256, keyring.ES256}, {keyring.EdDSA, keyring.ES256},
	} {
		kind := func(name, reason string, change func(*v1alpha1.M2MClient) error) {
			all = append(all, refusal{name: string(a.algorithm) + ", " + name, reason: reason, algorithm: a.algorithm, client: change})
		}
		keys := func(algorithm keyring.Algorithm, state v1alpha1.ClientState) func(*v1alpha1.M2MClient) error {
			return func(c *v1alpha1.M2MClient) (err error) {
				c.Spec.State = state
				c.Spec.PublicKeys, err = newPublicKeys(algorithm)
				return err
			}
		}
		kind("unknown client", "unknown_client", nil)
		kind("a client with a key", "wrong_signature", keys(a.algorithm, v1alpha1.ClientActive))
		kind("an inactive client with a key", "wrong_signature", keys(a.algorithm, v1alpha1.ClientInactive))
		kind("a client without keys", "unknown_key", func(*v1alpha1.M2MClient) error { return nil })
		kind("a client with a key of another kind", "wrong_algorithm", keys(a.other, v1alpha1.ClientActive))
	}
	return all
}

// newPublicKeys is a set of one key of a client's own. An RSA key is a number that nobody
// has the factors of: making a thousand real ones would take minutes.
func newPublicKeys(a keyring.Algorithm) (*v1alpha1.PublicKeySet, error) {
	if a == keyring.RS256 {
		modulus := make([]byte, 256)
		_, _ = rand.Read(modulus) // never fails
		modulus[0] |= 0x80
		modulus[255] |= 1
		exponent := big.NewInt(65537).Bytes()
		return &v1alpha1.PublicKeySet{Keys: []v1alpha1.PublicKey{{
			KeyType: "RSA", N: base64.RawURLEncoding.EncodeToString(modulus), E: base64.RawURLEncoding.EncodeToString(exponent),
		}}}, nil
	}
	_, public, err := newKey(a)
	if err != nil {
		return nil, err
	}
	set := &v1alpha1.PublicKeySet{}
	if err := json.Unmarshal(public.JWKS, set); err != nil {
		return nil, err
	}
	set.Keys[0].KeyID = ""
	return set, nil
}

// junkAssertion is an assertion of a client as it should be, but for its signature.
func junkAssertion(a keyring.Algorithm, clientID string) string {
	size := map[keyring.Algorithm]int{keyring.ES256: 64, keyring.RS256: 256, keyring.EdDSA: 64}[a]
	signature := make([]byte, size)
	_, _ = rand.Read(signature) // never fails
	signature[0] &= 0x7f        // below an RSA modulus
	signature[size-1] &= 0x0f   // and below Ed25519's order
	header := fmt.Sprintf(`{"alg":%q,"typ":"JWT"}`, a)
	claims := fmt.Sprintf(`{"iss":%q,"sub":%[1]q,"aud":%q,"jti":%q,"exp":%d}`, clientID, issuerURL, rand.Text(), time.Now().Add(time.Minute).Unix())
	return base64.RawURLEncoding.EncodeToString([]byte(header)) + "." +
		base64.RawURLEncoding.EncodeToString([]byte(claims)) + "." + base64.RawURLEncoding.EncodeToString(signature)
}
