package credential

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var depositPlace = Place{"m2m-api", "orders"}

// observed is a deposit as the controller finds it.
func observedDeposit(p *Pepper, at Place, d Deposit) ObservedDeposit {
	return ObservedDeposit{State: p.CheckDeposit(at, d), Deposit: d}
}

func newTestDeposit(t *testing.T, pepper *Pepper) (Deposit, Material) {
	t.Helper()
	d, m, err := NewDeposit(start, testRand(3), pepper, depositPlace, First{ClientID: "m2m-client-test-1"})
	if err != nil {
		t.Fatal(err)
	}
	return d, m
}

// depositInput is a client that the management API has just made.
func depositInput(pepper *Pepper, d Deposit) Input {
	in := firstInput(pepper)
	in.NoSecret, in.Deposit = true, observedDeposit(pepper, depositPlace, d)
	return in
}

// A deposit is believed at the place that it was made for, as it was made.
func TestDepositSeal(t *testing.T) {
	pepper := newTestPepper(t, 1)
	d, m := newTestDeposit(t, pepper)
	if digests := pepper.Digests(d.ClientID, m.Value); !digests.Matches(&d.Credentials[0].Hash) || len(m.Value) != secretLength {
		t.Fatal("the secret isn't the one that the deposit has the hash of")
	}
	for name, test := range map[string]struct {
		at     Place
		change func(*Deposit)
		want   SealState
	}{
		"as it is":          {depositPlace, func(*Deposit) {}, SealValid},
		"another name":      {Place{"m2m-api", "billing"}, func(*Deposit) {}, SealBroken},
		"another namespace": {Place{"shop", "orders"}, func(*Deposit) {}, SealBroken},
		"another id":        {depositPlace, func(d *Deposit) { d.ClientID = "admin" }, SealBroken},
		"a later state":     {depositPlace, func(d *Deposit) { d.Sequence++ }, SealBroken},
		"another role":      {depositPlace, func(d *Deposit) { d.Credentials[0].Role = RoleNext }, SealBroken},
		"another hash":      {depositPlace, func(d *Deposit) { d.Credentials[0].Hash.Sum[0] ^= 1 }, SealBroken},
		"fewer secrets":     {depositPlace, func(d *Deposit) { d.Credentials = nil }, SealBroken},
		"no seal":           {depositPlace, func(d *Deposit) { d.Seal = "" }, SealMissing},
		"another pepper":    {depositPlace, func(d *Deposit) { *d = newTestPepper(t, 2).sealed(depositPlace, *d) }, SealUnknownKey},
		"a record's seal": {depositPlace, func(d *Deposit) {
			d.Seal = pepper.SealRecord("m2m-api", Record{ClientID: d.ClientID})
		}, SealBroken},
	} {
		changed := d
		changed.Credentials = slices.Clone(d.Credentials)
		test.change(&changed)
		if got := pepper.CheckDeposit(test.at, changed); got != test.want {
			t.Errorf("%s: %v, not %v", name, got, test.want)
		}
	}
}

// A client that the management API made has what it deposited, whatever becomes of
// annotation and status.
func TestDeposited(t *testing.T) {
	pepper, other := newTestPepper(t, 1), newTestPepper(t, 2)
	first, _ := newTestDeposit(t, pepper)
	in := depositInput(pepper, first)
	made := mustDecide(t, in)
	if made.Cause != CauseDeposited || !made.ClaimsID || made.Record.ClientID != first.ClientID || made.Record.Sequence != 1 ||
		pepper.CheckRecord(in.UID, made.Record) != SealValid || !slices.Equal(made.Record.Credentials, first.Credentials) {
		t.Fatalf("a new client: %+v", made)
	}
	in.Record = made.Record
	started, next, err := first.StartRotation(start, testRand(4), pepper, depositPlace, in.Record.LastNumber)
	if err != nil || next.Version.Number != 2 {
		t.Fatal(next, err)
	}
	rotated, err := started.Rotate(pepper, depositPlace)
	if err != nil {
		t.Fatal(err)
	}
	set := func(d Deposit) func(*Input) {
		return func(in *Input) { in.Deposit = observedDeposit(pepper, depositPlace, d) }
	}
	for _, test := range []struct {
		name     string
		change   func(*Input)
		sequence int64
		versions int
		refused  bool
		problem  Problem
		changed  bool
	}{
		{"settled", func(*Input) {}, 1, 1, false, ProblemNone, false},
		{"a rotation has begun", set(started), 2, 2, false, ProblemNone, true},
		{"it has ended", set(rotated), 3, 1, false, ProblemNone, true},
		{"the annotation is gone", func(in *Input) { in.Deposit = ObservedDeposit{} }, 1, 1, true, ProblemNone, false},
		{"the annotation is broken", func(in *Input) { in.Deposit = ObservedDeposit{State: SealBroken} }, 1, 1, true, ProblemNone, false},
		{"of another pepper", func(in *Input) {
			in.Deposit = observedDeposit(pepper, depositPlace, other.sealed(depositPlace, started))
		}, 1, 1, true, ProblemNone, false},
		{"of another id", func(in *Input) {
			d := started
			d.ClientID = "another"
			in.Deposit = observedDeposit(pepper, depositPlace, pepper.sealed(depositPlace, d))
		}, 1, 1, true, ProblemNone, false},
		{"not the chosen id", func(in *Input) { in.First.ClientID = "chosen"; set(started)(in) }, 1, 1, true, ProblemNone, false},
		{"status lost", func(in *Input) { in.Record = Record{}; set(started)(in) }, 2, 2, false, ProblemNone, true},
		{"status forged", func(in *Input) { in.Record.ClientID = "admin" }, 1, 1, false, ProblemNone, true},
		{"both lost", func(in *Input) { in.Record = Record{}; in.Deposit = ObservedDeposit{} }, 0, 0, false, ProblemNone, true},
		{"status lost, annotation broken", func(in *Input) { in.Record = Record{}; in.Deposit = ObservedDeposit{State: SealBroken} }, 0, 0, false, ProblemDepositRefused, false},
		{"status lost, pepper lost", func(in *Input) { in.Record = Record{}; in.Deposit.State = SealUnknownKey }, 0, 0, false, ProblemPepperKeyUnknown, false},
	} {
		in := in
		test.change(&in)
		got := mustDecide(t, in)
		if got.Record.Sequence != test.sequence || len(got.Record.Credentials) != test.versions || got.Refused != test.refused ||
			got.Problem != test.problem || got.Changed != test.changed || got.Generated || got.Material.Value != "" {
			t.Errorf("%s: %+v", test.name, got)
		}
	}
}

// TestDepositLife is any sequence of calls of the management API, with reconciliations
// in between or not, lost statuses, and older annotations that are put back: an ended
// secret never works again while its status lives, and the latest state always wins.
func TestDepositLife(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pepper, err := NewPepper(testRand(1))
		if err != nil {
			t.Fatal(err)
		}
		d, first, err := NewDeposit(start, testRand(2), pepper, depositPlace, First{ClientID: "m2m-client-test-1"})
		if err != nil {
			t.Fatal(err)
		}
		in := depositInput(pepper, d)
		states := []Deposit{d}
		current, next, ended := first, Material{}, []Material{}
		reconcile := func() {
			decision, err := Decide(in)
			if err != nil || decision.Problem != ProblemNone {
				t.Fatal(decision, err)
			}
			in.Record, in.Now = decision.Record, in.Now.Add(time.Second)
		}
		call := func(change func(Deposit) (Deposit, error)) bool {
			changed, err := change(in.Deposit.Latest(in.Record))
			if err != nil {
				return false
			}
			in.Deposit, states = observedDeposit(pepper, depositPlace, changed), append(states, changed)
			reconcile() // a call waits for it
			return true
		}
		reconcile()
		for range 30 {
			switch rapid.IntRange(0, 6).Draw(t, "step") {
			case 0:
				var m Material
				began := call(func(d Deposit) (changed Deposit, err error) {
					changed, m, err = d.StartRotation(in.Now, testRand(int64(100+len(states))), pepper, depositPlace, in.Record.LastNumber)
					return changed, err
				})
				if began != (next == Material{}) {
					t.Fatal("a rotation began beside another, or not at all")
				}
				if began {
					next = m
				}
			case 1:
				if call(func(d Deposit) (Deposit, error) { return d.Rotate(pepper, depositPlace) }) {
					ended, current, next = append(ended, current), next, Material{}
				}
			case 2:
				if call(func(d Deposit) (Deposit, error) { return d.CancelRotation(pepper, depositPlace) }) {
					ended, next = append(ended, next), Material{}
				}
			case 3: // an older annotation is put back
				in.Deposit = observedDeposit(pepper, depositPlace, rapid.SampledFrom(states).Draw(t, "older"))
				reconcile()
			case 4: // or taken away
				in.Deposit = ObservedDeposit{}
				reconcile()
			case 5: // the status is lost while the annotation is the latest
				in.Deposit = observedDeposit(pepper, depositPlace, states[len(states)-1])
				in.Record = Record{}
				reconcile()
			case 6:
				reconcile()
			}
			valid := func(m Material) bool {
				digests := pepper.Digests(in.Record.ClientID, m.Value)
				return slices.ContainsFunc(in.Record.Credentials, func(c Credential) bool { return c.Live(in.Now) && digests.Matches(&c.Hash) })
			}
			if !valid(current) || next.Value != "" && !valid(next) || slices.ContainsFunc(ended, valid) {
				t.Fatalf("record %+v", in.Record)
			}
		}
	})
}
