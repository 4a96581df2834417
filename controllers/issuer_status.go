package controllers

import (
	"context"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/keyring"
	"github.com/m2m-operator/m2m-operator/internal/policy"
	"github.com/m2m-operator/m2m-operator/internal/token"
)

// recount is how often the clients of an issuer are counted.
const recount = time.Minute

// count is how many clients an issuer had when they were counted last.
type count struct {
	number int32
	at     time.Duration // by a clock that can't be set
}

// clients returns how many clients an issuer has, as counted within the last minute.
func (r *IssuerReconciler) clients(ctx context.Context, issuer *v1alpha1.ClusterM2MIssuer) (int32, error) {
	key := client.ObjectKeyFromObject(issuer)
	last, known := r.counted.get(key)
	if known && r.Elapsed()-last.at < recount {
		return last.number, nil
	}
	clients := &v1alpha1.M2MClientList{}
	err := r.Client.List(ctx, clients, client.MatchingFields{indexIssuer: issuer.Name}, client.UnsafeDisableDeepCopy, client.DisableReadYourWritesConsistency)
	if err != nil {
		return 0, err
	}
	last = count{int32(len(clients.Items)), r.Elapsed()}
	r.counted.set(key, last)
	return last.number, nil
}

// countAgain is how long the last count is good for.
func (r *IssuerReconciler) countAgain(issuer *v1alpha1.ClusterM2MIssuer) time.Duration {
	last, _ := r.counted.get(client.ObjectKeyFromObject(issuer))
	return last.at + recount - r.Elapsed()
}

// report writes the status if it changes, then tells of it.
func (r *IssuerReconciler) report(ctx context.Context, issuer *v1alpha1.ClusterM2MIssuer, found issued) (ctrl.Result, error) {
	clients, err := r.clients(ctx, issuer)
	if err != nil {
		return ctrl.Result{}, err
	}
	v := found.verdict
	was := issuer.Status.DeepCopy()
	next := was.DeepCopy()
	next.ObservedGeneration = issuer.Generation
	next.Conditions = v.conditions(next.Conditions, issuer.Generation, metav1.NewTime(r.Now()), unrestricted(issuer))
	next.TokenURL, next.JWKSURL = tokenURL(issuer), jwksURL(issuer)
	next.IntrospectionURL = token.IntrospectionURL(issuer.Spec.URL, issuer.Spec.ProjectID)
	next.RevocationURL = token.RevocationURL(issuer.Spec.URL, issuer.Spec.ProjectID)
	next.Clients = &clients
	if len(found.ring.Keys) > 0 {
		next.Keys = keyStatuses(found.ring, r.Now())
	}
	slices.SortFunc(was.Conditions, byType)
	slices.SortFunc(next.Conditions, byType)
	r.known.set(client.ObjectKeyFromObject(issuer), issuerStanding{next.Conditions, next.Keys})
	result := ctrl.Result{RequeueAfter: max(r.countAgain(issuer), soonest)}
	if !found.again.IsZero() {
		result.RequeueAfter = max(min(result.RequeueAfter, found.again.Sub(r.Now())), soonest)
	}
	if equality.Semantic.DeepEqual(was, next) {
		return result, nil
	}
	written := issuer.DeepCopy()
	written.Status = *next
	if err := r.writeStatus(ctx, written); err != nil {
		return requeueOnConflict(client.IgnoreNotFound(err))
	}
	r.tellChanges(issuer, was, next, v)
	return result, nil
}

func (r *IssuerReconciler) tellChanges(issuer *v1alpha1.ClusterM2MIssuer, was, now *v1alpha1.ClusterM2MIssuerStatus, v verdict) {
	before := meta.FindStatusCondition(was.Conditions, v1alpha1.ConditionReady)
	if before == nil || before.Reason != v.reason {
		kind := corev1.EventTypeNormal
		if !v.ready {
			kind = corev1.EventTypeWarning
		}
		r.tell(issuer, kind, v.reason, v.message)
	}
	if signed, signs := activeKey(was), activeKey(now); signed != "" && signed != signs {
		r.tell(issuer, corev1.EventTypeNormal, "SigningKeyRotated", "tokens are signed with the key "+signs+" from now on, and were with "+signed)
	}
}

// unrestricted says of an issuer that it grants everything.
func unrestricted(issuer *v1alpha1.ClusterM2MIssuer) *metav1.Condition {
	if !policy.Unrestricted(&issuer.Spec) {
		return nil
	}
	return &metav1.Condition{
		Type: v1alpha1.ConditionUnrestricted, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonAllGranted,
		Message: "every namespace may hold every scope, audience and client id: who may create an M2MClient anywhere may be anybody; narrow spec.grants",
	}
}

func keyStatuses(ring keyring.Ring, now time.Time) []v1alpha1.SigningKeyStatus {
	var all []v1alpha1.SigningKeyStatus
	for i, k := range ring.Keys {
		s := v1alpha1.SigningKeyStatus{
			KeyID:       k.ID,
			Algorithm:   string(k.Algorithm),
			State:       v1alpha1.SigningKeyState(ring.State(i, now)),
			PublishedAt: metav1.NewTime(k.PublishedAt),
			ActiveFrom:  metav1.NewTime(k.ActiveFrom),
		}
		if until, ok := ring.PublishedUntil(i); ok && s.State == v1alpha1.SigningKeyRetired {
			s.RetiredAt, s.PublishedUntil = stampOf(ring.Keys[i+1].ActiveFrom), stampOf(until)
		}
		all = append(all, s)
	}
	return all
}

func tokenURL(issuer *v1alpha1.ClusterM2MIssuer) string {
	return token.EndpointURL(issuer.Spec.URL, issuer.Spec.ProjectID)
}

func jwksURL(issuer *v1alpha1.ClusterM2MIssuer) string {
	return token.JWKSURL(issuer.Spec.URL, issuer.Spec.ProjectID)
}
