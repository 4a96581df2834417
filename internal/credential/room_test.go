package credential

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// lose loses the Secret a while after it was made, and waits as long as the decision
// asks for; it returns how long, and what made room.
func lose(t testing.TB, in *Input, visible time.Duration) (waited time.Duration, ended []Version) {
	t.Helper()
	in.Now = in.Now.Add(visible)
	in.Secret = ObservedSecret{State: SecretAbsent}
	lost := in.Now
	for range 3 {
		d := mustDecide(t, *in)
		*in = after(*in, d)
		if d.Problem == ProblemNone {
			return in.Now.Sub(lost), d.Ended
		}
		if !d.NextAt.After(in.Now) {
			t.Fatalf("%s doesn't say when to look again", d)
		}
		in.Now = d.NextAt
	}
	t.Fatalf("no secret after %s", in.Now.Sub(lost))
	return 0, nil
}

// A Secret that is lost again and again comes back each time: at once at first, then
// after a pause that grows; the version that ran for long stays valid.
func TestLostAgainAndAgain(t *testing.T) {
	in := issued(t, newTestPepper(t, 1))
	first, last := in.Secret.Version, time.Duration(0)
	visible := 48 * time.Hour
	for n := range 40 {
		waited, ended := lose(t, &in, visible)
		visible = time.Second
		switch {
		case n < 3 && waited > 0:
			t.Errorf("loss %d: waited %s", n+1, waited)
		case n >= 3 && n < MaxVersions-1 && waited <= last:
			t.Errorf("loss %d: the pause doesn't grow: %s after %s", n+1, waited, last)
		case waited > 5*time.Minute:
			t.Errorf("loss %d: waited %s", n+1, waited)
		case (len(ended) > 0) != (n >= MaxVersions-1):
			t.Errorf("loss %d: %v made room", n+1, ended)
		}
		last = waited
		if !slices.ContainsFunc(in.Record.Credentials, func(c Credential) bool { return c.Version == first }) {
			t.Fatalf("loss %d: the version that was visible for longest has ended", n+1)
		}
	}
	if waited, _ := lose(t, &in, 10*time.Minute); waited > 0 {
		t.Errorf("after a while nothing fights it, and it waited %s", waited)
	}
}

func TestMakeRoom(t *testing.T) {
	full := func(t *testing.T) Input {
		in := issued(t, newTestPepper(t, 1))
		lose(t, &in, 2*time.Hour)
		for n := range MaxVersions - 2 {
			lose(t, &in, 10*time.Minute+time.Duration(n)*time.Second)
		}
		return in
	}
	version := func(in *Input, number int) string {
		for _, c := range in.Record.Credentials {
			if c.Version.Number == number {
				return c.Version.String()
			}
		}
		return ""
	}
	for name, test := range map[string]struct {
		usage func(*Input)
		want  int
	}{
		"nothing is known: the one visible for least": {func(*Input) {}, 2},
		"used: all the same":                          {func(in *Input) { in.Usage.Covered = in.Now; use(in, version, 2, 3, 4, 5, 6, 7, 8) }, 2},
		"one that nobody used goes first":             {func(in *Input) { in.Usage.Covered = in.Now; use(in, version, 2, 3, 4, 6, 7, 8) }, 5},
		"a server is gone: all may be used":           {func(in *Input) { in.Usage.Covered, in.Usage.Gap = in.Now, in.Now; use(in, version, 2, 3, 4, 6, 7, 8) }, 2},
		"the one visible longest stays, unused or not": {func(in *Input) {
			in.Usage.Covered = in.Now
			use(in, version, 2, 3, 4, 5, 6, 7, 8)
		}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			in := full(t)
			test.usage(&in)
			_, ended := lose(t, &in, 10*time.Minute+30*time.Second)
			if len(ended) != 1 || ended[0].Number != test.want {
				t.Errorf("ended %v, not version %d", ended, test.want)
			}
		})
	}
}

func use(in *Input, version func(*Input, int) string, numbers ...int) {
	in.Usage.LastUsed = map[string]time.Time{}
	for _, n := range numbers {
		in.Usage.LastUsed[version(in, n)] = in.Now
	}
}

// However a Secret is lost: the client has another within minutes unless all its
// versions were visible for long, never more than MaxVersions, and what was visible for
// longest is not what makes room.
func TestRoomProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pepper, err := NewPepper(testRand(1))
		if err != nil {
			t.Fatal(err)
		}
		in := firstInput(pepper)
		d, err := Decide(in)
		if err != nil {
			t.Fatal(err)
		}
		in = after(in, d)
		for range rapid.IntRange(1, 40).Draw(t, "losses") {
			in.Now = in.Now.Add(time.Duration(rapid.IntRange(0, 5000).Draw(t, "seconds")) * time.Second)
			in.Secret = ObservedSecret{State: rapid.SampledFrom([]SecretState{SecretAbsent, SecretAltered}).Draw(t, "loss")}
			if rapid.Bool().Draw(t, "reported") {
				in.Usage.Covered = in.Now
			}
			loseOnce(t, &in)
		}
	})
}

func loseOnce(t *rapid.T, in *Input) {
	lost := in.Now
	for {
		longest := newPlan(*in).prune().longestVisible()
		soon := slices.ContainsFunc(newPlan(*in).prune().credentials, func(c Credential) bool {
			p := newPlan(*in).prune()
			return c.Version != longest && p.visible(c) < soonLost
		})
		d, err := Decide(*in)
		if err != nil {
			t.Fatal(err)
		}
		*in = after(*in, d)
		switch {
		case len(in.Record.Credentials) > MaxVersions:
			t.Fatalf("%d versions", len(in.Record.Credentials))
		case slices.Contains(d.Ended, longest):
			t.Fatalf("version %s ended, which was visible for longest: %s", longest, roles(in.Record))
		case d.Problem == ProblemTooManyVersions && soon:
			t.Fatalf("no room, and there is a version that was soon lost: %s", roles(in.Record))
		case d.Problem == ProblemLostAgain && d.NextAt.Sub(lost) > 5*time.Minute:
			t.Fatalf("it waits for %s", d.NextAt.Sub(lost))
		case d.Problem == ProblemNone:
			return
		}
		in.Now = d.NextAt
	}
}
