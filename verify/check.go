package verify

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Profile is a form of tokens.
type Profile string

// The profiles.
const (
	// Stytch is the form that Stytch's SDKs verify: `typ: JWT`, `sub` is the client, `nbf`
	// and `scope` are always there.
	Stytch Profile = "Stytch"
	// RFC9068 is JWT access tokens of RFC 9068: `typ: at+jwt`, with `client_id` and `jti`.
	RFC9068 Profile = "RFC9068"
)

// rules are what the header and the claims of a token are checked against.
type rules struct {
	issuer     string
	audience   string
	profiles   []Profile
	algorithms []Algorithm
	leeway     time.Duration
}

// check decides over everything but the signature.
func (r *rules) check(now time.Time, h header, c *Claims) error {
	profile, known := profileOf(h.typ)
	switch {
	case !slices.Contains(r.algorithms, h.algorithm):
		return invalid("its algorithm is not one of those that are accepted")
	case !known || !slices.Contains(r.profiles, profile):
		return invalid("its typ is not that of a profile that is accepted")
	case c.Issuer != r.issuer:
		return invalid("it is from another issuer")
	case !slices.Contains(c.Audience, r.audience):
		return invalid("it is for another audience")
	case c.ExpiresAt.IsZero():
		return invalid("it has no exp")
	case c.IssuedAt.IsZero():
		return invalid("it has no iat")
	case c.ClientID == "":
		return invalid("it has no sub")
	case c.client != "" && c.client != c.ClientID:
		return invalid("its client_id is not its sub")
	}
	if err := profile.check(c); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalidToken, err)
	}
	return r.checkTimes(now, c)
}

// issuerAhead is how far an issuer's clock may be ahead for its iat to be believed, beside
// the leeway: as far as its nbf lies before its iat. Later dates would outlive
// limits on a token's age and deny lists, which go by iat.
const issuerAhead = time.Minute

func (r *rules) checkTimes(now time.Time, c *Claims) error {
	switch {
	case !now.Before(c.ExpiresAt.Add(r.leeway)):
		return ErrTokenExpired
	case !c.NotBefore.IsZero() && now.Add(r.leeway).Before(c.NotBefore):
		return invalid("it is not valid yet: compare the clocks")
	case now.Add(issuerAhead + r.leeway).Before(c.IssuedAt):
		return invalid("its iat is in the future: compare the clocks")
	}
	return nil
}

// profileOf finds the profile of a `typ` (RFC 7519 section 5.1, RFC 9068 section 4).
func profileOf(typ string) (Profile, bool) {
	switch typ {
	case "JWT":
		return Stytch, true
	case "at+jwt", "application/at+jwt":
		return RFC9068, true
	default:
		return "", false
	}
}

// check decides whether the claims of the profile are there, which also keeps other
// JWTs of the same issuer out (RFC 8725 section 3.12).
func (p Profile) check(c *Claims) error {
	switch {
	case p == Stytch && c.NotBefore.IsZero():
		return errors.New("it has no nbf")
	case p == Stytch && !c.hasScope:
		return errors.New("it has no scope")
	case p == RFC9068 && c.client == "":
		return errors.New("it has no client_id")
	case p == RFC9068 && c.ID == "":
		return errors.New("it has no jti")
	}
	return nil
}
