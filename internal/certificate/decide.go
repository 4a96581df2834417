package certificate

import (
	"io"
	"maps"
	"slices"
	"time"
)

// Input is all that a decision goes by.
type Input struct {
	Now         time.Time
	Authorities []Authority // from the oldest on
	// Shown tells whether the newest authority is in what verifiers read, and Spread whether
	// everybody who was given a copy of that has one with it.
	Shown, Spread bool
	// Renew says that a person asks for another authority.
	Renew   bool
	Names   map[string][]string // DNS names, by the name of the serving certificate
	Serving map[string]Pair     // by the same; one that isn't there is made
}

// Decision is what there has to be.
type Decision struct {
	Authorities []Authority
	Changed     bool            // Authorities aren't those of the input: keep them before all else
	Made        bool            // there is an authority that wasn't there
	Serving     map[string]Pair // to be replaced
	NextAt      time.Time       // when to decide again, at the latest
}

// Decide says what becomes of the authorities, and which serving certificates are made
// anew. An authority signs when it has been published for a day and everybody has it, after a
// week whoever hasn't, or when there is no time left; only the first of all signs at once, as nobody trusts
// anything yet. One that signs no more is trusted until what it signed has ended.
func Decide(in Input, random io.Reader) (Decision, error) {
	d := Decision{Serving: map[string]Pair{}}
	d.Authorities = slices.DeleteFunc(slices.Clone(in.Authorities), func(a Authority) bool { return !a.trusted(in.Now) })
	if err := d.succeed(in, random); err != nil {
		return Decision{}, err
	}
	d.Changed = !slices.EqualFunc(d.Authorities, in.Authorities, same)
	signer := d.Authorities[d.signer()]
	d.NextAt = in.Now.Add(notice)
	for _, name := range slices.Sorted(maps.Keys(in.Names)) {
		at := in.Serving[name].renewAt(in.Now, signer, in.Names[name])
		if !in.Now.Before(at) {
			pair, err := newPair(in.Now, random, signer, in.Names[name])
			if err != nil {
				return Decision{}, err
			}
			d.Serving[name], at = pair, pair.renewAt(in.Now, signer, in.Names[name])
		}
		d.lookAt(at)
	}
	return d, nil
}

// succeed makes authorities, and lets the next one sign when it may.
func (d *Decision) succeed(in Input, random io.Reader) error {
	signer := d.signer()
	if signer < 0 {
		return d.make(in.Now, random)
	}
	left := d.Authorities[signer].Certificate.NotAfter.Sub(in.Now)
	last := len(d.Authorities) - 1
	if last == signer {
		if in.Renew || left < succession {
			return d.make(in.Now, random)
		}
		return nil
	}
	next := &d.Authorities[last]
	if next.Published.IsZero() && in.Shown {
		next.Published = in.Now
	}
	known := time.Duration(0)
	if !next.Published.IsZero() {
		known = in.Now.Sub(next.Published)
	}
	if in.Spread && known >= notice || known >= holdup || left < lastCall {
		d.Authorities[signer].Replaced = in.Now
	}
	return nil
}

func (d *Decision) make(now time.Time, random io.Reader) error {
	a, err := newAuthority(now, random)
	d.Authorities, d.Made = append(d.Authorities, a), true
	return err
}

// signer is the authority that signs: the first that wasn't replaced; -1: there is none.
func (d *Decision) signer() int {
	return slices.IndexFunc(d.Authorities, func(a Authority) bool { return a.Replaced.IsZero() })
}

// lookAt brings the next decision forward.
func (d *Decision) lookAt(at time.Time) {
	if at.Before(d.NextAt) {
		d.NextAt = at
	}
}

func same(a, b Authority) bool {
	return a.is(b) && a.Published.Equal(b.Published) && a.Replaced.Equal(b.Replaced)
}
