package credential

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"strings"
)

// Hash is a keyed HMAC-SHA256 of a client id and its secret. Secrets are 256
// random bits, so a slow hash would buy nothing.
type Hash struct {
	KeyID string
	Sum   [sha256.Size]byte
}

// errMAC is what every malformed hash or seal gives; the text itself may be hostile.
var errMAC = errors.New("not of the form <pepper key id>:<base64url of 32 bytes>")

// ParseHash reads what [Hash.String] wrote.
func ParseHash(s string) (Hash, error) {
	id, encoded, ok := strings.Cut(s, ":")
	if !ok || id == "" || len(encoded) != base64.RawURLEncoding.EncodedLen(sha256.Size) {
		return Hash{}, errMAC
	}
	sum, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if err != nil || len(sum) != sha256.Size {
		return Hash{}, errMAC
	}
	return Hash{KeyID: id, Sum: [sha256.Size]byte(sum)}, nil
}

// String is the form in which a hash stands in a client's status.
func (h Hash) String() string {
	return h.KeyID + ":" + base64.RawURLEncoding.EncodeToString(h.Sum[:])
}

// Hash hashes a secret with the active key.
func (p *Pepper) Hash(clientID, secret string) Hash {
	return Hash{KeyID: p.active.id, Sum: mac(p.active.hashKey, clientID, secret)}
}

// Digests are the hashes of one presented secret under every key of a pepper:
// one HMAC a key, whatever the number of versions they are compared with.
type Digests struct{ hashes []Hash }

// Digests hashes a presented secret with every key.
func (p *Pepper) Digests(clientID, secret string) Digests {
	d := Digests{hashes: make([]Hash, len(p.keys))}
	for i, k := range p.keys {
		d.hashes[i] = Hash{KeyID: k.id, Sum: mac(k.hashKey, clientID, secret)}
	}
	return d
}

// Matches compares in constant time: a hash of an unknown key costs what any
// other costs, and matches nothing.
func (d *Digests) Matches(h *Hash) bool {
	matched := 0
	for i := range d.hashes {
		same := subtle.ConstantTimeCompare(d.hashes[i].Sum[:], h.Sum[:])
		matched |= same & subtle.ConstantTimeCompare([]byte(d.hashes[i].KeyID), []byte(h.KeyID))
	}
	return matched == 1
}

// mac is HMAC-SHA256 over length-prefixed fields, so that no two lists of fields
// give the same input.
func mac(key []byte, fields ...string) [sha256.Size]byte {
	h := hmac.New(sha256.New, key)
	var buf [256]byte // keeps the usual field off the heap
	for _, field := range fields {
		b := binary.BigEndian.AppendUint64(buf[:0], uint64(len(field)))
		h.Write(append(b, field...))
	}
	var sum [sha256.Size]byte
	h.Sum(sum[:0])
	return sum
}
