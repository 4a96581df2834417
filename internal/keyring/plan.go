package keyring

import (
	"io"
	"slices"
	"time"
)

// How keys follow each other.
const (
	// Publication is how long a key is published before it signs: verifiers keep a set
	// of keys for up to an hour.
	Publication = 2 * time.Hour
	// DefaultInterval is how long a key signs where nothing else is said.
	DefaultInterval = 90 * 24 * time.Hour
	// terms is how many keys may follow each other by their interval while the tokens of one
	// may be valid, so that there are never very many.
	terms = 8
	// crowded is how many keys there may be for a rotation on demand.
	crowded = 20
)

// Input is all that a plan depends on.
type Input struct {
	Now       time.Time
	Rand      io.Reader
	Algorithm Algorithm
	Interval  time.Duration // how long a key signs
	Longest   time.Duration // the longest lifetime of tokens that may be signed now
	// Lead is how far ahead the date of a rotation on demand lies at least: all servers
	// must have heard of it.
	Lead     time.Duration
	Triggers []string // texts that ask for a rotation; a new one that isn't empty does
	Revoked  []string // ids of keys that must not be trusted
}

// Plan is what a ring must become.
type Plan struct {
	Ring    Ring
	Changed bool
	Made    []Key    // new ones
	Revoked []string // ids of those that were revoked and are gone
	Dropped []string // ids of those that are no longer published, because their last token has expired
	Asked   bool     // a rotation on demand got its date
	Crowded bool     // a rotation on demand waits, because there are too many keys
	At      time.Time
}

// Plan says what a ring must become: one key signs, the next is published, and those that
// have signed stay until their last token has expired. Dates decide which one signs, so
// servers switch at the same instant. The same inputs give the same plan, and a ring that
// was planned for needs no change until something else does.
func (r Ring) Plan(in Input) (Plan, error) {
	in.Now = second(in.Now)
	p := &planning{Input: in}
	p.Ring = Ring{slices.Clone(r.Keys), r.Triggers}
	p.revoke()
	if err := p.ensureActive(); err != nil {
		return Plan{}, err
	}
	p.lengthen()
	p.drop() // before the next key: what is left says when that one may sign
	if err := p.ensureNext(); err != nil {
		return Plan{}, err
	}
	p.rotateOnDemand()
	p.setAlarm()
	return p.Plan, nil
}

// planning is a plan on its way.
type planning struct {
	Input
	Plan

	lost bool // the active key was revoked, and none follows it
}

// revoke drops keys that must not be trusted. Where the active one is among them, the one
// that follows it signs from now on.
func (p *planning) revoke() {
	active := p.Ring.active(p.Now)
	var kept []Key
	for i, k := range p.Ring.Keys {
		if slices.Contains(p.Input.Revoked, k.ID) {
			p.Plan.Revoked, p.Changed = append(p.Plan.Revoked, k.ID), true
			p.lost = p.lost || i == active
			continue
		}
		if p.lost && i > active {
			k.ActiveFrom, k.Fixed, p.lost = p.Now, true, false
		}
		kept = append(kept, k)
	}
	p.Ring.Keys = kept
}

// ensureActive sees to it that a key of the issuer's algorithm signs.
func (p *planning) ensureActive() error {
	active, ok := p.Ring.Active(p.Now)
	if ok && !p.lost && active.Algorithm == p.Algorithm {
		if k := &p.Ring.Keys[p.Ring.active(p.Now)]; !k.Fixed {
			k.Fixed, p.Changed = true, true
		}
		return nil
	}
	if !ok && len(p.Plan.Revoked) == 0 {
		p.Ring.Triggers, _ = adopt(p.Ring.Triggers, p.Triggers) // those of a first key are only noted
	}
	p.Ring.Keys = slices.DeleteFunc(p.Ring.Keys, func(k Key) bool { return k.ActiveFrom.After(p.Now) })
	return p.add(p.Now, true)
}

// lengthen notes the lifetime of tokens at every key. At the retired ones too: one may have
// signed after the lifetime had changed, while nobody was here to note it, and it may sign
// again where all that follow it are revoked.
func (p *planning) lengthen() {
	for i := range p.Ring.Keys {
		if k := &p.Ring.Keys[i]; k.Longest < p.Longest {
			k.Longest, p.Changed = p.Longest, true
		}
	}
}

// ensureNext sees to it that another key follows, at the date that the interval gives.
func (p *planning) ensureNext() error {
	active := p.Ring.active(p.Now)
	if active == len(p.Ring.Keys)-1 {
		return p.add(p.due(p.Now), false)
	}
	next := &p.Ring.Keys[active+1]
	if next.Fixed {
		return nil
	}
	at, soonest := p.due(next.PublishedAt), p.Now.Add(p.Lead)
	if !next.ActiveFrom.After(soonest) {
		return nil // servers may have begun to sign with it
	}
	if at.Before(soonest) {
		at, next.Fixed = soonest, true // a clock that is set back doesn't move it again
	}
	if !at.Equal(next.ActiveFrom) {
		next.ActiveFrom, p.Changed = at, true
	}
	return nil
}

// due is when the interval asks for the key after the active one, which is published at
// an instant. Keys wait for those before them, whose tokens may have had a longer life.
func (p *planning) due(published time.Time) time.Time {
	active, _ := p.Ring.Active(p.Now)
	interval := p.Interval
	for _, k := range p.Ring.Keys {
		interval = max(interval, k.Longest/terms)
	}
	return later(active.ActiveFrom.Add(interval), published.Add(Publication))
}

// rotateOnDemand fixes the date of the next key where a new text asks for a rotation.
func (p *planning) rotateOnDemand() {
	adopted, asked := adopt(p.Ring.Triggers, p.Triggers)
	switch {
	case !asked:
		return
	case len(p.Ring.Keys) > crowded:
		p.Crowded = true
		return
	}
	p.Ring.Triggers, p.Changed, p.Asked = adopted, true, true
	active := p.Ring.active(p.Now)
	next := &p.Ring.Keys[active+1]
	at := later(p.Now.Add(p.Lead), next.PublishedAt.Add(Publication))
	at = later(at, p.Ring.Keys[active].ActiveFrom) // which a clock that was set back has yet to reach
	if at.Before(next.ActiveFrom) {
		next.ActiveFrom = at
	}
	next.Fixed = true
}

// adopt notes triggers as they are; the last text of each counts that isn't empty.
func adopt(was, now []string) (adopted []string, asked bool) {
	adopted = make([]string, len(now))
	copy(adopted, was)
	for i, text := range now {
		if text != "" && text != adopted[i] {
			adopted[i], asked = text, true
		}
	}
	return adopted, asked
}

// drop takes out keys that nothing valid was signed with, and the oldest where there would
// be more than can be read again: an issuer that was made again with ever another algorithm.
func (p *planning) drop() {
	active := p.Ring.active(p.Now)
	var kept []Key
	for i, k := range p.Ring.Keys {
		until, _ := p.Ring.PublishedUntil(i)
		full := len(p.Ring.Keys)-i >= maxKeys // the next one needs a place
		if i < active && (full || !p.Now.Before(until)) {
			p.Dropped, p.Changed = append(p.Dropped, k.ID), true
			continue
		}
		kept = append(kept, k)
	}
	p.Ring.Keys = kept
}

// setAlarm says when to plan again: when the next key signs, or the last token of one expires.
func (p *planning) setAlarm() {
	active := p.Ring.active(p.Now)
	p.At = p.Ring.Keys[active+1].ActiveFrom
	for i := range active {
		if until, _ := p.Ring.PublishedUntil(i); until.Before(p.At) {
			p.At = until
		}
	}
}

func (p *planning) add(activeFrom time.Time, fixed bool) error {
	k, err := Generate(p.Rand, p.Algorithm, activeFrom)
	if err != nil {
		return err
	}
	k.PublishedAt, k.Longest, k.Fixed = p.Now, p.Longest, fixed
	p.Ring.Keys = append(p.Ring.Keys, k)
	p.Made, p.Changed = append(p.Made, k), true
	return nil
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func second(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }
