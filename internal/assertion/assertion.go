// Package assertion decides what a client assertion proves (RFC 7521, RFC 7523): that it
// comes from a pod of a ServiceAccount, or from who has a client's private key. It is
// pure: the clock is a parameter.
package assertion

import (
	"slices"
	"strings"
	"time"

	"github.com/m2m-operator/m2m-operator/internal/jws"
)

// Algorithms that an assertion of a client's own may be signed with.
var Algorithms = []string{"ES256", "ES384", "RS256", "RS384", "PS256", "EdDSA"}

const (
	// skew is how far clocks may differ where an assertion says when it begins.
	skew = time.Minute
	// longest is how far ahead the end of a client's own assertion may lie.
	longest = 5 * time.Minute
	// maxID bounds `jti`, in bytes.
	maxID = 256
)

// Error says why an assertion proves nothing. It never quotes any of it.
type Error struct {
	Reason  string // for the audit log
	Message string // for the sender: ASCII without `"` and `\`
}

func (e *Error) Error() string { return e.Message + " (" + e.Reason + ")" }

var (
	errType      = &Error{"assertion_typ", "its typ must be JWT, client-authentication+jwt, or absent"}
	errAudience  = &Error{"assertion_audience", "its aud must be the URL of the issuer, alone"}
	errNoEnd     = &Error{"assertion_no_end", "it has no exp"}
	errEnded     = &Error{"assertion_expired", "it has expired"}
	errNotYet    = &Error{"assertion_not_yet", "it is not valid yet: check the clocks"}
	errTooLong   = &Error{"assertion_too_long", "it must expire within five minutes"}
	errNoID      = &Error{"assertion_no_id", "it needs a jti of 1 to 256 bytes"}
	errSubject   = &Error{"assertion_subject", "its iss and sub must both be the client id"}
	errIssuer    = &Error{"assertion_issuer", "its iss is not the cluster"}
	errNoAccount = &Error{"assertion_no_account", "it is not the token of a ServiceAccount of this cluster"}
)

// ServiceAccount is what a projected ServiceAccount token proves.
type ServiceAccount struct{ Namespace, Name, UID string }

// CheckServiceAccount checks a projected token of a ServiceAccount: signed by the cluster,
// and made for one audience alone. Whether the account still exists is for the caller to
// find out. An error is an [*Error] or a [*jws.Error].
func CheckServiceAccount(t *jws.Token, keys jws.KeySet, clusterIssuer, audience string, now time.Time) (ServiceAccount, error) {
	if t.Claims.Issuer != clusterIssuer || clusterIssuer == "" {
		return ServiceAccount{}, errIssuer
	}
	if err := keys.Verify(t, nil); err != nil {
		return ServiceAccount{}, err
	}
	if err := checkCommon(t, audience, now); err != nil {
		return ServiceAccount{}, err
	}
	var bound struct {
		Namespace string `json:"namespace"`
		Account   struct {
			Name string `json:"name"`
			UID  string `json:"uid"`
		} `json:"serviceaccount"`
	}
	if err := t.Claim("kubernetes.io", &bound); err != nil {
		return ServiceAccount{}, errNoAccount
	}
	account := ServiceAccount{bound.Namespace, bound.Account.Name, bound.Account.UID}
	if account.Namespace == "" || account.Name == "" || account.UID == "" ||
		t.Claims.Subject != "system:serviceaccount:"+account.Namespace+":"+account.Name {
		return ServiceAccount{}, errNoAccount
	}
	return account, nil
}

// CheckPrivateKey checks an assertion that a client has signed itself (private_key_jwt), as
// far as it can be checked without that client: short-lived, for this issuer alone, signed
// with one of [Algorithms], and with an id. Whose it is, the id and its end are returned:
// the caller checks the signature, and sees to it that it is used once ([Replays]). So
// what is wrong with it is the same whoever the client is. An error is an [*Error] or a
// [*jws.Error].
func CheckPrivateKey(t *jws.Token, audience string, now time.Time) (clientID, id string, expires time.Time, err error) {
	switch {
	case t.Claims.Issuer == "" || t.Claims.Subject != t.Claims.Issuer:
		err = errSubject
	case !slices.Contains(Algorithms, t.Algorithm):
		err = jws.ErrAlgorithm
	default:
		err = checkCommon(t, audience, now)
	}
	if err != nil {
		return "", "", time.Time{}, err
	}
	expires = time.Unix(*t.Claims.ExpiresAt, 0)
	switch {
	case expires.After(now.Add(longest + skew)):
		return "", "", time.Time{}, errTooLong
	case t.Claims.ID == "" || len(t.Claims.ID) > maxID:
		return "", "", time.Time{}, errNoID
	}
	return t.Claims.Issuer, t.Claims.ID, expires, nil
}

// checkCommon checks what both kinds must have. A type that isn't one of an assertion's
// may be that of a token which was given to somebody else for something else.
func checkCommon(t *jws.Token, audience string, now time.Time) error {
	c := &t.Claims
	switch {
	case t.Type != "" && !strings.EqualFold(t.Type, "JWT") && t.Type != "client-authentication+jwt":
		return errType
	case audience == "" || !slices.Equal(c.Audience, []string{audience}):
		return errAudience
	case c.ExpiresAt == nil:
		return errNoEnd
	case now.Unix() >= *c.ExpiresAt:
		return errEnded
	}
	for _, from := range []*int64{c.NotBefore, c.IssuedAt} {
		if from != nil && *from > now.Add(skew).Unix() {
			return errNotYet
		}
	}
	return nil
}
