package controllers

import (
	"time"

	"golang.org/x/time/rate"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/credential"
)

// flights are the rotations under way: what only this process knows of them. It is
// lost in a crash, and then another secret is made that nobody ever saw either.
type flights struct{ memory[flight] }

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
	key := client.ObjectKeyFromObject(c)
	next, ok := record.Next()
	if !ok {
		f.forget(key)
		return credential.Material{}, 0
	}
	known, _ := f.get(key)
	if known.uid != c.UID {
		known = flight{uid: c.UID}
	}
	if known.seen != next.Version {
		known.seen, known.since = next.Version, now
	}
	f.set(key, known)
	return known.pending, now - known.since
}

// keep remembers the secret of a Next that is about to be recorded.
func (f *flights) keep(c *v1alpha1.M2MClient, pending credential.Material) {
	if pending.Value != "" {
		f.set(client.ObjectKeyFromObject(c), flight{uid: c.UID, pending: pending})
	}
}

// turns spread the rotations that only intervals ask for: thousands may be due at
// once, when an interval is set or after the controller was away.
type turns struct {
	memory[time.Time]
	limiter *rate.Limiter
}

// newTurns returns turns of which so many begin in a second.
func newTurns(perSecond float64) *turns {
	return &turns{limiter: rate.NewLimiter(rate.Limit(perSecond), 1)}
}

// take returns when it is a client's turn.
func (t *turns) take(key client.ObjectKey, now time.Time) time.Time {
	at, ok := t.get(key)
	if !ok {
		at = now.Add(t.limiter.ReserveN(now, 1).DelayFrom(now))
		t.set(key, at)
	}
	return at
}

// pauses says until when clients were paused: servers could report no uses meanwhile.
type pauses struct{ memory[time.Time] }

// note notes whether a client is paused; one that is has no end yet.
func (p *pauses) note(c *v1alpha1.M2MClient, now time.Time) (paused bool) {
	key := client.ObjectKeyFromObject(c)
	if c.Annotations[v1alpha1.AnnotationPause] == "true" {
		p.set(key, time.Time{})
		return true
	}
	if until, ok := p.get(key); ok && until.IsZero() {
		p.set(key, now)
	}
	return false
}

// ended is when a client's last pause ended; zero: this process knows of none.
func (p *pauses) ended(c *v1alpha1.M2MClient) time.Time {
	until, _ := p.get(client.ObjectKeyFromObject(c))
	return until
}
