package credential

import (
	"fmt"
	"math/rand"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
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

// issued returns the input as it is once a first credential was issued.
func issued(t testing.TB, p *Pepper) Input {
	in := Input{Now: start, Rand: testRand(7), Pepper: p, UID: uid, Live: true, Overlap: DefaultOverlap}
	return after(in, mustDecide(t, in))
}

// after is what is found when a decision was carried out.
func after(in Input, d Decision) Input {
	in.Record = d.Record
	in.Secret = ObservedSecret{State: SecretSealed, ClientID: d.Record.ClientID, Version: d.Material.Version, Value: d.Material.Value}
	return in
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
		{name: "older version put back", change: older, cause: CauseSecretAltered, isNew: true, sameID: true, versions: "3C 2P 1P"},
		{name: "crash between Secret and status", change: func(in Input) Input {
			was := in.Record
			in.Secret = ObservedSecret{State: SecretAbsent}
			in = after(in, mustDecide(t, in))
			in.Record = was
			return in
		}, cause: CauseResumed, sameID: true, versions: "2C 1P"},
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
			in.Record.Seal = pepper.SealRecord("another-uid", in.Record.ClientID, in.Record.Credentials)
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
			in.Now = in.Now.Add(DefaultOverlap)
			return in
		}, sameID: true, versions: "2C"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			in := issued(t, pepper)
			id := in.Record.ClientID
			in = test.change(in)
			d := mustDecide(t, in)
			if d.Problem != test.problem || d.Cause != test.cause || d.New != test.isNew || d.Forged != test.forged {
				t.Errorf("got problem %q cause %q new %v forged %v", d.Problem, d.Cause, d.New, d.Forged)
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
		in.Now = in.Now.Add(time.Minute)
		in = after(in, mustDecide(t, in))
	}
	in.Secret = ObservedSecret{State: SecretAbsent}
	d := mustDecide(t, in)
	if d.Problem != ProblemTooManyVersions || len(d.Record.Credentials) != MaxVersions {
		t.Fatalf("got %q with %d versions", d.Problem, len(d.Record.Credentials))
	}
	in.Now = d.NextAt
	if d = mustDecide(t, in); d.Problem != ProblemNone || !d.New {
		t.Errorf("after %s: got %q", in.Now, d.Problem)
	}
}

// machine is a client under a random sequence of what can happen to it: crashes
// between the two writes, lost and edited Secrets, lost and forged statuses.
type machine struct {
	pepper *Pepper
	in     Input
}

func (m *machine) decide(t *rapid.T) Decision {
	d, err := Decide(m.in)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (m *machine) reconcile(t *rapid.T, crash bool) {
	d := m.decide(t)
	if d.Problem != ProblemNone {
		return
	}
	m.in.Secret = ObservedSecret{State: SecretSealed, ClientID: d.Record.ClientID, Version: d.Material.Version, Value: d.Material.Value}
	if crash {
		return
	}
	m.in.Record = d.Record
}

func TestDecideConverges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pepper, err := NewPepper(testRand(1))
		if err != nil {
			t.Fatal(err)
		}
		m := machine{pepper: pepper, in: Input{Now: start, Rand: testRand(2), Pepper: pepper, UID: uid, Overlap: DefaultOverlap}}
		t.Repeat(map[string]func(*rapid.T){
			"reconcile": func(t *rapid.T) { m.reconcile(t, false) },
			"crash":     func(t *rapid.T) { m.reconcile(t, true) },
			"lose":      func(*rapid.T) { m.in.Secret = ObservedSecret{State: SecretAbsent} },
			"edit":      func(*rapid.T) { m.in.Secret = ObservedSecret{State: SecretAltered} },
			"forget":    func(*rapid.T) { m.in.Record = Record{} },
			"forge": func(*rapid.T) {
				m.in.Record.Credentials = append(slices.Clone(m.in.Record.Credentials), Credential{Version: Version{99, "evil"}, Role: RoleCurrent})
			},
			"wait": func(t *rapid.T) {
				m.in.Now = m.in.Now.Add(time.Duration(rapid.IntRange(1, 30).Draw(t, "hours")) * time.Hour)
			},
			"": func(t *rapid.T) { m.check(t) },
		})
	})
}

// check holds what must hold in every state: one more reconciliation settles the
// client, a second one changes nothing, and what the Secret says authenticates.
func (m *machine) check(t *rapid.T) {
	settled := *m
	settled.reconcile(t, false)
	again := settled.decide(t)
	if again.Problem == ProblemTooManyVersions {
		return
	}
	if again.Problem != ProblemNone || again.Cause != CauseNone || again.New {
		t.Fatalf("not settled after a reconciliation: %q %q", again.Problem, again.Cause)
	}
	record, secret := settled.in.Record, settled.in.Secret
	if m.pepper.CheckRecord(uid, record) != SealValid {
		t.Fatal("the record's seal doesn't hold")
	}
	if len(record.Credentials) > MaxVersions {
		t.Fatalf("%d versions", len(record.Credentials))
	}
	digests := m.pepper.Digests(secret.ClientID, secret.Value)
	current, ok := record.Current()
	if !ok || !digests.Matches(&current.Hash) {
		t.Fatal("what the Secret holds doesn't authenticate")
	}
	m.checkOverlap(t, settled.in)
}

// checkOverlap: a version that was valid under a record that could be trusted
// stays valid for the overlap.
func (m *machine) checkOverlap(t *rapid.T, settled Input) {
	if m.pepper.CheckRecord(uid, m.in.Record) != SealValid {
		return
	}
	for _, was := range m.in.Record.Credentials {
		kept := slices.ContainsFunc(settled.Record.Credentials, func(c Credential) bool { return c.Hash == was.Hash })
		if was.Live(m.in.Now) && !kept {
			t.Fatalf("version %s stopped being valid early", was.Version)
		}
	}
}

func TestDecideIsDeterministic(t *testing.T) {
	in := Input{Now: start, Pepper: newTestPepper(t, 1), UID: uid, Overlap: DefaultOverlap}
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
