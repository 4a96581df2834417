package credential

import (
	"bytes"
	"fmt"
	"maps"
	"regexp"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestPepperRoundTrip(t *testing.T) {
	p := newTestPepper(t, 1)
	read, err := ParsePepper(p.Data())
	if err != nil {
		t.Fatal(err)
	}
	hash := read.Hash("id", "secret")
	digests := p.Digests("id", "secret")
	if !digests.Matches(&hash) {
		t.Error("a pepper read back hashes otherwise")
	}
}

func TestPepperOfSeveralKeys(t *testing.T) {
	old, active := newTestPepper(t, 1), newTestPepper(t, 2)
	data := active.Data()
	maps.Copy(data, map[string][]byte{old.ActiveKeyID(): old.Data()[old.ActiveKeyID()]})
	both, err := ParsePepper(data)
	if err != nil {
		t.Fatal(err)
	}
	hash := old.Hash("id", "secret")
	digests := both.Digests("id", "secret")
	if !digests.Matches(&hash) {
		t.Error("a hash of the older key isn't matched")
	}
	if both.ActiveKeyID() != active.ActiveKeyID() {
		t.Error("the wrong key is active")
	}
	seal := old.SealRecord(uid, Record{ClientID: "id"})
	if both.CheckRecord(uid, Record{ClientID: "id", Seal: seal}) != SealValid {
		t.Error("a seal of the older key doesn't hold")
	}
}

func TestPepperRefusesDamage(t *testing.T) {
	p := newTestPepper(t, 1)
	id := p.ActiveKeyID()
	for name, change := range map[string]func(map[string][]byte){
		"empty":         func(d map[string][]byte) { clear(d) },
		"no active":     func(d map[string][]byte) { delete(d, "active") },
		"other active":  func(d map[string][]byte) { d["active"] = []byte("p0") },
		"key gone":      func(d map[string][]byte) { delete(d, id) },
		"key cut":       func(d map[string][]byte) { d[id] = d[id][:31] },
		"bit flipped":   func(d map[string][]byte) { d[id] = bytes.Clone(d[id]); d[id][0] ^= 1 },
		"key renamed":   func(d map[string][]byte) { d["p1"], d["active"] = d[id], []byte("p1"); delete(d, id) },
		"foreign entry": func(d map[string][]byte) { d["note"] = []byte("hello") },
	} {
		data := p.Data()
		change(data)
		if _, err := ParsePepper(data); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// Any change to what is sealed breaks the seal, whatever the change is.
func TestSealBindsEveryField(t *testing.T) {
	p := newTestPepper(t, 1)
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringN(0, 8, -1)
		identity := rapid.Custom(func(t *rapid.T) SecretIdentity {
			return SecretIdentity{text.Draw(t, "uid"), text.Draw(t, "ns"), text.Draw(t, "name"), text.Draw(t, "id"),
				Version{rapid.IntRange(1, 3).Draw(t, "n"), text.Draw(t, "four")}, rapid.Bool().Draw(t, "next")}
		})
		a, b := identity.Draw(t, "a"), identity.Draw(t, "b")
		x, y := text.Draw(t, "x"), text.Draw(t, "y")
		same := a == b && x == y
		if got := p.CheckSecret(b, y, p.SealSecret(a, x)) == SealValid; got != same {
			t.Fatalf("seal of %v %q holds for %v %q: %v", a, x, b, y, got)
		}
	})
}

func TestHashIsNoSeal(t *testing.T) {
	p := newTestPepper(t, 1)
	if p.CheckRecord("id", Record{ClientID: "secret", Seal: p.Hash("id", "secret").String()}) == SealValid {
		t.Error("a hash passes for a seal")
	}
}

var secretForm = regexp.MustCompile(`^[0-9A-Za-z]{43}$`)

func TestSecretForm(t *testing.T) {
	rand := testRand(5)
	counts := map[rune]int{}
	for range 2000 {
		secret, err := newSecret(rand)
		if err != nil || !secretForm.MatchString(secret) {
			t.Fatalf("%q %v", secret, err)
		}
		for _, r := range secret {
			counts[r]++
		}
	}
	// 86 000 letters over 62: each about 1387, with a standard deviation of 37.
	for r, n := range counts {
		if n < 1150 || n > 1650 {
			t.Errorf("%q occurs %d times: the choice isn't fair", r, n)
		}
	}
	if len(counts) != 62 {
		t.Errorf("%d letters", len(counts))
	}
}

func FuzzParse(f *testing.F) {
	f.Add("p0123456789:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
	f.Add("3-x8Fa")
	f.Fuzz(func(t *testing.T, s string) {
		if h, err := ParseHash(s); err == nil && h.String() != s {
			t.Errorf("hash %q reads as %q", s, h)
		}
		if v, err := ParseVersion(s); err == nil && v.String() != s {
			t.Errorf("version %q reads as %q", s, v)
		}
	})
}

func FuzzParsePepper(f *testing.F) {
	p := newTestPepper(f, 1)
	f.Add(p.ActiveKeyID(), p.ActiveKeyID(), p.Data()[p.ActiveKeyID()])
	f.Fuzz(func(t *testing.T, active, id string, key []byte) {
		p, err := ParsePepper(map[string][]byte{"active": []byte(active), id: key})
		if err == nil && !p.HasKey(p.ActiveKeyID()) {
			t.Error("a pepper without its active key")
		}
	})
}

// Any change to a record breaks its seal, whatever the change is.
func TestSealBindsTheRecord(t *testing.T) {
	p := newTestPepper(t, 1)
	rapid.Check(t, func(t *rapid.T) {
		instant := rapid.Custom(func(t *rapid.T) time.Time {
			if second := rapid.Int64Range(0, 2).Draw(t, "second"); second > 0 {
				return time.Unix(second, 0).UTC()
			}
			return time.Time{}
		})
		text := rapid.StringN(0, 3, -1)
		record := rapid.Custom(func(t *rapid.T) Record {
			r := Record{
				ClientID: text.Draw(t, "id"), LastNumber: rapid.IntRange(0, 2).Draw(t, "last"),
				RotatedAt: instant.Draw(t, "rotated"), CancelledAt: instant.Draw(t, "cancelled"),
				Triggers: Triggers{text.Draw(t, "trigger"), text.Draw(t, "annotation")},
			}
			for n := range rapid.IntRange(0, 2).Draw(t, "versions") {
				r.Credentials = append(r.Credentials, Credential{
					Version: Version{n + 1, text.Draw(t, "four")}, Role: rapid.SampledFrom([]Role{RoleCurrent, RoleNext}).Draw(t, "role"),
					CreatedAt: instant.Draw(t, "created"), RetireAfter: instant.Draw(t, "retire"), NotAfter: instant.Draw(t, "end"),
				})
			}
			return r
		})
		a, b := record.Draw(t, "a"), record.Draw(t, "b")
		b.Seal = p.SealRecord(uid, a)
		if got, want := p.CheckRecord(uid, b) == SealValid, fmt.Sprint(a) == fmt.Sprint(Record{ClientID: b.ClientID, Credentials: b.Credentials, LastNumber: b.LastNumber, RotatedAt: b.RotatedAt, CancelledAt: b.CancelledAt, Triggers: b.Triggers}); got != want {
			t.Fatalf("seal of %v holds for %v: %v", a, b, got)
		}
	})
}

func TestPepperRotation(t *testing.T) {
	old := newTestPepper(t, 1)
	published, err := old.WithNext(testRand(2))
	if err != nil {
		t.Fatal(err)
	}
	stored, err := ParsePepper(published.Data())
	if err != nil || stored.NextKeyID() == "" || stored.ActiveKeyID() != old.ActiveKeyID() {
		t.Fatalf("published: next %q, active %q, %v", stored.NextKeyID(), stored.ActiveKeyID(), err)
	}
	if stored.Without(old.ActiveKeyID()).HasKey(old.ActiveKeyID()) == false || !stored.Without(stored.NextKeyID()).HasKey(stored.NextKeyID()) {
		t.Error("a key that is needed was dropped")
	}
	active, err := ParsePepper(stored.Activate().Data())
	if err != nil || active.NextKeyID() != "" || active.ActiveKeyID() != stored.NextKeyID() || !active.HasKey(old.ActiveKeyID()) {
		t.Fatalf("activated: next %q, active %q, %v", active.NextKeyID(), active.ActiveKeyID(), err)
	}
	// A rotation of the client's secret moves its hash and its seal.
	in := issued(t, old)
	in.Pepper = active
	if d := mustDecide(t, in); d.Changed {
		t.Error("a pepper's rotation rewrites a client that nothing happens to")
	}
	in = rotated(t, in)
	current, _ := in.Record.Current()
	if current.Hash.KeyID != active.ActiveKeyID() || active.Without(old.ActiveKeyID()).CheckRecord(uid, in.Record) != SealValid {
		t.Error("the rotated client is still hashed or sealed with the old key")
	}
}
