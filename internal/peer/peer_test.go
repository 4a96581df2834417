package peer

import (
	"net/http"
	"net/netip"
	"testing"
)

// Only who is trusted is believed, and only as far as the trusted have written.
func TestAddress(t *testing.T) {
	trusted, err := ParseProxies("10.0.0.0/8, 192.0.2.7,2001:db8::/32")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		peer  string
		lines []string
		want  string
	}{
		"no header":            {"10.0.0.1:80", nil, "10.0.0.1"},
		"a stranger":           {"198.51.100.1:80", []string{"203.0.113.9"}, "198.51.100.1"},
		"a proxy":              {"10.0.0.1:80", []string{"203.0.113.9"}, "203.0.113.9"},
		"IPv6":                 {"[2001:db8::1]:80", []string{"2001:dead::1"}, "2001:dead::1"},
		"IPv4 in IPv6":         {"[::ffff:10.0.0.1]:80", []string{"::ffff:203.0.113.9"}, "203.0.113.9"},
		"two proxies":          {"10.0.0.1:80", []string{"203.0.113.9, 192.0.2.7"}, "203.0.113.9"},
		"two lines":            {"10.0.0.1:80", []string{"203.0.113.9", "192.0.2.7"}, "203.0.113.9"},
		"forged to the left":   {"10.0.0.1:80", []string{"127.0.0.1, 203.0.113.9"}, "203.0.113.9"},
		"forged in a line":     {"10.0.0.1:80", []string{"127.0.0.1", "203.0.113.9"}, "203.0.113.9"},
		"nonsense to the left": {"10.0.0.1:80", []string{"\x00, 203.0.113.9"}, "203.0.113.9"},
		"nonsense":             {"10.0.0.1:80", []string{"203.0.113.9, unknown"}, "10.0.0.1"},
		"nonsense before":      {"10.0.0.1:80", []string{"unknown, 192.0.2.7"}, "192.0.2.7"},
		"a zone":               {"10.0.0.1:80", []string{"fe80::1%;\n"}, "10.0.0.1"},
		"nothing":              {"10.0.0.1:80", []string{"", ","}, "10.0.0.1"},
		"all are trusted":      {"10.0.0.1:80", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
		"with ports":           {"10.0.0.1:80", []string{"203.0.113.9:1234, [2001:db8::5]:443"}, "203.0.113.9"},
		"no address":           {"@", []string{"203.0.113.9"}, "@"},
	} {
		r := &http.Request{RemoteAddr: c.peer, Header: http.Header{}}
		if c.lines != nil {
			r.Header["X-Forwarded-For"] = c.lines
		}
		if got := trusted.Address(r); got != c.want {
			t.Errorf("%s: %q, not %q", name, got, c.want)
		}
		if host := Proxies(nil).Address(r); c.peer != "@" && netip.MustParseAddrPort(c.peer).Addr().String() != host {
			t.Errorf("%s: nobody is trusted, and it is %q", name, host)
		}
	}
}

func TestParseProxies(t *testing.T) {
	for _, list := range []string{",", "10.0.0.0/8,", "10.0.0.0/33", "10.0.0", "localhost", "fe80::1%eth0", "::ffff:10.0.0.0/104", "10.0.0.0/8;10.0.0.0/8"} {
		if p, err := ParseProxies(list); err == nil {
			t.Errorf("%q: %v", list, p)
		}
	}
	if p, err := ParseProxies(""); err != nil || p != nil {
		t.Errorf("%v, %v", p, err)
	}
}

// FuzzAddress: what a stranger writes to the left of his own address changes nothing, and
// whatever comes out of a header is an address.
func FuzzAddress(f *testing.F) {
	f.Add("203.0.113.9", "10.0.0.2")
	f.Add(", [::1]:80", "\x00,")
	f.Fuzz(func(t *testing.T, left, line string) {
		trusted := Proxies{netip.MustParsePrefix("10.0.0.0/8")}
		r := &http.Request{RemoteAddr: "10.0.0.1:80", Header: http.Header{"X-Forwarded-For": {left, "203.0.113.9"}}}
		if got := trusted.Address(r); got != "203.0.113.9" {
			t.Fatalf("%q before his address makes a stranger %q", left, got)
		}
		r.Header["X-Forwarded-For"] = []string{left, line}
		if got, err := netip.ParseAddr(trusted.Address(r)); err != nil || got.Zone() != "" {
			t.Fatalf("%q, %q: %v, %v", left, line, got, err)
		}
	})
}
