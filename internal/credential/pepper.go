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

// Entries of a pepper's data that aren't keys: the ids of the active key and of the
// one that will be.
const (
	activeEntry = "active"
	nextEntry   = "next"
)

// Pepper holds the keys behind every keyed hash and seal of an installation.
// A pepper may hold several keys: one is active and makes new hashes and seals,
// the others only check what they once made.
type Pepper struct {
	active *pepperKey
	next   *pepperKey   // published before it is active; nil: none
	keys   []*pepperKey // all, sorted by id
}

// pepperKey is one key with what is derived from it, so that a hash can never be
// presented as a seal.
type pepperKey struct {
	id          string
	secret      []byte
	hashKey     []byte
	statusKey   []byte
	secretSeal  []byte
	depositSeal []byte
	cursorKey   []byte
	peerKey     []byte
	ticketKey   []byte
	logKey      []byte
}

// NewPepper makes a pepper of one random key.
func NewPepper(rand io.Reader) (*Pepper, error) {
	id, secret, err := newPepperSecret(rand)
	if err != nil {
		return nil, err
	}
	return ParsePepper(map[string][]byte{activeEntry: []byte(id), id: secret})
}

func newPepperSecret(rand io.Reader) (id string, secret []byte, err error) {
	secret = make([]byte, pepperKeySize)
	if _, err := io.ReadFull(rand, secret); err != nil {
		return "", nil, fmt.Errorf("reading random bytes for a pepper key: %w", err)
	}
	return pepperKeyID(secret), secret, nil
}

// WithNext returns the pepper with a new key, which only checks until it is active:
// every server must know it before anything is made with it.
func (p *Pepper) WithNext(rand io.Reader) (*Pepper, error) {
	id, secret, err := newPepperSecret(rand)
	if err != nil {
		return nil, err
	}
	data := p.Data()
	data[nextEntry], data[id] = []byte(id), secret
	return ParsePepper(data)
}

// Activate returns the pepper with its next key active.
func (p *Pepper) Activate() *Pepper {
	return &Pepper{active: p.next, keys: p.keys}
}

// Without returns the pepper without a key that is neither active nor next.
func (p *Pepper) Without(id string) *Pepper {
	kept := slices.DeleteFunc(slices.Clone(p.keys), func(k *pepperKey) bool { return k.id == id && k != p.active && k != p.next })
	return &Pepper{active: p.active, next: p.next, keys: kept}
}

// NextKeyID names the key that will be active; empty: there is none.
func (p *Pepper) NextKeyID() string {
	if p.next == nil {
		return ""
	}
	return p.next.id
}

// KeyIDs names all keys.
func (p *Pepper) KeyIDs() []string {
	var ids []string
	for _, k := range p.keys {
		ids = append(ids, k.id)
	}
	return ids
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
		if id == activeEntry || id == nextEntry {
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
	if next, ok := data[nextEntry]; ok {
		if p.next = p.key(string(next)); p.next == nil {
			return nil, errors.New("the pepper's next key is missing")
		}
	}
	return p, nil
}

// Data returns the pepper as entries of a Kubernetes Secret.
func (p *Pepper) Data() map[string][]byte {
	data := map[string][]byte{activeEntry: []byte(p.active.id)}
	if p.next != nil {
		data[nextEntry] = []byte(p.next.id)
	}
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
		"m2m-operator.dev/deposit-seal":       &k.depositSeal,
		"m2m-operator.dev/cursor-seal":        &k.cursorKey,
		"m2m-operator.dev/peer-seal":          &k.peerKey,
		"m2m-operator.dev/session-ticket":     &k.ticketKey,
		"m2m-operator.dev/log-digest":         &k.logKey,
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
