package certificate

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var (
	start = time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	names = map[string][]string{"tls": {"m2m-operator.m2m-system.svc", "m2m-operator"}, "api": {"m2m-operator-api.m2m-system.svc"}}
)

func decide(t testing.TB, in Input) Decision {
	t.Helper()
	in.Names = names
	d, err := Decide(in, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// verifies tells why a program that trusts a bundle doesn't take what a server shows.
func verifies(p Pair, bundle []byte, host string, now time.Time) error {
	chain, err := parseCertificates(p.Certificate)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(bundle)
	_, err = chain[0].Verify(x509.VerifyOptions{Roots: roots, DNSName: host, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	return err
}

func TestFirst(t *testing.T) {
	d := decide(t, Input{Now: start})
	if !d.Changed || !d.Made || len(d.Authorities) != 1 || len(d.Serving) != 2 {
		t.Fatalf("%+v", d)
	}
	for name, pair := range d.Serving {
		if _, err := tls.X509KeyPair(pair.Certificate, pair.Key); err != nil {
			t.Error(err)
		}
		for _, host := range names[name] {
			if err := verifies(pair, Bundle(d.Authorities), host, start); err != nil {
				t.Error(err)
			}
		}
		if verifies(pair, Bundle(d.Authorities), "other.example.com", start) == nil {
			t.Error("it is good for any host")
		}
	}
	again := decide(t, Input{Now: start.Add(time.Hour), Authorities: d.Authorities, Serving: d.Serving})
	if again.Changed || len(again.Serving) > 0 || !again.NextAt.After(start.Add(time.Hour)) {
		t.Errorf("nothing was to be done: %+v", again)
	}
}

// What is no serving certificate of the authority's, or for other names, is made anew.
func TestServingIsMended(t *testing.T) {
	first := decide(t, Input{Now: start})
	other := decide(t, Input{Now: start})
	good := first.Serving["tls"]
	for name, test := range map[string]struct {
		pair Pair
		now  time.Time
		anew bool
	}{
		"good":                  {good, start, false},
		"before half":           {good, start.Add(servingLifetime/2 - time.Second), false},
		"after half":            {good, start.Add(servingLifetime / 2), true},
		"before its beginning":  {good, start.Add(-2 * skew), true},
		"nothing":               {Pair{}, start, true},
		"another's key":         {Pair{good.Certificate, other.Serving["tls"].Key}, start, true},
		"no key":                {Pair{good.Certificate, []byte("x")}, start, true},
		"of another authority":  {other.Serving["tls"], start, true},
		"for other names":       {first.Serving["api"], start, true},
		"with something behind": {Pair{append(Bundle(other.Authorities), good.Certificate...), good.Key}, start, true},
	} {
		d := decide(t, Input{Now: test.now, Authorities: first.Authorities, Serving: map[string]Pair{"tls": test.pair, "api": first.Serving["api"]}})
		if _, anew := d.Serving["tls"]; anew != test.anew {
			t.Errorf("%s: made anew is %v", name, anew)
		}
	}
}

// A successor is published, and signs when a day has passed and everybody has it, after a
// week whoever hasn't, or when there is no time left.
func TestSuccession(t *testing.T) {
	first := decide(t, Input{Now: start})
	asked := decide(t, Input{Now: start, Authorities: first.Authorities, Serving: first.Serving, Renew: true})
	if !asked.Made || len(asked.Authorities) != 2 || len(asked.Serving) > 0 {
		t.Fatalf("%+v", asked)
	}
	if more := decide(t, Input{Now: start, Authorities: asked.Authorities, Serving: first.Serving, Renew: true}); more.Made {
		t.Error("a third was made")
	}
	shown := decide(t, Input{Now: start, Authorities: asked.Authorities, Serving: first.Serving, Shown: true, Spread: true})
	if !shown.Changed || !shown.Authorities[1].Published.Equal(start) || len(shown.Serving) > 0 {
		t.Fatalf("%+v", shown)
	}
	end := first.Authorities[0].Certificate.NotAfter
	for name, test := range map[string]struct {
		at     time.Time
		spread bool
		signs  bool
	}{
		"too early":   {start.Add(notice - time.Second), true, false},
		"heard":       {start.Add(notice), true, true},
		"not by all":  {start.Add(holdup - time.Second), false, false},
		"long enough": {start.Add(holdup), false, true},
	} {
		d := decide(t, Input{Now: test.at, Authorities: shown.Authorities, Serving: first.Serving, Shown: true, Spread: test.spread})
		if signs := !d.Authorities[0].Replaced.IsZero(); signs != test.signs {
			t.Errorf("%s: the next signs: %v", name, signs)
		}
	}
	for at, signs := range map[time.Time]bool{end.Add(-lastCall): false, end.Add(-lastCall + time.Second): true} {
		d := decide(t, Input{Now: at, Authorities: asked.Authorities, Serving: first.Serving})
		if !d.Authorities[0].Replaced.IsZero() != signs {
			t.Errorf("%v before the end one that was never published signs: %v", end.Sub(at), !signs)
		}
	}
	signing := decide(t, Input{Now: start.Add(notice), Authorities: shown.Authorities, Serving: first.Serving, Shown: true, Spread: true})
	if len(signing.Serving) != 2 {
		t.Fatal("what the first signed isn't made anew")
	}
	for at, want := range map[time.Duration]int{servingLifetime: 2, servingLifetime + skew: 1} {
		later := decide(t, Input{Now: start.Add(notice + at), Authorities: signing.Authorities, Serving: signing.Serving, Shown: true, Spread: true})
		if len(later.Authorities) != want {
			t.Errorf("%v after it was replaced there are %d authorities", at, len(later.Authorities))
		}
	}
	late := decide(t, Input{Now: end.Add(-succession + time.Second), Authorities: first.Authorities, Serving: first.Serving})
	if !late.Made || len(late.Authorities) != 2 {
		t.Error("an old authority gets no successor")
	}
	over := decide(t, Input{Now: end.Add(time.Hour), Authorities: first.Authorities, Serving: first.Serving})
	if !over.Made || len(over.Authorities) != 1 || len(over.Serving) != 2 {
		t.Error("an authority that ended is still there")
	}
}

// years simulates an operator whose controller is away now and then.
type years struct {
	now         time.Time
	authorities []Authority
	serving     map[string]Pair
	shown       []moment  // bundles that verifiers could read, from the oldest on
	copies      []byte    // what everybody was given last
	since       time.Time // when that was what could be read
}

type moment struct {
	from   time.Time
	bundle []byte
}

// run lets the controller do what it has to, or fall over in between, where it may.
func (y *years) run(t *rapid.T, may bool) {
	current := Bundle(y.authorities)
	latest := []byte(nil)
	if len(y.shown) > 0 {
		latest = y.shown[len(y.shown)-1].bundle
	}
	shown := string(latest) == string(current)
	d, err := Decide(Input{
		Now: y.now, Authorities: y.authorities, Serving: y.serving, Names: names,
		Shown: shown, Spread: shown && string(y.copies) == string(latest), Renew: rapid.IntRange(0, 40).Draw(t, "renew") == 0,
	}, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	falls := 9
	if may {
		falls = rapid.IntRange(0, 9).Draw(t, "falls")
	}
	if falls == 0 {
		return
	}
	y.authorities = d.Authorities
	if falls == 1 {
		return
	}
	if now := Bundle(y.authorities); string(now) != string(latest) {
		y.shown = append(y.shown, moment{y.now, now})
	}
	if falls == 2 {
		return
	}
	maps.Copy(y.serving, d.Serving)
}

// Whoever reads the bundle once a day takes what servers show, whatever comes in between:
// falls at each write, and a controller that is away for up to three days. From the months
// of an authority in which nothing happens but new serving certificates little is shown.
func TestYears(t *testing.T) {
	if err := flag.Set("rapid.checks", "20"); err != nil { // each is months of signatures
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		y := &years{now: start, serving: map[string]Pair{}}
		for len(y.serving) < len(names) {
			y.run(t, true)
		}
		y.now = y.authorities[0].Certificate.NotAfter.Add(-succession - 4*24*time.Hour)
		y.since = y.now
		y.serving = map[string]Pair{}
		for len(y.serving) < len(names) {
			y.run(t, true)
		}
		for end := y.now.Add(succession + 20*24*time.Hour); y.now.Before(end); {
			hours := rapid.IntRange(6, 24)
			if rapid.IntRange(0, 19).Draw(t, "away") == 0 {
				hours = rapid.IntRange(24, 72)
			}
			y.now = y.now.Add(time.Duration(hours.Draw(t, "hours")) * time.Hour)
			for try := range 3 {
				y.run(t, try < 2)
			}
			latest := y.shown[len(y.shown)-1].bundle
			if rapid.Bool().Draw(t, "spread") || y.now.Sub(y.since) >= holdup-72*time.Hour {
				y.copies = latest
			}
			if string(y.copies) == string(latest) {
				y.since = y.now
			}
			y.check(t)
		}
	})
}

func (y *years) check(t *rapid.T) {
	for n, m := range y.shown {
		replaced := y.now
		if n+1 < len(y.shown) {
			replaced = y.shown[n+1].from
		}
		if y.now.Sub(replaced) >= notice {
			continue // who read it has read another since
		}
		for name, pair := range y.serving {
			if err := verifies(pair, m.bundle, names[name][0], y.now); err != nil {
				t.Fatalf("at %v the bundle of %v: %v", y.now, m.from, err)
			}
		}
	}
	for name, pair := range y.serving {
		if err := verifies(pair, y.copies, names[name][0], y.now); y.copies != nil && err != nil {
			t.Fatalf("at %v a copy: %v", y.now, err)
		}
	}
}

func TestShare(t *testing.T) {
	first, other := decide(t, Input{Now: start}).Authorities, decide(t, Input{Now: start}).Authorities
	both := slices.Concat(first, other)
	for name, test := range map[string]struct {
		a, b []byte
		want bool
	}{
		"the same":    {Bundle(first), Bundle(first), true},
		"a successor": {Bundle(first), Bundle(both), true},
		"its end":     {Bundle(both), Bundle(other), true},
		"another":     {Bundle(first), Bundle(other), false},
		"nothing":     {nil, Bundle(first), false},
		"no text":     {[]byte("x"), []byte("x"), false},
	} {
		if got := Share(test.a, test.b); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestCovers(t *testing.T) {
	for host, want := range map[string]bool{
		"m2m-operator.m2m-system.svc": true, "M2M-Operator.m2m-system.svc": true, "a.auth.example.com": true,
		"auth.example.com": false, "b.a.auth.example.com": false, "other.svc": false, "127.0.0.1": false, "": false,
	} {
		if got := Covers([]string{"m2m-operator.m2m-system.svc", "*.auth.example.com"}, host); got != want {
			t.Errorf("%q: %v", host, got)
		}
	}
}

func TestEncoding(t *testing.T) {
	d := decide(t, Input{Now: start})
	d = decide(t, Input{Now: start, Authorities: d.Authorities, Renew: true})
	d.Authorities[0].Published, d.Authorities[0].Replaced = start, start.Add(time.Hour)
	text, err := Encode(d.Authorities)
	if err != nil {
		t.Fatal(err)
	}
	read, err := Decode(text)
	if err != nil || len(read) != 2 || !same(read[0], d.Authorities[0]) || !same(read[1], d.Authorities[1]) || !read[0].Key.Equal(d.Authorities[0].Key) {
		t.Errorf("%v %v", read, err)
	}
	swapped := strings.Replace(string(text), `"key"`, `"keys"`, 1)
	for _, bad := range []string{"", "[]", "{}", `[{}]`, swapped} {
		if _, err := Decode([]byte(bad)); err == nil {
			t.Errorf("%.40q is taken", bad)
		}
	}
}

// FuzzDecode: what is taken is whole.
func FuzzDecode(f *testing.F) {
	d := decide(f, Input{Now: start})
	text, err := Encode(d.Authorities)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`[{"certificate":"","key":""}]`))
	f.Fuzz(func(t *testing.T, text []byte) {
		authorities, err := Decode(text)
		for _, a := range authorities {
			if a.Certificate == nil || a.Key == nil || !a.Key.PublicKey.Equal(a.Certificate.PublicKey) {
				t.Error("a part of it is missing")
			}
		}
		if (err == nil) != (len(authorities) > 0) {
			t.Errorf("%d authorities, %v", len(authorities), err)
		}
	})
}

// FuzzNames: no certificate chain of strangers breaks anything.
func FuzzNames(f *testing.F) {
	f.Add(decide(f, Input{Now: start}).Serving["tls"].Certificate)
	f.Fuzz(func(_ *testing.T, chain []byte) {
		if names, err := Names(chain); err == nil {
			Covers(names, "m2m-operator.m2m-system.svc")
		}
	})
}
