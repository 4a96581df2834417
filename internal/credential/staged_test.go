package credential

import "testing"

func TestStaged(t *testing.T) {
	in := issued(t, newTestPepper(t, 1))
	in.Rotation.Staged, in.Triggers.Spec = true, "2026"
	in = after(in, mustDecide(t, in))
	in.NextSeen = in.Rotation.Propagation
	d := mustDecide(t, in)
	if d.Cause != CauseStaged || d.Next.Version.Number != 2 || d.Material != (Material{in.Secret.Version, in.Secret.Value}) || d.Changed {
		t.Fatalf("got %q %q, next %s", d.Cause, d.Phase, d.Next)
	}
	staged := after(in, d)
	staged.Pending = Material{} // a restart
	if d := mustDecide(t, staged); d.Cause != CauseNone || d.Phase != PhaseStaged || d.Changed || d.Delivers {
		t.Errorf("settled: got %q %q, changed %v", d.Cause, d.Phase, d.Changed)
	}
	for name, test := range map[string]struct {
		change   func(*Input)
		cause    Cause
		versions string
	}{
		"promote":                 {func(in *Input) { in.Rotation.Promote = in.Secret.Next.Version.String() }, CauseRotated, "2C 1P"},
		"cancel":                  {func(in *Input) { in.Rotation.Cancel = in.Secret.Next.Version.String() }, CauseCancelled, "1C"},
		"promote another version": {func(in *Input) { in.Rotation.Promote = "2-none" }, CauseNone, "2N 1C"},
		"cancel another version":  {func(in *Input) { in.Rotation.Cancel = "1-none" }, CauseNone, "2N 1C"},
		"revoke":                  {func(in *Input) { in.Rotation.Revoke = []string{in.Secret.Next.Version.String()} }, CauseNone, "1C"},
		"triggered again":         {func(in *Input) { in.Triggers.Spec = "2027" }, CauseNone, "2N 1C"},
		"inactive":                {func(in *Input) { in.Rotation.Paused, in.Rotation.Promote = true, in.Secret.Next.Version.String() }, CauseNone, "2N 1C"},
		"no longer staged":        {func(in *Input) { in.Rotation.Staged = false }, CauseRotated, "2C 1P"},
		"Secret lost":             {func(in *Input) { in.Secret = ObservedSecret{State: SecretAbsent} }, CauseSecretLost, "3C 2N 1P"},
		"status lost":             {func(in *Input) { in.Record = Record{} }, CauseRecovered, "2N 1C"},
		"current revoked":         {func(in *Input) { in.Rotation.Revoke = []string{in.Secret.Version.String()} }, CauseRevoked, "3C 2N"},
	} {
		in := staged
		test.change(&in)
		d := mustDecide(t, in)
		if d.Cause != test.cause || roles(d.Record) != test.versions {
			t.Errorf("%s: got %q with %q, want %q with %q", name, d.Cause, roles(d.Record), test.cause, test.versions)
		}
		if again := after(in, d); name == "cancel" && mustDecide(t, again).Generated {
			t.Error("a cancelled rotation began again")
		}
	}
}

// A staged version whose secret is lost may have been promoted before a crash: pods may
// hold it.
func TestNextOfALostSecret(t *testing.T) {
	in := issued(t, newTestPepper(t, 1))
	in.Rotation.Staged = true
	in = rotated(t, in)
	for name, test := range map[string]struct {
		change   func(*Input)
		versions string
	}{
		"from the record":  {func(*Input) {}, "4N 3C 2P 1P"},
		"the status lost":  {func(in *Input) { in.Record = Record{} }, "4N 3C 2P 1P"},
		"no longer staged": {func(in *Input) { in.Rotation.Staged = false }, "3C 2P 1P"},
	} {
		in := in
		test.change(&in)
		if in.Record.Seal == "" {
			in = after(in, mustDecide(t, in))
		}
		in.Rotation.Promote = in.Secret.Next.Version.String()
		recorded := in.Record
		in = after(in, mustDecide(t, in)) // pods see 2
		in.Record, in.Pending, in.Secret, in.Rotation.Promote = recorded, Material{}, ObservedSecret{State: SecretAltered}, ""
		in = after(in, mustDecide(t, in)) // and 3
		in.NextSeen = forgotten * in.Rotation.Propagation
		if d := mustDecide(t, in); roles(d.Record) != test.versions {
			t.Errorf("%s: %q, want %q", name, roles(d.Record), test.versions)
		}
		for in.Rotation.Staged && len(in.Record.Credentials) < MaxVersions {
			in.Secret = ObservedSecret{State: SecretAbsent}
			d := mustDecide(t, in)
			in = after(in, d)
			if d.Problem == ProblemLostAgain {
				in.Now = d.NextAt
			}
		}
		if d := mustDecide(t, in); in.Rotation.Staged && (d.Phase != PhaseFull || d.Changed || d.NextAt.IsZero()) {
			t.Errorf("%s, and no room for another: %q %q", name, d.Phase, roles(d.Record))
		}
	}
}

// A version that was cancelled or revoked doesn't come back when somebody puts an old
// Secret back.
func TestDroppedVersionStaysDropped(t *testing.T) {
	in := issued(t, newTestPepper(t, 1))
	in.Rotation.Staged = true
	in = rotated(t, in)
	dropped := in.Secret.Next
	in.Rotation.Cancel = dropped.Version.String()
	in = after(in, mustDecide(t, in))
	in.Secret.Version, in.Secret.Value = dropped.Version, dropped.Value
	d := mustDecide(t, in)
	if d.Material == dropped || d.Cause != CauseSecretAltered {
		t.Errorf("got %q and delivers %s", d.Cause, d.Material)
	}
}
