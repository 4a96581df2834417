package verify

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"
)

// Verifier verifies tokens of one issuer for one audience. It may be shared, and
// must be closed.
type Verifier struct {
	rules  rules
	now    func() time.Time
	keys   keySource
	denied DenyList // nil: none
	asked  *introspector
	client *http.Client
	closed atomic.Bool
}

// keySource is where public keys come from.
type keySource interface {
	// find returns the key with an id. It may wait for a fetch, for a short while.
	find(ctx context.Context, id string) (publicKey, error)
	// ready waits for the first keys.
	ready(ctx context.Context) error
	close()
}

// New returns a verifier of tokens that have exactly this `iss`, and this audience
// among theirs. Unless options say otherwise it takes tokens of the [Stytch] profile
// that are signed with [ES256], and finds the keys in the metadata of the issuer
// (RFC 8414). It asks nobody before it returns; see [Verifier.Ready].
func New(issuer, audience string, options ...Option) (*Verifier, error) {
	c := newConfig(issuer, audience)
	errs := []error{c.checkNames()}
	for _, option := range options {
		errs = append(errs, option(c))
	}
	if err := errors.Join(append(errs, c.complete())...); err != nil {
		return nil, fmt.Errorf("making a verifier: %w", err)
	}
	v := &Verifier{rules: c.rules, now: c.now, denied: c.denied, client: c.client}
	if c.introspection != nil {
		v.asked = newIntrospector(*c.introspection, c.client)
	}
	v.keys = c.fixedKeys
	if c.fixedKeys == nil {
		v.keys = newRemoteKeys(c)
	}
	return v, nil
}

// Ready waits for the first keys, or the end of the context. It fails when those that are
// there are too old. A readiness probe may ask it; requests need not.
func (v *Verifier) Ready(ctx context.Context) error { return v.keys.ready(ctx) }

// Close stops fetching keys. From then on every token is refused.
func (v *Verifier) Close() {
	v.closed.Store(true)
	v.keys.close()
	v.client.CloseIdleConnections()
}

// Requirement is what a call requires of a token beyond being valid.
type Requirement func(*requirements)

type requirements struct {
	scopes []string
	maxAge time.Duration
	aged   bool // maxAge counts
}

// RequiredScopes requires that the token's scopes cover all of these. A held `read:*`
// covers `read:users` and `read:users:all`, but neither `read` nor `write:users`; a
// required `read:*` is covered by itself only.
func RequiredScopes(scopes ...string) Requirement {
	return func(r *requirements) { r.scopes = append(r.scopes, scopes...) }
}

// MaxTokenAge requires that the token was issued no longer ago than this, the leeway
// aside, however long it is valid. It must be more than zero, or every token is refused.
func MaxTokenAge(age time.Duration) Requirement {
	return func(r *requirements) {
		if !r.aged || age < r.maxAge {
			r.maxAge, r.aged = age, true
		}
	}
}

// AuthenticateToken verifies a token, and that it has what the call requires. The error
// wraps one of this package's; whatever it is, the token must not be accepted.
func (v *Verifier) AuthenticateToken(ctx context.Context, token string, required ...Requirement) (*Claims, error) {
	var r requirements
	for _, require := range required {
		require(&r)
	}
	t, err := parseToken(token)
	if err != nil {
		return nil, err
	}
	// What is refused anyway needs no fetch of keys and no signature.
	now := v.now()
	if err := v.rules.check(now, t.header, &t.claims); err != nil {
		return nil, err
	}
	if err := v.checkSignature(ctx, t); err != nil {
		return nil, err
	}
	claims := &t.claims
	if r.aged && (r.maxAge <= 0 || now.Sub(claims.IssuedAt) > r.maxAge+v.rules.leeway) {
		return nil, fmt.Errorf("%w: it was issued longer ago than this allows", ErrTokenExpired)
	}
	claims.Digest = sha256.Sum256([]byte(t.signed))
	if err := v.checkRevoked(ctx, token, claims); err != nil {
		return nil, err
	}
	if !covers(claims.Scopes, r.scopes) {
		return nil, &ScopeError{Required: r.scopes}
	}
	return claims, nil
}

func (v *Verifier) checkSignature(ctx context.Context, t *token) error {
	if v.closed.Load() {
		return fmt.Errorf("%w: the verifier is closed", ErrKeysUnavailable)
	}
	key, err := v.keys.find(ctx, t.header.keyID)
	if err != nil {
		return err
	}
	return key.verify(t)
}

// checkRevoked asks those who may know more than the token says. Only tokens that are
// valid otherwise get here.
func (v *Verifier) checkRevoked(ctx context.Context, token string, c *Claims) error {
	if v.denied != nil {
		denied, err := v.denied.Denies(ctx, c)
		switch {
		case err != nil:
			return fmt.Errorf("%w: the deny list: %w", ErrRevocationUnavailable, err)
		case denied:
			return ErrTokenRevoked
		}
	}
	if v.asked == nil {
		return nil
	}
	active, err := v.asked.active(ctx, token, c)
	switch {
	case err != nil:
		return fmt.Errorf("%w: introspection: %w", ErrRevocationUnavailable, err)
	case !active:
		return ErrTokenRevoked
	}
	return nil
}
