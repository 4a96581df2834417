package keyring

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

var start = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

var algorithms = []Algorithm{ES256, ES384, RS256, RS384, PS256, EdDSA}

// with returns a ring with one more key, which signs from an instant on.
func with(t testing.TB, r Ring, alg Algorithm, activeFrom time.Time) Ring {
	t.Helper()
	k, err := Generate(rand.Reader, alg, activeFrom)
	if err != nil {
		t.Fatal(err)
	}
	k.Longest = time.Hour
	return Ring{append(slices.Clip(r.Keys), k), r.Triggers}
}

func TestRingRoundTrip(t *testing.T) {
	for _, alg := range algorithms {
		ring := with(t, Ring{Triggers: []string{"a", ""}}, alg, start)
		ring.Keys[0].PublishedAt, ring.Keys[0].Fixed = start.Add(-time.Hour), true
		data, err := ring.Data()
		if err != nil {
			t.Fatalf("%s: %v", alg, err)
		}
		read, err := Parse(data)
		if err != nil {
			t.Fatalf("%s: %v", alg, err)
		}
		want, got := ring.Keys[0], read.Keys[0]
		if got.ID != want.ID || got.Algorithm != alg || !got.ActiveFrom.Equal(want.ActiveFrom) || !got.PublishedAt.Equal(want.PublishedAt) ||
			got.Longest != time.Hour || !got.Fixed || !slices.Equal(read.Triggers, ring.Triggers) {
			t.Errorf("%s: read back %v, want %v", alg, got, want)
		}
		if again, err := read.Data(); err != nil || !maps.EqualFunc(again, data, bytes.Equal) {
			t.Errorf("%s: written again it differs", alg)
		}
	}
}

// A ring that an earlier version wrote says less of its keys. Dates are whole seconds.
func TestParseEarlier(t *testing.T) {
	ring := with(t, Ring{}, ES256, start)
	data, err := ring.Data()
	if err != nil {
		t.Fatal(err)
	}
	data[manifestEntry] = []byte(`{"keys":[{"kid":"` + ring.Keys[0].ID + `","alg":"ES256","activeFrom":"2026-11-22T10:00:00.9Z"}]}`)
	read, err := Parse(data)
	if err != nil || !read.Keys[0].PublishedAt.Equal(start) || !read.Keys[0].ActiveFrom.Equal(start) || read.Keys[0].Longest != MaxLifetime || read.Keys[0].Fixed {
		t.Errorf("%+v, %v", read, err)
	}
}

func TestParseRefusesDamage(t *testing.T) {
	ring, other := with(t, Ring{}, ES256, start), with(t, Ring{}, ES256, start)
	entry, otherEntry := ring.Keys[0].ID+".pem", other.Keys[0].ID+".pem"
	otherData, err := other.Data()
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(map[string][]byte){
		"empty": func(d map[string][]byte) { clear(d) },
		"odd lifetime": func(d map[string][]byte) {
			d[manifestEntry] = bytes.Replace(d[manifestEntry], []byte("1h0m0s"), []byte("999h"), 1)
		},
		"no keys":      func(d map[string][]byte) { d[manifestEntry] = []byte(`{"keys":[]}`) },
		"manifest cut": func(d map[string][]byte) { d[manifestEntry] = d[manifestEntry][:20] },
		"key gone":     func(d map[string][]byte) { delete(d, entry) },
		"key cut":      func(d map[string][]byte) { d[entry] = d[entry][:60] },
		"another key":  func(d map[string][]byte) { d[entry] = otherData[otherEntry] },
		"key twice": func(d map[string][]byte) {
			one := bytes.TrimSuffix(bytes.TrimPrefix(d[manifestEntry], []byte(`{"keys":[`)), []byte(`]}`))
			d[manifestEntry] = fmt.Appendf(nil, `{"keys":[%s,%s]}`, one, one)
		},
		"another algorithm": func(d map[string][]byte) {
			d[manifestEntry] = bytes.Replace(d[manifestEntry], []byte("ES256"), []byte("RS256"), 1)
		},
	} {
		data, err := ring.Data()
		if err != nil {
			t.Fatal(err)
		}
		private := string(data[entry])
		change(data)
		_, err = Parse(data)
		if err == nil {
			t.Errorf("%s: no error", name)
		} else if body := strings.Split(private, "\n")[1]; strings.Contains(err.Error(), body[:20]) {
			t.Errorf("%s: the error quotes the private key", name)
		}
	}
}

func TestActiveFollowsDates(t *testing.T) {
	first := with(t, Ring{}, ES256, start)
	both := with(t, first, RS256, start.Add(time.Hour))
	for _, test := range []struct {
		at   time.Time
		want int
	}{
		{start.Add(-time.Hour), 0}, // a clock that runs behind
		{start, 0},
		{start.Add(time.Hour - 1), 0},
		{start.Add(time.Hour), 1},
		{start.Add(9 * time.Hour), 1},
	} {
		if k, ok := both.Active(test.at); !ok || k.ID != both.Keys[test.want].ID {
			t.Errorf("at %s: key %s, want number %d", test.at, k.ID, test.want)
		}
	}
	if _, ok := (Ring{}).Active(start); ok {
		t.Error("an empty ring has an active key")
	}
}

func TestJWKSHoldsNothingPrivate(t *testing.T) {
	var ring Ring
	for i, alg := range algorithms {
		ring = with(t, ring, alg, start.Add(time.Duration(i)*time.Hour))
	}
	encoded, err := MarshalJWKS(ring.Keys)
	if err != nil {
		t.Fatal(err)
	}
	var set struct{ Keys []map[string]any }
	if err := json.Unmarshal(encoded, &set); err != nil {
		t.Fatal(err)
	}
	if len(set.Keys) != len(algorithms) {
		t.Fatalf("%d keys", len(set.Keys))
	}
	for _, key := range set.Keys {
		for _, private := range []string{"d", "p", "q", "dp", "dq", "qi", "k"} {
			if _, ok := key[private]; ok {
				t.Errorf("%v publishes %q", key["alg"], private)
			}
		}
	}
}

// A key is named by its thumbprint: 32 bytes in base64url.
func TestThumbprint(t *testing.T) {
	ring := with(t, Ring{}, EdDSA, start)
	jwk, err := ring.Keys[0].JWK()
	if err != nil {
		t.Fatal(err)
	}
	if len(jwk.KeyID) != 43 || jwk.KeyID != ring.Keys[0].ID {
		t.Errorf("kid %q", jwk.KeyID)
	}
}

func FuzzParse(f *testing.F) {
	ring := with(f, Ring{}, ES256, start)
	data, err := ring.Data()
	if err != nil {
		f.Fatal(err)
	}
	id := ring.Keys[0].ID
	f.Add(data[manifestEntry], id, data[id+".pem"])
	f.Fuzz(func(t *testing.T, manifest []byte, id string, key []byte) {
		ring, err := Parse(map[string][]byte{manifestEntry: manifest, id + ".pem": key})
		if err != nil {
			return
		}
		if _, err := MarshalJWKS(ring.Keys); err != nil {
			t.Errorf("a ring that was read can't be published: %v", err)
		}
	})
}
