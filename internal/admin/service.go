package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/jws"
	"github.com/m2m-operator/m2m-operator/internal/managementapi"
)

// +kubebuilder:rbac:groups=m2m-operator.dev,resources=m2mclients,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=m2m-operator.dev,resources=clusterm2missuers,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=namespaces,verbs=list;watch
// +kubebuilder:rbac:urls=/.well-known/openid-configuration;/openid/v1/jwks,verbs=get
// +kubebuilder:rbac:groups=authentication.k8s.io,resources=tokenreviews,verbs=create
// +kubebuilder:rbac:groups=authorization.k8s.io,resources=subjectaccessreviews,verbs=create
// +kubebuilder:rbac:groups="",namespace=m2m-system,resources=secrets,verbs=get;list;watch

// Options say how a service works. All of them are required.
type Options struct {
	Cluster *Cluster
	// Ready tells why what the watches brought can't be relied on; nil: it can.
	Ready func() error
	// Propagation is how long after a change holds here it takes the other servers to
	// know of it.
	Propagation time.Duration
	// Patience is how long the controller may take to carry out a change.
	Patience time.Duration
	// ClusterKeys are the issuer and the public keys of the cluster's ServiceAccount
	// tokens; empty: they aren't known.
	ClusterKeys func() (issuer string, keys jws.KeySet)
	// AcceptIssuerURL also takes tokens that were made for the token endpoint.
	AcceptIssuerURL bool
	Now             func() time.Time
	Rand            io.Reader // cryptographically secure, safe for concurrent use
}

// Service acts on M2MClients for the callers of the management API. It writes their
// specs and one annotation, never a status and never a Secret.
type Service struct {
	Options
	cluster *Cluster
	client  client.Client // without a cache
	access  access
	reviews reviews
}

var (
	_ managementapi.Authenticator = (*Service)(nil)
	_ managementapi.Clients       = (*Service)(nil)
)

// NewService prepares to talk to the API server.
func NewService(config *rest.Config, o Options) (*Service, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	config = rest.CopyConfig(config)
	config.QPS = -1 // the API server's priority and fairness is the limit
	direct, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("preparing to talk to the API server: %w", err)
	}
	s := &Service{Options: o, cluster: o.Cluster, client: direct}
	s.access = access{now: o.Now, ask: func(ctx context.Context, review *authorizationv1.SubjectAccessReview) error {
		return direct.Create(ctx, review)
	}}
	s.reviews = reviews{now: o.Now, keys: o.ClusterKeys, turns: make(chan struct{}, maxReviews), ask: func(ctx context.Context, review *authenticationv1.TokenReview) error {
		return direct.Create(ctx, review)
	}}
	return s, nil
}

// ready tells why no client can be found or changed at present; nil: they can.
func (s *Service) ready() error {
	if err := s.Ready(); err != nil {
		return unavailable("the management API does not know the cluster at present", err.Error())
	}
	if s.cluster.Pepper() == nil {
		return unavailable("credentials can't be made or checked at present", "no_pepper")
	}
	return nil
}

// await waits until this process has seen a client as a change left it, and the other
// servers had the time to.
func (s *Service) await(ctx context.Context, o *v1alpha1.M2MClient, holds func(now *v1alpha1.M2MClient) bool) (*v1alpha1.M2MClient, error) {
	wait, cancel := context.WithTimeout(ctx, s.Patience)
	defer cancel()
	now, err := s.cluster.catalogue.Await(wait, o.UID, holds)
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, err
	case err != nil:
		return nil, errUndone
	}
	select {
	case <-time.After(s.Propagation):
		return now, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// errUndone says that a change was written, and not carried out in time.
var errUndone = errors.New("the controller did not carry out the change in time")

// undone is the answer to a change whose outcome isn't known yet.
func undone(err error) error {
	if !errors.Is(err, errUndone) {
		return err
	}
	p := unavailable("the change is written, and the controller has not carried it out yet", err.Error())
	p.Status = http.StatusServiceUnavailable
	return p
}
