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
	known := Ring{slices.Clone(first.Keys), first.Triggers}
	known.Keys[1].PublishedAt = start.Add(-2 * Publication)
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
		{"a trigger while the clock is behind the first key", known, -2 * time.Minute, func(in *Input) { in.Triggers[0] = "a" }, "Active Next+2m0s", 0},
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

// Rotations on demand wait while very many keys are published, and are done then.
func TestCrowded(t *testing.T) {
	in := input(start)
	in.Longest = MaxLifetime
	var p Plan
	for n := 0; !p.Crowded; n++ {
		if n > maxKeys {
			t.Fatalf("%d keys, and no rotation waits", len(p.Ring.Keys))
		}
		in.Now, in.Triggers[0] = in.Now.Add(Publication+lead), fmt.Sprint(n)
		p = plan(t, p.Ring, in)
	}
	for in.Now.Before(start.Add(2*MaxLifetime)) && p.Crowded {
		in.Now = p.At
		p = plan(t, p.Ring, in)
	}
	if p.Crowded || !p.Asked {
		t.Errorf("with %d keys the rotation still waits", len(p.Ring.Keys))
	}
	if len(p.Ring.Keys) > maxKeys {
		t.Errorf("%d keys", len(p.Ring.Keys))
	}
}

// There are never more keys than can be read again, whatever changes how often.
func TestKeysAreBounded(t *testing.T) {
	for name, change := range map[string]func(in *Input, hour int){
		"a lifetime that goes up and down": func(in *Input, hour int) {
			if in.Longest = time.Hour; hour%4 == 1 {
				in.Longest = MaxLifetime
			}
		},
		"that, and triggers": func(in *Input, hour int) {
			if in.Longest = time.Hour; hour%4 == 1 {
				in.Longest = MaxLifetime
			}
			in.Triggers[0] = fmt.Sprint(hour)
		},
		"an issuer that is made again": func(in *Input, hour int) {
			in.Longest, in.Algorithm = MaxLifetime, []Algorithm{ES256, EdDSA}[hour%2]
		},
	} {
		in, ring := input(start), Ring{}
		in.Interval = 4 * time.Hour
		for hour := range 21 * 24 {
			in.Now = start.Add(time.Duration(hour) * time.Hour)
			change(&in, hour)
			ring = plan(t, ring, in).Ring
			if len(ring.Keys) > maxKeys {
				t.Fatalf("%s: %d keys after %d hours", name, len(ring.Keys), hour)
			}
		}
		data, err := ring.Data()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Parse(data); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Servers follow a longer lifetime at once, and switch by dates; the controller may hear of
// both later.
func TestLifetimeGrowsWhileAway(t *testing.T) {
	first := plan(t, Ring{}, input(start)).Ring
	in := input(start.Add(30 * time.Hour)) // the first key signed until six hours ago
	in.Longest = 48 * time.Hour
	ring := plan(t, first, in).Ring
	if until, ok := ring.PublishedUntil(0); ring.Keys[0].ID != first.Keys[0].ID || !ok || until.Before(start.Add(72*time.Hour)) {
		t.Errorf("%s: a token that lives 48h outlives its key", describe(ring, in.Now))
	}
}

// TestLife lives through random days of an issuer: whatever happens, one key signs, another
// is published, and each token verifies until it expires, unless its key was revoked.
func TestLife(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type signed struct {
			kid         string
			at, expires time.Time
		}
		in := input(start)
		var ring Ring
		var tokens []signed
		var gone []string // revoked
		signers := map[string]bool{}
		triggers := 0
		furthest := in.Now // that the clock has been
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			what := rapid.IntRange(0, 11).Draw(t, "what")
			switch what {
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
			case 4:
				in.Now = in.Now.Add(-time.Duration(rapid.IntRange(0, 10*60).Draw(t, "minutes back")) * time.Minute)
			case 5: // a plan that was made, and not written
				if _, err := ring.Plan(in); err != nil {
					t.Fatal(err)
				}
			default:
				in.Now = in.Now.Add(time.Duration(rapid.IntRange(0, 40*60).Draw(t, "minutes")) * time.Minute)
			}
			furthest = later(furthest, in.Now)
			if what <= 3 {
				// Who changes something while the clock is behind gives dates that lie before
				// tokens which were signed already: how far it was can't be known.
				tokens = slices.DeleteFunc(tokens, func(s signed) bool { return s.at.After(in.Now) })
			}
			p, err := ring.Plan(in)
			if err != nil {
				t.Fatal(err)
			}
			ring = p.Ring
			active, _ := ring.Active(in.Now)
			signers[active.ID] = true
			tokens = append(tokens, signed{active.ID, in.Now, in.Now.Add(in.Longest)})
			tokens = slices.DeleteFunc(tokens, func(s signed) bool { return !in.Now.Before(s.expires) || slices.Contains(gone, s.kid) })
			for _, s := range tokens {
				if !slices.ContainsFunc(ring.Keys, func(k Key) bool { return k.ID == s.kid }) {
					t.Fatalf("a token that expires at %s no longer verifies at %s", s.expires, in.Now)
				}
			}
			states := describe(ring, in.Now)
			next, behind := strings.Count(states, "Next"), in.Now.Before(furthest)
			if strings.Count(states, "Active") != 1 || next < 1 || next > 1 && !behind || len(ring.Keys) > maxKeys-2 {
				t.Fatalf("%d keys: %s", len(ring.Keys), states)
			}
			if slices.ContainsFunc(ring.Keys, func(k Key) bool { return slices.Contains(gone, k.ID) }) {
				t.Fatal("a revoked key is back")
			}
			last := ring.Keys[len(ring.Keys)-1]
			if !signers[last.ID] && last.ActiveFrom.Before(last.PublishedAt.Add(Publication)) {
				t.Fatalf("a key will sign that is published for %s only", last.ActiveFrom.Sub(last.PublishedAt))
			}
			if again, err := ring.Plan(in); err != nil || again.Changed {
				t.Fatalf("planned again it changes to %s: %v", describe(again.Ring, in.Now), err)
			}
		}
	})
}
