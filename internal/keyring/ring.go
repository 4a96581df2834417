package keyring

import (
	"crypto"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

// manifestEntry is the entry of a ring's data that lists its keys.
const manifestEntry = "keyring.json"

// maxKeys bounds a ring that is read; a ring that we write holds a few.
const maxKeys = 16

// Ring is all the keys of one issuer.
type Ring struct {
	Keys []Key // in the order in which they were made
}

// Active returns the key that signs at an instant: the last one to have become
// active. The first of a ring counts as active from the start, so that a clock
// that runs behind its maker's has a key to sign with.
func (r Ring) Active(now time.Time) (Key, bool) {
	var active Key
	for i, k := range r.Keys {
		if i == 0 || !k.ActiveFrom.After(now) && !k.ActiveFrom.Before(active.ActiveFrom) {
			active = k
		}
	}
	return active, len(r.Keys) > 0
}

// Ensure adds a key where none of the ring signs with the algorithm at an
// instant, and tells whether it did.
func (r Ring) Ensure(rand io.Reader, alg Algorithm, now time.Time) (Ring, bool, error) {
	if active, ok := r.Active(now); ok && active.Algorithm == alg {
		return r, false, nil
	}
	k, err := Generate(rand, alg, now)
	if err != nil {
		return r, false, err
	}
	return Ring{Keys: append(slices.Clone(r.Keys), k)}, true, nil
}

// entry is a key's line in the manifest; the private key is in `<kid>.pem`.
type entry struct {
	KeyID      string    `json:"kid"`
	Algorithm  Algorithm `json:"alg"`
	ActiveFrom time.Time `json:"activeFrom"`
}

type manifest struct {
	Keys []entry `json:"keys"`
}

// Data returns the ring as entries of a Kubernetes Secret: a manifest, and each
// private key in PKCS #8, so that ordinary tools can read it.
func (r Ring) Data() (map[string][]byte, error) {
	data := map[string][]byte{}
	m := manifest{}
	for _, k := range r.Keys {
		der, err := x509.MarshalPKCS8PrivateKey(k.Signer)
		if err != nil {
			return nil, fmt.Errorf("encoding signing key %s: %w", k.ID, err)
		}
		data[k.ID+".pem"] = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
		m.Keys = append(m.Keys, entry{KeyID: k.ID, Algorithm: k.Algorithm, ActiveFrom: k.ActiveFrom})
	}
	encoded, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encoding the list of signing keys: %w", err)
	}
	data[manifestEntry] = encoded
	return data, nil
}

// Parse reads what [Ring.Data] wrote. A key's id is its thumbprint, so a damaged
// or exchanged key is an error.
func Parse(data map[string][]byte) (Ring, error) {
	var m manifest
	if err := json.Unmarshal(data[manifestEntry], &m); err != nil {
		return Ring{}, fmt.Errorf("the list of signing keys (%s) is missing or damaged", manifestEntry)
	}
	if len(m.Keys) == 0 || len(m.Keys) > maxKeys {
		return Ring{}, fmt.Errorf("the list of signing keys names %d keys, not 1 to %d", len(m.Keys), maxKeys)
	}
	var r Ring
	for _, e := range m.Keys {
		k, err := parseKey(e, data[e.KeyID+".pem"])
		if err != nil {
			return Ring{}, fmt.Errorf("signing key %q: %w", e.KeyID, err)
		}
		r.Keys = append(r.Keys, k)
	}
	return r, nil
}

func parseKey(e entry, encoded []byte) (Key, error) {
	block, _ := pem.Decode(encoded)
	if block == nil {
		return Key{}, errors.New("the private key is missing or not PEM")
	}
	// The parser's own errors may quote what they read; a private key is never quoted.
	private, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return Key{}, errors.New("the private key is damaged: not PKCS #8")
	}
	signer, ok := private.(crypto.Signer)
	if !ok {
		return Key{}, errors.New("the private key can't sign")
	}
	k, err := newKey(e.Algorithm, e.ActiveFrom, signer)
	if err != nil {
		return Key{}, err
	}
	if k.ID != e.KeyID {
		return Key{}, errors.New("the private key is another one: its thumbprint differs")
	}
	return k, nil
}
