package keyring

import (
	"crypto"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"
)

// manifestEntry is the entry of a ring's data that lists its keys.
const manifestEntry = "keyring.json"

// maxKeys bounds a ring; most hold two or three.
const maxKeys = 32

// Ring is all the keys of one issuer.
type Ring struct {
	Keys []Key // by ActiveFrom
	// Triggers are the texts that ask for a rotation and need none any more.
	Triggers []string
}

// State is where a key is in its life.
type State string

// The states of a key.
const (
	Next    State = "Next"    // it will sign
	Active  State = "Active"  // it signs
	Retired State = "Retired" // what it has signed may be valid
)

// Active returns the key that signs at an instant: the last one to have become
// active. The first of a ring counts as active from the start, so that a clock
// that runs behind its maker's has a key to sign with.
func (r Ring) Active(now time.Time) (Key, bool) {
	if len(r.Keys) == 0 {
		return Key{}, false
	}
	return r.Keys[r.active(now)], true
}

func (r Ring) active(now time.Time) int {
	active := 0
	for i, k := range r.Keys {
		if !k.ActiveFrom.After(now) && !k.ActiveFrom.Before(r.Keys[active].ActiveFrom) {
			active = i
		}
	}
	return active
}

// State returns where the key at an index is in its life.
func (r Ring) State(index int, now time.Time) State {
	switch active := r.active(now); {
	case index < active:
		return Retired
	case index == active:
		return Active
	default:
		return Next
	}
}

// ClockTolerance is added to how long a key is published: clocks differ.
const ClockTolerance = 5 * time.Minute

// PublishedUntil returns until when a key is published that another replaces: the last
// token that it signed has expired then. ok is false for a key that none replaces.
func (r Ring) PublishedUntil(index int) (until time.Time, ok bool) {
	if index+1 >= len(r.Keys) {
		return time.Time{}, false
	}
	return r.Keys[index+1].ActiveFrom.Add(r.Keys[index].Longest + ClockTolerance), true
}

// Without returns the ring without some keys. The one that follows a key which is gone
// takes over its term, so that the next key signs at once where the active one is gone.
func (r Ring) Without(ids []string) Ring {
	kept := Ring{Triggers: r.Triggers}
	var vacant time.Time
	for _, k := range r.Keys {
		if slices.Contains(ids, k.ID) {
			if vacant.IsZero() {
				vacant = k.ActiveFrom
			}
			continue
		}
		if !vacant.IsZero() {
			k.ActiveFrom, vacant = vacant, time.Time{}
		}
		kept.Keys = append(kept.Keys, k)
	}
	return kept
}

// entry is a key's line in the manifest; the private key is in `<kid>.pem`.
type entry struct {
	KeyID       string    `json:"kid"`
	Algorithm   Algorithm `json:"alg"`
	PublishedAt time.Time `json:"publishedAt,omitzero"`
	ActiveFrom  time.Time `json:"activeFrom"`
	Longest     string    `json:"longestLifetime,omitempty"`
	Fixed       bool      `json:"fixed,omitempty"`
}

type manifest struct {
	Keys     []entry  `json:"keys"`
	Triggers []string `json:"triggers,omitempty"`
}

// MaxLifetime is the longest that a token lives, and what is taken for a key whose
// manifest doesn't say how long its tokens do.
const MaxLifetime = 168 * time.Hour

func (e entry) longest() (time.Duration, error) {
	if e.Longest == "" {
		return MaxLifetime, nil
	}
	d, err := time.ParseDuration(e.Longest)
	if err != nil || d < 0 || d > MaxLifetime {
		return 0, errors.New("its longestLifetime is not a duration of up to 168h")
	}
	return d, nil
}

// Data returns the ring as entries of a Kubernetes Secret: a manifest, and each
// private key in PKCS #8, so that ordinary tools can read it.
func (r Ring) Data() (map[string][]byte, error) {
	data := map[string][]byte{}
	m := manifest{Triggers: r.Triggers}
	for _, k := range r.Keys {
		der, err := x509.MarshalPKCS8PrivateKey(k.Signer)
		if err != nil {
			return nil, fmt.Errorf("encoding signing key %s: %w", k.ID, err)
		}
		data[k.ID+".pem"] = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
		m.Keys = append(m.Keys, entry{k.ID, k.Algorithm, k.PublishedAt, k.ActiveFrom, k.Longest.String(), k.Fixed})
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
	r := Ring{Triggers: m.Triggers}
	for _, e := range m.Keys {
		k, err := parseKey(e, data[e.KeyID+".pem"])
		if err != nil {
			return Ring{}, fmt.Errorf("signing key %q: %w", e.KeyID, err)
		}
		if slices.ContainsFunc(r.Keys, func(other Key) bool { return other.ID == k.ID }) {
			return Ring{}, fmt.Errorf("signing key %q is listed twice", e.KeyID)
		}
		r.Keys = append(r.Keys, k)
	}
	slices.SortStableFunc(r.Keys, func(a, b Key) int { return a.ActiveFrom.Compare(b.ActiveFrom) })
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
	// A status tells dates to the second: finer ones would differ from it for ever.
	k, err := newKey(e.Algorithm, second(e.ActiveFrom), signer)
	if err != nil {
		return Key{}, err
	}
	if !e.PublishedAt.IsZero() {
		k.PublishedAt = second(e.PublishedAt)
	}
	k.Fixed = e.Fixed
	if k.Longest, err = e.longest(); err != nil {
		return Key{}, err
	}
	if k.ID != e.KeyID {
		return Key{}, errors.New("the private key is another one: its thumbprint differs")
	}
	return k, nil
}
