package token

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/m2m-operator/m2m-operator/internal/jws"
)

// Inspection is what a token of an issuer says, and who may hear it.
type Inspection struct {
	Token  *jws.Token
	Client *Client // whose token it is
	Digest [32]byte
	active bool
}

// inspect reads a token of the issuer's. One that no key of the issuer's has signed, that has
// expired, or whose client isn't there, is none.
func (a *Authority) inspect(now time.Time, issuer *Issuer, text string) (Inspection, bool) {
	t, err := jws.Parse(text)
	if err != nil || t.Type != issuer.Profile.typ() || t.Claims.Issuer != issuer.Claim {
		return Inspection{}, false
	}
	if err := issuer.verifying.Verify(t, nil); err != nil {
		return Inspection{}, false
	}
	if exp := t.Claims.ExpiresAt; exp == nil || *exp <= now.Unix() || t.Claims.IssuedAt == nil {
		return Inspection{}, false
	}
	client, known := a.directory.Client(issuer, t.Claims.Subject)
	if !known {
		return Inspection{}, false
	}
	i := Inspection{Token: t, Client: client, Digest: t.Digest()}
	i.active = client.active && *t.Claims.IssuedAt >= client.since && !client.hasRevoked(i.Digest)
	return i, true
}

// Introspect tells an authenticated caller what a token says (RFC 7662 section 2.2); false:
// the token isn't active, or is none of the caller's business. A caller sees its own
// tokens, and those for an audience that its own tokens have, or only those for itself.
func (a *Authority) Introspect(now time.Time, issuer *Issuer, caller *Client, text string) (Inspection, bool) {
	i, ok := a.inspect(now, issuer, text)
	if !ok || !i.active || i.Client.id != caller.id && !issuer.introspects(caller, i.Token.Claims.Audience) {
		return Inspection{}, false
	}
	return i, true
}

// introspects tells whether a caller may hear of a token of another client.
func (i *Issuer) introspects(caller *Client, audiences []string) bool {
	if i.audienceIntrospects {
		return slices.Contains(audiences, caller.id)
	}
	return caller.shares(audiences)
}

// Revocable tells whether a token can be revoked by an authenticated caller (RFC 7009
// section 2.1); false: there is nothing to revoke. A refusal is an [*Error].
func (a *Authority) Revocable(now time.Time, issuer *Issuer, caller *Client, text string) (Inspection, bool, error) {
	i, ok := a.inspect(now, issuer, text)
	switch {
	case !ok:
		return Inspection{}, false, nil
	case i.Client.id != caller.id:
		return Inspection{}, false, errNotYourToken
	}
	return i, i.active, nil
}

// ExpiresAt returns when the token expires.
func (i *Inspection) ExpiresAt() time.Time { return time.Unix(*i.Token.Claims.ExpiresAt, 0) }

// Append appends what the token says, as the answer to an introspection (RFC 7662
// section 2.2).
func (i *Inspection) Append(dst []byte) []byte {
	c := &i.Token.Claims
	dst = append(dst, `{"active":true,"token_type":"bearer"`...)
	for _, member := range []struct{ name, value string }{
		{"iss", c.Issuer}, {"sub", c.Subject}, {"client_id", c.Subject}, {"scope", c.Scope}, {"jti", c.ID},
	} {
		if member.name == "jti" && member.value == "" {
			continue
		}
		dst = append(AppendString(append(dst, ','), member.name), ':')
		dst = AppendString(dst, member.value)
	}
	dst = append(appendStrings(append(dst, `,"aud":[`...), c.Audience), ']')
	for _, member := range []struct {
		name string
		at   *int64
	}{{"iat", c.IssuedAt}, {"nbf", c.NotBefore}, {"exp", c.ExpiresAt}} {
		if member.at != nil {
			dst = append(AppendString(append(dst, ','), member.name), ':')
			dst = strconv.AppendInt(dst, *member.at, 10)
		}
	}
	return append(dst, '}')
}

// shares tells whether a client's tokens have one of the audiences.
func (c *Client) shares(audiences []string) bool {
	held := c.audiences.Value()
	return slices.ContainsFunc(audiences, func(a string) bool { return listed(held, a) })
}

// listed tells whether a word is among the elements of a JSON array.
func listed(elements, word string) bool {
	encoded := string(AppendString(nil, word))
	for rest := elements; ; {
		at := strings.Index(rest, encoded)
		if at < 0 {
			return false
		}
		end := at + len(encoded)
		if (at == 0 || rest[at-1] == ',') && (end == len(rest) || rest[end] == ',') {
			return true
		}
		rest = rest[at+1:]
	}
}
