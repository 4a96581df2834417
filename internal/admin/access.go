package admin

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"
	authorizationv1 "k8s.io/api/authorization/v1"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/catalogue"
	"github.com/m2m-operator/m2m-operator/internal/managementapi"
)

// accessFor is how long the API server's word on what somebody may do is used again.
const accessFor = 10 * time.Second

// access asks the API server what callers may do.
type access struct {
	ask func(ctx context.Context, review *authorizationv1.SubjectAccessReview) error
	now func() time.Time

	allowed answers[bool]
}

// may tells whether RBAC lets a caller do something with the M2MClients of a namespace,
// or with one of them; of all namespaces where it is empty.
func (a *access) may(ctx context.Context, by managementapi.Caller, verb, namespace, name string) (bool, error) {
	spec := authorizationv1.SubjectAccessReviewSpec{
		User: by.User.Name, UID: by.User.UID, Groups: by.User.Groups,
		ResourceAttributes: &authorizationv1.ResourceAttributes{
			Group: v1alpha1.SchemeGroupVersion.Group, Resource: "m2mclients",
			Verb: verb, Namespace: namespace, Name: name,
		},
	}
	for key, values := range by.User.Extra {
		if spec.Extra == nil {
			spec.Extra = map[string]authorizationv1.ExtraValue{}
		}
		spec.Extra[key] = values
	}
	text, err := json.Marshal(spec)
	if err != nil {
		return false, fmt.Errorf("encoding a SubjectAccessReview: %w", err)
	}
	key := sha256.Sum256(text)
	if allowed, ok := a.allowed.kept(key, a.now()); ok {
		return allowed, nil
	}
	review := &authorizationv1.SubjectAccessReview{Spec: spec}
	if err := a.ask(ctx, review); err != nil {
		return false, refused("asking what the caller may do", err)
	}
	a.allowed.keep(key, review.Status.Allowed, a.now().Add(accessFor))
	return review.Status.Allowed, nil
}

// own tells whether a client was made by the management API in the project's own
// namespace: with these a holder of a project secret may do as they like.
func (s *Service) own(by managementapi.Caller, o *v1alpha1.M2MClient) bool {
	return by.Method == managementapi.ByProjectSecret && s.apiNamespace(by.Issuer) == o.Namespace && catalogue.Made(o)
}

// apiNamespace is where the clients of an issuer live that the API makes; empty: it
// makes none.
func (s *Service) apiNamespace(issuer string) string {
	i := s.cluster.issuer(func(i *v1alpha1.ClusterM2MIssuer) bool { return i.Name == issuer })
	if i == nil || i.Spec.ManagementAPI == nil {
		return ""
	}
	return i.Spec.ManagementAPI.Namespace
}

// find finds a client that the caller may see and do something with. Who may not see
// it is told what somebody is told who asks for one that isn't there.
func (s *Service) find(ctx context.Context, by managementapi.Caller, id, verb string) (*v1alpha1.M2MClient, error) {
	if err := s.ready(); err != nil {
		return nil, err
	}
	o, ok := s.cluster.catalogue.Client(by.Issuer, id)
	if !ok {
		return nil, managementapi.NotFound()
	}
	if s.own(by, o) {
		return o, nil
	}
	for _, verb := range []string{"get", verb} {
		allowed, err := s.access.may(ctx, by, verb, o.Namespace, o.Name)
		switch {
		case err != nil:
			return nil, err
		case !allowed && verb == "get":
			return nil, managementapi.NotFound()
		case !allowed:
			return nil, &managementapi.Problem{
				Status: http.StatusForbidden, Type: managementapi.TypeForbidden,
				Message: fmt.Sprintf("user %q may not %s m2mclients in namespace %q: ask for a RoleBinding there", by.User.Name, verb, o.Namespace),
			}
		}
	}
	return o, nil
}

// askedAtOnce is how many questions about namespaces are under way for one search.
const askedAtOnce = 16

// visible tells which clients a caller may list, as a function that asks nobody.
func (s *Service) visible(ctx context.Context, by managementapi.Caller) (func(namespace string, made bool) bool, error) {
	all, err := s.access.may(ctx, by, "list", "", "")
	if err != nil || all {
		return func(string, bool) bool { return err == nil }, err
	}
	namespaces := s.cluster.catalogue.Namespaces(by.Issuer)
	allowed := make([]bool, len(namespaces))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(askedAtOnce)
	for i, namespace := range namespaces {
		group.Go(func() (err error) {
			allowed[i], err = s.access.may(ctx, by, "list", namespace, "")
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	may := map[string]bool{}
	for i, namespace := range namespaces {
		may[namespace] = allowed[i]
	}
	home := ""
	if by.Method == managementapi.ByProjectSecret {
		home = s.apiNamespace(by.Issuer)
	}
	return func(namespace string, made bool) bool {
		return may[namespace] || made && namespace == home
	}, nil
}
