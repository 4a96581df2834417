package token

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/m2m-operator/m2m-operator/internal/credential"
)

// scopeToken draws what RFC 6749 section 3.3 allows, from few letters, so that
// scopes are often alike or prefixes of each other.
var scopeToken = rapid.StringMatching(`[ab:*~!]{1,4}`)

// TestGrant: for whatever is held and asked for, a token carries exactly what was
// asked for, each scope once, or nothing where one is not held.
func TestGrant(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		held := rapid.SliceOfNDistinct(scopeToken, 0, 12, rapid.ID[string]).Draw(t, "held")
		asked := rapid.SliceOfN(rapid.OneOf(scopeToken, rapid.SampledFrom(append(held, "a"))), 0, 12).Draw(t, "asked")
		client, err := NewClient(ClientConfig{ID: "c", Audiences: []string{"a"}, Lifetime: time.Hour, Scopes: held})
		if err != nil {
			t.Fatal(err)
		}
		granted, err := client.grant(strings.Join(asked, " "))

		allowed := !slices.ContainsFunc(asked, func(s string) bool { return !slices.Contains(held, s) })
		if (err == nil) != allowed {
			t.Fatalf("held %q, asked %q: %v", held, asked, err)
		}
		if !allowed {
			return
		}
		want := held // all, where nothing is asked for
		if len(asked) > 0 {
			want = nil
			for _, scope := range asked {
				if !slices.Contains(want, scope) {
					want = append(want, scope)
				}
			}
		}
		if granted != strings.Join(want, " ") {
			t.Fatalf("held %q, asked %q: granted %q", held, asked, granted)
		}
	})
}

// TestNewClientRefuses: a client that is not sound gets no tokens.
func TestNewClientRefuses(t *testing.T) {
	for name, change := range map[string]func(*ClientConfig){
		"no id":             func(c *ClientConfig) { c.ID = "" },
		"no lifetime":       func(c *ClientConfig) { c.Lifetime = 0 },
		"negative lifetime": func(c *ClientConfig) { c.Lifetime = -time.Hour },
		"short lifetime":    func(c *ClientConfig) { c.Lifetime = time.Second - 1 },
		"empty scope":       func(c *ClientConfig) { c.Scopes = []string{""} },
		"scope with space":  func(c *ClientConfig) { c.Scopes = []string{"a b"} },
		"scope with quote":  func(c *ClientConfig) { c.Scopes = []string{`a"`} },
		"scope not ASCII":   func(c *ClientConfig) { c.Scopes = []string{"ä"} },
		"many scopes":       func(c *ClientConfig) { c.Scopes = slices.Repeat([]string{"a"}, MaxScopes+1) },
		"many credentials":  func(c *ClientConfig) { c.Credentials = make([]Credential, credential.MaxVersions+1) },
	} {
		config := ClientConfig{ID: "c", Audiences: []string{"a"}, Lifetime: time.Hour, Scopes: []string{"a"}}
		if _, err := NewClient(config); err != nil {
			t.Fatal(err)
		}
		change(&config)
		if _, err := NewClient(config); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestReplacing(t *testing.T) {
	for want, notAfter := range map[bool]time.Time{false: {}, true: time.Unix(1, 0)} {
		client, err := NewClient(ClientConfig{ID: "c", Audiences: []string{"a"}, Lifetime: time.Hour, Credentials: []Credential{{Version: "2-bbbb"}, {Version: "1-aaaa", NotAfter: notAfter}}})
		if err != nil {
			t.Fatal(err)
		}
		if client.Replacing() != want {
			t.Errorf("with a version until %v: %v", notAfter, !want)
		}
	}
}

// FuzzAppendString: the result is JSON, and says what encoding/json says.
func FuzzAppendString(f *testing.F) {
	for _, seed := range []string{"", `a"\b`, "\x00\x1f\x7f", "é\u2028<&>", "\xff\xc3", "\xed\xa0\x80", "😀"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var got, want string
		if err := json.Unmarshal(AppendString(nil, s), &got); err != nil {
			t.Fatalf("%q is not JSON: %v", s, err)
		}
		theirs, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(theirs, &want); err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Errorf("%q became %q, not %q", s, got, want)
		}
	})
}
