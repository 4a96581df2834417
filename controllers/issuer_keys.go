package controllers

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/keyring"
	"github.com/m2m-operator/m2m-operator/internal/policy"
)

// annotationReplaceKey, on an issuer, accepts the loss of the key that it names: a
// new one is made. It works once, because the new key has another name.
const annotationReplaceKey = "m2m-operator.dev/replace-lost-signing-key"

// comeback is how long the keys of a deleted issuer are kept.
const comeback = 720 * time.Hour

// keys returns the issuer's signing keys as they should be now.
func (r *IssuerReconciler) keys(ctx context.Context, issuer *v1alpha1.ClusterM2MIssuer) (issued, error) {
	secret, err := r.keySecret(ctx, issuer.Name)
	if err != nil {
		return issued{}, err
	}
	var ring keyring.Ring
	if secret != nil && v1alpha1.IsMarked(secret) {
		return issued{verdict: stalled(v1alpha1.ReasonSigningKeyCorrupt, fmt.Sprintf(
			"Secret %s was made for an M2MClient, so its keys could be anybody's and are not used: delete it, and restore the signing keys from a backup if there were any", r.keysKey(issuer.Name)))}, nil
	}
	if secret == nil {
		if lost, err := r.lost(ctx, issuer); err != nil || lost.reason != "" {
			return issued{verdict: lost}, err
		}
	} else if ring, err = keyring.Parse(secret.Data); err != nil {
		return issued{verdict: stalled(v1alpha1.ReasonSigningKeyCorrupt, fmt.Sprintf(
			"Secret %s is damaged: %v; restore it from a backup", r.keysKey(issuer.Name), err))}, nil
	}
	plan, err := ring.Plan(r.planFor(issuer))
	if err != nil {
		return issued{}, err
	}
	leaving := secret != nil && secret.Annotations[v1alpha1.AnnotationKeepUntil] != ""
	if plan.Changed || leaving {
		if err := r.writeKeys(ctx, issuer, secret, plan); err != nil {
			return issued{}, err
		}
	}
	active, _ := plan.Ring.Active(r.Now())
	message := "tokens are signed with the key " + active.ID
	if plan.Crowded {
		message += "; the rotation that was asked for waits until tokens of earlier keys have expired"
	}
	return issued{verdict: ready(v1alpha1.ReasonSigning, message), ring: plan.Ring, plan: plan, again: plan.At}, nil
}

// planFor is all that the plan for an issuer's keys depends on.
func (r *IssuerReconciler) planFor(issuer *v1alpha1.ClusterM2MIssuer) keyring.Input {
	_, _, longest := policy.IssuerLifetime(issuer.Spec.Token)
	in := keyring.Input{
		Now:       r.Now(),
		Rand:      r.Rand,
		Algorithm: keyring.ES256,
		Interval:  keyring.DefaultInterval,
		Longest:   longest,
		Lead:      r.Lead,
		Triggers:  []string{"", beginning(issuer.Annotations[v1alpha1.AnnotationRotate], maxTrigger)},
	}
	signing := issuer.Spec.Signing
	if signing == nil {
		return in
	}
	in.Algorithm, in.Revoked = cmp.Or(keyring.Algorithm(signing.Algorithm), keyring.ES256), signing.Revoke
	if rotation := signing.Rotation; rotation != nil {
		in.Triggers[0] = rotation.Trigger
		if rotation.Interval != nil {
			in.Interval = rotation.Interval.Duration
		}
	}
	return in
}

func (r *IssuerReconciler) keySecret(ctx context.Context, issuer string) (*corev1.Secret, error) {
	secret := &corev1.Secret{}
	err := r.Client.Get(ctx, r.keysKey(issuer), secret)
	if apierrors.IsNotFound(err) {
		err = r.Live.Get(ctx, r.keysKey(issuer), secret)
	}
	if err != nil {
		return nil, client.IgnoreNotFound(err)
	}
	return secret, nil
}

// lost judges a missing Secret: the first start of an issuer, or the loss of keys
// that clients and verifiers depend on.
func (r *IssuerReconciler) lost(ctx context.Context, issuer *v1alpha1.ClusterM2MIssuer) (verdict, error) {
	clients := &v1alpha1.M2MClientList{}
	err := r.Client.List(ctx, clients, client.MatchingFields{indexIssuer: issuer.Name}, client.DisableReadYourWritesConsistency)
	if err != nil {
		return verdict{}, err
	}
	holds := func(c v1alpha1.M2MClient) bool { return c.Status.Seal != "" }
	holder := slices.IndexFunc(clients.Items, holds)
	active := activeKey(&issuer.Status)
	if holder < 0 || active != "" && issuer.Annotations[annotationReplaceKey] == active {
		return verdict{}, nil
	}
	message := fmt.Sprintf("Secret %s is gone, and clients such as %s/%s have credentials: restore it from a backup",
		r.keysKey(issuer.Name), clients.Items[holder].Namespace, clients.Items[holder].Name)
	if active != "" {
		message += fmt.Sprintf("; or accept that tokens signed so far no longer verify, and annotate this issuer with %s=%s",
			annotationReplaceKey, active)
	}
	return stalled(v1alpha1.ReasonSigningKeyLost, message), nil
}

// activeKey is the id of the key that signed when the status was written.
func activeKey(s *v1alpha1.ClusterM2MIssuerStatus) string {
	for _, k := range s.Keys {
		if k.State == v1alpha1.SigningKeyActive {
			return k.KeyID
		}
	}
	return ""
}

// writeKeys creates or updates the Secret, and tells of what became of the keys.
func (r *IssuerReconciler) writeKeys(ctx context.Context, issuer *v1alpha1.ClusterM2MIssuer, existing *corev1.Secret, plan keyring.Plan) error {
	data, err := plan.Ring.Data()
	if err != nil {
		return err
	}
	key := r.keysKey(issuer.Name)
	if existing == nil {
		secret := &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: key.Namespace,
				Name:      key.Name,
				Labels:    map[string]string{v1alpha1.LabelManagedBy: v1alpha1.ManagedBy},
			},
			Data: data,
		}
		if err := r.Client.Create(ctx, secret); err != nil {
			return fmt.Errorf("creating the signing keys, Secret %s: %w", key, err)
		}
		r.tell(issuer, corev1.EventTypeNormal, "SigningKeyCreated", fmt.Sprintf("the signing keys are in Secret %s: back it up", key))
		return nil
	}
	updated := existing.DeepCopy()
	updated.Data = data
	delete(updated.Annotations, v1alpha1.AnnotationKeepUntil)
	if err := r.Client.Update(ctx, updated); err != nil {
		return err
	}
	r.tellPlan(issuer, plan)
	return nil
}

func (r *IssuerReconciler) tellPlan(issuer *v1alpha1.ClusterM2MIssuer, plan keyring.Plan) {
	for _, k := range plan.Made {
		r.tell(issuer, corev1.EventTypeNormal, "SigningKeyPublished", fmt.Sprintf(
			"the key %s is published, and signs from %s: back up Secret %s", k.ID, k.ActiveFrom.Format(time.RFC3339), r.keysKey(issuer.Name)))
	}
	if plan.Asked {
		next := plan.Ring.Keys[len(plan.Ring.Keys)-1]
		r.tell(issuer, corev1.EventTypeNormal, "SigningKeyRotationDue", fmt.Sprintf(
			"as asked, the key %s signs from %s", next.ID, next.ActiveFrom.Format(time.RFC3339)))
	}
	if len(plan.Revoked) > 0 {
		r.tell(issuer, corev1.EventTypeWarning, "SigningKeyRevoked", fmt.Sprintf(
			"keys were revoked, and tokens that they signed are not active any more: %s; services that verify by themselves follow when they fetch the keys again", strings.Join(plan.Revoked, ", ")))
	}
	if len(plan.Dropped) > 0 {
		r.tell(issuer, corev1.EventTypeNormal, "SigningKeyDropped", "these keys signed before, and are no longer published: "+strings.Join(plan.Dropped, ", "))
	}
}

func (r *IssuerReconciler) tell(issuer *v1alpha1.ClusterM2MIssuer, kind, reason, message string) {
	r.Events.Eventf(issuer, nil, kind, reason, "Reconcile", "%s", message)
}

// keepForComeback keeps the keys of an issuer that is gone for a while: it may come back,
// and what its tokens are verified with should then be the same.
func (r *IssuerReconciler) keepForComeback(ctx context.Context, name string) (ctrl.Result, error) {
	r.counted.forget(client.ObjectKey{Name: name})
	secret := &corev1.Secret{}
	if err := r.Client.Get(ctx, r.keysKey(name), secret); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if v1alpha1.IsMarked(secret) {
		return ctrl.Result{}, nil
	}
	// The API server has the last word on whether the issuer is gone.
	err := r.Live.Get(ctx, client.ObjectKey{Name: name}, &v1alpha1.ClusterM2MIssuer{})
	if !apierrors.IsNotFound(err) {
		return ctrl.Result{}, err
	}
	until, err := time.Parse(time.RFC3339, secret.Annotations[v1alpha1.AnnotationKeepUntil])
	switch {
	case err != nil:
		until = r.Now().Add(comeback)
		updated := secret.DeepCopy()
		if updated.Annotations == nil {
			updated.Annotations = map[string]string{}
		}
		updated.Annotations[v1alpha1.AnnotationKeepUntil] = until.UTC().Format(time.RFC3339)
		err = r.Client.Update(ctx, updated)
	case !r.Now().Before(until):
		return requeueOnConflict(client.IgnoreNotFound(r.Client.Delete(ctx, secret.DeepCopy(),
			client.Preconditions{UID: &secret.UID, ResourceVersion: &secret.ResourceVersion})))
	}
	if err != nil {
		return requeueOnConflict(err)
	}
	return ctrl.Result{RequeueAfter: max(until.Sub(r.Now()), soonest)}, nil
}
