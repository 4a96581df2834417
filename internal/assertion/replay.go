package assertion

import (
	"crypto/sha256"
	"sync"
	"time"
)

var (
	// ErrReplayed says that an assertion was used before.
	ErrReplayed = &Error{"assertion_replayed", "it was used before: make a new one, with another jti, for each request"}
	// ErrTooMany says that more assertions are remembered than may be.
	ErrTooMany = &Error{"assertions_too_many", "too many assertions are in use at one time: use a token until it expires"}
)

// Replays remembers the assertions that were used, until they expire. It is safe for
// concurrent use.
type Replays struct {
	perClient, total int

	mu      sync.Mutex
	used    map[[16]byte]struct{}
	clients map[string]int // how many of each client are remembered
	minutes map[int64][]remembered
	cleaned int64 // the minute up to which all is forgotten
}

// remembered is one that is to be forgotten with its minute.
type remembered struct {
	digest [16]byte
	client string
}

// NewReplays remembers at most so many assertions of one client, and in all.
func NewReplays(perClient, total int) *Replays {
	return &Replays{
		perClient: perClient, total: total,
		used: map[[16]byte]struct{}{}, clients: map[string]int{}, minutes: map[int64][]remembered{},
	}
}

// Use notes that a client used the assertion with an id; the error is [ErrReplayed] or
// [ErrTooMany], and then it must be refused. Only assertions whose signature holds come
// here, so nobody fills another's share.
func (r *Replays) Use(client, id string, expires, now time.Time) error {
	sum := sha256.Sum256([]byte(client + "\n" + id))
	digest := [16]byte(sum[:])
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forget(now)
	if _, replayed := r.used[digest]; replayed {
		return ErrReplayed
	}
	if r.clients[client] >= r.perClient || len(r.used) >= r.total {
		return ErrTooMany
	}
	r.used[digest] = struct{}{}
	r.clients[client]++
	// One that has expired by the time that is read next is remembered all the same: a
	// clock may be set back.
	at := max(minute(expires), minute(now)) + 1
	r.minutes[at] = append(r.minutes[at], remembered{digest, client})
	return nil
}

// forget drops what has expired a minute ago or earlier, minute by minute: each assertion
// is visited once.
func (r *Replays) forget(now time.Time) {
	past := minute(now)
	if past <= r.cleaned {
		return
	}
	for at, all := range r.minutes {
		if at >= past {
			continue
		}
		for _, one := range all {
			delete(r.used, one.digest)
			if r.clients[one.client]--; r.clients[one.client] == 0 {
				delete(r.clients, one.client)
			}
		}
		delete(r.minutes, at)
	}
	r.cleaned = past
}

func minute(t time.Time) int64 { return t.Unix() / 60 }
