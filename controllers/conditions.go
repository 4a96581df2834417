package controllers

import (
	"context"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
)

// verdict is what the conditions will say, by the rules of kstatus.
type verdict struct {
	ready   bool
	other   string // Stalled or Reconciling, where not ready
	reason  string
	message string
}

func ready(reason, message string) verdict { return verdict{true, "", reason, message} }

// stalled waits for a person.
func stalled(reason, message string) verdict {
	return verdict{false, v1alpha1.ConditionStalled, reason, message}
}

// waiting waits for something that comes by itself.
func waiting(reason, message string) verdict {
	return verdict{false, v1alpha1.ConditionReconciling, reason, message}
}

// conditions returns the conditions that follow from a verdict, and those of more that
// aren't nil. Those of other writers are kept as they are.
func (v verdict) conditions(was []metav1.Condition, generation int64, now metav1.Time, more ...*metav1.Condition) []metav1.Condition {
	next := []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse}}
	if v.ready {
		next[0].Status = metav1.ConditionTrue
	} else {
		next = append(next, metav1.Condition{Type: v.other, Status: metav1.ConditionTrue})
	}
	for i := range next {
		next[i].Reason, next[i].Message = v.reason, v.message
	}
	for _, c := range more {
		if c != nil {
			next = append(next, *c)
		}
	}
	for i := range next {
		next[i].ObservedGeneration = generation
		next[i].LastTransitionTime = metav1.NewTime(now.UTC().Truncate(time.Second))
		if old := meta.FindStatusCondition(was, next[i].Type); old != nil && old.Status == next[i].Status {
			next[i].LastTransitionTime = old.LastTransitionTime
		}
	}
	for _, c := range was {
		if !ownCondition(c.Type) {
			next = append(next, c)
		}
	}
	return next
}

// byType orders conditions: the order in which the API server merges those of
// several writers is not ours to choose, and no difference.
func byType(a, b metav1.Condition) int { return strings.Compare(a.Type, b.Type) }

func ownCondition(conditionType string) bool {
	switch conditionType {
	case v1alpha1.ConditionReady, v1alpha1.ConditionStalled, v1alpha1.ConditionReconciling,
		v1alpha1.ConditionPreviousSecretInUse, v1alpha1.ConditionUnrestricted, v1alpha1.ConditionAmbiguousScopes:
		return true
	default:
		return false
	}
}

// writeStatus writes the whole status, fenced by the UID and resourceVersion that were
// read: server-side apply couldn't take away what another manager put there, such as a
// field that breaks the seal. What others may write was read, and is written back.
func (b *base) writeStatus(ctx context.Context, o client.Object) error {
	return b.Client.Status().Update(ctx, o, client.FieldOwner(v1alpha1.ManagedBy))
}

// retryDelay is how soon a write that lost a race is tried again; the change that
// won it usually brings the next reconciliation sooner.
const retryDelay = 100 * time.Millisecond

// requeueOnConflict keeps lost races out of the error log: something was changed,
// made or deleted between a read and the write that followed it.
func requeueOnConflict(err error) (ctrl.Result, error) {
	if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err) {
		return ctrl.Result{RequeueAfter: retryDelay}, nil
	}
	return ctrl.Result{}, err
}
