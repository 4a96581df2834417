package admin

import (
	"crypto/sha256"
	"sync"
	"time"
)

// maxAnswers bounds the answers of a kind that are kept.
const maxAnswers = 10_000

// answers are what the API server said, for as long as it is used again, by a digest of
// what it was asked.
type answers[T any] struct {
	mu sync.Mutex
	of map[[sha256.Size]byte]answer[T]
}

type answer[T any] struct {
	says  T
	until time.Time
}

func (a *answers[T]) kept(question [sha256.Size]byte, now time.Time) (says T, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	found, ok := a.of[question]
	return found.says, ok && now.Before(found.until)
}

func (a *answers[T]) keep(question [sha256.Size]byte, says T, until time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.of == nil || len(a.of) >= maxAnswers {
		a.of = map[[sha256.Size]byte]answer[T]{} // rarely, and it costs no more than asking again
	}
	a.of[question] = answer[T]{says, until}
}
