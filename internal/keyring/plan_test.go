package keyring

import (
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

const lead = time.Minute

func input(now time.Time) Input {
	return Input{Now: now, Rand: rand.Reader, Algorithm: EdDSA, Interval: 24 * time.Hour, Longest: 3 * time.Hour, Lead: lead, Triggers: []string{"", ""}}
}

func plan(t testing.TB, r Ring, in Input) Plan {
	t.Helper()
	p, err := r.Plan(in)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// describe says in which states the keys are, and from when on those sign that are next.
func describe(r Ring, now time.Time) string {
	var words []string
	for i, k := range r.Keys {
		word := string(r.State(i, now))
		if word == string(Next) {
			word += fmt.Sprint("+", k.ActiveFrom.Sub(now))
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}

func TestPlan(t *testing.T) {
	first := plan(t, Ring{}, input(start)).Ring
	rotated := plan(t, first, input(start.Add(24*time.Hour))).Ring
	active := func(r Ring, now time.Time) string { k, _ := r.Active(now); return k.ID }
	for _, test := range []struct {
		name   string
		ring   Ring
		after  time.Duration
		change func(*Input)
		want   string
		made   int
	}{
		{"the first start", Ring{}, 0, nil, "Active Next+24h0m0s", 2},
		{"triggers at the first start", Ring{}, 0, func(in *Input) { in.Triggers[0] = "a" }, "Active Next+24h0m0s", 2},
		{"a longer life of tokens than terms", Ring{}, 0, func(in *Input) { in.Interval, in.Longest = 4*time.Hour, 168*time.Hour }, "Active Next+21h0m0s", 2},
		{"an interval below publication", Ring{}, 0, func(in *Input) { in.Interval = time.Hour }, "Active Next+2h0m0s", 2},
		{"nothing", first, time.Hour, nil, "Active Next+23h0m0s", 0},
		{"a second before", first, 24*time.Hour - time.Second, nil, "Active Next+1s", 0},
		{"its date", first, 24 * time.Hour, nil, "Retired Active Next+24h0m0s", 1},
		{"long after its date", first, 26 * time.Hour, nil, "Retired Active Next+22h0m0s", 1},
		{"very long after", first, 90 * 24 * time.Hour, nil, "Active Next+2h0m0s", 1},
		{"tokens may live", rotated, 27 * time.Hour, nil, "Retired Active Next+21h0m0s", 0},
		{"tokens have expired", rotated, 27*time.Hour + ClockTolerance, nil, "Active Next+20h55m0s", 0},
		{"a longer interval", first, time.Hour, func(in *Input) { in.Interval = 48 * time.Hour }, "Active Next+47h0m0s", 0},
		{"a shorter interval", first, time.Hour, func(in *Input) { in.Interval = 10 * time.Hour }, "Active Next+9h0m0s", 0},
		{"an interval that has passed", first, 20 * time.Hour, func(in *Input) { in.Interval = 10 * time.Hour }, "Active Next+1m0s", 0},
		{"too late to be moved", first, 24*time.Hour - 30*time.Second, func(in *Input) { in.Interval = 48 * time.Hour }, "Active Next+30s", 0},
		{"a trigger", first, 3 * time.Hour, func(in *Input) { in.Triggers[0] = "a" }, "Active Next+1m0s", 0},
		{"another trigger", first, 3 * time.Hour, func(in *Input) { in.Triggers[1] = "a" }, "Active Next+1m0s", 0},
		{"a trigger before publication", first, time.Hour, func(in *Input) { in.Triggers[0] = "a" }, "Active Next+1h0m0s", 0},
		{"a trigger just before its date", first, 24*time.Hour - 30*time.Second, func(in *Input) { in.Triggers[0] = "a" }, "Active Next+30s", 0},
		{"the active one revoked", first, time.Hour, func(in *Input) { in.Revoked = []string{active(first, start)} }, "Active Next+24h0m0s", 1},
		{"the next one revoked", first, time.Hour, func(in *Input) { in.Revoked = []string{first.Keys[1].ID} }, "Active Next+23h0m0s", 1},
		{"both revoked", first, time.Hour, func(in *Input) { in.Revoked = []string{first.Keys[0].ID, first.Keys[1].ID} }, "Active Next+24h0m0s", 2},
		{"a retired one revoked", rotated, 25 * time.Hour, func(in *Input) { in.Revoked = []string{rotated.Keys[0].ID} }, "Active Next+23h0m0s", 0},
		{"all but a retired one revoked", rotated, 25 * time.Hour, func(in *Input) { in.Revoked = []string{rotated.Keys[1].ID, rotated.Keys[2].ID} }, "Retired Active Next+24h0m0s", 2},
		{"nobody's key revoked", first, time.Hour, func(in *Input) { in.Revoked = []string{"x"} }, "Active Next+23h0m0s", 0},
		{"another algorithm", first, time.Hour, func(in *Input) { in.Algorithm = ES256 }, "Retired Active Next+24h0m0s", 2},
		{"a clock that was set back", rotated, 23 * time.Hour, nil, "Active Next+1h0m0s Next+25h0m0s", 0},
	} {
		in := input(start.Add(test.after))
		if test.change != nil {
			test.change(&in)
		}
		before := slices.Clone(test.ring.Keys)
		p := plan(t, test.ring, in)
		if got := describe(p.Ring, in.Now); got != test.want || len(p.Made) != test.made {
			t.Errorf("%s: %s, %d made; want %s, %d", test.name, got, len(p.Made), test.want, test.made)
		}
		if again := plan(t, p.Ring, in); again.Changed || !again.At.Equal(p.At) {
			t.Errorf("%s: planned again it changes: %s", test.name, describe(again.Ring, in.Now))
		}
		if !p.At.After(in.Now) {
			t.Errorf("%s: looks again at %s, which has passed", test.name, p.At)
		}
		if !slices.EqualFunc(before, test.ring.Keys, func(a, b Key) bool { return a.ID == b.ID && a.ActiveFrom.Equal(b.ActiveFrom) }) {
			t.Errorf("%s: the ring that was planned for has changed", test.name)
		}
	}
}

// Servers that drop a revoked key by themselves sign with the key that the plan chooses.
func TestWithoutAgreesWithPlan(t *testing.T) {
	first := plan(t, Ring{}, input(start)).Ring
	ring := plan(t, first, input(start.Add(24*time.Hour))).Ring
	for revoked := range ring.Keys {
		in := input(start.Add(25 * time.Hour))
		in.Revoked = []string{ring.Keys[revoked].ID}
		want, _ := plan(t, ring, in).Ring.Active(in.Now)
		got, ok := ring.Without(in.Revoked).Active(in.Now)
		if !ok || got.ID != want.ID {
			t.Errorf("without key %d key %s signs, not %s", revoked, got.ID, want.ID)
		}
	}
	if _, ok := first.Without([]string{first.Keys[0].ID, first.Keys[1].ID}).Active(start); ok {
		t.Error("a ring without keys has an active one")
	}
}

// TestLife lives through random days of an issuer: whatever happens, one key signs, another
// is published, and each token verifies until it expires, unless its key was revoked.
func TestLife(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type signed struct {
			kid     string
			expires time.Time
		}
		in := input(start)
		var ring Ring
		var tokens []signed
		var gone []string // revoked
		triggers := 0
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			switch rapid.IntRange(0, 9).Draw(t, "what") {
			case 0:
				in.Interval = time.Duration(rapid.IntRange(4, 100).Draw(t, "interval")) * time.Hour
			case 1:
				in.Longest = time.Duration(rapid.IntRange(1, 168).Draw(t, "lifetime")) * time.Hour
			case 2:
				triggers++
				in.Triggers = []string{"", fmt.Sprint(triggers)}
			case 3:
				if len(ring.Keys) > 0 {
					id := ring.Keys[rapid.IntRange(0, len(ring.Keys)-1).Draw(t, "revoked")].ID
					in.Revoked, gone = append(in.Revoked, id), append(gone, id)
				}
			default:
				in.Now = in.Now.Add(time.Duration(rapid.IntRange(0, 40*60).Draw(t, "minutes")) * time.Minute)
			}
			p, err := ring.Plan(in)
			if err != nil {
				t.Fatal(err)
			}
			ring = p.Ring
			active, _ := ring.Active(in.Now)
			tokens = append(tokens, signed{active.ID, in.Now.Add(in.Longest)})
			tokens = slices.DeleteFunc(tokens, func(s signed) bool { return !in.Now.Before(s.expires) || slices.Contains(gone, s.kid) })
			for _, s := range tokens {
				if !slices.ContainsFunc(ring.Keys, func(k Key) bool { return k.ID == s.kid }) {
					t.Fatalf("a token that expires at %s no longer verifies at %s", s.expires, in.Now)
				}
			}
			states := describe(ring, in.Now)
			if strings.Count(states, "Active") != 1 || strings.Count(states, "Next") != 1 || len(ring.Keys) > maxKeys-2 {
				t.Fatalf("%d keys: %s", len(ring.Keys), states)
			}
			if slices.ContainsFunc(ring.Keys, func(k Key) bool { return slices.Contains(gone, k.ID) }) {
				t.Fatal("a revoked key is back")
			}
			next := ring.Keys[len(ring.Keys)-1]
			if next.ActiveFrom.Before(next.PublishedAt.Add(Publication)) {
				t.Fatalf("a key will sign that is published for %s only", next.ActiveFrom.Sub(next.PublishedAt))
			}
			if again, err := ring.Plan(in); err != nil || again.Changed {
				t.Fatalf("planned again it changes to %s: %v", describe(again.Ring, in.Now), err)
			}
		}
	})
}
