package credential

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// machine is a client, its controller and its pods under a random sequence of what
// can happen to them: rotations of each kind, crashes between the writes, lost and
// edited Secrets, lost and forged statuses, jumping clocks.
type machine struct {
	in        Input
	real      time.Time // as no clock that jumps has it
	delivered []delivered
	asked     int // deliveries that something asked for
	shots     []ObservedSecret
}

// delivered is a secret that pods may hold.
type delivered struct {
	Material
	until  time.Time // it must be valid until then; zero: it is in the Secret
	worked bool      // it was valid once
	failed bool      // it was revoked, or nothing said any more that it was valid
}

func newMachine(t *rapid.T) *machine {
	pepper, err := NewPepper(testRand(1))
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{in: firstInput(pepper), real: start}
	m.in.Rotation.Interval = 720 * time.Hour
	return m
}

// reconcile decides and writes: first the Secret, then the record. A crash leaves
// out what comes after it, and what was in memory.
func (m *machine) reconcile(t *rapid.T, writes int) Decision {
	d, err := Decide(m.in)
	if err != nil {
		t.Fatal(err)
	}
	if d.Problem == ProblemNone && writes > 0 {
		m.write(t, d)
	}
	if writes > 1 {
		m.record(d)
		m.end(t, d.Ended)
		if d.Pending.Value != "" {
			m.in.Pending, m.in.NextSeen = d.Pending, 0
		}
	}
	if writes < 2 {
		m.in.Pending, m.in.NextSeen = Material{}, 0
	}
	return d
}

// end notes the versions that made room for another.
func (m *machine) end(t *rapid.T, versions []Version) {
	for i := range m.delivered {
		s := &m.delivered[i]
		if slices.Contains(versions, s.Version) {
			s.failed = true
		}
	}
	if len(versions) > 1 {
		t.Fatalf("%v ended to make room for one", versions)
	}
}

func (m *machine) write(t *rapid.T, d Decision) {
	was, working := m.visible()
	if was != d.Material {
		if working && !m.in.Rotation.Paused && !m.valid(d.Material) && !m.isRevoked(was) {
			t.Fatalf("version %s is visible before it is valid, and %s works", d.Material, was)
		}
		if d.Cause != CauseIssued {
			m.asked--
		}
		if m.asked < 0 {
			t.Fatalf("version %s was delivered, and nothing asked for it", d.Material)
		}
		for i := range m.delivered {
			if m.delivered[i].until.IsZero() {
				m.delivered[i].until = m.real.Add(m.in.Rotation.Overlap)
			}
		}
		m.delivered = append(m.delivered, delivered{Material: d.Material})
	}
	m.in.Secret = ObservedSecret{State: SecretSealed, ClientID: d.Record.ClientID, Version: d.Material.Version, Value: d.Material.Value, Next: d.Next}
	m.shots = append(m.shots, m.in.Secret)
}

func (m *machine) record(d Decision) {
	if next, ok := d.Record.Next(); ok {
		if was, had := m.in.Record.Next(); !had || was.Version != next.Version {
			m.in.NextSeen = 0
		}
	}
	m.in.Record = d.Record
}

// visible is what pods see, and whether it authenticates.
func (m *machine) visible() (Material, bool) {
	if m.in.Secret.State != SecretSealed {
		return Material{}, false
	}
	seen := Material{m.in.Secret.Version, m.in.Secret.Value}
	return seen, m.valid(seen)
}

// valid tells whether a server takes a secret: it believes a record whose seal holds.
func (m *machine) valid(s Material) bool {
	r := m.in.Record
	if m.in.Pepper.CheckRecord(uid, r) != SealValid {
		return false
	}
	digests := m.in.Pepper.Digests(r.ClientID, s.Value)
	return slices.ContainsFunc(r.Credentials, func(c Credential) bool { return digests.Matches(&c.Hash) && c.Live(m.in.Now) })
}

// overwrite notes that the Secret is put back to an earlier state. If it had a secret
// that is not current yet, nothing says any more that pods may have seen that.
func (m *machine) overwrite() {
	seen, _ := m.visible()
	current, _ := m.in.Record.Current()
	for i := range m.delivered {
		s := &m.delivered[i]
		s.failed = s.failed || s.Material == seen && seen.Version != current.Version
	}
}

func (m *machine) isRevoked(s Material) bool {
	return slices.Contains(m.in.Rotation.Revoke, s.Version.String())
}

// pass lets time go by: for the clock that jumps, and for the one that doesn't.
func (m *machine) pass(d time.Duration) {
	m.in.Now, m.real = m.in.Now.Add(d), m.real.Add(d)
	if _, ok := m.in.Record.Next(); ok {
		m.in.NextSeen += d
	}
}

// checkIdentity: where the record is lost, only what the Secret holds is known.
func (m *machine) checkIdentity() {
	if m.in.Pepper.CheckRecord(uid, m.in.Record) == SealValid {
		return
	}
	for i := range m.delivered {
		s := &m.delivered[i]
		known := m.in.Secret.State == SecretSealed && s.Material == Material{m.in.Secret.Version, m.in.Secret.Value}
		s.failed = s.failed || !known
	}
}

// settle reconciles until nothing is left to do.
func (m *machine) settle(t *rapid.T) {
	for range 5 {
		m.reconcile(t, 2)
		m.pass(time.Second)
	}
}

func (m *machine) actions() map[string]func(*rapid.T) {
	jumped := time.Duration(0)
	return map[string]func(*rapid.T){
		"reconcile":           func(t *rapid.T) { m.reconcile(t, 2) },
		"crash before writes": func(t *rapid.T) { m.reconcile(t, 0) },
		"crash after Secret":  func(t *rapid.T) { m.reconcile(t, 1) },
		"lose Secret":         func(*rapid.T) { m.in.Secret = ObservedSecret{State: SecretAbsent}; m.asked++ },
		"edit Secret":         func(*rapid.T) { m.in.Secret = ObservedSecret{State: SecretAltered, Next: m.in.Secret.Next}; m.asked++ },
		"put an old one back": func(t *rapid.T) {
			if len(m.shots) > 0 && m.in.Pepper.CheckRecord(uid, m.in.Record) == SealValid {
				m.overwrite()
				m.in.Secret = rapid.SampledFrom(m.shots).Draw(t, "Secret")
				m.asked++
			}
		},
		"forget status": func(*rapid.T) { m.in.Record = Record{} },
		"forge status": func(*rapid.T) {
			m.in.Record.Credentials = append(slices.Clone(m.in.Record.Credentials), Credential{Version: Version{99, "evil"}, Role: RoleCurrent})
		},
		"settle":             m.settle,
		"rotate":             func(t *rapid.T) { m.in.Triggers.Spec += "+"; m.asked++; m.settle(t) },
		"pass a second":      func(*rapid.T) { m.pass(time.Second) },
		"pass half a minute": func(*rapid.T) { m.pass(30 * time.Second) },
		"pass hours": func(t *rapid.T) {
			before := m.in.Now
			m.pass(time.Duration(rapid.IntRange(1, 400).Draw(t, "hours")) * time.Hour)
			if m.in.Now.Sub(before) > 0 {
				m.asked++ // the interval may have passed
			}
		},
		"jump": func(t *rapid.T) {
			to := time.Duration(rapid.IntRange(-5, 5).Draw(t, "minutes")) * time.Minute / 2
			m.in.Now = m.in.Now.Add(to - jumped)
			jumped = to
		},
		"trigger":  func(*rapid.T) { m.in.Triggers.Spec += "+"; m.asked++ },
		"annotate": func(*rapid.T) { m.in.Triggers.Annotation += "+"; m.asked++ },
		"mode":     func(*rapid.T) { m.in.Rotation.Staged = !m.in.Rotation.Staged },
		"promote":  func(*rapid.T) { m.in.Rotation.Promote = m.in.Secret.Next.Version.String() },
		"cancel": func(*rapid.T) {
			m.in.Rotation.Cancel = m.in.Secret.Next.Version.String()
		},
		"pause": func(*rapid.T) { m.in.Rotation.Paused = !m.in.Rotation.Paused },
		"retire": func(t *rapid.T) {
			m.in.Rotation.RetireFor = time.Duration(rapid.IntRange(0, 48).Draw(t, "for")) * time.Hour
			m.in.Rotation.Deadline = m.in.Rotation.Interval
		},
		"report": func(*rapid.T) { m.in.Usage.Covered = m.in.Now },
		"revoke": func(t *rapid.T) {
			if len(m.in.Record.Credentials) == 0 {
				return
			}
			c := rapid.SampledFrom(m.in.Record.Credentials).Draw(t, "version")
			m.in.Rotation.Revoke = append(m.in.Rotation.Revoke, c.Version.String())
			m.asked++
			for i := range m.delivered {
				m.delivered[i].failed = m.delivered[i].failed || m.isRevoked(m.delivered[i].Material)
			}
		},
	}
}

func TestMachine(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newMachine(t)
		actions := m.actions()
		actions[""] = m.check
		t.Repeat(actions)
	})
}

// check holds what must hold in every state.
func (m *machine) check(t *rapid.T) {
	m.checkIdentity()
	if m.in.Pepper.CheckRecord(uid, m.in.Record) == SealValid {
		if len(m.in.Record.Credentials) > MaxVersions {
			t.Fatalf("%d versions", len(m.in.Record.Credentials))
		}
		m.checkHeld(t)
	}
	m.checkConverges(t)
}

// checkHeld: what pods hold doesn't stop early.
func (m *machine) checkHeld(t *rapid.T) {
	for i := range m.delivered {
		s := &m.delivered[i]
		s.worked = s.worked || m.valid(s.Material)
		held := s.until.IsZero() || m.real.Before(s.until)
		if held && s.worked && !s.failed && !m.valid(s.Material) {
			t.Fatalf("version %s stopped being valid early: %s", s.Material, roles(m.in.Record))
		}
	}
}

// checkConverges: left alone, the client settles on a secret that authenticates,
// and then nothing changes any more.
func (m *machine) checkConverges(t *rapid.T) {
	left := *m
	left.in.Record.Credentials = slices.Clone(m.in.Record.Credentials)
	left.delivered, left.shots, left.asked = slices.Clone(m.delivered), nil, 1<<30
	var d Decision
	for range 40 {
		d = left.reconcile(t, 2)
		left.pass(time.Second)
		if d.Problem == ProblemLostAgain || d.Phase == PhaseLostAgain {
			left.pass(d.NextAt.Sub(left.in.Now))
		}
	}
	if d.Problem == ProblemTooManyVersions || d.Phase == PhaseFull {
		return
	}
	if d.Problem != ProblemNone || d.Changed || d.Generated || d.Delivers || d.Phase == PhaseRotating {
		t.Fatalf("not settled: %s changed %v, %s", d, d.Changed, roles(d.Record))
	}
	if seen, working := left.visible(); !working || left.isRevoked(seen) {
		t.Fatalf("what the Secret holds doesn't authenticate: %s, %s", seen, roles(d.Record))
	}
	if again := fmt.Sprint(left.reconcile(t, 2)); again != d.String() {
		t.Fatalf("settled on %s, then %s", d, again)
	}
}
