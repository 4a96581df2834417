package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxWait is how long a request waits for keys. The fetch goes on without it.
	maxWait = 2 * time.Second
	// maxWaiting is how many requests wait: anybody can send tokens with unknown key ids.
	maxWaiting = 1000
)

// fixedKeys are keys that never change.
type fixedKeys keySet

func (k fixedKeys) find(_ context.Context, id string) (publicKey, error) {
	if key, ok := k[id]; ok {
		return key, nil
	}
	return publicKey{}, errUnknownKey
}

func (fixedKeys) ready(context.Context) error { return nil }
func (fixedKeys) close()                      {}

var errUnknownKey = invalid("its key is none of the issuer's")

// remoteKeys are the keys that an issuer publishes. One goroutine fetches them; others
// may ask it to do so at once, and wait.
type remoteKeys struct {
	keysURL      string // or
	discoveryURL string
	client       *http.Client
	refresh      time.Duration
	floor        time.Duration
	maxAge       time.Duration
	log          *slog.Logger

	current atomic.Pointer[snapshot] // nil: none was fetched yet
	waiting atomic.Int64
	wake    chan struct{}
	loaded  chan struct{} // closed after the first fetch that succeeds
	closed  chan struct{}
	stop    context.CancelFunc
	running sync.WaitGroup

	mu      sync.Mutex
	started time.Time     // when the last fetch began
	done    chan struct{} // closed when the fetch under way ends; nil: there is none
	failure error         // of the last fetch
}

// snapshot is what a fetch found.
type snapshot struct {
	keys      keySet
	from      string // the URL
	etag      string
	fetchedAt time.Time // when the fetch began
}

func newRemoteKeys(c *config) *remoteKeys {
	ctx, stop := context.WithCancel(context.Background())
	r := &remoteKeys{
		keysURL: c.keysURL, discoveryURL: c.discoveryURL, client: c.client,
		refresh: c.refresh, floor: c.floor, maxAge: c.maxKeyAge, log: c.log,
		wake: make(chan struct{}, 1), loaded: make(chan struct{}), closed: make(chan struct{}), stop: stop,
	}
	r.running.Go(func() { r.run(ctx) })
	return r
}

func (r *remoteKeys) close() {
	r.stop()
	r.running.Wait()
}

func (r *remoteKeys) find(ctx context.Context, id string) (publicKey, error) {
	if keys, ok := r.fresh(); ok {
		if key, ok := keys[id]; ok {
			return key, nil
		}
	}
	waited := r.wait(ctx, r.order(time.Now()))
	keys, ok := r.fresh()
	if key, known := keys[id]; known {
		return key, nil
	}
	if failure := cmp.Or(waited, r.lastFailure()); failure != nil { // the key may be a new one
		return publicKey{}, fmt.Errorf("%w: %w", ErrKeysUnavailable, failure)
	}
	if !ok {
		return publicKey{}, fmt.Errorf("%w: %w", ErrKeysUnavailable, errOutdated)
	}
	return publicKey{}, errUnknownKey
}

// fresh returns the keys unless they are too old.
func (r *remoteKeys) fresh() (keySet, bool) {
	s := r.current.Load()
	if s == nil || time.Since(s.fetchedAt) > r.maxAge {
		return nil, false
	}
	return s.keys, true
}

// order returns what is closed when the fetch ends that is under way, or that it orders;
// nil: the last one is too recent.
func (r *remoteKeys) order(now time.Time) <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.done == nil {
		if !r.started.IsZero() && now.Sub(r.started) < r.floor {
			return nil
		}
		r.begin(now)
		r.wake <- struct{}{} // has room: only who makes done sends
	}
	return r.done
}

// begin notes that a fetch is under way; the lock is held.
func (r *remoteKeys) begin(now time.Time) {
	r.started = now
	r.done = make(chan struct{})
}

func (r *remoteKeys) wait(ctx context.Context, done <-chan struct{}) error {
	if done == nil {
		return nil
	}
	defer r.waiting.Add(-1)
	if r.waiting.Add(1) > maxWaiting {
		return errCrowded
	}
	timer := time.NewTimer(maxWait)
	defer timer.Stop()
	select {
	case <-done:
		return nil
	case <-timer.C:
		return fmt.Errorf("they didn't come within %s", maxWait)
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-r.closed:
		return errClosed
	}
}

var (
	errClosed   = errors.New("the verifier is closed")
	errCrowded  = errors.New("too many requests wait for them")
	errOutdated = errors.New("they were fetched too long ago")
)

func (r *remoteKeys) ready(ctx context.Context) error {
	select {
	case <-r.loaded:
	case <-r.closed:
		return fmt.Errorf("%w: %w", ErrKeysUnavailable, errClosed)
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrKeysUnavailable, cmp.Or(r.lastFailure(), context.Cause(ctx)))
	}
	if _, ok := r.fresh(); !ok {
		return fmt.Errorf("%w: they are too old: %w", ErrKeysUnavailable, cmp.Or(r.lastFailure(), errOutdated))
	}
	return nil
}

// lastFailure is that of the last fetch; nil: it succeeded.
func (r *remoteKeys) lastFailure() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failure
}

// run fetches now, and again in time or when it is woken, until the context ends.
func (r *remoteKeys) run(ctx context.Context) {
	defer close(r.closed)
	for failures := 0; ; {
		maxAge, err := r.fetch(ctx)
		if ctx.Err() != nil {
			return
		}
		if failures++; err == nil {
			failures = 0
		}
		timer := time.NewTimer(r.pause(maxAge, failures, rand.Float64()))
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-r.wake:
		}
		timer.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

// pause is how long to wait before the next fetch: as long as the answer may be kept,
// within bounds, and after failures first the floor and then longer. A random part
// (0 to 1) keeps replicas from asking all at once.
func (r *remoteKeys) pause(maxAge time.Duration, failures int, random float64) time.Duration {
	pause := r.refresh
	switch {
	case failures > 0:
		pause = min(pause, r.floor<<min(failures-1, 4))
		return max(r.floor, pause-time.Duration(random*float64(pause)/2))
	case maxAge >= 0:
		pause = min(pause, max(maxAge, time.Minute))
	}
	return max(r.floor, pause-time.Duration(random*float64(pause)/10))
}

// fetch fetches once, and tells those who wait.
func (r *remoteKeys) fetch(ctx context.Context) (maxAge time.Duration, err error) {
	now := time.Now()
	r.mu.Lock()
	if r.done == nil {
		r.begin(now)
	}
	select {
	case <-r.wake: // this is the fetch that was ordered
	default:
	}
	r.mu.Unlock()
	next, maxAge, err := r.load(ctx, now)
	if err == nil {
		if r.current.Swap(next) == nil {
			close(r.loaded)
		}
	} else if ctx.Err() == nil {
		err = fmt.Errorf("fetching keys: %w", err)
		r.log.WarnContext(ctx, "The keys of the issuer could not be fetched; those fetched before are used until they are too old.", "error", err, "maxKeyAge", r.maxAge)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failure = err
	close(r.done)
	r.done = nil
	return maxAge, err
}

func (r *remoteKeys) load(ctx context.Context, now time.Time) (*snapshot, time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	address := r.keysURL
	if r.discoveryURL != "" {
		var err error
		if address, err = discover(ctx, r.client, r.discoveryURL); err != nil {
			return nil, 0, err
		}
	}
	next := &snapshot{from: address, fetchedAt: now}
	last := r.current.Load()
	etag := ""
	if last != nil && last.from == address {
		etag = last.etag
	}
	d, err := get(ctx, r.client, address, etag)
	if err != nil {
		return nil, 0, err
	}
	next.etag = d.etag
	if d.same {
		next.keys = last.keys
		return next, d.maxAge, nil
	}
	next.keys, err = parseKeySet(d.body)
	return next, d.maxAge, err
}
