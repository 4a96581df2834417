package credential

import (
	"testing"
	"time"
)

// A client without a secret has an id and a sealed record, and never a secret.
func TestNoSecret(t *testing.T) {
	pepper, other := newTestPepper(t, 1), newTestPepper(t, 2)
	in := firstInput(pepper)
	in.NoSecret = true
	first := mustDecide(t, in)
	if first.Cause != CauseIssued || first.Record.ClientID == "" || len(first.Record.Credentials) > 0 || first.Generated || first.ClaimsID {
		t.Fatalf("a new client: %+v", first)
	}
	in = after(in, first)
	in.Secret = ObservedSecret{}
	for _, test := range []struct {
		name    string
		change  func(Input) Input
		problem Problem
		cause   Cause
		sameID  bool
		changed bool
	}{
		{"settled", func(in Input) Input { return in }, ProblemNone, CauseNone, true, false},
		{"a new trigger", func(in Input) Input { in.Triggers.Annotation = "now"; return in }, ProblemNone, CauseNone, true, true},
		{"an interval", func(in Input) Input { in.Rotation.Interval, in.Now = time.Hour, in.Now.Add(9*time.Hour); return in }, ProblemNone, CauseNone, true, false},
		{"status lost", func(in Input) Input { in.Record = Record{}; return in }, ProblemNone, CauseIssued, false, true},
		{"status forged", func(in Input) Input { in.Record.ClientID = "admin"; return in }, ProblemNone, CauseIssued, false, true},
		{"another's status", func(in Input) Input { in.UID = "other"; return in }, ProblemNone, CauseIssued, false, true},
		{"pepper lost", func(in Input) Input { in.Pepper = other; return in }, ProblemPepperKeyUnknown, CauseNone, true, false},
		{"pepper lost, accepted", func(in Input) Input { in.Pepper, in.Triggers.Annotation = other, "go on"; return in }, ProblemNone, CauseReissued, true, true},
	} {
		got := mustDecide(t, test.change(in))
		if got.Problem != test.problem || got.Cause != test.cause || got.Changed != test.changed ||
			(got.Record.ClientID == in.Record.ClientID) != test.sameID {
			t.Errorf("%s: %+v", test.name, got)
		}
		if len(got.Record.Credentials) > 0 || got.Generated || got.Material.Value != "" {
			t.Errorf("%s: a secret was made", test.name)
		}
	}
	in = firstInput(pepper)
	in.NoSecret, in.First.ClientID = true, "billing"
	if got := mustDecide(t, in); got.Record.ClientID != "billing" || !got.ClaimsID {
		t.Errorf("a chosen id: %+v", got)
	}
}

// A cut-off acts when it has come, is sealed, and is never taken back.
func TestCutOff(t *testing.T) {
	pepper := newTestPepper(t, 1)
	for name, in := range map[string]Input{"with a secret": issued(t, pepper), "without": func() Input {
		in := firstInput(pepper)
		in.NoSecret = true
		in = after(in, mustDecide(t, in))
		in.Secret = ObservedSecret{}
		return in
	}()} {
		unsealed := in.Record.Seal
		in.NotBefore = start.Add(time.Minute)
		d := mustDecide(t, in)
		if d.Changed || !d.NextAt.Equal(in.NotBefore) {
			t.Errorf("%s: a cut-off that lies ahead: %+v", name, d)
		}
		in.Now = in.NotBefore
		d = mustDecide(t, in)
		if !d.Record.NotBefore.Equal(in.NotBefore) || d.Record.Seal == unsealed || pepper.CheckRecord(uid, d.Record) != SealValid {
			t.Errorf("%s: a cut-off that has come: %+v", name, d)
		}
		in.Record = d.Record
		for _, removed := range []time.Time{{}, start} {
			in.NotBefore = removed
			if d := mustDecide(t, in); d.Changed || !d.Record.NotBefore.Equal(start.Add(time.Minute)) {
				t.Errorf("%s: set back to %v: %+v", name, removed, d)
			}
		}
		in.Record.NotBefore = time.Time{}
		if pepper.CheckRecord(uid, in.Record) != SealBroken {
			t.Errorf("%s: the seal doesn't cover the cut-off", name)
		}
	}
}
