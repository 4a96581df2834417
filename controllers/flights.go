package controllers

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/credential"
)

// flights are the rotations under way: what only this process knows of them. It is
// lost in a crash, and then another secret is made that nobody ever saw either.
type flights struct {
	mu sync.Mutex
	of map[client.ObjectKey]*flight
}

// flight is one client's rotation.
type flight struct {
	uid     types.UID
	pending credential.Material // the Next, if this process made it
	seen    credential.Version  // the Next that was seen in the status
	since   time.Duration       // when it was seen first
}

// observe notes the Next that a client's status names, and returns its secret if it
// is known and how long the process has seen it.
func (f *flights) observe(c *v1alpha1.M2MClient, record credential.Record, now time.Duration) (pending credential.Material, seen time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := client.ObjectKeyFromObject(c)
	next, ok := record.Next()
	if !ok {
		delete(f.of, key)
		return credential.Material{}, 0
	}
	flown := f.flight(c)
	if flown.seen != next.Version {
		flown.seen, flown.since = next.Version, now
	}
	return flown.pending, now - flown.since
}

// keep remembers the secret of a Next that is about to be recorded.
func (f *flights) keep(c *v1alpha1.M2MClient, pending credential.Material) {
	if pending.Value == "" {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	*f.flight(c) = flight{uid: c.UID, pending: pending}
}

func (f *flights) flight(c *v1alpha1.M2MClient) *flight {
	key := client.ObjectKeyFromObject(c)
	if known, ok := f.of[key]; ok && known.uid == c.UID {
		return known
	}
	if f.of == nil {
		f.of = map[client.ObjectKey]*flight{}
	}
	f.of[key] = &flight{uid: c.UID}
	return f.of[key]
}

func (f *flights) forget(key client.ObjectKey) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.of, key)
}

// turns spread the rotations that only intervals ask for: thousands may be due at
// once, when an interval is set or after the controller was away.
type turns struct {
	mu      sync.Mutex
	limiter *rate.Limiter
	at      map[client.ObjectKey]time.Time
}

// newTurns returns turns of which so many begin in a second.
func newTurns(perSecond float64) *turns {
	return &turns{limiter: rate.NewLimiter(rate.Limit(perSecond), 1), at: map[client.ObjectKey]time.Time{}}
}

// take returns when it is a client's turn.
func (t *turns) take(key client.ObjectKey, now time.Time) time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	if at, ok := t.at[key]; ok {
		return at
	}
	t.at[key] = now.Add(t.limiter.ReserveN(now, 1).DelayFrom(now))
	return t.at[key]
}

func (t *turns) forget(key client.ObjectKey) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.at, key)
}

// pauses says until when clients were paused: servers could report no uses meanwhile.
type pauses struct {
	mu    sync.Mutex
	until map[client.ObjectKey]time.Time // zero: it is paused now
}

func (p *pauses) note(c *v1alpha1.M2MClient) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.until == nil {
		p.until = map[client.ObjectKey]time.Time{}
	}
	p.until[client.ObjectKeyFromObject(c)] = time.Time{}
}

// end notes that a client isn't paused any more.
func (p *pauses) end(c *v1alpha1.M2MClient, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := client.ObjectKeyFromObject(c)
	if until, ok := p.until[key]; ok && until.IsZero() {
		p.until[key] = now
	}
}

func (p *pauses) of(c *v1alpha1.M2MClient) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.until[client.ObjectKeyFromObject(c)]
}

func (p *pauses) forget(key client.ObjectKey) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.until, key)
}
