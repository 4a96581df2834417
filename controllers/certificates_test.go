package controllers

import (
	"crypto/rand"
	"testing"
	"time"

	"github.com/m2m-operator/m2m-operator/internal/certificate"
)

// A client gets a successor by and by, and at once what has nothing of the bundle before.
func TestAuthorityFor(t *testing.T) {
	now := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	authorities := func(in certificate.Input) []certificate.Authority {
		in.Now = now
		d, err := certificate.Decide(in, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return d.Authorities
	}
	first := authorities(certificate.Input{})
	has := string(certificate.Bundle(first))
	successor := string(certificate.Bundle(authorities(certificate.Input{Authorities: first, Renew: true})))
	another := string(certificate.Bundle(authorities(certificate.Input{})))
	for name, test := range map[string]struct {
		url, has, bundle, want string
		after                  time.Duration
	}{
		"nothing yet":               {"https://tls.svc", "", has, has, 0},
		"nothing new":               {"https://tls.svc", has, has, has, 0},
		"a successor, at once":      {"https://tls.svc", has, successor, has, 0},
		"a successor, half a day":   {"https://tls.svc", has, successor, successor, spreadTime},
		"after the first was lost":  {"https://tls.svc", has, another, another, 0},
		"somebody's text":           {"https://tls.svc", "x", has, has, 0},
		"another name":              {"https://auth.example.com", has, has, "", 0},
		"the system's certificates": {"https://tls.svc", has, "", "", 0},
	} {
		trusts := &trust{names: []string{"tls.svc"}, bundle: test.bundle, since: now}
		id := certificate.ID([]byte(test.has))
		if name == "somebody's text" {
			id = "of another"
		}
		if got, at := trusts.authorityFor(test.url, "uid", test.has, id, now.Add(test.after)); got != test.want || at.IsZero() != (got != test.has || got == test.bundle) {
			t.Errorf("%s: %d bytes, wanted %d; until %v", name, len(got), len(test.want), at)
		}
	}
}
