package admin

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/forwarded"
	"github.com/m2m-operator/m2m-operator/internal/managementapi"
)

// unauthorized is the one answer to all who fail to authenticate; reason is for the
// audit log.
func unauthorized(reason string) *managementapi.Problem {
	return &managementapi.Problem{
		Status: http.StatusUnauthorized, Type: managementapi.TypeUnauthorized, Reason: reason,
		Message: "the credentials are not valid: send a project id and one of its project secrets by HTTP Basic, or a Kubernetes token made for the issuer's URL as Bearer",
	}
}

// Basic implements [managementapi.Authenticator].
func (s *Service) Basic(_ context.Context, projectID, secret string) (managementapi.Caller, error) {
	issuer := s.cluster.issuer(func(i *v1alpha1.ClusterM2MIssuer) bool { return i.Spec.ProjectID == projectID })
	digest := sha256.Sum256([]byte(secret))
	name, known := "", 0
	if issuer != nil {
		for _, p := range s.cluster.projectSecrets(issuer.Name) {
			if same := subtle.ConstantTimeCompare(digest[:], p.digest[:]); same == 1 {
				name, known = p.name, 1
			}
		}
	}
	switch {
	case issuer == nil:
		return managementapi.Caller{}, unauthorized("unknown_project")
	case known == 0:
		return caller(issuer), unauthorized("wrong_project_secret")
	}
	by := caller(issuer)
	by.Method, by.Credential = managementapi.ByProjectSecret, name
	by.User = managementapi.User{
		Name:   v1alpha1.ProjectUserPrefix + projectID,
		Groups: []string{v1alpha1.ProjectGroup, "system:authenticated"},
	}
	return by, nil
}

func caller(issuer *v1alpha1.ClusterM2MIssuer) managementapi.Caller {
	return managementapi.Caller{
		Issuer: issuer.Name, ProjectID: issuer.Spec.ProjectID, Live: issuer.Spec.Environment != v1alpha1.EnvironmentTest,
	}
}

// Bearer implements [managementapi.Authenticator]: the project is the one whose issuer's
// URL the token is made for, and the API server says who has it.
func (s *Service) Bearer(ctx context.Context, token string) (managementapi.Caller, error) {
	audiences := audiencesOf(token)
	issuer := s.cluster.issuer(func(i *v1alpha1.ClusterM2MIssuer) bool { return slices.Contains(audiences, i.Spec.URL) })
	if issuer == nil {
		return managementapi.Caller{}, unauthorized("token_for_no_issuer")
	}
	by := caller(issuer)
	review := &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: []string{issuer.Spec.URL}}}
	if err := s.client.Create(ctx, review); err != nil {
		return by, refused("asking for a TokenReview", err)
	}
	if !review.Status.Authenticated || !slices.Contains(review.Status.Audiences, issuer.Spec.URL) {
		return by, unauthorized("token_refused")
	}
	u := review.Status.User
	by.Method = managementapi.ByToken
	by.User = managementapi.User{Name: u.Username, UID: u.UID, Groups: u.Groups, Extra: map[string][]string{}}
	for key, values := range u.Extra {
		by.User.Extra[key] = values
	}
	return by, nil
}

// Peer is where a request comes from: where a server says, that passed it on, or who
// sent it.
func (s *Service) Peer(r *http.Request) string {
	if address, ok := s.passedOn(r); ok {
		return address
	}
	return r.RemoteAddr
}

// PassedOn tells whether a request comes from a server that passed it on.
func (s *Service) PassedOn(r *http.Request) bool {
	_, ok := s.passedOn(r)
	return ok
}

func (s *Service) passedOn(r *http.Request) (address string, ok bool) {
	pepper := s.cluster.Pepper()
	if pepper == nil {
		return "", false
	}
	return forwarded.Address(r, s.Now(), pepper.CheckPeer)
}

// audiencesOf reads whom a JWT says that it is for. Nothing is believed of it: it only
// says which issuer's URL the API server is asked about.
func audiencesOf(token string) []string {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil
	}
	claims, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return nil
	}
	var many struct {
		Audiences []string `json:"aud"`
	}
	if json.Unmarshal(claims, &many) == nil {
		return many.Audiences
	}
	var one struct {
		Audience string `json:"aud"`
	}
	if json.Unmarshal(claims, &one) == nil {
		return []string{one.Audience}
	}
	return nil
}
