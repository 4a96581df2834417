package controllers

import (
	"context"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
)

// +kubebuilder:rbac:groups=coordination.k8s.io,namespace=m2m-system,resources=leases,verbs=get;list;watch;delete

// lostServer is how long a server that says nothing any more is waited for: it may
// have crashed, or be cut off and still give tokens. After that what it may have
// seen counts as a use.
const lostServer = time.Hour

// coverage tells up to when all token servers have reported which secrets were
// used, and up to when one that is gone may have seen uses that it didn't report.
func (r *ClientReconciler) coverage(ctx context.Context) (covered, gap time.Time, err error) {
	leases := &coordinationv1.LeaseList{}
	err = r.Client.List(ctx, leases, client.InNamespace(r.Installation.Namespace), client.MatchingLabels{v1alpha1.LabelRole: v1alpha1.RoleServer}, client.UnsafeDisableDeepCopy)
	covered, gap = coverageOf(leases.Items, r.Now())
	return covered, gap, err
}

// coverageOf computes the coverage from what the servers say of themselves. Without
// a living server nothing is covered.
func coverageOf(leases []coordinationv1.Lease, now time.Time) (covered, gap time.Time) {
	first := true
	for i := range leases {
		reported, ended := reportOf(&leases[i], now)
		if !ended.IsZero() {
			if ended.After(gap) {
				gap = ended
			}
			continue
		}
		if first || reported.Before(covered) {
			covered, first = reported, false
		}
	}
	return covered, gap
}

// reportOf tells up to when a server has reported, or, of one that is gone, when it
// gave its last token at the latest.
func reportOf(lease *coordinationv1.Lease, now time.Time) (reported, ended time.Time) {
	if stopped, err := time.Parse(time.RFC3339, lease.Annotations[v1alpha1.AnnotationStoppedAt]); err == nil {
		return time.Time{}, stopped
	}
	if renewed := lease.Spec.RenewTime; renewed != nil && now.Sub(renewed.Time) > lostServer {
		return time.Time{}, renewed.Add(lostServer)
	}
	reported, err := time.Parse(time.RFC3339, lease.Annotations[v1alpha1.AnnotationReportedUntil])
	if err != nil {
		return time.Time{}, time.Time{}
	}
	return reported, time.Time{}
}

// rememberServer is how long a server that is gone matters: retireWhenUnused.for is
// at most 720h.
const rememberServer = 720 * time.Hour

// forgetServers removes what servers have left behind that are gone for long.
func (i *Installation) forgetServers(ctx context.Context) error {
	leases := &coordinationv1.LeaseList{}
	if err := i.Client.List(ctx, leases, client.InNamespace(i.Namespace), client.MatchingLabels{v1alpha1.LabelRole: v1alpha1.RoleServer}); err != nil {
		return err
	}
	for n := range leases.Items {
		lease := &leases.Items[n]
		_, ended := reportOf(lease, i.Now())
		if ended.IsZero() || i.Now().Sub(ended) < rememberServer {
			continue
		}
		unchanged := client.Preconditions{UID: &lease.UID, ResourceVersion: &lease.ResourceVersion}
		if err := i.Client.Delete(ctx, lease, unchanged); client.IgnoreNotFound(err) != nil {
			return err
		}
	}
	return nil
}
