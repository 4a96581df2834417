// Package forwarded is how one role of the operator tells another where a request comes
// from that it passes on, so that the other needn't believe anybody else.
package forwarded

import (
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Header is the name of the header: the time in Unix seconds, the address, and a seal over
// both and over the method and path of the request, separated by semicolons.
const Header = "M2m-Forwarded"

// Lifetime is how long a header is taken, and how far clocks may differ.
const Lifetime = 60 * time.Second

// Bounds in bytes: of the header, and of the time in it.
const (
	maxHeader = 512
	maxTime   = 12
)

// Mark says in a request's header where it comes from. Seal makes a seal; false: it can't
// at present, and the request must not be sent.
func Mark(r *http.Request, address string, now time.Time, seal func(parts ...string) (string, bool)) bool {
	at := strconv.FormatInt(now.Unix(), 10)
	sealed, ok := seal(at, address, r.Method, r.URL.EscapedPath())
	if ok {
		r.Header.Set(Header, at+";"+address+";"+sealed)
	}
	return ok
}

// Address returns where a request comes from, if its header says so and the seal holds.
// Check tells whether a seal was made over these parts.
func Address(r *http.Request, now time.Time, check func(seal string, parts ...string) bool) (address string, ok bool) {
	values := r.Header[Header]
	if len(values) != 1 {
		return "", false
	}
	m, ok := parse(values[0])
	if !ok || m.age(now) > Lifetime || m.age(now) < -Lifetime {
		return "", false
	}
	if !check(m.seal, m.at, m.address, r.Method, r.URL.EscapedPath()) {
		return "", false
	}
	return m.address, true
}

// mark is a header's value.
type mark struct {
	at, address, seal string
	seconds           int64
}

func (m *mark) age(now time.Time) time.Duration { return now.Sub(time.Unix(m.seconds, 0)) }

// parse reads a header's value, in the one form that [Mark] writes.
func parse(value string) (m mark, ok bool) {
	if len(value) > maxHeader {
		return mark{}, false
	}
	var rest string
	m.at, rest, _ = strings.Cut(value, ";")
	m.address, m.seal, _ = strings.Cut(rest, ";")
	seconds, err := strconv.ParseInt(m.at, 10, 64)
	if err != nil || len(m.at) > maxTime || strconv.FormatInt(seconds, 10) != m.at {
		return mark{}, false
	}
	if _, err := netip.ParseAddr(m.address); err != nil || m.seal == "" {
		return mark{}, false
	}
	m.seconds = seconds
	return m, true
}
