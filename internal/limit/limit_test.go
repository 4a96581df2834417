package limit

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var testNow = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)

// bucket is what a rate means: it holds as many as may come at once, and drains evenly.
type bucket struct {
	level, capacity, each time.Duration
	last                  time.Time
}

func (b *bucket) take(now time.Time) (wait time.Duration) {
	b.level = max(0, b.level-now.Sub(b.last))
	b.last = now
	if wait = b.level + b.each - b.capacity; wait > 0 {
		return wait
	}
	b.level += b.each
	return 0
}

// apart makes counters that share no slot among some lists of keys. Of any two lists, one
// in 65 536 would.
func apart(pair, address Rate, lists ...[]string) *Failures {
	for {
		f := NewFailures(pair, address)
		pairs, addresses := map[uint64]string{}, map[uint64]string{}
		free := func(slots map[uint64]string, slot uint64, key string) bool {
			was, taken := slots[slot]
			slots[slot] = key
			return !taken || was == key
		}
		if !slices.ContainsFunc(lists, func(keys []string) bool {
			names, network := keys[:len(keys)-1], Network(keys[len(keys)-1])
			return !free(pairs, f.pairs.slot(network, names), fmt.Sprintf("%q of %s", names, network)) ||
				!free(addresses, f.addresses.slot(network, nil), network)
		}) {
			return f
		}
	}
}

// Whatever comes when: a counter says what a bucket says, to the nanosecond.
func TestFailuresAreABucket(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		burst := rapid.IntRange(1, 7).Draw(t, "burst")
		each := time.Duration(rapid.IntRange(1, 2000).Draw(t, "each")) * time.Millisecond
		names, callers := []string{"a", "b"}, []string{"192.0.2.1", "2001:db8::1"}
		var lists [][]string
		for _, name := range names {
			for _, address := range callers {
				lists = append(lists, []string{"issuer", name, address})
			}
		}
		f := apart(Rate{burst, each * time.Duration(burst)}, Rate{burst * 2, each * time.Duration(burst)}, lists...)
		now := testNow
		pairs, addresses := map[string]*bucket{}, map[string]*bucket{}
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 3000).Draw(t, "ms")) * time.Millisecond / 2)
			name := rapid.SampledFrom(names).Draw(t, "name")
			address := rapid.SampledFrom(callers).Draw(t, "address")
			pair, ok := pairs[name+address]
			if !ok {
				pair = &bucket{capacity: each * time.Duration(burst), each: each, last: now}
				pairs[name+address] = pair
			}
			network, ok := addresses[address]
			if !ok {
				network = &bucket{capacity: each * time.Duration(burst), each: each / 2, last: now}
				if each%2 != 0 {
					network.each = (each + 1) / 2
				}
				network.capacity = network.each * time.Duration(2*burst)
				addresses[address] = network
			}
			want := pair.take(now)
			if want == 0 {
				want = network.take(now)
			}
			got, limited := f.Limited(now, "issuer", name, address)
			if got != want || limited != (want > 0) {
				t.Fatalf("%s from %s after %s: wait %s (%t), not %s", name, address, now.Sub(testNow), got, limited, want)
			}
		}
	})
}

// Who fails as one client doesn't use up what its address has, nor what others have.
func TestFailuresAreCountedApart(t *testing.T) {
	cases := []struct {
		keys    string
		n, want int
	}{
		{"issuer one 192.0.2.1", 100, 97},
		{"issuer two 192.0.2.1", 4, 1},
		{"other one 192.0.2.1", 4, 1},
		{"issuer one 192.0.2.2:1234", 4, 1},
		{"issuer one 192.0.2.2:4321", 4, 4}, // the same address
		{"issuer one ::ffff:192.0.2.2", 1, 1},
		{"issuer one 2001:db8::1", 3, 0},
		{"issuer one [2001:db8::ffff:1]:80", 1, 1}, // the same /64
		{"issuer one 2001:db8:0:1::1", 1, 0},
		{"issuer one @", 4, 1},
		{"192.0.2.1", 22, 1}, // 9 came before
		{"192.0.2.3", 31, 1},
	}
	lists := make([][]string, len(cases))
	for i, c := range cases {
		lists[i] = strings.Fields(c.keys)
	}
	f := apart(Rate{3, time.Minute}, Rate{30, time.Minute}, lists...)
	fail := func(n int, keys ...string) (limited int) {
		for range n {
			if _, no := f.Limited(testNow, keys...); no {
				limited++
			}
		}
		return limited
	}
	for i, c := range cases {
		if got := fail(c.n, lists[i]...); got != c.want {
			t.Errorf("%d times %s: %d were limited, not %d", c.n, c.keys, got, c.want)
		}
	}
	if _, limited := f.Limited(testNow); limited {
		t.Error("nobody is limited")
	}
}

// Keys don't run together: what callers choose can't be made to read as others' keys. By
// chance two share a slot of one table, hardly of three.
func TestKeysDoNotRunTogether(t *testing.T) {
	lists := [][]string{
		{"a", "b", "192.0.2.1"}, {"ab", "", "192.0.2.1"}, {"", "ab", "192.0.2.1"}, {"ab", "192.0.2.1"}, {"a\x00b", "192.0.2.1"},
	}
	together := make([]int, len(lists))
	const tables = 3
	for range tables {
		f := NewFailures(Rate{1, time.Minute}, Rate{1000, time.Minute})
		for i, keys := range lists {
			if _, limited := f.Limited(testNow, keys...); limited {
				together[i]++
			}
		}
	}
	for i, n := range together {
		if n == tables {
			t.Errorf("%q has failed before", lists[i])
		}
	}
}

// A clock that is set back limits nobody for longer than a whole burst takes.
func TestClockSetBack(t *testing.T) {
	f := NewFailures(Rate{1, time.Minute}, Rate{2, time.Minute})
	for range 2 {
		f.Limited(testNow.Add(24*time.Hour), "192.0.2.1")
	}
	retryAfter, limited := f.Limited(testNow, "192.0.2.1")
	if !limited || retryAfter > 30*time.Second {
		t.Errorf("limited (%t) for %s", limited, retryAfter)
	}
	if _, limited := f.Limited(testNow.Add(retryAfter), "192.0.2.1"); limited {
		t.Error("still limited when it said that it wouldn't be")
	}
}

// However many callers there are, the memory is what it was; and requests at one time lose
// no failure.
func TestFailuresAtOneTime(t *testing.T) {
	const burst = 500
	f := NewFailures(Rate{burst, time.Hour}, Rate{burst * 10, time.Hour})
	var passed atomic.Int64
	var running sync.WaitGroup
	for range 8 {
		running.Go(func() {
			for range burst {
				if _, limited := f.Limited(testNow, "a", "192.0.2.1"); !limited {
					passed.Add(1)
				}
			}
		})
	}
	running.Wait()
	if got := passed.Load(); got != burst {
		t.Errorf("%d passed, not %d", got, burst)
	}
	keys := make([]string, 1000)
	for i := range keys {
		keys[i] = fmt.Sprintf("2001:db8:%x::", i)
	}
	if allocs := testing.AllocsPerRun(10, func() {
		for _, k := range keys {
			f.pairs.record(testNow, k, k)
		}
	}); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

func TestParseRate(t *testing.T) {
	for text, want := range map[string]Rate{
		"20/1m": {20, time.Minute}, "1/1s": {1, time.Second}, "1000000/24h": {1000000, 24 * time.Hour}, "5/1m30s": {5, 90 * time.Second},
		"0": {}, "off": {},
	} {
		if got, err := ParseRate(text); err != nil || got != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "20", "/1m", "20/", "0/1m", "-1/1m", "+1/1m", "1000001/1m", "20/0s", "20/-1m", "20/25h", "20/1", "20/1m/1m", " 20/1m", "20/999ms", "0x1/1m", "Off"} {
		if got, err := ParseRate(text); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
}

// FuzzParseRate: whatever is a rate counts without overflowing.
func FuzzParseRate(f *testing.F) {
	f.Add("20/1m")
	f.Add("off")
	f.Add("1000000/1s")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseRate(text)
		if err != nil || r.IsZero() {
			return
		}
		p := r.Times(10).pace()
		after, early := p.next(testNow.UnixNano()+1<<50, testNow.UnixNano())
		if r.Burst < 1 || p.interval < 1 || p.burst < int64(r.Per) || after < testNow.UnixNano() || early <= 0 {
			t.Fatalf("%q: %+v, %+v", text, r, p)
		}
	})
}

// FuzzNetwork: the network of a network is itself, where it is an address.
func FuzzNetwork(f *testing.F) {
	f.Add("192.0.2.1")
	f.Add("[fe80::1%eth0]:80")
	f.Add("::ffff:192.0.2.1")
	f.Fuzz(func(t *testing.T, address string) {
		network := Network(address)
		if again := Network(network); again != network {
			t.Fatalf("%q: %q, then %q", address, network, again)
		}
	})
}
