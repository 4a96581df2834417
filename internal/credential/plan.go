package credential

import (
	"hash/fnv"
	"slices"
	"strconv"
	"time"
)

// Rotation is what a manifest says of the rotation of a client's secret, with
// defaults filled in.
type Rotation struct {
	Paused          bool // the client is inactive: no rotation begins or goes on
	Staged          bool
	Promote, Cancel string   // the version that a staged rotation is to promote, or to drop
	Revoke          []string // versions
	Interval        time.Duration
	Overlap         time.Duration
	RetireFor       time.Duration // how long a replaced version must be unused; 0: it ends with the overlap
	Deadline        time.Duration // when a replaced version ends, used or not
	Propagation     time.Duration // how long a version is valid before it is visible
}

// ClockTolerance is added to each overlap: clocks of replicas differ, and are set.
const ClockTolerance = 5 * time.Minute

// forgotten is how many propagation delays a Next is waited for whose secret this
// process doesn't know: another may be about to deliver it. Then the process that
// made it has crashed, and nobody ever saw it.
const forgotten = 5

// plan is a record on its way to what it must become.
type plan struct {
	in             Input
	record         Record
	credentials    []Credential // the newest first
	changed        bool
	currentRevoked bool
	d              Decision
}

func newPlan(in Input) *plan {
	p := &plan{in: in, record: in.Record, credentials: slices.Clone(in.Record.Credentials)}
	p.cutOff()
	return p
}

// cutOff notes a cut-off of tokens that has come. It is never taken back: tokens that
// it cut off stay so.
func (p *plan) cutOff() {
	switch at := second(p.in.NotBefore); {
	case p.in.NotBefore.IsZero() || !at.After(p.record.NotBefore):
	case p.in.Now.Before(at):
		p.wake(at)
	default:
		p.record.NotBefore, p.changed = at, true
	}
}

// prune drops the versions that have ended, are retired or revoked.
func (p *plan) prune() *plan {
	p.credentials = slices.DeleteFunc(p.credentials, func(c Credential) bool {
		switch {
		case p.isRevoked(c.Version):
			p.d.Revoked = append(p.d.Revoked, c.Version)
			p.currentRevoked = p.currentRevoked || c.Role == RoleCurrent
		case !c.Live(p.in.Now):
		case p.retired(c):
			p.d.Retired = append(p.d.Retired, c.Version)
		default:
			return false
		}
		p.changed = true
		return true
	})
	if p.changed {
		p.undeliverable()
	}
	return p
}

// undeliverable notes the record as it is so far, for the case that the Secret can't
// be written: what was revoked ends all the same.
func (p *plan) undeliverable() {
	record := p.sealed()
	p.d.Undeliverable = &record
}

func (p *plan) isRevoked(v Version) bool { return slices.Contains(p.in.Rotation.Revoke, v.String()) }

func (p *plan) with(role Role) (Credential, bool) {
	return Record{Credentials: p.credentials}.with(role)
}

// held returns the valid version whose secret is delivered.
func (p *plan) held(m Material) (Credential, bool) {
	digests := p.in.Pepper.Digests(p.record.ClientID, m.Value)
	for _, c := range p.credentials {
		if c.Version == m.Version && digests.Matches(&c.Hash) {
			return c, true
		}
	}
	return Credential{}, false
}

// rotate goes on with the rotation of a client whose Secret delivers a valid
// secret; with altered that is an older one, to be replaced by a new version.
func (p *plan) rotate(delivered Material, altered bool) (Decision, error) {
	p.d.Material = delivered
	next, ok := p.with(RoleNext)
	if !ok {
		return p.begin(altered)
	}
	rotation := &p.in.Rotation
	m, known := p.known(next)
	visible := known && m == p.in.Secret.Next
	switch {
	case rotation.Cancel == next.Version.String():
		p.drop(next.Version)
		p.record.CancelledAt, p.d.Cause = second(p.in.Now), CauseCancelled
	case rotation.Paused:
		if visible {
			p.d.Next = m
		}
	case !known && p.in.NextSeen < forgotten*rotation.Propagation:
		p.rotating(forgotten * rotation.Propagation)
	case !known && p.maybeSeen(next) && len(p.credentials) >= MaxVersions:
		p.d.Phase = PhaseFull
	case !known:
		p.abandon(next.Version, p.maybeSeen(next))
		return p.start(CauseNone)
	case !visible && p.in.NextSeen < rotation.Propagation:
		p.rotating(rotation.Propagation)
	case p.promotes(next):
		return p.promote(m, CauseRotated), nil
	default:
		p.stage(m, visible)
	}
	return p.settle(), nil
}

// promotes tells whether a Next is to be current as soon as it can be.
func (p *plan) promotes(next Credential) bool {
	return !p.in.Rotation.Staged || p.in.Rotation.Promote == next.Version.String()
}

// known returns the secret of a version, if it is in memory or in the Secret.
func (p *plan) known(next Credential) (Material, bool) {
	for _, m := range []Material{p.in.Secret.Next, p.in.Pending} {
		if m.Value == "" || m.Version != next.Version {
			continue
		}
		if c, ok := p.held(m); ok && c.Role == RoleNext {
			return m, true
		}
	}
	return Material{}, false
}

// maybeSeen tells whether pods may hold the secret of a Next that isn't known any more: it
// is delivered, with a seal that doesn't hold; or it may have been in a Secret that was
// lost, as a later version replaced what was current before.
func (p *plan) maybeSeen(next Credential) bool {
	current, _ := p.with(RoleCurrent)
	return p.in.Secret.Next.Version == next.Version || current.Version.Number > next.Version.Number
}

func (p *plan) rotating(until time.Duration) {
	p.d.Phase, p.d.NextAt = PhaseRotating, p.in.Now.Add(until-p.in.NextSeen)
}

// stage delivers a version beside the current one. What asks for another rotation
// meanwhile has what it asks for.
func (p *plan) stage(m Material, visible bool) {
	p.d.Next, p.d.Phase = m, PhaseStaged
	if !visible {
		p.d.Cause, p.d.Delivers = CauseStaged, true
	}
	p.adoptTriggers()
}

func (p *plan) adoptTriggers() {
	if p.record.Triggers.asks(p.in.Triggers) {
		p.record.Triggers, p.changed = p.record.Triggers.adopt(p.in.Triggers), true
	}
}

// begin starts a rotation if one is due.
func (p *plan) begin(altered bool) (Decision, error) {
	scheduled := p.in.Rotation.Interval > 0 && !p.in.Held && !p.in.Now.Before(p.nextRotation())
	asked := p.record.Triggers.asks(p.in.Triggers)
	switch {
	case !altered && (p.in.Rotation.Paused || !asked && !scheduled):
		return p.settle(), nil
	case len(p.credentials) >= MaxVersions:
		p.d.Phase = PhaseFull
		return p.settle(), nil
	}
	if at := p.pause(); altered && p.in.Now.Before(at) {
		p.d.Phase = PhaseLostAgain
		p.wake(at)
		return p.settle(), nil
	}
	p.d.Scheduled = !asked && !altered
	cause := CauseNone
	if altered {
		cause = CauseSecretAltered
	}
	return p.start(cause)
}

// start records a new version as Next: servers accept it from here.
func (p *plan) start(cause Cause) (Decision, error) {
	m, err := p.generate()
	if err != nil {
		return Decision{}, err
	}
	p.d.Pending, p.d.Cause = m, cause
	p.d.Phase, p.d.NextAt = PhaseRotating, p.in.Now.Add(p.in.Rotation.Propagation)
	p.credentials = append([]Credential{p.newCredential(RoleNext, m)}, p.credentials...)
	p.changed = true
	p.adoptTriggers()
	return p.settle(), nil
}

// replace delivers another secret at once, because what the Secret holds doesn't
// authenticate: it was deleted, edited or revoked.
func (p *plan) replace() (Decision, error) {
	cause := CauseSecretAltered
	switch {
	case p.currentRevoked:
		cause = CauseRevoked
	case p.in.Secret.State == SecretAbsent:
		cause = CauseSecretLost
	}
	if next, ok := p.with(RoleNext); ok && p.promotes(next) {
		if m, known := p.known(next); known {
			return p.promote(m, cause), nil
		}
		p.abandon(next.Version, true)
	}
	if at := p.pause(); !p.currentRevoked && p.in.Now.Before(at) {
		p.wake(at)
		return p.block(ProblemLostAgain), nil
	}
	if len(p.credentials) >= MaxVersions && !p.makeRoom() {
		return p.block(ProblemTooManyVersions), nil
	}
	m, err := p.generate()
	if err != nil {
		return Decision{}, err
	}
	return p.promote(m, cause), nil
}

// resume records a secret that replaced a lost one before a crash. What was to be next then
// may have been in the Secret that was lost, and running pods may hold it.
func (p *plan) resume(delivered Material) Decision {
	if next, ok := p.with(RoleNext); ok && p.promotes(next) && next.Version != p.in.Secret.Next.Version {
		p.abandon(next.Version, true)
	}
	return p.promote(delivered, CauseResumed)
}

// promote makes the delivered version current; what was current stays valid for the
// overlap, because running pods hold it.
func (p *plan) promote(m Material, cause Cause) Decision {
	promoted := p.newCredential(RoleCurrent, m)
	if next, ok := p.held(m); ok {
		promoted.CreatedAt = next.CreatedAt
		p.drop(m.Version)
	}
	credentials := []Credential{promoted}
	for _, c := range p.credentials {
		if c.Role == RoleCurrent {
			c = p.previous(c)
		}
		credentials = append(credentials, c)
	}
	p.credentials = credentials[:min(len(credentials), MaxVersions)]
	p.record.LastNumber = max(p.record.LastNumber, m.Version.Number)
	p.record.RotatedAt = second(p.in.Now)
	p.changed, p.d.Cause, p.d.Phase = true, cause, PhaseSettled
	p.d.Material, p.d.Delivers = m, m != Material{p.in.Secret.Version, p.in.Secret.Value}
	if p.in.Rotation.Staged && p.in.Secret.Next != m {
		p.d.Next = p.in.Secret.Next // a staged version outlives what replaced a lost Secret
		if _, ok := p.held(p.d.Next); !ok {
			p.d.Next = Material{}
		}
	}
	return p.settle()
}

// previous gives a version that is replaced now its end.
func (p *plan) previous(c Credential) Credential {
	overlap := second(p.in.Now.Add(p.in.Rotation.Overlap + ClockTolerance))
	c.Role, c.NotAfter = RolePrevious, overlap
	if p.in.Rotation.RetireFor > 0 {
		c.RetireAfter = overlap
		c.NotAfter = second(p.in.Now.Add(max(p.in.Rotation.Deadline, p.in.Rotation.Overlap) + ClockTolerance))
	}
	return c
}

// abandon gives up a Next whose secret is not known any more. Where it may have been
// delivered before that, it stays valid for the overlap.
func (p *plan) abandon(v Version, seen bool) {
	if !seen {
		p.drop(v)
		return
	}
	for i, c := range p.credentials {
		if c.Version == v {
			p.credentials[i] = p.previous(c)
		}
	}
	p.changed = true
}

// follow takes over what the management API has changed since the record was written.
func (p *plan) follow(deposited bool) {
	in, known := p.in.Deposit, p.record.Sequence
	switch {
	case in.State == SealMissing:
		p.d.Refused = known > 0 // it was taken away
	case !deposited || in.ClientID != p.record.ClientID || in.Sequence < known:
		p.d.Refused = true
	case in.Sequence > known:
		p.take(in.Deposit)
	}
}

func (p *plan) take(d Deposit) {
	before, _ := p.with(RoleCurrent)
	p.credentials, p.record.ClientID, p.record.Sequence = slices.Clone(d.Credentials), d.ClientID, d.Sequence
	for _, c := range d.Credentials {
		p.record.LastNumber = max(p.record.LastNumber, c.Version.Number)
	}
	if now, _ := p.with(RoleCurrent); before.Version.Number > 0 && now.Version != before.Version {
		p.record.RotatedAt = second(p.in.Now)
	}
	p.changed, p.d.Cause = true, CauseDeposited
}

// since notes that the client has its id from now on, where another may have had it
// before: an id that was chosen, imported or restored. Tokens of then are not its own.
func (p *plan) since() {
	if p.in.First.ClientID != "" || p.in.Secret.Adopted || !IsClientID(p.record.ClientID) {
		p.record.Since = second(p.in.Now)
	}
}

func (p *plan) drop(v Version) {
	p.credentials = slices.DeleteFunc(p.credentials, func(c Credential) bool { return c.Version == v })
	p.changed = true
}

func (p *plan) generate() (Material, error) {
	value, err := newSecret(p.in.Rand)
	if err != nil {
		return Material{}, err
	}
	p.record.LastNumber++
	p.d.Generated = true
	return Material{versionOf(p.record.LastNumber, value), value}, nil
}

func (p *plan) newCredential(role Role, m Material) Credential {
	return Credential{
		Version:   m.Version,
		Role:      role,
		Hash:      p.in.Pepper.Hash(p.record.ClientID, m.Value),
		CreatedAt: second(p.in.Now),
	}
}

// block leaves the Secret alone. What ended or was revoked is no longer valid all the same.
func (p *plan) block(problem Problem) Decision {
	p.d.Problem = problem
	return p.settle()
}

// settle seals the record, and says when to look again.
func (p *plan) settle() Decision {
	p.d.Record, p.d.Changed = p.in.Record, p.changed
	if p.changed {
		p.rehash()
		p.d.Record = p.sealed()
	}
	if p.in.Rotation.Interval > 0 {
		if p.d.NextRotation = p.nextRotation(); !p.in.Rotation.Paused && p.d.Phase == PhaseSettled {
			p.wake(p.d.NextRotation)
		}
	}
	for _, c := range p.credentials {
		p.wake(c.NotAfter)
		p.watch(c)
	}
	return p.d
}

func (p *plan) sealed() Record {
	r := p.record
	r.Credentials = slices.Clone(p.credentials)
	r.Seal = p.in.Pepper.SealRecord(p.in.UID, r)
	return r
}

// rehash moves the hashes of secrets that are at hand to the active pepper key.
func (p *plan) rehash() {
	for i := range p.credentials {
		c := &p.credentials[i]
		for _, m := range []Material{p.d.Material, p.d.Next} {
			if m.Value != "" && c.Version == m.Version && c.Hash.KeyID != p.in.Pepper.ActiveKeyID() {
				c.Hash = p.in.Pepper.Hash(p.record.ClientID, m.Value)
			}
		}
	}
}

// wake asks to decide again at an instant, if it comes before the others.
func (p *plan) wake(at time.Time) {
	if !at.IsZero() && (p.d.NextAt.IsZero() || at.Before(p.d.NextAt)) {
		p.d.NextAt = at
	}
}

// nextRotation is when the interval asks for the next rotation: up to a tenth
// earlier, by the client and by what it counts from.
func (p *plan) nextRotation() time.Time {
	base := p.record.RotatedAt
	if current, ok := p.with(RoleCurrent); ok && base.IsZero() {
		base = current.CreatedAt
	}
	if p.record.CancelledAt.After(base) {
		base = p.record.CancelledAt
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(p.in.UID + strconv.FormatInt(base.Unix(), 10)))
	fraction := float64(h.Sum64()>>11) / (1 << 53)
	return second(base.Add(p.in.Rotation.Interval - time.Duration(fraction*float64(p.in.Rotation.Interval/10))))
}
