package credential

import (
	"fmt"
	"math/rand"
	"slices"
	"strings"
	"testing"
	"time"
)

var start = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

const uid = "0b0e7b1c-7f0f-4d5a-9a53-2f3f5d6c7e8f"

func testRand(seed int64) *rand.Rand { return rand.New(rand.NewSource(seed)) }

func newTestPepper(t testing.TB, seed int64) *Pepper {
	t.Helper()
	p, err := NewPepper(testRand(seed))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func mustDecide(t testing.TB, in Input) Decision {
	t.Helper()
	d, err := Decide(in)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

const overlap = 24 * time.Hour

func firstInput(p *Pepper) Input {
	return Input{
		Now: start, Rand: testRand(7), Pepper: p, UID: uid, Live: true,
		Rotation: Rotation{Overlap: overlap, Propagation: 2 * time.Second},
	}
}

// issued returns the input as it is once a first credential was issued.
func issued(t testing.TB, p *Pepper) Input {
	in := firstInput(p)
	return after(in, mustDecide(t, in))
}

// after is what is found when a decision was carried out.
func after(in Input, d Decision) Input {
	if d.Problem == ProblemNone {
		in.Secret = ObservedSecret{State: SecretSealed, ClientID: d.Record.ClientID, Version: d.Material.Version, Value: d.Material.Value, Next: d.Next}
	}
	if d.Pending.Value != "" {
		in.Pending, in.NextSeen = d.Pending, 0
	}
	in.Record = d.Record
	return in
}

// rotated is what is found after a rotation that was asked for.
func rotated(t testing.TB, in Input) Input {
	in.Triggers.Spec += "+"
	in = after(in, mustDecide(t, in))
	in.NextSeen = in.Rotation.Propagation
	return after(in, mustDecide(t, in))
}

func TestDecide(t *testing.T) {
	pepper, other := newTestPepper(t, 1), newTestPepper(t, 2)
	older := func(in Input) Input { // the Secret holds what came before the current version
		was := in.Secret
		in.Secret = ObservedSecret{State: SecretAbsent}
		in = after(in, mustDecide(t, in))
		in.Secret = was
		return in
	}
	tests := []struct {
		name     string
		change   func(Input) Input
		problem  Problem
		cause    Cause
		isNew    bool
		forged   bool
		sameID   bool
		versions string // roles of the resulting record, as numbers and initials
	}{
		{name: "new client", change: func(in Input) Input {
			in.Record, in.Secret = Record{}, ObservedSecret{}
			return in
		}, cause: CauseIssued, isNew: true, versions: "1C"},
		{name: "settled", change: func(in Input) Input { return in }, sameID: true, versions: "1C"},
		{name: "Secret deleted", change: func(in Input) Input {
			in.Secret = ObservedSecret{State: SecretAbsent}
			return in
		}, cause: CauseSecretLost, isNew: true, sameID: true, versions: "2C 1P"},
		{name: "secret edited", change: func(in Input) Input {
			in.Secret = ObservedSecret{State: SecretAltered}
			return in
		}, cause: CauseSecretAltered, isNew: true, sameID: true, versions: "2C 1P"},
		{name: "older version put back that still works", change: older, cause: CauseSecretAltered, isNew: true, sameID: true, versions: "3N 2C 1P"},
		{name: "older version put back that has ended", change: func(in Input) Input {
			in = older(in)
			in.Now = in.Now.Add(overlap + ClockTolerance)
			return in
		}, cause: CauseSecretAltered, isNew: true, sameID: true, versions: "3C 2P"},
		{name: "crash between Secret and status", change: func(in Input) Input {
			was := in.Record
			in.Secret = ObservedSecret{State: SecretAbsent}
			in = after(in, mustDecide(t, in))
			in.Record = was
			return in
		}, cause: CauseResumed, sameID: true, versions: "2C 1P"},
		{name: "crashes between Secret and status, with a lost Secret between them", change: func(in Input) Input {
			in.Triggers.Spec += "+"
			in = after(in, mustDecide(t, in)) // 2N 1C
			was := in.Record
			in.NextSeen = in.Rotation.Propagation
			in = after(in, mustDecide(t, in)) // pods see 2
			in.Record, in.Pending, in.Secret = was, Material{}, ObservedSecret{State: SecretAbsent}
			in = after(in, mustDecide(t, in)) // and 3
			in.Record = was
			return in
		}, cause: CauseResumed, sameID: true, versions: "3C 2P 1P"},
		{name: "crash before the first status", change: func(in Input) Input {
			in.Record = Record{}
			return in
		}, cause: CauseRecovered, sameID: true, versions: "1C"},
		{name: "credential forged into the status", change: func(in Input) Input {
			forged := in.Record.Credentials[0]
			forged.Version, forged.Hash = Version{9, "evil"}, pepper.Hash(in.Record.ClientID, "known to the attacker")
			in.Record.Credentials = append(slices.Clone(in.Record.Credentials), forged)
			return in
		}, cause: CauseRecovered, forged: true, sameID: true, versions: "1C"},
		{name: "another client's status copied", change: func(in Input) Input {
			in.Record.Seal = pepper.SealRecord("another-uid", in.Record)
			return in
		}, cause: CauseRecovered, forged: true, sameID: true, versions: "1C"},
		{name: "status forged and Secret gone", change: func(in Input) Input {
			in.Record.ClientID = "m2m-client-live-of-another"
			in.Secret = ObservedSecret{State: SecretAbsent}
			return in
		}, cause: CauseIssued, isNew: true, forged: true, versions: "1C"},
		{name: "foreign Secret", change: func(in Input) Input {
			in.Secret = ObservedSecret{State: SecretForeign}
			return in
		}, problem: ProblemSecretForeign, sameID: true, versions: "1C"},
		{name: "foreign Secret for a new client", change: func(in Input) Input {
			in.Record, in.Secret = Record{}, ObservedSecret{State: SecretForeign}
			return in
		}, problem: ProblemSecretForeign},
		{name: "another pepper, Secret and status kept", change: func(in Input) Input {
			in.Pepper, in.Secret.State = other, SecretUnknownKey
			return in
		}, problem: ProblemPepperKeyUnknown, sameID: true, versions: "1C"},
		{name: "another pepper, Secret gone", change: func(in Input) Input {
			in.Pepper, in.Secret = other, ObservedSecret{State: SecretAbsent}
			return in
		}, problem: ProblemPepperKeyUnknown, sameID: true, versions: "1C"},
		{name: "status lost, Secret of another pepper", change: func(in Input) Input {
			in.Record, in.Pepper, in.Secret = Record{}, other, ObservedSecret{State: SecretUnknownKey}
			return in
		}, problem: ProblemPepperKeyUnknown},
		{name: "previous version expired", change: func(in Input) Input {
			in.Secret = ObservedSecret{State: SecretAbsent}
			in = after(in, mustDecide(t, in))
			in.Now = in.Now.Add(overlap + ClockTolerance)
			return in
		}, sameID: true, versions: "2C"},
		{name: "current version revoked", change: func(in Input) Input {
			in.Rotation.Revoke = []string{in.Secret.Version.String()}
			return in
		}, cause: CauseRevoked, isNew: true, sameID: true, versions: "2C"},
		{name: "revoked version in the Secret, status lost", change: func(in Input) Input {
			in.Rotation.Revoke = []string{in.Secret.Version.String()}
			in.Record = Record{}
			return in
		}, cause: CauseRevoked, isNew: true, sameID: true, versions: "2C"},
		{name: "revoked, and the Secret is foreign", change: func(in Input) Input {
			in.Rotation.Revoke = []string{in.Secret.Version.String()}
			in.Secret = ObservedSecret{State: SecretForeign}
			return in
		}, problem: ProblemSecretForeign, sameID: true, versions: ""},
		{name: "first trigger of a new client is adopted", change: func(in Input) Input {
			in.Triggers = Triggers{Spec: "2026", Annotation: "now"}
			in.Record, in.Secret = Record{}, ObservedSecret{}
			in = after(in, mustDecide(t, in))
			return in
		}, versions: "1C"},
		{name: "trigger changed", change: func(in Input) Input {
			in.Triggers.Spec = "2026"
			return in
		}, isNew: true, sameID: true, versions: "2N 1C"},
		{name: "annotation changed", change: func(in Input) Input {
			in.Triggers.Annotation = "2026"
			return in
		}, isNew: true, sameID: true, versions: "2N 1C"},
		{name: "trigger removed", change: func(in Input) Input {
			in = rotated(t, in)
			in.Triggers = Triggers{}
			return in
		}, sameID: true, versions: "2C 1P"},
		{name: "trigger as it was, status lost", change: func(in Input) Input {
			in = rotated(t, in)
			in.Record = Record{}
			return in
		}, cause: CauseRecovered, sameID: true, versions: "2C"},
		{name: "trigger of an inactive client", change: func(in Input) Input {
			in.Triggers.Spec, in.Rotation.Paused = "2026", true
			return in
		}, sameID: true, versions: "1C"},
		{name: "interval passed", change: func(in Input) Input {
			in.Rotation.Interval = 30 * 24 * time.Hour
			in.Now = in.Now.Add(in.Rotation.Interval)
			return in
		}, isNew: true, sameID: true, versions: "2N 1C"},
		{name: "interval not passed", change: func(in Input) Input {
			in.Rotation.Interval = 30 * 24 * time.Hour
			in.Now = in.Now.Add(in.Rotation.Interval * 9 / 10).Add(-time.Second)
			return in
		}, sameID: true, versions: "1C"},
		{name: "next not propagated", change: func(in Input) Input {
			in.Triggers.Spec = "2026"
			in = after(in, mustDecide(t, in))
			in.NextSeen = in.Rotation.Propagation - 1
			return in
		}, sameID: true, versions: "2N 1C"},
		{name: "next propagated", change: func(in Input) Input {
			in.Triggers.Spec = "2026"
			in = after(in, mustDecide(t, in))
			in.NextSeen = in.Rotation.Propagation
			return in
		}, cause: CauseRotated, sameID: true, versions: "2C 1P"},
		{name: "next forgotten in a crash", change: func(in Input) Input {
			in.Triggers.Spec = "2026"
			in = after(in, mustDecide(t, in))
			in.Pending, in.NextSeen = Material{}, forgotten*in.Rotation.Propagation
			return in
		}, isNew: true, sameID: true, versions: "3N 1C"},
		{name: "pepper lost, rotation asked for", change: func(in Input) Input {
			in.Pepper, in.Secret.State, in.Triggers.Annotation = other, SecretUnknownKey, "2026"
			return in
		}, cause: CauseReissued, isNew: true, sameID: true, versions: "2C"},
		{name: "pepper and status lost, with an old trigger", change: func(in Input) Input {
			in.Pepper, in.Secret.State, in.Triggers.Annotation, in.Record = other, SecretUnknownKey, "2026", Record{}
			return in
		}, problem: ProblemPepperKeyUnknown},
		{name: "restored from an earlier client's Secret", change: func(in Input) Input {
			in.Record, in.Secret.Adopted, in.UID = Record{}, true, "another-uid"
			return in
		}, cause: CauseRestored, sameID: true, versions: "1C"},
		{name: "chosen id, imported secret", change: func(in Input) Input {
			in.First = First{ClientID: in.Record.ClientID, Secret: "short"}
			in.Record, in.Secret = Record{}, ObservedSecret{}
			return in
		}, cause: CauseIssued, isNew: true, sameID: true, versions: "1C"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			in := issued(t, pepper)
			id := in.Record.ClientID
			in = test.change(in)
			d := mustDecide(t, in)
			if d.Problem != test.problem || d.Cause != test.cause || d.Generated != test.isNew || d.Forged != test.forged {
				t.Errorf("got problem %q cause %q new %v forged %v", d.Problem, d.Cause, d.Generated, d.Forged)
			}
			if got := roles(d.Record); got != test.versions {
				t.Errorf("versions %q, want %q", got, test.versions)
			}
			if (d.Record.ClientID == id) != test.sameID {
				t.Errorf("client id %q was %q, same: want %v", d.Record.ClientID, id, test.sameID)
			}
		})
	}
}

func roles(r Record) string {
	var out []string
	for _, c := range r.Credentials {
		out = append(out, fmt.Sprintf("%d%c", c.Version.Number, c.Role[0]))
	}
	return strings.Join(out, " ")
}

func TestTooManyVersionsWaits(t *testing.T) {
	in := issued(t, newTestPepper(t, 1))
	for range MaxVersions - 1 {
		in.Secret = ObservedSecret{State: SecretAbsent}
		in.Now = in.Now.Add(2 * soonLost) // each was visible for long, and may be in use
		in = after(in, mustDecide(t, in))
	}
	asked := in
	asked.Triggers.Spec = "2026"
	if d := mustDecide(t, asked); d.Problem != ProblemNone || d.Phase != PhaseFull || d.Generated || d.NextAt.IsZero() {
		t.Errorf("a rotation that is asked for: %q %q, new %v", d.Problem, d.Phase, d.Generated)
	}
	in.Secret = ObservedSecret{State: SecretAbsent}
	in.Now = in.Now.Add(2 * soonLost)
	d := mustDecide(t, in)
	if d.Problem != ProblemTooManyVersions || len(d.Record.Credentials) != MaxVersions {
		t.Fatalf("got %q with %d versions", d.Problem, len(d.Record.Credentials))
	}
	in.Now = d.NextAt
	if d = mustDecide(t, in); d.Problem != ProblemNone || !d.Generated {
		t.Errorf("after %s: got %q", in.Now, d.Problem)
	}
}

// What is revoked ends, though the Secret takes no other.
func TestUndeliverable(t *testing.T) {
	in := rotated(t, issued(t, newTestPepper(t, 1)))
	if d := mustDecide(t, in); d.Undeliverable != nil {
		t.Error("nothing was revoked")
	}
	in.Triggers.Annotation = "now"
	for role, want := range map[Role]string{RolePrevious: "2C", RoleCurrent: "1P"} {
		revoked, _ := in.Record.with(role)
		in.Rotation.Revoke = []string{revoked.Version.String()}
		d := mustDecide(t, in)
		if !d.Generated || d.Undeliverable == nil || roles(*d.Undeliverable) != want || in.Pepper.CheckRecord(uid, *d.Undeliverable) != SealValid {
			t.Errorf("%s revoked: %+v", role, d.Undeliverable)
		}
	}
}

func TestRetirement(t *testing.T) {
	in := issued(t, newTestPepper(t, 1))
	in.Rotation.RetireFor, in.Rotation.Deadline = 24*time.Hour, 90*24*time.Hour
	previous := in.Secret.Version.String()
	in = rotated(t, in)
	rotatedAt := in.Record.RotatedAt
	day := 24 * time.Hour
	for _, test := range []struct {
		name     string
		now      time.Duration // since the rotation
		lastUsed time.Duration // 0: never
		covered  time.Duration // 0: nobody has reported
		gap      time.Duration
		off      bool
		versions string
		kept     []bool // reported
	}{
		{name: "in the overlap", now: day, covered: day, versions: "2C 1P"},
		{name: "unused", now: 2 * day, covered: 2 * day, versions: "2C"},
		{name: "used before it was replaced", now: 2 * day, lastUsed: -day, covered: 2 * day, versions: "2C"},
		{name: "used lately", now: 9 * day, lastUsed: 8*day + time.Hour, covered: 9 * day, versions: "2C 1P", kept: []bool{true}},
		{name: "unused again", now: 10 * day, lastUsed: 8 * day, covered: 10 * day, versions: "2C"},
		{name: "nobody has reported", now: 9 * day, versions: "2C 1P", kept: []bool{false}},
		{name: "one server is behind", now: 9 * day, covered: day - time.Second, versions: "2C 1P", kept: []bool{false}},
		{name: "a server's clock is ahead", now: day + ClockTolerance, lastUsed: day / 2, covered: 9 * day, versions: "2C 1P", kept: []bool{true}},
		{name: "a server was lost lately", now: 9 * day, covered: 9 * day, gap: 8*day + time.Hour, versions: "2C 1P", kept: []bool{true}},
		{name: "a server was lost before", now: 9 * day, covered: 9 * day, gap: 8 * day, versions: "2C"},
		{name: "used until the deadline", now: 90*day + ClockTolerance, lastUsed: 90 * day, covered: 90 * day, versions: "2C"},
		{name: "switched off later", now: 2 * day, lastUsed: 2 * day, covered: 2 * day, off: true, versions: "2C"},
	} {
		in := in
		in.Now = rotatedAt.Add(test.now)
		in.Usage.LastUsed = map[string]time.Time{}
		if test.lastUsed != 0 {
			in.Usage.LastUsed[previous] = rotatedAt.Add(test.lastUsed)
		}
		if test.covered != 0 {
			in.Usage.Covered = rotatedAt.Add(test.covered)
		}
		if test.gap != 0 {
			in.Usage.Gap = rotatedAt.Add(test.gap)
		}
		if test.off {
			in.Rotation.RetireFor = 0
		}
		d := mustDecide(t, in)
		var kept []bool
		for _, k := range d.Kept {
			kept = append(kept, k.Reported)
		}
		if roles(d.Record) != test.versions || !slices.Equal(kept, test.kept) {
			t.Errorf("%s: versions %q, kept %v; want %q, %v", test.name, roles(d.Record), kept, test.versions, test.kept)
		}
		if len(d.Record.Credentials) > 1 && !d.NextAt.After(in.Now) {
			t.Errorf("%s: looked at again at %s, now is %s", test.name, d.NextAt, in.Now)
		}
	}
}

// Clients of one age don't rotate at one time.
func TestJitter(t *testing.T) {
	pepper := newTestPepper(t, 1)
	tenths := [10]int{}
	for n := range 1000 {
		in := firstInput(pepper)
		in.UID = fmt.Sprint(n)
		in.Rotation.Interval = 1000 * time.Hour
		early := start.Add(in.Rotation.Interval).Sub(mustDecide(t, in).NextRotation)
		if early < 0 || early > 100*time.Hour {
			t.Fatalf("%s early", early)
		}
		tenths[min(early/(10*time.Hour), 9)]++
	}
	for _, n := range tenths {
		if n < 60 || n > 140 {
			t.Fatalf("rotations by tenth of the window: %v", tenths)
		}
	}
}

func TestDecideIsDeterministic(t *testing.T) {
	in := firstInput(newTestPepper(t, 1))
	in.Rand = testRand(3)
	a := mustDecide(t, in)
	in.Rand = testRand(3)
	b := mustDecide(t, in)
	if a.Record.Seal != b.Record.Seal || a.Material != b.Material {
		t.Error("the same inputs gave two decisions")
	}
}

func TestPrintingKeepsSecrets(t *testing.T) {
	in := issued(t, newTestPepper(t, 1))
	d := mustDecide(t, in)
	for _, printed := range []string{fmt.Sprint(d), fmt.Sprintf("%v %+v", d.Material, in.Secret)} {
		if strings.Contains(printed, in.Secret.Value) {
			t.Errorf("%q holds the secret", printed)
		}
	}
}
