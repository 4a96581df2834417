package credential

import (
	"slices"
	"time"
)

// soonLost is how long a version is visible at most that was lost soon after it was
// made: hardly anybody has it.
const soonLost = time.Hour

// longUnused is how long a version that was visible for longer must be known to be
// unused before it may make room for another.
const longUnused = 24 * time.Hour

// pause is until when another secret must wait, because something deletes or overwrites
// the Secret: the more versions were soon lost of late, the longer.
func (p *plan) pause() time.Time {
	current, ok := p.with(RoleCurrent)
	if !ok {
		return time.Time{}
	}
	lost := 0
	for _, c := range p.credentials {
		if c.Role != RoleNext && p.in.Now.Sub(c.CreatedAt) < soonLost && p.visible(c) < soonLost {
			lost++
		}
	}
	if lost < 3 {
		return time.Time{}
	}
	return current.CreatedAt.Add(p.in.Rotation.Propagation << (lost - 1))
}

// makeRoom ends one version so that a lost secret can be replaced, or tells that all
// must stay. One goes that was lost soon after it was made, or that nobody has used for
// long; a use that isn't known counts as one. The one that was visible for longest stays.
func (p *plan) makeRoom() bool {
	var ended *Credential
	longest := p.longestVisible()
	for i := range p.credentials {
		c := &p.credentials[i]
		if c.Role != RoleNext && c.Version != longest && p.mayEnd(*c) && (ended == nil || p.endsBefore(*c, *ended)) {
			ended = c
		}
	}
	if ended == nil {
		return false
	}
	p.d.Ended = append(p.d.Ended, ended.Version)
	p.drop(ended.Version)
	return true
}

// longestVisible is the version that most of what runs has; of several, the first.
func (p *plan) longestVisible() Version {
	var longest Credential
	for _, c := range slices.Backward(p.credentials) {
		if c.Role != RoleNext && (longest.Role == "" || p.visible(c) > p.visible(longest)) {
			longest = c
		}
	}
	return longest.Version
}

func (p *plan) mayEnd(c Credential) bool {
	return p.visible(c) < soonLost || p.unusedFor(c) >= longUnused
}

// endsBefore tells which of two versions makes room: one that nobody used, then the one
// that was visible for less.
func (p *plan) endsBefore(a, b Credential) bool {
	if unused := p.neverUsed(a); unused != p.neverUsed(b) {
		return unused
	}
	return p.visible(a) < p.visible(b)
}

// visible is how long a version was in the Secret, as far as the record tells. When it
// was replaced follows from its end, where the overlap has not changed since; or else
// that was when the next version was made.
func (p *plan) visible(c Credential) time.Duration {
	until := p.in.Now
	for _, later := range p.credentials {
		if later.Role != RoleNext && later.Version.Number > c.Version.Number && later.CreatedAt.Before(until) {
			until = later.CreatedAt
		}
	}
	end := c.NotAfter
	if !c.RetireAfter.IsZero() {
		end = c.RetireAfter
	}
	if replaced := end.Add(-p.in.Rotation.Overlap - ClockTolerance); !end.IsZero() && replaced.After(c.CreatedAt) && replaced.Before(until) {
		until = replaced
	}
	return max(until.Sub(c.CreatedAt), 0)
}

// neverUsed tells whether all servers have reported, and nobody used a version while
// it was visible or since.
func (p *plan) neverUsed(c Credential) bool {
	_, used := p.in.Usage.LastUsed[c.Version.String()]
	return !used && !p.in.Usage.Gap.After(c.CreatedAt) && !p.in.Usage.Covered.Before(c.CreatedAt.Add(p.visible(c)))
}

// unusedFor is for how long nobody has used a version, as far as all servers have
// reported.
func (p *plan) unusedFor(c Credential) time.Duration {
	last := c.CreatedAt.Add(p.visible(c))
	for _, t := range []time.Time{p.in.Usage.Gap, p.in.Usage.LastUsed[c.Version.String()]} {
		if t.After(last) {
			last = t
		}
	}
	return p.in.Usage.Covered.Sub(last)
}
