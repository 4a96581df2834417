package usage

import (
	"cmp"
	"hash/maphash"
	"math"
	"slices"
	"strings"
	"sync"
	"time"
)

// Client names a client.
type Client struct{ Issuer, ID string }

// Ledger remembers which secrets were used, and what of that stands in the clients'
// statuses. All its methods may be called at one time.
type Ledger struct {
	interval time.Duration
	seed     maphash.Seed
	shards   [64]shard // so that token requests don't wait for each other
}

type shard struct {
	mu      sync.Mutex
	clients map[Client]*entry
}

// entry is what is remembered of a client. Instants are Unix times in seconds.
type entry struct {
	ref       string // see Standing
	uses      []use  // one for each version
	wrote     int64  // the last write of its usage that is known, rounded up
	looked    int64  // when its turn came last
	replacing bool   // it had a replaced secret when last seen
	paused    bool   // nothing could be written when last seen
}

// use is what is remembered of a version.
type use struct {
	version  string
	last     int64
	first    int64 // no use before it is unreported; 0: none is at all
	reported int64 // what the status says
}

// NewLedger returns an empty ledger; interval is the least time between two writes
// of a client's usage while a replaced secret is valid.
func NewLedger(interval time.Duration) *Ledger {
	l := &Ledger{interval: interval, seed: maphash.MakeSeed()}
	for i := range l.shards {
		l.shards[i].clients = map[Client]*entry{}
	}
	return l
}

// Used records that a client got a token for a version of its secret. It is part of
// every token request, and allocates only for what it hasn't seen before.
func (l *Ledger) Used(issuer, clientID, version string, at time.Time) {
	c := Client{issuer, clientID}
	s := l.shard(c)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.clients[c]
	if e == nil {
		// What comes in shares its memory with much that should not live on.
		e = &entry{}
		s.clients[Client{strings.Clone(issuer), strings.Clone(clientID)}] = e
	}
	e.used(version, at.Unix())
}

func (l *Ledger) shard(c Client) *shard {
	return &l.shards[maphash.String(l.seed, c.ID)%uint64(len(l.shards))]
}

func (e *entry) used(version string, at int64) {
	for i := range e.uses {
		if e.uses[i].version == version {
			e.uses[i].used(at)
			return
		}
	}
	e.uses = append(e.uses, use{version: strings.Clone(version), last: at, first: at})
}

func (u *use) used(at int64) {
	u.last = max(u.last, at)
	if at > u.reported && (u.first == 0 || at < u.first) {
		u.first = at
	}
}

// settle takes note of what the status says.
func (u *use) settle(reported int64) {
	u.reported = max(u.reported, reported)
	if u.last <= u.reported {
		u.first = 0
	} else if u.first <= u.reported {
		u.first = u.reported + 1
	}
}

// settle takes note of what the status says; nobody asks for the use of a version
// that isn't valid any more.
func (e *entry) settle(valid []string, reported []Use) {
	e.uses = slices.DeleteFunc(e.uses, func(u use) bool { return !slices.Contains(valid, u.version) })
	for i := range e.uses {
		for _, r := range reported {
			if r.Version == e.uses[i].version {
				e.uses[i].settle(r.At.Unix())
			}
		}
	}
}

// unreported returns the instant before which no use is unreported; false: none is.
func (e *entry) unreported() (first int64, ok bool) {
	first = math.MaxInt64
	for _, u := range e.uses {
		if u.first != 0 {
			first = min(first, u.first)
		}
	}
	return first, first != math.MaxInt64
}

// idle tells that everything is reported, and was for so long that not even the
// last write matters.
func (e *entry) idle(now time.Time, interval time.Duration) bool {
	if _, ok := e.unreported(); ok {
		return false
	}
	last := e.wrote
	for _, u := range e.uses {
		last = max(last, u.last)
	}
	return now.Sub(time.Unix(last, 0)) > Gap(interval, false)+interval
}

// Standing is what is known of a client from elsewhere.
type Standing struct {
	Ref       string // finds the client again when it isn't served; empty: unknown
	Served    bool   // it can get tokens, and be looked up
	Replacing bool   // it has a replaced secret that is valid, or may have
	Gone      bool   // it doesn't exist any more
}

// Turn is a client whose status is to be looked at.
type Turn struct {
	Client
	Ref string

	replacing bool
	looked    int64
}

// Due returns the clients whose statuses are to be looked at now, the most urgent
// first: there are uses to report, and the last write that is known was long ago.
// Everything else that the ledger should know of them, standing tells.
func (l *Ledger) Due(now time.Time, standing func(c Client, ref string) Standing) []Turn {
	var due []Turn
	for _, t := range l.waiting(now) {
		s := standing(t.Client, t.Ref)
		if s.Gone {
			l.Forget(t.Client)
			continue
		}
		l.with(t.Client, func(e *entry) {
			e.ref, e.replacing = s.Ref, s.Replacing
			look := s.Served && e.mayWrite(now, l.interval)
			e.paused = e.paused && look // else it isn't known any more
			if look {
				due = append(due, Turn{t.Client, s.Ref, s.Replacing, e.looked})
			}
		})
	}
	slices.SortFunc(due, func(a, b Turn) int {
		if a.replacing != b.replacing {
			if a.replacing {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.looked, b.looked) // all have their turns, whatever fails
	})
	return due
}

// waiting returns the clients with uses to report, and forgets idle ones.
func (l *Ledger) waiting(now time.Time) []Turn {
	var all []Turn
	l.each(func(s *shard) {
		for c, e := range s.clients {
			if _, ok := e.unreported(); ok {
				all = append(all, Turn{Client: c, Ref: e.ref})
			} else if e.idle(now, l.interval) {
				delete(s.clients, c)
			}
		}
	})
	return all
}

func (e *entry) mayWrite(now time.Time, interval time.Duration) bool {
	return now.Sub(time.Unix(e.wrote, 0)) >= Gap(interval, e.replacing)
}

// State is what the API server says of a client now.
type State struct {
	Paused    bool
	Replacing bool      // it has a replaced secret that is valid
	Valid     []string  // versions of its secret
	Reported  []Use     // in its status
	Wrote     time.Time // when a server last wrote its usage, cut to the second; zero: never
}

// Decide tells what to write of a client's usage; nil: nothing now.
func (l *Ledger) Decide(now time.Time, c Client, s State) (write []Use) {
	l.with(c, func(e *entry) {
		e.looked, e.replacing, e.paused = now.Unix(), s.Replacing, s.Paused
		if !s.Wrote.IsZero() {
			e.wrote = max(e.wrote, s.Wrote.Unix()+1)
		}
		e.settle(s.Valid, s.Reported)
		if _, ok := e.unreported(); !ok || s.Paused || !e.mayWrite(now, l.interval) {
			return
		}
		var seen []Use
		for _, u := range e.uses {
			seen = append(seen, Use{u.version, time.Unix(u.last, 0)})
		}
		write = Merge(s.Reported, seen, s.Valid)
	})
	return write
}

// Wrote takes note of a client's usage that was written.
func (l *Ledger) Wrote(now time.Time, c Client, written []Use) {
	l.with(c, func(e *entry) {
		e.wrote = max(e.wrote, now.Unix()+1)
		for i := range e.uses {
			for _, w := range written {
				if w.Version == e.uses[i].version {
					e.uses[i].settle(w.At.Unix())
				}
			}
		}
	})
}

// Forget forgets a client that doesn't exist any more.
func (l *Ledger) Forget(c Client) {
	s := l.shard(c)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.clients, c)
}

// settling is longer than a token takes from its issue to the ledger.
const settling = time.Second

// Covered returns up to when, at most until now, all uses of clients that have a
// replaced secret are in their statuses; all: none is unreported. A paused client
// holds nobody back: nothing of it is retired, and its pause counts as a use.
func (l *Ledger) Covered(now time.Time) (until time.Time, all bool) {
	earliest := int64(math.MaxInt64)
	l.each(func(s *shard) {
		for _, e := range s.clients {
			if first, ok := e.unreported(); ok && e.replacing && !e.paused {
				earliest = min(earliest, first)
			}
		}
	})
	until = now.Add(-settling).Truncate(time.Second).UTC()
	if earliest < until.Unix() {
		until = time.Unix(earliest, 0).UTC()
	}
	return until, earliest == math.MaxInt64
}

func (l *Ledger) each(do func(s *shard)) {
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		do(s)
		s.mu.Unlock()
	}
}

// with does something with a client's entry, if there is one.
func (l *Ledger) with(c Client, do func(e *entry)) {
	s := l.shard(c)
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.clients[c]; e != nil {
		do(e)
	}
}
