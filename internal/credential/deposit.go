package credential

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"
)

// Deposit is what the management API leaves with a client that it made: an id, and
// what its secrets are checked with. It is the API's journal, as the record is the
// controller's, who copies one into the other. So it can be written with the client
// itself, and a backup of manifests holds it.
type Deposit struct {
	ClientID string
	// Sequence grows with each state of the deposit. An older state that is put back is
	// no deposit: the record knows how far it was.
	Sequence    int64
	Credentials []Credential // Next, if a rotation has begun, and Current
	Seal        string
}

// Place is where a client's resource is.
type Place struct{ Namespace, Name string }

// ObservedDeposit is a deposit as it was found.
type ObservedDeposit struct {
	State SealState // SealMissing: there is none
	Deposit
}

// CheckDeposit checks a deposit's seal, which binds it to the client's place: its UID
// isn't known when it is written, and changes when a backup is restored.
func (p *Pepper) CheckDeposit(at Place, d Deposit) SealState {
	return p.check(d.Seal, func(k *pepperKey) string { return k.sealDeposit(at, d) })
}

func (p *Pepper) sealed(at Place, d Deposit) Deposit {
	d.Seal = p.active.sealDeposit(at, d)
	return d
}

func (k *pepperKey) sealDeposit(at Place, d Deposit) string {
	fields := make([]string, 0, 4+4*len(d.Credentials))
	fields = append(fields, at.Namespace, at.Name, d.ClientID, strconv.FormatInt(d.Sequence, 10))
	for _, c := range d.Credentials {
		fields = append(fields, c.Version.String(), string(c.Role), c.Hash.String(), unix(c.CreatedAt))
	}
	return Hash{KeyID: k.id, Sum: mac(k.depositSeal, fields...)}.String()
}

// NewDeposit makes the deposit of a new client, with the secret that is first given, or
// else one that it makes. The secret is returned to be shown once.
func NewDeposit(now time.Time, rand io.Reader, pepper *Pepper, at Place, first First) (Deposit, Material, error) {
	m := Material{versionOf(1, first.Secret), first.Secret}
	if first.Secret == "" {
		var err error
		if m, err = newMaterial(rand, 1); err != nil {
			return Deposit{}, Material{}, err
		}
	}
	d := Deposit{ClientID: first.ClientID, Sequence: 1}
	d.Credentials = []Credential{d.credential(now, pepper, RoleCurrent, m)}
	return pepper.sealed(at, d), m, nil
}

func newMaterial(rand io.Reader, number int) (Material, error) {
	value, err := newSecret(rand)
	return Material{versionOf(number, value), value}, err
}

func (d Deposit) credential(now time.Time, pepper *Pepper, role Role, m Material) Credential {
	return Credential{Version: m.Version, Role: role, Hash: pepper.Hash(d.ClientID, m.Value), CreatedAt: second(now)}
}

// Latest is the deposit that a client's next one follows: what was found, or, where
// that was lost or an older one put back, what the record says. The record's seal is
// checked by the caller.
func (o ObservedDeposit) Latest(r Record) Deposit {
	if o.State == SealValid && o.Sequence >= r.Sequence && (r.ClientID == "" || r.ClientID == o.ClientID) {
		return o.Deposit
	}
	return Deposit{ClientID: r.ClientID, Sequence: r.Sequence, Credentials: r.Credentials}
}

// NotRotatingError says that a rotation can't go on, because none has begun.
type NotRotatingError struct{}

func (NotRotatingError) Error() string { return "no rotation has begun" }

// RotatingError says that a rotation can't begin, because one has.
type RotatingError struct{ Next Version }

func (e RotatingError) Error() string { return "a rotation has begun with version " + e.Next.String() }

// StartRotation adds a second secret, which is valid beside the current one. lastNumber
// is the highest number that a version ever had.
func (d Deposit) StartRotation(now time.Time, rand io.Reader, pepper *Pepper, at Place, lastNumber int) (Deposit, Material, error) {
	if next, ok := d.with(RoleNext); ok {
		return Deposit{}, Material{}, RotatingError{next.Version}
	}
	for _, c := range d.Credentials {
		lastNumber = max(lastNumber, c.Version.Number)
	}
	m, err := newMaterial(rand, lastNumber+1)
	if err != nil {
		return Deposit{}, Material{}, err
	}
	return d.followedBy(pepper, at, append([]Credential{d.credential(now, pepper, RoleNext, m)}, d.Credentials...)), m, nil
}

// Rotate makes the second secret the only one: the one before ends at once.
func (d Deposit) Rotate(pepper *Pepper, at Place) (Deposit, error) {
	next, ok := d.with(RoleNext)
	if !ok {
		return Deposit{}, NotRotatingError{}
	}
	next.Role = RoleCurrent
	return d.followedBy(pepper, at, []Credential{next}), nil
}

// CancelRotation ends the second secret at once.
func (d Deposit) CancelRotation(pepper *Pepper, at Place) (Deposit, error) {
	if _, ok := d.with(RoleNext); !ok {
		return Deposit{}, NotRotatingError{}
	}
	kept := slices.DeleteFunc(slices.Clone(d.Credentials), func(c Credential) bool { return c.Role == RoleNext })
	return d.followedBy(pepper, at, kept), nil
}

// followedBy returns the next state of the deposit.
func (d Deposit) followedBy(pepper *Pepper, at Place, credentials []Credential) Deposit {
	return pepper.sealed(at, Deposit{ClientID: d.ClientID, Sequence: d.Sequence + 1, Credentials: credentials})
}

func (d Deposit) with(role Role) (Credential, bool) {
	return Record{Credentials: d.Credentials}.with(role)
}

// String keeps hashes and the seal out of anything that prints a deposit.
func (d Deposit) String() string { return fmt.Sprintf("%s, state %d", d.ClientID, d.Sequence) }
