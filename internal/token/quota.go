package token

import (
	"hash/maphash"
	"sync"
	"time"
)

// Quota is how many tokens each client of an issuer may be given at once, and again in
// each Per. The zero Quota sets no limit.
type Quota struct {
	Tokens int
	Per    time.Duration
}

// maxQuota bounds a quota's tokens, so that its arithmetic is far from overflowing.
const maxQuota = 1_000_000

func (q Quota) valid() bool {
	return q.Tokens >= 1 && q.Tokens <= maxQuota && q.Per >= time.Second && q.Per <= 24*time.Hour
}

// interval is between two tokens that come evenly, in nanoseconds.
func (q Quota) interval() int64 { return (int64(q.Per) + int64(q.Tokens) - 1) / int64(q.Tokens) }

// Spend takes one token from what the client of a grant may be given. It comes last, when
// nothing stands against the token any more. A refusal is a [*QuotaError], and takes nothing.
func (a *Authority) Spend(now time.Time, issuer *Issuer, g *Grant) error {
	if issuer.quota == (Quota{}) {
		return nil
	}
	early := a.spent.take(spender{issuer.Name, g.Client.id}, issuer.quota, now.UnixNano())
	if early > 0 {
		return &QuotaError{time.Duration(early)}
	}
	return nil
}

// Unspend gives back what [Authority.Spend] took for a token that was not handed out.
func (a *Authority) Unspend(issuer *Issuer, g *Grant) {
	if issuer.quota != (Quota{}) {
		a.spent.giveBack(spender{issuer.Name, g.Client.id}, issuer.quota)
	}
}

// spender is a client of an issuer.
type spender struct{ issuer, client string }

// spending is what clients were given lately. It is kept in parts, so that requests of
// different clients seldom wait for each other.
type spending struct {
	seed  maphash.Seed
	parts [64]spendingPart
}

func newSpending() *spending { return &spending{seed: maphash.MakeSeed()} }

func (s *spending) part(c spender) *spendingPart {
	return &s.parts[maphash.Comparable(s.seed, c)%uint64(len(s.parts))]
}

func (s *spending) take(c spender, q Quota, now int64) (early int64) {
	return s.part(c).take(c, q, now)
}

func (s *spending) giveBack(c spender, q Quota) { s.part(c).giveBack(c, q) }

// spendingPart holds, of each client that hasn't its whole quota, the theoretical arrival
// time of its next token in Unix nanoseconds (generic cell rate algorithm, ITU-T I.371):
// by then it has it all again.
type spendingPart struct {
	mu       sync.Mutex
	arrivals map[spender]int64
	sweepAt  int // how many arrivals there are when those are dropped that have come
}

// smallestSweep is how many clients are kept at least before any is dropped.
const smallestSweep = 128

// take takes one token, unless it comes too early by the time that is returned.
func (p *spendingPart) take(c spender, q Quota, now int64) (early int64) {
	interval := q.interval()
	burst := interval * int64(q.Tokens)
	p.mu.Lock()
	defer p.mu.Unlock()
	// Where a clock was set back or the quota has changed, all is spent at most.
	arrival := min(max(p.arrivals[c], now), now+burst)
	early = arrival + interval - burst - now
	if early <= 0 {
		early, arrival = 0, arrival+interval
		p.sweep(now)
	}
	p.arrivals[c] = arrival
	return early
}

func (p *spendingPart) giveBack(c spender, q Quota) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if arrival, ok := p.arrivals[c]; ok {
		p.arrivals[c] = arrival - q.interval()
	}
}

// sweep drops the clients that have their whole quota again, when there are twice as many
// as were left the last time: each is visited about twice, and as many stay in memory as
// were active lately.
func (p *spendingPart) sweep(now int64) {
	if p.arrivals == nil {
		p.arrivals, p.sweepAt = map[spender]int64{}, smallestSweep
	}
	if len(p.arrivals) < p.sweepAt {
		return
	}
	left := make(map[spender]int64, len(p.arrivals)/2)
	for c, arrival := range p.arrivals {
		if arrival > now {
			left[c] = arrival
		}
	}
	p.arrivals, p.sweepAt = left, max(smallestSweep, 2*len(left))
}
