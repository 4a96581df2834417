package forwarded

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

var testNow = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)

// sealed stands in for a seal that only roles of the operator can make.
func sealed(parts ...string) (string, bool) { return "k." + strings.Join(parts, "|"), true }

func holds(seal string, parts ...string) bool {
	want, _ := sealed(parts...)
	return seal == want
}

func marked(t *testing.T, address string) *http.Request {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, "http://api/v1/m2m/clients/a%2Fb%25?q=1", nil)
	if !Mark(r, address, testNow, sealed) {
		t.Fatal("not marked")
	}
	return r
}

// What one role writes another reads, as long as it is fresh and about the same request.
func TestForwarded(t *testing.T) {
	for _, address := range []string{"192.0.2.1", "2001:db8::1", "fe80::1%eth0"} {
		if got, ok := Address(marked(t, address), testNow, holds); !ok || got != address {
			t.Errorf("%q, %t; not %s", got, ok, address)
		}
	}
	for name, change := range map[string]func(r *http.Request, now *time.Time){
		"too old":       func(_ *http.Request, now *time.Time) { *now = now.Add(Lifetime + time.Second) },
		"to come":       func(_ *http.Request, now *time.Time) { *now = now.Add(-Lifetime - time.Second) },
		"other method":  func(r *http.Request, _ *time.Time) { r.Method = http.MethodPut },
		"other path":    func(r *http.Request, _ *time.Time) { r.URL.RawPath, r.URL.Path = "", "/v1/m2m/clients/a/b%" },
		"other address": func(r *http.Request, _ *time.Time) { replace(r, "192.0.2.1", "192.0.2.2") },
		"other time":    func(r *http.Request, _ *time.Time) { replace(r, "1795428000", "1795428001") },
		"no seal":       func(r *http.Request, _ *time.Time) { r.Header.Set(Header, "1795428000;192.0.2.1;") },
		"two":           func(r *http.Request, _ *time.Time) { r.Header.Add(Header, r.Header.Get(Header)) },
		"none":          func(r *http.Request, _ *time.Time) { r.Header.Del(Header) },
	} {
		r, now := marked(t, "192.0.2.1"), testNow
		change(r, &now)
		if got, ok := Address(r, now, holds); ok {
			t.Errorf("%s: %s", name, got)
		}
	}
	r := httptest.NewRequest(http.MethodGet, "http://api/", nil)
	if Mark(r, "192.0.2.1", testNow, func(...string) (string, bool) { return "", false }) || r.Header.Get(Header) != "" {
		t.Error("marked without a seal")
	}
}

func replace(r *http.Request, old, with string) {
	r.Header.Set(Header, strings.Replace(r.Header.Get(Header), old, with, 1))
}

// FuzzParse: a header has one form, and what is read from it writes it again.
func FuzzParse(f *testing.F) {
	f.Add("1795428000;192.0.2.1;k.seal")
	f.Add("-1;::1%a;b;c")
	f.Add("9223372036854775807;192.0.2.1;k")
	f.Fuzz(func(t *testing.T, value string) {
		m, ok := parse(value)
		if !ok {
			return
		}
		if m.at+";"+m.address+";"+m.seal != value || strings.ContainsAny(m.at+m.address, ";") {
			t.Fatalf("%q is read as %+v", value, m)
		}
		if age := m.age(testNow); age > 0 && m.seconds > testNow.Unix() || age < 0 && m.seconds < testNow.Unix() {
			t.Fatalf("%q is %s old", value, age)
		}
	})
}
