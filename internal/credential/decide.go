package credential

import (
	"fmt"
	"io"
	"slices"
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
}

// Input is all that a decision depends on.
type Input struct {
	Now     time.Time
	Rand    io.Reader
	Pepper  *Pepper
	UID     string
	Live    bool // the issuer's environment: shows in new client ids
	Overlap time.Duration
	Record  Record
	Secret  ObservedSecret
}

// Problem is why nothing can be decided.
type Problem string

const (
	// ProblemNone: the decision stands.
	ProblemNone Problem = ""
	// ProblemSecretForeign: the Secret's name is taken.
	ProblemSecretForeign Problem = "SecretForeign"
	// ProblemPepperKeyUnknown: hashes or seals name a pepper key that isn't there.
	ProblemPepperKeyUnknown Problem = "PepperKeyUnknown"
	// ProblemTooManyVersions: MaxVersions secrets are valid; a new one must wait.
	ProblemTooManyVersions Problem = "TooManyVersions"
)

// Cause is why a credential changes: what an event reports.
type Cause string

const (
	// CauseNone: nothing changes, or an expired version is dropped.
	CauseNone Cause = ""
	// CauseIssued: the first credential.
	CauseIssued Cause = "Issued"
	// CauseRecovered: the record was lost or forged and comes from the sealed Secret.
	CauseRecovered Cause = "Recovered"
	// CauseResumed: the Secret was written before a crash; its record follows.
	CauseResumed Cause = "Resumed"
	// CauseSecretLost: the Secret was deleted.
	CauseSecretLost Cause = "SecretLost"
	// CauseSecretAltered: the secret was edited, or an older one was put back.
	CauseSecretAltered Cause = "SecretAltered"
)

// Material is a secret to deliver.
type Material struct {
	Version Version
	Value   string
}

// Decision is what must hold next: the Secret delivers Material, then the record
// says Record. Where Problem is set, the record stays as it is.
type Decision struct {
	Problem  Problem
	Cause    Cause
	Forged   bool // the record had values, and a seal that didn't hold for them
	New      bool // Material is new: it must be written before the record
	Material Material
	Record   Record
	NextAt   time.Time // when to decide again; zero: when something changes
}

// Decide says what a client's Secret and record must become. It generates a
// secret only where none that was recorded can be delivered, and never on
// evidence that it can't check.
func Decide(in Input) (Decision, error) {
	if in.Secret.State == SecretForeign {
		return problem(in, ProblemSecretForeign), nil
	}
	switch state := in.Pepper.CheckRecord(in.UID, in.Record); {
	case state == SealValid:
		return decideRecorded(in)
	case in.Secret.State == SecretSealed:
		return recoverFromSecret(in, recordSays(in.Record)), nil
	case state == SealUnknownKey || in.Secret.State == SecretUnknownKey:
		return problem(in, ProblemPepperKeyUnknown), nil
	default:
		return issueFirst(in, recordSays(in.Record))
	}
}

// decideRecorded handles a client whose record can be trusted.
func decideRecorded(in Input) (Decision, error) {
	kept := slices.DeleteFunc(slices.Clone(in.Record.Credentials), func(c Credential) bool { return !c.Live(in.Now) })
	current, ok := Record{Credentials: kept}.Current()
	if ok && !in.Pepper.HasKey(current.Hash.KeyID) {
		return problem(in, ProblemPepperKeyUnknown), nil
	}
	s := in.Secret
	if s.State == SecretSealed && s.ClientID == in.Record.ClientID {
		digests := in.Pepper.Digests(s.ClientID, s.Value)
		switch {
		case ok && s.Version == current.Version && digests.Matches(&current.Hash):
			return settle(in, kept, Decision{Material: Material{s.Version, s.Value}}), nil
		case !ok || s.Version.Number > current.Version.Number:
			d := Decision{Cause: CauseResumed, Material: Material{s.Version, s.Value}}
			return promote(in, kept, d), nil
		}
	}
	if s.State == SecretUnknownKey {
		return problem(in, ProblemPepperKeyUnknown), nil
	}
	return replace(in, kept)
}

// replace makes a new version where the current one can't be delivered any more.
func replace(in Input, kept []Credential) (Decision, error) {
	if len(kept) >= MaxVersions {
		d := problem(in, ProblemTooManyVersions)
		d.NextAt = earliest(kept)
		return d, nil
	}
	value, err := newSecret(in.Rand)
	if err != nil {
		return Decision{}, err
	}
	number := 1
	for _, c := range in.Record.Credentials {
		number = max(number, c.Version.Number+1)
	}
	d := Decision{Cause: CauseSecretAltered, New: true, Material: Material{versionOf(number, value), value}}
	if in.Secret.State == SecretAbsent {
		d.Cause = CauseSecretLost
	}
	return promote(in, kept, d), nil
}

// promote makes the delivered material current; what was current stays valid for
// the overlap, because running pods hold it.
func promote(in Input, kept []Credential, d Decision) Decision {
	credentials := []Credential{newCurrent(in, in.Record.ClientID, d.Material)}
	for _, c := range kept {
		if c.Role == RoleCurrent {
			c.Role = RolePrevious
			c.NotAfter = second(in.Now.Add(in.Overlap))
		}
		credentials = append(credentials, c)
	}
	if len(credentials) > MaxVersions {
		credentials = credentials[:MaxVersions]
	}
	return settle(in, credentials, d)
}

// recoverFromSecret rebuilds a lost record. Earlier versions are lost with it.
func recoverFromSecret(in Input, forged bool) Decision {
	d := Decision{Cause: CauseRecovered, Forged: forged, Material: Material{in.Secret.Version, in.Secret.Value}}
	in.Record = Record{ClientID: in.Secret.ClientID}
	return settle(in, []Credential{newCurrent(in, in.Secret.ClientID, d.Material)}, d)
}

// issueFirst gives a client its identity and its first secret.
func issueFirst(in Input, forged bool) (Decision, error) {
	id, err := newClientID(in.Rand, in.Live)
	if err != nil {
		return Decision{}, err
	}
	value, err := newSecret(in.Rand)
	if err != nil {
		return Decision{}, err
	}
	d := Decision{Cause: CauseIssued, Forged: forged, New: true, Material: Material{versionOf(1, value), value}}
	in.Record = Record{ClientID: id}
	return settle(in, []Credential{newCurrent(in, id, d.Material)}, d), nil
}

// settle seals the record that a decision leads to.
func settle(in Input, credentials []Credential, d Decision) Decision {
	d.NextAt = earliest(credentials)
	if d.Cause == CauseNone && len(credentials) == len(in.Record.Credentials) {
		d.Record = in.Record
		return d
	}
	d.Record = Record{
		ClientID:    in.Record.ClientID,
		Credentials: credentials,
		Seal:        in.Pepper.SealRecord(in.UID, in.Record.ClientID, credentials),
	}
	return d
}

func problem(in Input, p Problem) Decision {
	return Decision{Problem: p, Record: in.Record}
}

func newCurrent(in Input, clientID string, m Material) Credential {
	return Credential{
		Version:   m.Version,
		Role:      RoleCurrent,
		Hash:      in.Pepper.Hash(clientID, m.Value),
		CreatedAt: second(in.Now),
	}
}

// earliest is when the first of the credentials ends; zero: none does.
func earliest(credentials []Credential) time.Time {
	var at time.Time
	for _, c := range credentials {
		if !c.NotAfter.IsZero() && (at.IsZero() || c.NotAfter.Before(at)) {
			at = c.NotAfter
		}
	}
	return at
}

// recordSays tells whether a record whose seal didn't hold had anything to forge.
func recordSays(r Record) bool {
	return r.ClientID != "" || len(r.Credentials) > 0 || r.Seal != ""
}

func second(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }

// String describes a decision without its secret, so that one can be printed.
func (d Decision) String() string {
	return fmt.Sprintf("%s%s %s", d.Problem, d.Cause, d.Material.Version)
}

// String keeps the secret out of anything that prints a Material.
func (m Material) String() string { return m.Version.String() }

// String keeps the secret out of anything that prints an ObservedSecret.
func (s ObservedSecret) String() string { return s.Version.String() }
