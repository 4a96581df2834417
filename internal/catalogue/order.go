package catalogue

import (
	"cmp"
	"slices"
	"sync/atomic"
)

// chunkSize bounds the clients in one chunk: what a change copies.
const chunkSize = 512

// order holds an issuer's clients in the order of their positions. It is changed by one
// writer, which copies the chunk that changes; readers see it as it was when they began,
// and nobody waits for them.
type order struct{ now atomic.Pointer[[][]*entry] }

func (o *order) chunks() [][]*entry {
	if now := o.now.Load(); now != nil {
		return *now
	}
	return nil
}

// place finds the chunk of a position, and where in it that is or would be.
func (o *order) place(p key) (chunk, at int, found bool) {
	chunks := o.chunks()
	chunk, _ = slices.BinarySearchFunc(chunks, p, func(c []*entry, p key) int {
		return c[len(c)-1].compare(p)
	})
	if chunk == len(chunks) {
		if chunk == 0 {
			return 0, 0, false
		}
		chunk--
		return chunk, len(chunks[chunk]), false
	}
	at, found = slices.BinarySearchFunc(chunks[chunk], p, func(e *entry, p key) int { return e.compare(p) })
	return chunk, at, found
}

// insert puts an entry into its place; one of the same key is replaced.
func (o *order) insert(e *entry) {
	n, at, found := o.place(e.key)
	chunks := slices.Clone(o.chunks())
	switch {
	case len(chunks) == 0:
		chunks = [][]*entry{{e}}
	case found:
		chunks[n] = slices.Clone(chunks[n])
		chunks[n][at] = e
	default:
		grown := slices.Insert(slices.Clip(chunks[n]), at, e)
		chunks[n] = grown
		if len(grown) > chunkSize {
			half := len(grown) / 2
			if at == len(grown)-1 {
				half = len(grown) - 1 // new ones come at the end: the chunk before stays full
			}
			chunks = slices.Replace(chunks, n, n+1, grown[:half:half], grown[half:])
		}
	}
	o.now.Store(&chunks)
}

// remove takes an entry out, if it is there.
func (o *order) remove(p key) {
	n, at, found := o.place(p)
	if !found {
		return
	}
	chunks := slices.Clone(o.chunks())
	if len(chunks[n]) == 1 {
		chunks = slices.Delete(chunks, n, n+1)
	} else {
		chunks[n] = slices.Concat(chunks[n][:at], chunks[n][at+1:])
	}
	o.now.Store(&chunks)
}

// key is a position that no two clients share.
type key struct {
	Position
	uid string
}

func (k key) compare(other key) int {
	return cmp.Or(cmp.Compare(k.Created, other.Created), cmp.Compare(k.ClientID, other.ClientID), cmp.Compare(k.uid, other.uid))
}
