package limit

import (
	"encoding/binary"
	"hash/maphash"
	"sync/atomic"
	"time"
)

// slots is how many counters a table has. What hostile callers send fills no memory: keys
// that fall together share a counter. All that can do is to have a *failing* request
// answered differently, since a right credential is never counted.
const slots = 1 << 16

// Failures counts failed authentications, by whom was named together with the address
// that the request came from, and by the address alone. It is safe for concurrent use,
// without a lock, and its memory is fixed.
type Failures struct {
	pairs     table
	addresses table
}

// NewFailures allows failures at a rate for each pair of a name and an address, and at
// another for each address. Neither may be zero.
func NewFailures(pair, address Rate) *Failures {
	f := &Failures{}
	f.pairs.init(pair)
	f.addresses.init(address)
	return f
}

// Limited records a failure and tells whether there were too many; then it wasn't
// recorded, and retryAfter says when another would be. The last key is the address, which
// counts by its [Network]; those before it say who the caller claims to be.
//
// It is asked when the credential has been tried and was wrong, never before: so nobody
// can lock out who has the right one.
func (f *Failures) Limited(now time.Time, keys ...string) (retryAfter time.Duration, limited bool) {
	if len(keys) == 0 {
		return 0, false
	}
	network := Network(keys[len(keys)-1])
	if names := keys[:len(keys)-1]; len(names) > 0 {
		// Who fails as one client only doesn't use up what the address has.
		if early := f.pairs.record(now, network, names...); early > 0 {
			return early, true
		}
	}
	early := f.addresses.record(now, network)
	return early, early > 0
}

// Spent tells whether another failure from an address would be one too many, and when not.
// It records nothing.
func (f *Failures) Spent(now time.Time, address string) (retryAfter time.Duration, spent bool) {
	t := &f.addresses
	was := t.arrivals[t.slot(Network(address), nil)].Load()
	_, early := t.pace.next(was, now.UnixNano())
	return time.Duration(early), early > 0
}

// table holds arrival times by a hash of their keys, whose seed callers can't know.
type table struct {
	pace     pace
	seed     maphash.Seed
	arrivals []atomic.Int64
}

func (t *table) init(r Rate) {
	t.pace, t.seed, t.arrivals = r.pace(), maphash.MakeSeed(), make([]atomic.Int64, slots)
}

// record counts one more, unless it comes too early by the time that is returned.
func (t *table) record(now time.Time, first string, others ...string) time.Duration {
	arrival := &t.arrivals[t.slot(first, others)]
	for {
		was := arrival.Load()
		after, early := t.pace.next(was, now.UnixNano())
		if after == was || arrival.CompareAndSwap(was, after) {
			return time.Duration(early)
		}
	}
}

// slot hashes keys with their lengths, so that no two lists read alike.
func (t *table) slot(first string, others []string) uint64 {
	var h maphash.Hash
	h.SetSeed(t.seed)
	writeKey(&h, first)
	for _, key := range others {
		writeKey(&h, key)
	}
	return h.Sum64() % slots
}

func writeKey(h *maphash.Hash, key string) {
	var length [8]byte
	binary.LittleEndian.PutUint64(length[:], uint64(len(key)))
	_, _ = h.Write(length[:]) // never fails
	_, _ = h.WriteString(key)
}
