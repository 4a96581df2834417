package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	ac "github.com/m2m-operator/m2m-operator/api/v1alpha1/applyconfiguration/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/catalogue"
	"github.com/m2m-operator/m2m-operator/internal/credential"
	"github.com/m2m-operator/m2m-operator/internal/journal"
	"github.com/m2m-operator/m2m-operator/internal/managementapi"
)

// StartRotation implements [managementapi.Clients]: a second secret is valid beside
// the one that the client has.
func (s *Service) StartRotation(ctx context.Context, by managementapi.Caller, id string) (managementapi.Changed, error) {
	var next credential.Material
	changed, err := s.rotate(ctx, by, id, func(d credential.Deposit, at credential.Place, lastNumber int) (after credential.Deposit, err error) {
		after, next, err = d.StartRotation(s.Now(), s.Rand, s.cluster.Pepper(), at, lastNumber)
		return after, err
	})
	changed.Secret = next.Value
	return changed, err
}

// Rotate implements [managementapi.Clients]: the second secret replaces the first,
// which ends at once.
func (s *Service) Rotate(ctx context.Context, by managementapi.Caller, id string) (managementapi.Changed, error) {
	return s.rotate(ctx, by, id, func(d credential.Deposit, at credential.Place, _ int) (credential.Deposit, error) {
		return d.Rotate(s.cluster.Pepper(), at)
	})
}

// CancelRotation implements [managementapi.Clients]: the second secret ends at once.
func (s *Service) CancelRotation(ctx context.Context, by managementapi.Caller, id string) (managementapi.Changed, error) {
	return s.rotate(ctx, by, id, func(d credential.Deposit, at credential.Place, _ int) (credential.Deposit, error) {
		return d.CancelRotation(s.cluster.Pepper(), at)
	})
}

// step is one step of a rotation.
type step func(d credential.Deposit, at credential.Place, lastNumber int) (credential.Deposit, error)

// rotate writes the next state of what a client's secrets are checked with, and waits
// until the controller has taken it over.
func (s *Service) rotate(ctx context.Context, by managementapi.Caller, id string, next step) (managementapi.Changed, error) {
	found, err := s.find(ctx, by, id, "patch")
	if err != nil {
		return managementapi.Changed{}, err
	}
	if err := rotatable(found); err != nil {
		return managementapi.Changed{}, err
	}
	var after credential.Deposit
	// The annotation is the API's alone: where somebody has altered it, it is put right.
	written, err := s.change(ctx, found, true, func(live *v1alpha1.M2MClient, apply *ac.M2MClientApplyConfiguration) (err error) {
		if after, err = s.next(live, next); err != nil {
			return err
		}
		text, err := journal.FormatDeposit(after)
		apply.WithAnnotations(map[string]string{v1alpha1.AnnotationCredential: text})
		return err
	})
	if err != nil {
		return managementapi.Changed{}, err
	}
	now, err := s.await(ctx, written, func(o *v1alpha1.M2MClient) bool {
		return o == nil || o.Status.CredentialSequence >= after.Sequence
	})
	if err != nil {
		return managementapi.Changed{}, undone(err)
	}
	if now == nil {
		return managementapi.Changed{}, managementapi.NotFound() // deleted meanwhile
	}
	return changed(now, ""), nil
}

// rotatable refuses clients whose secrets aren't the API's.
func rotatable(o *v1alpha1.M2MClient) error {
	switch {
	case o.Spec.Secret == nil || o.Spec.Secret.Delivery != v1alpha1.DeliveryNone:
		return conflict("the client's secret is delivered in a Secret of namespace %s, and never shown by this API: rotate it with kubectl m2m rotate %s -n %s, or with spec.rotation.trigger of its M2MClient",
			o.Namespace, o.Name, o.Namespace)
	case !catalogue.Made(o) && len(o.Status.Credentials) == 0:
		return conflict("the client has no secret: it authenticates as a ServiceAccount, or with a key of its own")
	}
	return nil
}

// next is the state that follows what client and status say.
func (s *Service) next(live *v1alpha1.M2MClient, next step) (credential.Deposit, error) {
	pepper := s.cluster.Pepper()
	if pepper == nil {
		return credential.Deposit{}, unavailable("credentials can't be made at present", "no_pepper")
	}
	record := journal.Read(&live.Status)
	if pepper.CheckRecord(string(live.UID), record) != credential.SealValid {
		return credential.Deposit{}, unavailable("the client's status is not the operator's own, and about to be put right", "forged_status")
	}
	at := credential.Place{Namespace: live.Namespace, Name: live.Name}
	after, err := next(journal.ObserveDeposit(live, pepper).Latest(record), at, record.LastNumber)
	if rotating, ok := errors.AsType[credential.RotatingError](err); ok {
		return after, &managementapi.Problem{
			Status: http.StatusConflict, Type: TypeRotationStarted,
			Message: fmt.Sprintf("a rotation has begun already, with the secret that ends in %s: rotate to it, or cancel it first", rotating.Next.LastFour),
		}
	}
	if _, ok := errors.AsType[credential.NotRotatingError](err); ok {
		return after, &managementapi.Problem{
			Status: http.StatusConflict, Type: TypeNoRotation,
			Message: "no rotation has begun: POST to .../secrets/rotate/start first",
		}
	}
	return after, err
}

// Types of problems with rotations.
const (
	TypeRotationStarted = "secret_rotation_already_started"
	TypeNoRotation      = "secret_rotation_not_started"
)
