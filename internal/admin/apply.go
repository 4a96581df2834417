package admin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	ac "github.com/m2m-operator/m2m-operator/api/v1alpha1/applyconfiguration/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/managementapi"
)

// attempts bounds how often a change is tried again that met another.
const attempts = 8

// errUnchanged says that there is nothing to write.
var errUnchanged = errors.New("nothing changes")

// change reads a client, and applies what it must become: the fields that the API owns
// already, with what edit changes of them. It is tried again where somebody else wrote
// meanwhile, so that no change is lost. force takes over fields of others.
func (s *Service) change(ctx context.Context, found *v1alpha1.M2MClient, force bool, edit func(live *v1alpha1.M2MClient, apply *ac.M2MClientApplyConfiguration) error) (*v1alpha1.M2MClient, error) {
	var err error
	for range attempts {
		var live *v1alpha1.M2MClient
		if live, err = s.live(ctx, found); err != nil {
			return nil, err
		}
		var apply *ac.M2MClientApplyConfiguration
		if apply, err = ac.ExtractM2MClient(live, v1alpha1.ManagementAPI); err != nil {
			return nil, fmt.Errorf("reading who owns the fields of a client: %w", err)
		}
		if err = edit(live, apply); err != nil {
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
		if problem := ownership(err); problem != nil {
			return nil, problem
		}
		if !apierrors.IsConflict(err) {
			return nil, refused("changing a client", err)
		}
	}
	return nil, unavailable("the client was changed by others again and again", err.Error())
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

// ownership translates a conflict of field managers; nil: it is none.
func ownership(err error) *managementapi.Problem {
	var status apierrors.APIStatus
	if !apierrors.IsConflict(err) || !errors.As(err, &status) || status.Status().Details == nil {
		return nil
	}
	var conflicts []string
	for _, cause := range status.Status().Details.Causes {
		if cause.Type == metav1.CauseTypeFieldManagerConflict {
			manager := strings.TrimPrefix(cause.Message, "conflict with ")
			conflicts = append(conflicts, fmt.Sprintf("%s belongs to the field manager %s", strings.TrimPrefix(cause.Field, "."), manager))
		}
	}
	if conflicts == nil {
		return nil
	}
	return conflict("another manages this client: %s: change it there", strings.Join(conflicts, "; "))
}

// managers are who else manages the spec of a client.
func managers(o *v1alpha1.M2MClient) []string { return owners(o, "") }

// owners are who, besides the API, owns a field of a client's spec; any field of it,
// where none is named.
func owners(o *v1alpha1.M2MClient, field string) []string {
	var others []string
	for _, entry := range o.ManagedFields {
		if entry.Subresource != "" || entry.Manager == v1alpha1.ManagementAPI || entry.FieldsV1 == nil {
			continue
		}
		fields := &fieldpath.Set{}
		// What can't be read may be anything.
		if err := fields.FromJSON(bytes.NewReader(entry.FieldsV1.GetRawBytes())); err != nil || owned(fields, field) {
			others = append(others, entry.Manager)
		}
	}
	slices.Sort(others)
	return slices.Compact(others)
}

// owned tells whether a field of the spec, or any, is among fields.
func owned(fields *fieldpath.Set, field string) bool {
	found := false
	fields.Iterate(func(p fieldpath.Path) {
		found = found || under(p, 0, "spec") && (field == "" || under(p, 1, field))
	})
	return found
}

func under(p fieldpath.Path, depth int, name string) bool {
	return len(p) > depth && p[depth].FieldName != nil && *p[depth].FieldName == name
}
