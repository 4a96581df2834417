package catalogue

import (
	"cmp"
	"slices"
)

// chunkSize bounds the clients in one chunk: what a change copies.
const chunkSize = 512

// order holds clients in the order of their positions, in chunks that are never empty. A
// change makes a new list of chunks and a new chunk, and leaves the ones before to who
// goes through them.
type order struct{ chunks [][]*entry }

// place finds the chunk of a position, and where in it that is or would be. There is a chunk.
func (o *order) place(p Position) (chunk, at int, found bool) {
	chunk, _ = slices.BinarySearchFunc(o.chunks, p, func(c []*entry, p Position) int {
		return c[len(c)-1].compare(p)
	})
	chunk = min(chunk, len(o.chunks)-1) // what comes after all goes to the end of the last
	at, found = slices.BinarySearchFunc(o.chunks[chunk], p, func(e *entry, p Position) int { return e.compare(p) })
	return chunk, at, found
}

// insert puts an entry into its place; one of the same position is replaced.
func (o *order) insert(e *entry) {
	if len(o.chunks) == 0 {
		o.chunks = [][]*entry{{e}}
		return
	}
	n, at, found := o.place(e.Position)
	chunk := o.chunks[n]
	switch {
	case found:
		o.swap(n, n+1, slices.Concat(chunk[:at], []*entry{e}, chunk[at+1:]))
	case len(chunk) < chunkSize:
		o.swap(n, n+1, slices.Concat(chunk[:at], []*entry{e}, chunk[at:]))
	case at == len(chunk): // new clients come at the end: the chunk before stays full
		o.swap(n+1, n+1, []*entry{e})
	default:
		half := len(chunk) / 2
		o.swap(n, n+1, slices.Clone(chunk[:half]), slices.Clone(chunk[half:]))
		o.insert(e)
	}
}

// remove takes out what is at a position.
func (o *order) remove(p Position) {
	n, at, found := o.place(p)
	if !found {
		return
	}
	rest := slices.Concat(o.chunks[n][:at], o.chunks[n][at+1:])
	switch {
	case len(rest) == 0:
		o.swap(n, n+1)
	case n > 0 && len(o.chunks[n-1])+len(rest) <= chunkSize/2: // chunks don't dwindle and stay
		o.swap(n-1, n+1, slices.Concat(o.chunks[n-1], rest))
	default:
		o.swap(n, n+1, rest)
	}
}

// swap puts chunks in the place of others.
func (o *order) swap(from, to int, chunks ...[]*entry) {
	o.chunks = slices.Concat(o.chunks[:from], chunks, o.chunks[to:])
}

func (p Position) compare(other Position) int {
	return cmp.Or(cmp.Compare(p.Created, other.Created), cmp.Compare(p.ClientID, other.ClientID))
}
