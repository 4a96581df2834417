package credential

import (
	"fmt"
	"io"
	"time"
)

// SecretState is what was found where a client's Secret should be.
type SecretState int

const (
	// SecretAbsent means that no Secret has the name.
	SecretAbsent SecretState = iota
	// SecretSealed means that the Secret is the client's own and its seal holds.
	SecretSealed
	// SecretAltered means that the Secret is the client's own, but its secret was
	// removed or edited.
	SecretAltered
	// SecretUnknownKey means that the Secret is the client's own, but its seal
	// names a pepper key that isn't there.
	SecretUnknownKey
	// SecretForeign means that the Secret belongs to somebody else.
	SecretForeign
)

// ObservedSecret is a Secret as it was found: the journal of plaintext.
// ClientID, Version and Value are set when State is SecretSealed.
type ObservedSecret struct {
	State    SecretState
	ClientID string
	Version  Version
	Value    string
	Next     Material // delivered beside it; its value is set where its seal holds
	Adopted  bool     // it was sealed for an earlier client, and opted in to this one
}

// First is what a client's first credential is to be; what is empty is made.
type First struct{ ClientID, Secret string }

// Input is all that a decision depends on.
type Input struct {
	Now      time.Time
	Rand     io.Reader
	Pepper   *Pepper
	UID      string
	Live     bool // the issuer's environment: shows in new client ids
	First    First
	NoSecret bool // the client has no secret: its record is its id
	// NotBefore is when the client's tokens are cut off; zero: they aren't.
	NotBefore time.Time
	Rotation  Rotation
	Triggers  Triggers // as manifest and annotation have them
	Record    Record
	Deposit   ObservedDeposit // of a client without a Secret
	Secret    ObservedSecret
	Pending   Material // the record's Next, if this process made it
	// NextSeen is how long this process has seen the record's Next in the status: by a
	// clock that can't be set.
	NextSeen time.Duration
	Usage    Usage
	Held     bool // rotations that only the interval asks for wait for their turn
}

// Problem is why a credential can't be delivered.
type Problem string

const (
	// ProblemNone: the decision stands.
	ProblemNone Problem = ""
	// ProblemSecretForeign: the Secret's name is taken.
	ProblemSecretForeign Problem = "SecretForeign"
	// ProblemPepperKeyUnknown: hashes or seals name a pepper key that isn't there.
	ProblemPepperKeyUnknown Problem = "PepperKeyUnknown"
	// ProblemTooManyVersions: MaxVersions secrets are valid; one to replace a lost one
	// must wait.
	ProblemTooManyVersions Problem = "TooManyVersions"
	// ProblemLostAgain: the Secret is lost or edited soon after it was made, again and
	// again; another secret must wait, longer each time.
	ProblemLostAgain Problem = "LostAgain"
	// ProblemDepositRefused: there is a deposit that can't be believed, and no record.
	ProblemDepositRefused Problem = "DepositRefused"
)

// Cause is why a credential changes: what an event reports.
type Cause string

const (
	// CauseNone: nothing changes that people would want to know of.
	CauseNone Cause = ""
	// CauseIssued: the first credential.
	CauseIssued Cause = "Issued"
	// CauseRecovered: the record was lost or forged and comes from the sealed Secret.
	CauseRecovered Cause = "Recovered"
	// CauseRestored: the credential of an earlier client, whose Secret opted in.
	CauseRestored Cause = "Restored"
	// CauseReissued: nothing could be checked any more, and a rotation was asked for.
	CauseReissued Cause = "Reissued"
	// CauseResumed: the Secret was written before a crash; its record follows.
	CauseResumed Cause = "Resumed"
	// CauseSecretLost: the Secret was deleted.
	CauseSecretLost Cause = "SecretLost"
	// CauseSecretAltered: the secret was edited, or an older one was put back.
	CauseSecretAltered Cause = "SecretAltered"
	// CauseRotated: a rotation has ended, and the Secret delivers the new secret.
	CauseRotated Cause = "Rotated"
	// CauseStaged: the next secret is delivered beside the current one.
	CauseStaged Cause = "Staged"
	// CauseCancelled: a staged rotation was cancelled.
	CauseCancelled Cause = "Cancelled"
	// CauseRevoked: the current version was revoked, and another replaces it.
	CauseRevoked Cause = "Revoked"
	// CauseDeposited: the management API made the client, or changed its secrets.
	CauseDeposited Cause = "Deposited"
)

// Phase is where a client is in its rotation.
type Phase string

const (
	// PhaseSettled: no rotation is under way.
	PhaseSettled Phase = ""
	// PhaseRotating: the next version is recorded, and will be delivered.
	PhaseRotating Phase = "Rotating"
	// PhaseStaged: the next version is delivered beside the current one.
	PhaseStaged Phase = "Staged"
	// PhaseFull: a rotation is due, and MaxVersions versions are valid.
	PhaseFull Phase = "Full"
	// PhaseLostAgain: older secrets are put back again and again; another must wait.
	PhaseLostAgain Phase = "LostAgain"
)

// Material is a secret to deliver.
type Material struct {
	Version Version
	Value   string
}

// Decision is what must hold next: the Secret delivers Material, and Next beside it,
// then the record says Record. Where Problem is set the Secret is left alone.
type Decision struct {
	Problem  Problem
	Cause    Cause
	Phase    Phase
	Material Material
	Next     Material // zero: no secret is staged
	Record   Record
	Changed  bool // Record is not what it was
	// Generated and Delivers ask for a look at the API server before anything is
	// written: a new secret was made, or the Secret gets another one.
	Generated bool
	Delivers  bool
	ClaimsID  bool // no seal for this client vouches for the record's client id
	// Refused says that there is a deposit that isn't followed: it was altered, or is an
	// older one that was put back. The record stays as it is.
	Refused   bool
	Scheduled bool     // the interval asks for a rotation that begins now
	Forged    bool     // the record had values, and a seal that didn't hold for them
	Pending   Material // the record's new Next: to be kept in memory
	// Undeliverable is the record where the Secret doesn't take what it should get;
	// nil: the record stays as it is.
	Undeliverable *Record
	Revoked       []Version
	Retired       []Version // replaced versions that nobody uses any more
	Ended         []Version // versions that were soon lost, and made room for another
	Kept          []Kept
	NextRotation  time.Time // by the interval; zero: none
	NextAt        time.Time // when to decide again; zero: when something changes
}

// Kept is a replaced version that outlives its overlap, because it may be in use.
type Kept struct {
	Version  Version
	Reported bool // it was used lately; else not all servers have reported
}

// Decide says what a client's Secret and record must become. It generates a secret
// only where one is asked for or none that was recorded can be delivered, and never
// on evidence that it can't check.
func Decide(in Input) (Decision, error) {
	state := in.Pepper.CheckRecord(in.UID, in.Record)
	switch {
	case in.NoSecret:
		return decideIdentity(in, state)
	case in.Secret.State == SecretForeign && state == SealValid:
		return newPlan(in).prune().block(ProblemSecretForeign), nil
	case in.Secret.State == SecretForeign:
		return problem(in, ProblemSecretForeign), nil
	case state == SealValid:
		return decideRecorded(in)
	case in.Secret.State == SecretSealed:
		return recoverFromSecret(in)
	case state == SealUnknownKey || in.Secret.State == SecretUnknownKey:
		return decideUnchecked(in, state)
	default:
		return issueFirst(in)
	}
}

// decideRecorded handles a client whose record can be trusted.
func decideRecorded(in Input) (Decision, error) {
	p := newPlan(in).prune()
	if current, ok := p.with(RoleCurrent); ok && !in.Pepper.HasKey(current.Hash.KeyID) || in.Secret.State == SecretUnknownKey {
		return p.block(ProblemPepperKeyUnknown), nil
	}
	s := in.Secret
	if s.State != SecretSealed || s.ClientID != in.Record.ClientID {
		return p.replace()
	}
	delivered := Material{s.Version, s.Value}
	switch held, ok := p.held(delivered); {
	case ok && held.Role == RoleCurrent:
		return p.rotate(delivered, false)
	case ok && held.Role == RoleNext: // the Secret was written before a crash
		return p.promote(delivered, CauseRotated), nil
	case ok && !in.Rotation.Paused: // an older version was put back, and still works
		return p.rotate(delivered, true)
	case !ok && s.Version.Number > in.Record.LastNumber && !p.isRevoked(s.Version):
		return p.resume(delivered), nil
	}
	return p.replace()
}

// decideIdentity handles a client that authenticates without a Secret of ours: with
// nothing that is secret, or with what the management API deposited.
func decideIdentity(in Input, state SealState) (Decision, error) {
	deposited := in.Deposit.State == SealValid && (in.First.ClientID == "" || in.First.ClientID == in.Deposit.ClientID)
	switch {
	case state == SealValid:
		p := newPlan(in).prune()
		p.adoptTriggers()
		p.follow(deposited)
		return p.settle(), nil
	case state == SealUnknownKey || in.Deposit.State == SealUnknownKey:
		return decideUnchecked(in, state)
	case deposited:
		forged := recordSays(in.Record)
		in.Record = Record{Triggers: Triggers{}.adopt(in.Triggers)}
		p := newPlan(in)
		p.d.Forged, p.d.ClaimsID = forged, true
		p.take(in.Deposit.Deposit)
		p.since()
		return p.settle(), nil
	case in.Deposit.State != SealMissing:
		return problem(in, ProblemDepositRefused), nil
	default:
		return issueFirst(in)
	}
}

// recoverFromSecret rebuilds a lost record. Earlier versions are lost with it.
func recoverFromSecret(in Input) (Decision, error) {
	forged := recordSays(in.Record)
	last := in.Secret.Version.Number
	if next := in.Secret.Next; next.Value != "" {
		last = max(last, next.Version.Number)
	}
	in.Record = Record{ClientID: in.Secret.ClientID, LastNumber: last, Triggers: in.Triggers}
	p := newPlan(in)
	p.d.Forged, p.changed, p.d.ClaimsID = forged, true, in.Secret.Adopted
	p.since()
	if p.isRevoked(in.Secret.Version) {
		p.d.Revoked, p.currentRevoked = []Version{in.Secret.Version}, true
		p.undeliverable()
		return p.replace()
	}
	p.d.Cause, p.d.Material = CauseRecovered, Material{in.Secret.Version, in.Secret.Value}
	if in.Secret.Adopted {
		p.d.Cause = CauseRestored
	}
	p.credentials = []Credential{p.newCredential(RoleCurrent, p.d.Material)}
	if next := in.Secret.Next; next.Value != "" && !in.Secret.Adopted && !p.isRevoked(next.Version) {
		p.d.Next = next
		p.credentials = append([]Credential{p.newCredential(RoleNext, next)}, p.credentials...)
	}
	return p.settle(), nil
}

// decideUnchecked handles a client whose credential can't be checked any more,
// because the pepper key is gone: nothing is replaced unless a person says so.
func decideUnchecked(in Input, state SealState) (Decision, error) {
	if in.Record.Triggers.asks(in.Triggers) && (state == SealUnknownKey || in.Record.Triggers != Triggers{}) {
		return reissue(in, state)
	}
	d := problem(in, ProblemPepperKeyUnknown)
	if state == SealMissing && in.Record.Triggers.asks(in.Triggers) {
		d.Changed, d.Record.Triggers = true, in.Record.Triggers.adopt(in.Triggers)
	}
	return d, nil
}

// reissue makes a new secret for a client whose record can't be checked. The id is
// kept only on the word of the status, which no tenant writes.
func reissue(in Input, state SealState) (Decision, error) {
	if state != SealUnknownKey {
		return issueFirst(in)
	}
	number := max(in.Record.LastNumber, in.Secret.Version.Number)
	for _, c := range in.Record.Credentials {
		number = max(number, c.Version.Number)
	}
	in.Record = Record{ClientID: in.Record.ClientID, LastNumber: number, Triggers: in.Record.Triggers.adopt(in.Triggers)}
	p := newPlan(in)
	p.d.ClaimsID = true
	p.since()
	if in.NoSecret {
		p.changed, p.d.Cause = true, CauseReissued
		return p.settle(), nil
	}
	m, err := p.generate()
	if err != nil {
		return Decision{}, err
	}
	return p.promote(m, CauseReissued), nil
}

// issueFirst gives a client its identity and its first secret.
func issueFirst(in Input) (Decision, error) {
	forged := recordSays(in.Record)
	in.Record = Record{ClientID: in.First.ClientID, Triggers: Triggers{}.adopt(in.Triggers)}
	p := newPlan(in)
	p.changed, p.d.Forged, p.d.Cause, p.d.ClaimsID = true, forged, CauseIssued, in.First.ClientID != ""
	var err error
	if p.record.ClientID == "" {
		if p.record.ClientID, err = NewClientID(in.Rand, in.Live); err != nil {
			return Decision{}, err
		}
	}
	p.since()
	if in.NoSecret {
		return p.settle(), nil
	}
	p.d.Material = Material{versionOf(1, in.First.Secret), in.First.Secret}
	if in.First.Secret == "" {
		if p.d.Material, err = p.generate(); err != nil {
			return Decision{}, err
		}
	}
	p.d.Generated, p.d.Delivers, p.record.LastNumber = true, true, 1
	p.credentials = []Credential{p.newCredential(RoleCurrent, p.d.Material)}
	return p.settle(), nil
}

func problem(in Input, p Problem) Decision {
	return Decision{Problem: p, Record: in.Record}
}

// recordSays tells whether a record whose seal didn't hold had anything to forge.
func recordSays(r Record) bool {
	return r.ClientID != "" || len(r.Credentials) > 0 || r.Seal != ""
}

// asks tells whether a rotation is asked for: by a new text, not by one that went.
func (t Triggers) asks(now Triggers) bool { return t.adopt(now) != t }

// adopt notes the triggers as they are; the last text counts that isn't empty.
func (t Triggers) adopt(now Triggers) Triggers {
	if now.Spec != "" {
		t.Spec = now.Spec
	}
	if now.Annotation != "" {
		t.Annotation = now.Annotation
	}
	return t
}

func second(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }

// String describes a decision without its secret, so that one can be printed.
func (d Decision) String() string {
	return fmt.Sprintf("%s%s%s %s", d.Problem, d.Cause, d.Phase, d.Material.Version)
}

// String keeps the secret out of anything that prints a Material.
func (m Material) String() string { return m.Version.String() }

// String keeps the secret out of anything that prints an ObservedSecret.
func (s ObservedSecret) String() string { return s.Version.String() }
