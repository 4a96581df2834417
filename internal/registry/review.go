package registry

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
)

// maxReviews bounds the answers that are kept.
const maxReviews = 10_000

// Reviewer asks the API server whether it takes a ServiceAccount's token, which it
// doesn't once the token's pod is gone. Answers are kept for a while.
type Reviewer struct {
	client rest.Interface
	keep   time.Duration

	mu      sync.Mutex
	answers map[[sha256.Size]byte]review
}

// review is an answer of the API server.
type review struct {
	valid bool
	until time.Time
}

// NewReviewer prepares to ask; keep is how long an answer is used again.
func NewReviewer(config *rest.Config, keep time.Duration) (*Reviewer, error) {
	client, err := restClient(config, authenticationv1.SchemeGroupVersion, "/apis", clientgoscheme.AddToScheme)
	if err != nil {
		return nil, err
	}
	return &Reviewer{client: client, keep: keep, answers: map[[sha256.Size]byte]review{}}, nil
}

// Review tells whether the API server takes a token for an audience.
func (r *Reviewer) Review(ctx context.Context, token, audience string) (bool, error) {
	key := sha256.Sum256([]byte(audience + "\n" + token))
	if answer, ok := r.kept(key); ok {
		return answer, nil
	}
	ask := &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: []string{audience}}}
	var answer authenticationv1.TokenReview
	if err := r.client.Post().Resource("tokenreviews").Body(ask).Timeout(requestTimeout).Do(ctx).Into(&answer); err != nil {
		return false, fmt.Errorf("asking for a TokenReview: %w", err)
	}
	valid := answer.Status.Authenticated && slices.Contains(answer.Status.Audiences, audience)
	r.put(key, valid)
	return valid, nil
}

func (r *Reviewer) kept(key [sha256.Size]byte) (valid, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	answer, ok := r.answers[key]
	return answer.valid, ok && time.Now().Before(answer.until)
}

func (r *Reviewer) put(key [sha256.Size]byte, valid bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.answers) >= maxReviews {
		clear(r.answers) // they are asked for again
	}
	r.answers[key] = review{valid, time.Now().Add(r.keep)}
}
