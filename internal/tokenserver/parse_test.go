package tokenserver

import (
	"encoding/json"
	"maps"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/m2m-operator/m2m-operator/internal/token"
)

// text draws what a parameter may be.
var text = rapid.StringOf(rapid.OneOf(rapid.RuneFrom([]rune("ab:%+&=;\"\\/ \t\n{}é😀\u2028")), rapid.Rune())).
	Filter(isText)

// TestParse: what is encoded as others encode it arrives as it was.
func TestParse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sent := rapid.MapOfN(text, text, 0, maxParameters).Draw(t, "sent")
		values := url.Values{}
		for name, value := range sent {
			values.Set(name, value)
		}
		encoded, err := json.Marshal(sent)
		if err != nil {
			t.Fatal(err)
		}
		indented, err := json.MarshalIndent(sent, "\t", "\r\n ")
		if err != nil {
			t.Fatal(err)
		}
		for body, parse := range map[string]func(*parameters, string) error{
			values.Encode():  (*parameters).parseForm,
			string(encoded):  (*parameters).parseJSON,
			string(indented): (*parameters).parseJSON,
		} {
			var got parameters
			if err := parse(&got, body); err != nil {
				t.Fatalf("%q: %v", body, err)
			}
			if !maps.Equal(got.all(), sent) {
				t.Fatalf("%q was parsed as %q", body, got)
			}
		}
		for name, value := range sent {
			user, password, err := parseBasic(basic(url.QueryEscape(name), url.QueryEscape(value)))
			gotName, nameOK := unescape(user)
			gotValue, valueOK := unescape(password)
			if err != nil || !nameOK || !valueOK || gotName != name || gotValue != value {
				t.Fatalf("Basic %q:%q was parsed as %q:%q, %v", name, value, user, password, err)
			}
		}
	})
}

// all returns the parameters as a map.
func (p parameters) all() map[string]string {
	m := map[string]string{}
	for _, each := range p {
		m[each.name] = each.value
	}
	return m
}

// FuzzForm: what net/url reads is read alike, or refused for a reason of our own;
// what it doesn't read is refused.
func FuzzForm(f *testing.F) {
	for _, seed := range []string{goodForm, "a=b&a=c", "a;b", "%", "%4", "%zz=%41", "&&=&a", "a+b=c%20d", "\xff=\x00", "resource=a&resource=b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		var got parameters
		err := got.parseForm(body)
		want, theirs := url.ParseQuery(body)
		checkRefusalOf(t, body, err, theirs)
		if err != nil {
			return
		}
		count := 0
		for name, values := range want {
			count += len(values)
			if len(values) > 1 && !repeatable(name) || got.get(name) != values[0] {
				t.Errorf("%q: %q is %q, not %q", body, name, got.get(name), values)
			}
		}
		if count != len(got) {
			t.Errorf("%q was parsed as %q, not %q", body, got, want)
		}
	})
}

// FuzzJSON: what is read is read as encoding/json does.
func FuzzJSON(f *testing.F) {
	for _, seed := range []string{
		jsonOf(f, goodForm), ` { "a" : "b" , "c" : null } `, `{"a":"\ud83d\ude00\n\/"}`, `{"a":"\ud83d"}`, `{"a":1}`, `{}`, `{,}`, `{"a":"b"}x`, "{\"a\":\"\xff\"}", `{"a":"b","a":"c"}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		var got parameters
		err := got.parseJSON(body)
		var want map[string]*string
		theirs := json.Unmarshal([]byte(body), &want)
		checkRefusalOf(t, body, err, theirs)
		if err != nil {
			return
		}
		sent := map[string]string{}
		for name, value := range want {
			sent[name] = ""
			if value != nil {
				sent[name] = *value
			}
		}
		if !maps.Equal(got.all(), sent) {
			t.Errorf("%q was parsed as %q, not %q", body, got, sent)
		}
	})
}

// checkRefusalOf checks that we accept no more than others do, and refuse what
// they accept only where this server is stricter on purpose.
func checkRefusalOf(t *testing.T, body string, ours, theirs error) {
	t.Helper()
	if ours == nil && theirs != nil {
		t.Errorf("%q is accepted, where others say %v", body, theirs)
	}
	if ours == nil || theirs != nil {
		return
	}
	strict := ours == error(errRepeated) || ours == error(errTooManyParameters) || ours == error(errNotText) || //nolint:errorlint // the parsers return these values themselves
		strings.Contains(body, `\u`) || !utf8.ValidString(body) || body == "null" || strings.TrimSpace(body) == "null"
	if !strict {
		t.Errorf("%q is refused: %v", body, ours)
	}
}

// FuzzBasic: any header is refused as malformed or gives what was encoded.
func FuzzBasic(f *testing.F) {
	for _, seed := range []string{basic("a", "b"), "Basic", "basic  YTpi", "Bearer a", "Basic YTpi=", "\x00"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		x := exchange{issuer: &token.Issuer{ProjectID: projectID}}
		if err := x.identify([]string{header}); err != nil {
			if p := problemOf(err); p.status != 400 && p.status != 401 {
				t.Errorf("%q: %v", header, err)
			}
			return
		}
		r := x.request
		if !strings.EqualFold(header[:6], "Basic ") || r.ClientID == "" || !isText(r.ClientID) || !isText(r.ClientSecret) {
			t.Errorf("%q was parsed as %q and %q", header, r.ClientID, r.ClientSecret)
		}
	})
}

func mustParse(s string) *url.URL {
	u, err := url.Parse(s)
	if err != nil {
		panic(err)
	}
	return u
}
