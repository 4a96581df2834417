package admin

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"net/http"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/forwarded"
	"github.com/m2m-operator/m2m-operator/internal/managementapi"
)

// unauthorized is the one answer to all who fail to authenticate; reason is for the
// audit log.
func unauthorized(reason string) *managementapi.Problem {
	return &managementapi.Problem{
		Status: http.StatusUnauthorized, Type: managementapi.TypeUnauthorized, Reason: reason,
		Message: "the credentials are not valid: send a project id and one of its project secrets by HTTP Basic, or a Kubernetes token made for the issuer's URL and " + AudiencePath + " alone, as Bearer",
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
