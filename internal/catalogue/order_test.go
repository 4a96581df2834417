package catalogue

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"pgregory.net/rapid"
)

// An order of many clients is as a sorted list, what was read of it before stays as it
// was, and its chunks are neither too large nor many.
func TestOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		var o order
		var there []*entry // sorted
		grow := func(n int, created func() int64) {
			for range n {
				e := &entry{Position: Position{created(), strconv.Itoa(random.IntN(1e6))}}
				at, found := slices.BinarySearchFunc(there, e.Position, (*entry).compareTo)
				if found {
					there[at] = e
				} else {
					there = slices.Insert(there, at, e)
				}
				o.insert(e)
			}
		}
		now := int64(0)
		t.Repeat(map[string]func(*rapid.T){
			"anywhere": func(t *rapid.T) {
				grow(rapid.IntRange(1, 900).Draw(t, "n"), func() int64 { return random.Int64N(now + 5) })
			},
			"at the end": func(t *rapid.T) {
				grow(rapid.IntRange(1, 900).Draw(t, "n"), func() int64 { now++; return now })
			},
			"remove": func(t *rapid.T) {
				for range min(len(there), rapid.IntRange(1, 900).Draw(t, "n")) {
					at := random.IntN(len(there))
					o.remove(there[at].Position)
					there = slices.Delete(there, at, at+1)
				}
			},
			"remove together": func(t *rapid.T) {
				from := rapid.IntRange(0, len(there)).Draw(t, "from")
				to := min(len(there), from+rapid.IntRange(0, 900).Draw(t, "n"))
				for _, e := range there[from:to] {
					o.remove(e.Position)
				}
				there = slices.Delete(there, from, to)
			},
			"": func(t *rapid.T) {
				before, was := o.chunks, slices.Clone(there)
				grow(2, func() int64 { return random.Int64N(now + 5) })
				if !slices.Equal(slices.Concat(before...), was) {
					t.Fatal("what was read before changed")
				}
				if !slices.Equal(slices.Concat(o.chunks...), there) {
					t.Fatal("not as a sorted list")
				}
				for _, chunk := range o.chunks {
					if len(chunk) == 0 || len(chunk) > chunkSize {
						t.Fatalf("a chunk of %d", len(chunk))
					}
				}
			},
		})
	})
}

func (e *entry) compareTo(p Position) int { return e.compare(p) }

// Clients that come and go leave no more chunks than what stays needs.
func TestChunksDontDwindle(t *testing.T) {
	var o order
	for i := range 50 * chunkSize {
		o.insert(&entry{Position: Position{Created: int64(i)}})
	}
	if len(o.chunks) != 50 {
		t.Errorf("%d chunks of clients that came in order, want 50", len(o.chunks))
	}
	for i := range 50 * chunkSize {
		if i%100 != 0 {
			o.remove(Position{Created: int64(i)})
		}
	}
	if len(o.chunks) > 3 {
		t.Errorf("%d chunks for %d clients, want 3 at most", len(o.chunks), 50*chunkSize/100)
	}
}
