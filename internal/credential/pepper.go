// Package credential is the life of a client's credential: how secrets are made,
// hashed and sealed, and what must be written next. It is pure: the clock and the
// source of randomness are parameters, and nothing here knows Kubernetes.
package credential

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
)

// pepperKeySize is the size of a pepper key in bytes.
const pepperKeySize = 32

// activeEntry names the entry of a pepper's data that holds the active key's id.
const activeEntry = "active"

// Pepper holds the keys behind every keyed hash and seal of an installation.
// A pepper may hold several keys: one is active and makes new hashes and seals,
// the others only check what they once made.
type Pepper struct {
	active *pepperKey
	keys   []*pepperKey // sorted by id
}

// pepperKey is one key with what is derived from it, so that a hash can never be
// presented as a seal.
type pepperKey struct {
	id         string
	secret     []byte
	hashKey    []byte
	statusKey  []byte
	secretSeal []byte
}

// NewPepper makes a pepper of one random key.
func NewPepper(rand io.Reader) (*Pepper, error) {
	secret := make([]byte, pepperKeySize)
	if _, err := io.ReadFull(rand, secret); err != nil {
		return nil, fmt.Errorf("reading random bytes for a pepper key: %w", err)
	}
	id := pepperKeyID(secret)
	return ParsePepper(map[string][]byte{activeEntry: []byte(id), id: secret})
}

// ParsePepper reads what [Pepper.Data] wrote. A key's id is a digest of the key,
// so a damaged key is an error here and never a key that matches nothing.
func ParsePepper(data map[string][]byte) (*Pepper, error) {
	active, ok := data[activeEntry]
	if !ok {
		return nil, errors.New("the pepper has no entry \"active\"")
	}
	p := &Pepper{}
	for _, id := range slices.Sorted(maps.Keys(data)) {
		if id == activeEntry {
			continue
		}
		key, err := newPepperKey(id, data[id])
		if err != nil {
			return nil, err
		}
		p.keys = append(p.keys, key)
	}
	if p.active = p.key(string(active)); p.active == nil {
		return nil, errors.New("the pepper's active key is missing")
	}
	return p, nil
}

// Data returns the pepper as entries of a Kubernetes Secret.
func (p *Pepper) Data() map[string][]byte {
	data := map[string][]byte{activeEntry: []byte(p.active.id)}
	for _, k := range p.keys {
		data[k.id] = slices.Clone(k.secret)
	}
	return data
}

// ActiveKeyID names the key that makes new hashes and seals.
func (p *Pepper) ActiveKeyID() string { return p.active.id }

// HasKey tells whether hashes and seals that name the key can be checked.
func (p *Pepper) HasKey(id string) bool { return p.key(id) != nil }

func (p *Pepper) key(id string) *pepperKey {
	for _, k := range p.keys {
		if k.id == id {
			return k
		}
	}
	return nil
}

func newPepperKey(id string, secret []byte) (*pepperKey, error) {
	if len(secret) != pepperKeySize {
		return nil, fmt.Errorf("pepper key %q has %d bytes, not %d", id, len(secret), pepperKeySize)
	}
	if id != pepperKeyID(secret) {
		return nil, fmt.Errorf("pepper key %q is damaged: its bytes don't match its id", id)
	}
	k := &pepperKey{id: id, secret: slices.Clone(secret)}
	for info, dst := range map[string]*[]byte{
		"m2m-operator.dev/client-secret-hash": &k.hashKey,
		"m2m-operator.dev/status-seal":        &k.statusKey,
		"m2m-operator.dev/secret-seal":        &k.secretSeal,
	} {
		derived, err := hkdf.Expand(sha256.New, secret, info, sha256.Size)
		if err != nil {
			return nil, fmt.Errorf("deriving from pepper key %q: %w", id, err)
		}
		*dst = derived
	}
	return k, nil
}

func pepperKeyID(secret []byte) string {
	sum := sha256.Sum256(append([]byte("m2m-operator.dev/pepper-key-id\x00"), secret...))
	return "p" + hex.EncodeToString(sum[:5])
}
