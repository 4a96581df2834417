package admin

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	authenticationv1 "k8s.io/api/authentication/v1"

	"github.com/m2m-operator/m2m-operator/internal/jws"
	"github.com/m2m-operator/m2m-operator/internal/managementapi"
)

const (
	clusterIssuer = "https://kubernetes.default.svc"
	testAudience  = "https://auth.example.com" + AudiencePath
)

// apiServer answers TokenReviews, and counts them.
type apiServer struct {
	key      *ecdsa.PrivateKey
	asked    int
	refuses  bool
	now      time.Time
	blocking chan struct{} // nil: it answers at once
}

func newAPIServer(t *testing.T) (*apiServer, *reviews) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	keys, err := jws.ParseKeySet(fmt.Appendf(nil, `{"keys":[{"kty":"EC","crv":"P-256","x":%q,"y":%q}]}`, encode(public[1:33]), encode(public[33:])))
	if err != nil {
		t.Fatal(err)
	}
	s := &apiServer{key: key, now: time.Unix(1_700_000_000, 0)}
	return s, &reviews{
		ask: s.answer, now: func() time.Time { return s.now }, turns: make(chan struct{}, maxReviews),
		keys: func() (string, jws.KeySet) { return clusterIssuer, keys },
	}
}

func (s *apiServer) answer(_ context.Context, review *authenticationv1.TokenReview) error {
	s.asked++
	if s.blocking != nil {
		<-s.blocking
	}
	review.Status = authenticationv1.TokenReviewStatus{Authenticated: !s.refuses, Audiences: review.Spec.Audiences, User: authenticationv1.UserInfo{Username: "jane"}}
	return nil
}

// token is one that an issuer has signed, or that only says so.
func (s *apiServer) token(t *testing.T, issuer string, forged bool) string {
	t.Helper()
	key := s.key
	if forged {
		var err error
		if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	text, err := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{"iss": issuer, "aud": testAudience, "exp": s.now.Unix() + 60}).SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func (r *reviews) check(t *testing.T, text string, limited error) error {
	t.Helper()
	token, err := jws.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.user(t.Context(), text, token, testAudience, func() error { return limited })
	return err
}

// Junk makes no work for the API server: what the cluster didn't sign is refused here, and
// what only the API server can check is not asked about by who failed too often.
func TestJunkBearers(t *testing.T) {
	s, r := newAPIServer(t)
	tooOften := &managementapi.Problem{Status: http.StatusTooManyRequests}
	for range 300 {
		if err := r.check(t, s.token(t, clusterIssuer, true), nil); statusOf(err) != http.StatusUnauthorized {
			t.Fatal(err)
		}
	}
	if s.asked != 0 {
		t.Errorf("300 tokens with a forged signature made %d TokenReviews", s.asked)
	}
	for range 300 {
		if err := r.check(t, s.token(t, "https://login.example.com", true), tooOften); statusOf(err) != http.StatusTooManyRequests {
			t.Fatal(err)
		}
	}
	if s.asked != 0 {
		t.Errorf("300 tokens of another issuer made %d TokenReviews, from an address that failed too often", s.asked)
	}
	// Who has a token that the cluster signed is not locked out by others at the address.
	if err := r.check(t, s.token(t, clusterIssuer, false), tooOften); err != nil || s.asked != 1 {
		t.Errorf("%v, %d TokenReviews", err, s.asked)
	}
	if err := r.check(t, s.token(t, "https://login.example.com", true), nil); err != nil || s.asked != 2 {
		t.Errorf("a token that only the API server can check: %v, %d TokenReviews", err, s.asked)
	}
}

// A refusal is remembered for some seconds, and an acceptance isn't.
func TestRefusedBearer(t *testing.T) {
	s, r := newAPIServer(t)
	deleted := s.token(t, clusterIssuer, false)
	s.refuses = true
	for range 50 {
		if err := r.check(t, deleted, nil); statusOf(err) != http.StatusUnauthorized {
			t.Fatal(err)
		}
	}
	if s.asked != 1 {
		t.Errorf("%d TokenReviews of one refused token", s.asked)
	}
	s.now, s.refuses = s.now.Add(refusedFor), false
	for n := range 2 {
		if err := r.check(t, deleted, nil); err != nil || s.asked != 2+n {
			t.Errorf("%v, %d TokenReviews", err, s.asked)
		}
	}
	for n := range maxAnswers + 1 {
		r.refused.keep([32]byte{byte(n), byte(n >> 8)}, struct{}{}, s.now)
	}
	if len(r.refused.of) > maxAnswers {
		t.Errorf("%d refusals are kept", len(r.refused.of))
	}
}

// So many questions are under way at most; who comes then is told to come again.
func TestBusyReviews(t *testing.T) {
	s, r := newAPIServer(t)
	for range maxReviews {
		r.turns <- struct{}{}
	}
	if err := r.check(t, s.token(t, clusterIssuer, false), nil); statusOf(err) != http.StatusServiceUnavailable || s.asked != 0 {
		t.Errorf("%v, %d TokenReviews", err, s.asked)
	}
	<-r.turns
	if err := r.check(t, s.token(t, clusterIssuer, false), nil); err != nil {
		t.Error(err)
	}
}

func statusOf(err error) int {
	if p, ok := errors.AsType[*managementapi.Problem](err); ok {
		return p.Status
	}
	return 0
}
