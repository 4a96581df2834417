package token

import (
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/m2m-operator/m2m-operator/internal/keyring"
)

// bucket is what a quota means: it holds as many tokens as may be given at once, and
// drains evenly.
type bucket struct {
	level time.Duration
	last  time.Time
}

func (b *bucket) drain(now time.Time) {
	b.level = max(0, b.level-now.Sub(b.last))
	b.last = now
}

// Whatever clients do and when: each is given exactly what a bucket would give, tokens
// that were not handed out count for nothing, and those who have all their quota again
// are forgotten.
func TestQuotaIsABucket(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tokens := rapid.IntRange(1, 6).Draw(t, "tokens")
		each := time.Duration(rapid.IntRange(500, 2000).Draw(t, "each")) * time.Millisecond
		q := Quota{tokens, each * time.Duration(tokens)}
		part := &spendingPart{}
		now := testNow
		buckets := map[spender]*bucket{}
		for range rapid.IntRange(1, 100).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 1500).Draw(t, "ms")) * time.Millisecond)
			c := spender{"default", rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "client")}
			b, ok := buckets[c]
			if !ok {
				b = &bucket{last: now}
				buckets[c] = b
			}
			b.drain(now)
			want := b.level + each - q.Per
			got := part.take(c, q, now.UnixNano())
			if want <= 0 {
				want, b.level = 0, b.level+each
			}
			if time.Duration(got) != want {
				t.Fatalf("%s: wait %s, not %s", c.client, time.Duration(got), want)
			}
			if got == 0 && rapid.IntRange(0, 4).Draw(t, "fails") == 0 {
				part.giveBack(c, q)
				b.level -= each
			}
		}
	})
}

// TestQuota is the rule as the issuer knows it: each client has its own, of each issuer.
func TestQuota(t *testing.T) {
	d := newDirectory(t)
	d.add(t, "one", testSecret, nil)
	d.add(t, "two", testSecret, nil)
	a := NewAuthority(d, rand.Reader)
	key := newKey(t, keyring.EdDSA, testNow)
	withQuota := func(name string, q Quota) *Issuer {
		issuer, err := NewIssuer(rand.Reader, IssuerConfig{
			Name: name, URL: testURL, ProjectID: testProject, Profile: Stytch, Quota: q, Keys: keyring.Ring{Keys: []keyring.Key{key}},
		})
		if err != nil {
			t.Fatal(err)
		}
		return issuer
	}
	spend := func(issuer *Issuer, id string, now time.Time) time.Duration {
		err := a.Spend(now, issuer, &Grant{Client: d.clients[id]})
		if refusal, ok := errors.AsType[*QuotaError](err); ok {
			return refusal.RetryAfter
		} else if err != nil {
			t.Fatal(err)
		}
		return 0
	}
	three, none := withQuota("three", Quota{3, time.Minute}), withQuota("none", Quota{})
	for n, want := range []time.Duration{0, 0, 0, 20 * time.Second, 20 * time.Second} {
		if got := spend(three, "one", testNow); got != want {
			t.Errorf("token %d: wait %s, not %s", n+1, got, want)
		}
	}
	for range 100 {
		if spend(none, "one", testNow) != 0 {
			t.Fatal("there is no quota, and it is spent")
		}
	}
	if spend(three, "two", testNow) != 0 || spend(withQuota("other", Quota{1, time.Hour}), "one", testNow) != 0 {
		t.Error("another client's quota, or another issuer's, is spent")
	}
	a.Unspend(three, &Grant{Client: d.clients["one"]})
	if spend(three, "one", testNow) != 0 || spend(three, "one", testNow) == 0 {
		t.Error("one token was given back, and not one is there")
	}
	if wait := spend(three, "one", testNow.Add(-24*time.Hour)); wait != 20*time.Second {
		t.Errorf("a clock that is set back makes a client wait %s", wait)
	}
	if spend(three, "one", testNow.Add(-24*time.Hour+20*time.Second)) != 0 {
		t.Error("still waiting after a clock was set back")
	}
}

func TestQuotasThatAreNone(t *testing.T) {
	for _, q := range []Quota{{1, 0}, {0, time.Second}, {-1, time.Second}, {maxQuota + 1, time.Second}, {1, 999 * time.Millisecond}, {1, 25 * time.Hour}} {
		_, err := NewUnavailableIssuer(IssuerConfig{Name: "default", URL: testURL, ProjectID: testProject, Profile: Stytch, Quota: q})
		if err == nil {
			t.Errorf("%+v is a quota", q)
		}
	}
}

// Requests at one time are given no more than there is, and memory follows the clients
// that are active.
func TestSpendingAtOneTime(t *testing.T) {
	s, q := newSpending(), Quota{100, time.Hour}
	var given atomic.Int64
	var running sync.WaitGroup
	for range 8 {
		running.Go(func() {
			for range q.Tokens {
				if s.take(spender{"default", "a"}, q, testNow.UnixNano()) == 0 {
					given.Add(1)
				}
			}
		})
	}
	running.Wait()
	if got := given.Load(); got != int64(q.Tokens) {
		t.Errorf("%d were given, not %d", got, q.Tokens)
	}
	const clients = 200_000
	quick := Quota{1000, time.Second} // a token comes again in a millisecond
	for n := range clients {
		s.take(spender{"default", fmt.Sprint(n)}, quick, testNow.Add(time.Duration(n)*time.Millisecond).UnixNano())
	}
	kept := 0
	for i := range s.parts {
		kept += len(s.parts[i].arrivals)
	}
	if kept > len(s.parts)*smallestSweep {
		t.Errorf("%d clients are remembered of %d that are whole again", kept, clients)
	}
}
