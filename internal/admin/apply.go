package admin

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	ac "github.com/m2m-operator/m2m-operator/api/v1alpha1/applyconfiguration/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/managementapi"
	"github.com/m2m-operator/m2m-operator/internal/ownership"
)

// contended is how a change is tried again that met another: a little later, and not when
// the other is, for half a second or somewhat more.
var contended = wait.Backoff{Steps: 12, Duration: 2 * time.Millisecond, Factor: 1.5, Jitter: 1}

// errUnchanged says that there is nothing to write.
var errUnchanged = errors.New("nothing changes")

// change reads a client, and applies what it must become: the fields that the API owns
// already, with what edit changes of them. It is tried again where somebody else wrote
// meanwhile, so that no change is lost. force takes over fields of others.
func (s *Service) change(ctx context.Context, found *v1alpha1.M2MClient, force bool, edit func(live *v1alpha1.M2MClient, apply *ac.M2MClientApplyConfiguration) error) (*v1alpha1.M2MClient, error) {
	var changed *v1alpha1.M2MClient
	err := retry.RetryOnConflict(contended, func() (err error) {
		changed, err = s.tryChange(ctx, found, force, edit)
		return err
	})
	if apierrors.IsConflict(err) {
		return nil, unavailable("the client was changed by others again and again", err.Error())
	}
	return changed, err
}

// tryChange is change, once: where somebody else wrote meanwhile it fails with the API server's conflict.
func (s *Service) tryChange(ctx context.Context, found *v1alpha1.M2MClient, force bool, edit func(live *v1alpha1.M2MClient, apply *ac.M2MClientApplyConfiguration) error) (*v1alpha1.M2MClient, error) {
	live, err := s.live(ctx, found)
	if err != nil {
		return nil, err
	}
	apply, err := ac.ExtractM2MClient(live, v1alpha1.ManagementAPI)
	if err != nil {
		return nil, fmt.Errorf("reading who owns the fields of a client: %w", err)
	}
	if err := edit(live, apply); err != nil {
		if errors.Is(err, errUnchanged) {
			return live, nil
		}
		return nil, err
	}
	if apply.Spec != nil && reflect.DeepEqual(*apply.Spec, ac.M2MClientSpecApplyConfiguration{}) {
		apply.Spec = nil // an empty one would own all of it
	}
	options := []client.ApplyOption{client.FieldOwner(v1alpha1.ManagementAPI)}
	if force {
		options = append(options, client.ForceOwnership)
	}
	err = s.client.Apply(ctx, apply.WithUID(live.UID).WithResourceVersion(live.ResourceVersion), options...)
	if err == nil {
		return applied(apply), nil
	}
	if problem := owned(err); problem != nil {
		return nil, problem
	}
	if apierrors.IsConflict(err) {
		return nil, err
	}
	return nil, refused("changing a client", err)
}

// live reads a client past the cache. One that was deleted, or made anew, is not found.
func (s *Service) live(ctx context.Context, found *v1alpha1.M2MClient) (*v1alpha1.M2MClient, error) {
	live := &v1alpha1.M2MClient{}
	err := s.client.Get(ctx, client.ObjectKeyFromObject(found), live)
	switch {
	case apierrors.IsNotFound(err), err == nil && (live.UID != found.UID || !live.DeletionTimestamp.IsZero()):
		return nil, managementapi.NotFound()
	case err != nil:
		return nil, refused("reading a client", err)
	}
	return live, nil
}

// owned translates a conflict of field managers; nil: it is none.
func owned(err error) *managementapi.Problem {
	var conflicts []string
	for _, c := range ownership.Conflicts(err) {
		conflicts = append(conflicts, fmt.Sprintf("%s belongs to the field manager %q", c.Field, c.Manager))
	}
	if conflicts == nil {
		return nil
	}
	return conflict("another manages this client: %s: change it there", strings.Join(conflicts, "; "))
}

// others are who, besides the API, owns a field of a client's spec; any field of it, where
// none is named.
func others(o *v1alpha1.M2MClient, field ...string) []string {
	entries := slices.DeleteFunc(slices.Clone(o.ManagedFields), func(e metav1.ManagedFieldsEntry) bool {
		return e.Subresource != "" || e.Manager == v1alpha1.ManagementAPI
	})
	return ownership.Managers(entries, append([]string{"spec"}, field...)...)
}
