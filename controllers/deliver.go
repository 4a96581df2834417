package controllers

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/certificate"
	"github.com/m2m-operator/m2m-operator/internal/credential"
)

// deliver brings the Secret up to date and says what the status becomes.
func (r *ClientReconciler) deliver(ctx context.Context, c *v1alpha1.M2MClient, found gathered, out outcome) (outcome, error) {
	d := &out.decision
	ca, caAt, err := r.authority(c, out.issuer, found.secret)
	if err != nil {
		return out, err
	}
	content := delivery{
		clientID: d.Record.ClientID,
		material: d.Material,
		next:     d.Next,
		tokenURL: tokenURL(out.issuer),
		issuer:   out.issuer.Spec.URL,
		jwksURL:  jwksURL(out.issuer),
		scopes:   out.policy.Scopes,
		metadata: out.policy.SecretMetadata,
		ca:       ca,
	}
	desired, err := renderSecret(c, found.name, found.secret, content, found.pepper)
	refusal := verdict{}
	if err != nil {
		refusal = stalled(v1alpha1.ReasonInvalidTemplate, err.Error())
	} else if refusal, err = r.writeSecret(ctx, found.secret, desired); err != nil {
		return out, err
	}
	if refusal.reason != "" {
		out.verdict, out.again = refusal, r.Now().Add(recheck)
		if d.Generated || d.Delivers {
			return undelivered(out), nil
		}
	} else if err := r.keepFormer(ctx, c, found, content, &out); err != nil {
		return out, err
	}
	r.flights.keep(c, d.Pending)
	out.record, out.decided, out.delivered = d.Record, true, true
	out.naming = found.naming
	if d.Pending.Value != "" {
		r.turns.forget(client.ObjectKeyFromObject(c))
	}
	if out.again.IsZero() {
		out.again = soonerOf(soonerOf(d.NextAt, caAt), found.waits)
	}
	restart := r.restart(ctx, c, &out)
	if refusal.reason == "" {
		out.verdict = settled(c, out, restart)
	}
	return out, nil
}

// authority is what the client's token endpoint is trusted by, and when another is due.
func (r *ClientReconciler) authority(c *v1alpha1.M2MClient, issuer *v1alpha1.ClusterM2MIssuer, existing *corev1.Secret) (string, time.Time, error) {
	t := r.Installation.trusted.now.Load()
	if t == nil {
		return "", time.Time{}, errStale // it is known in a moment, and spares a write
	}
	has, id := "", ""
	if existing != nil {
		has, id = string(existing.Data[authorityKey(c)]), existing.Annotations[v1alpha1.AnnotationAuthority]
	}
	bundle, at := t.authorityFor(issuer.Spec.URL, string(c.UID), has, id, r.Now())
	return bundle, at, nil
}

// soonerOf is the first of two times; zero is never.
func soonerOf(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// undelivered is the outcome where nobody got a new secret: what was valid stays
// so, but for what was revoked.
func undelivered(out outcome) outcome {
	out.settled = false
	if record := out.decision.Undeliverable; record != nil {
		out.record, out.decided = *record, true
		out.decision.Record, out.decision.Cause = *record, credential.CauseNone
	}
	if _, ok := out.record.Current(); !ok && out.record.Seal != "" {
		out.verdict.message = fmt.Sprintf("the current secret was revoked, and no other could be delivered: %s", out.verdict.message)
	}
	return out
}

// writeSecret creates or updates a Secret, or says why the API server refuses it.
func (r *ClientReconciler) writeSecret(ctx context.Context, existing, desired *corev1.Secret) (verdict, error) {
	var err error
	switch {
	case existing == nil:
		err = r.Client.Create(ctx, desired)
		if apierrors.IsAlreadyExists(err) {
			return verdict{}, r.exists(ctx, client.ObjectKeyFromObject(desired), err)
		}
	case sameSecret(existing, desired):
		return verdict{}, nil
	case existing.Immutable != nil && *existing.Immutable:
		return stalled(v1alpha1.ReasonSecretConflict, fmt.Sprintf(
			"Secret %q is immutable and can't be brought up to date: delete it, and it is made anew", desired.Name)), nil
	default:
		// The resourceVersion that was read fences this update.
		err = r.Client.Update(ctx, desired)
	}
	switch {
	case err == nil:
		return verdict{}, nil
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return verdict{}, errGone
	case apierrors.IsForbidden(err), apierrors.IsInvalid(err), apierrors.IsRequestEntityTooLargeError(err):
		return stalled(v1alpha1.ReasonSecretForbidden, fmt.Sprintf(
			"the API server refuses Secret %q: %s", desired.Name, apiMessage(err))), nil
	default:
		return verdict{}, err
	}
}

// exists reads the Secret that stands in the way; one that is gone meanwhile leaves
// the error that it caused.
func (r *ClientReconciler) exists(ctx context.Context, key client.ObjectKey, conflict error) error {
	live, err := r.liveSecret(ctx, key)
	switch {
	case err != nil:
		return err
	case live == nil:
		return conflict
	}
	return &existsError{live}
}

// keepFormer keeps the Secrets under names that the client doesn't use any more as
// fresh as the other, because running pods mount them, and deletes them after the
// overlap.
func (r *ClientReconciler) keepFormer(ctx context.Context, c *v1alpha1.M2MClient, found gathered, content delivery, out *outcome) error {
	for _, former := range found.former {
		existing := found.own[former.Name]
		if !r.Now().Before(former.KeepUntil.Time) {
			if err := r.drop(ctx, existing); err != nil {
				return err
			}
			continue
		}
		out.decision.NextAt = soonerOf(out.decision.NextAt, former.KeepUntil.Time)
		if err := r.keep(ctx, c, former, existing, content, found.pepper); err != nil {
			return err
		}
	}
	return nil
}

func (r *ClientReconciler) drop(ctx context.Context, s *corev1.Secret) error {
	if s == nil {
		return nil
	}
	unchanged := client.Preconditions{UID: &s.UID, ResourceVersion: &s.ResourceVersion}
	return client.IgnoreNotFound(r.Client.Delete(ctx, s.DeepCopy(), unchanged))
}

// keep brings one up to date. It is written for another credential, and for nothing else:
// a manifest that changes often must not make many writes of each.
func (r *ClientReconciler) keep(ctx context.Context, c *v1alpha1.M2MClient, former v1alpha1.FormerSecret, existing *corev1.Secret, content delivery, pepper *credential.Pepper) error {
	until := former.KeepUntil.UTC().Format(time.RFC3339)
	if existing != nil && existing.Annotations[v1alpha1.AnnotationKeepUntil] == until && delivers(c, existing, content, pepper) {
		return nil
	}
	desired, err := renderSecret(c, former.Name, existing, content, pepper)
	if err != nil {
		return err
	}
	desired.Annotations[v1alpha1.AnnotationKeepUntil] = until
	refusal, err := r.writeSecret(ctx, existing, desired)
	if _, taken := errors.AsType[*existsError](err); taken {
		return nil // somebody made another in its place, which is left alone
	}
	if refusal.reason != "" {
		r.warn(c, refusal.reason, "%s", refusal.message)
	}
	return err
}

// delivers tells whether a Secret has all that pods get tokens with.
func delivers(c *v1alpha1.M2MClient, s *corev1.Secret, d delivery, pepper *credential.Pepper) bool {
	has := open(s, string(c.UID), pepper)
	endpoint := slices.ContainsFunc(slices.Collect(maps.Values(s.Data)), func(value []byte) bool { return string(value) == d.tokenURL })
	trusted := ""
	if d.ca != "" {
		trusted = certificate.ID([]byte(d.ca))
	}
	return has.State == credential.SecretSealed && has.ClientID == d.clientID && endpoint && s.Annotations[v1alpha1.AnnotationAuthority] == trusted &&
		d.material == credential.Material{Version: has.Version, Value: has.Value} && d.next == has.Next
}

// keepUntil is when a Secret of a former name is deleted: it stands in an annotation,
// once it was set. Nobody keeps one longer than the overlap by editing that.
func keepUntil(s *corev1.Secret, longest time.Time) time.Time {
	until, err := time.Parse(time.RFC3339, s.Annotations[v1alpha1.AnnotationKeepUntil])
	if err != nil || until.After(longest) {
		return longest
	}
	return until
}
