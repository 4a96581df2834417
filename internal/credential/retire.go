package credential

import "time"

// Usage is what the token servers report of a client's secrets.
type Usage struct {
	LastUsed map[string]time.Time // by version; a version that isn't here was not reported
	// Covered is up to when every server has reported all uses; zero: not known. An
	// unreported use is not an unused secret.
	Covered time.Time
	// Gap is up to when a server that is gone may have seen uses that it didn't report;
	// zero: there was none.
	Gap time.Time
}

// unusedGrace is how soon a version is looked at again whose servers have not all
// reported.
const unusedGrace = time.Minute

// retired tells whether a replaced version is past its overlap and, where that
// matters, was not used for long enough.
func (p *plan) retired(c Credential) bool {
	if !p.outlives(c) || c.Version == p.in.Secret.Version {
		return false // or it was put back into the Secret, and is used from now on
	}
	covered := p.in.Usage.Covered
	if covered.After(p.in.Now) {
		covered = p.in.Now // a server's clock is ahead
	}
	return p.in.Rotation.RetireFor == 0 || covered.Sub(p.unusedSince(c)) >= p.in.Rotation.RetireFor
}

// outlives tells whether a version is past its overlap.
func (p *plan) outlives(c Credential) bool {
	return c.Role == RolePrevious && !c.RetireAfter.IsZero() && !p.in.Now.Before(c.RetireAfter)
}

// unusedSince is the last instant at which a replaced version may have been used.
// What happened before it was replaced doesn't count.
func (p *plan) unusedSince(c Credential) time.Time {
	since := p.record.RotatedAt
	for _, t := range []time.Time{p.in.Usage.Gap, p.in.Usage.LastUsed[c.Version.String()]} {
		if t.After(since) {
			since = t
		}
	}
	return since
}

// watch says when to look again at a replaced version, and whether it is one that
// outlives its overlap.
func (p *plan) watch(c Credential) {
	if c.Role != RolePrevious || c.RetireAfter.IsZero() {
		return
	}
	if !p.outlives(c) {
		p.wake(c.RetireAfter)
		return
	}
	unused := p.unusedSince(c).Add(p.in.Rotation.RetireFor)
	p.d.Kept = append(p.d.Kept, Kept{Version: c.Version, Reported: p.in.Now.Before(unused)})
	if soonest := p.in.Now.Add(unusedGrace); unused.Before(soonest) {
		unused = soonest
	}
	p.wake(unused)
}
