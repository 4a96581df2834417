package admin

import (
	"context"
	"crypto/sha256"
	"net/http"
	"slices"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/jws"
	"github.com/m2m-operator/m2m-operator/internal/managementapi"
)

// AudiencePath follows an issuer's URL in the audience of the Kubernetes tokens that the
// management API takes: a token for the token endpoint, which pods hold, is none. No
// issuer's URL ends with a slash, so it is never that of another's token endpoint.
const AudiencePath = "/v1/m2m/"

// Bounds of what strangers can make the API server do.
const (
	// refusedFor is how long the API server's refusal of a token is remembered.
	refusedFor = 10 * time.Second
	// maxReviews bounds the TokenReviews that are under way.
	maxReviews = 16
	// reviewPatience is how long one waits for its turn.
	reviewPatience = 2 * time.Second
)

// reviews asks the API server whose a token is.
type reviews struct {
	ask func(context.Context, *authenticationv1.TokenReview) error
	now func() time.Time
	// keys are the cluster's own: its tokens are checked here first; empty: they aren't
	// known, and each token is asked about.
	keys func() (issuer string, keys jws.KeySet)

	turns   chan struct{}
	refused answers[struct{}]
}

// errBusy says that too many questions about tokens are under way.
var errBusy = &managementapi.Problem{
	Status: http.StatusServiceUnavailable, Type: managementapi.TypeUnavailable, Reason: "token_reviews_busy", RetryAfter: time.Second,
	Message: "too many Kubernetes tokens are being checked at present: try again in a moment",
}

// user returns whose a token is that is for one audience.
func (r *reviews) user(ctx context.Context, text string, token *jws.Token, audience string, limited func() error) (authenticationv1.UserInfo, error) {
	digest := sha256.Sum256([]byte(text))
	if _, was := r.refused.kept(digest, r.now()); was {
		return authenticationv1.UserInfo{}, unauthorized("token_refused")
	}
	switch issuer, keys := r.keys(); {
	case issuer != "" && token.Claims.Issuer == issuer:
		if keys.Verify(token, nil) != nil {
			return authenticationv1.UserInfo{}, unauthorized("token_signature")
		}
	default:
		// Only the API server can tell: who failed too often must wait.
		if err := limited(); err != nil {
			return authenticationv1.UserInfo{}, err
		}
	}
	review := &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: text, Audiences: []string{audience}}}
	if err := r.review(ctx, review); err != nil {
		return authenticationv1.UserInfo{}, err
	}
	if !review.Status.Authenticated || !slices.Contains(review.Status.Audiences, audience) {
		r.refused.keep(digest, struct{}{}, r.now().Add(refusedFor))
		return authenticationv1.UserInfo{}, unauthorized("token_refused")
	}
	return review.Status.User, nil
}

// review asks in turn.
func (r *reviews) review(ctx context.Context, review *authenticationv1.TokenReview) error {
	wait := time.NewTimer(reviewPatience)
	defer wait.Stop()
	select {
	case r.turns <- struct{}{}:
		defer func() { <-r.turns }()
	case <-wait.C:
		return errBusy
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := r.ask(ctx, review); err != nil {
		return refused("asking for a TokenReview", err)
	}
	return nil
}

// Bearer implements [managementapi.Authenticator]: the project is the one whose audience
// the token is made for, alone, and the API server says who has it.
func (s *Service) Bearer(ctx context.Context, text string, limited func() error) (managementapi.Caller, error) {
	token, err := jws.Parse(text)
	if err != nil {
		return managementapi.Caller{}, unauthorized("malformed_token")
	}
	if len(token.Claims.Audience) != 1 {
		return managementapi.Caller{}, unauthorized("token_for_several")
	}
	audience := token.Claims.Audience[0]
	issuer := s.cluster.issuer(func(i *v1alpha1.ClusterM2MIssuer) bool {
		return audience == i.Spec.URL+AudiencePath || s.AcceptIssuerURL && audience == i.Spec.URL
	})
	if issuer == nil {
		return managementapi.Caller{}, unauthorized("token_for_no_issuer")
	}
	by := caller(issuer)
	u, err := s.reviews.user(ctx, text, token, audience, limited)
	if err != nil {
		return by, err
	}
	by.Method = managementapi.ByToken
	by.User = managementapi.User{Name: u.Username, UID: u.UID, Groups: u.Groups, Extra: map[string][]string{}}
	for key, values := range u.Extra {
		by.User.Extra[key] = values
	}
	return by, nil
}
