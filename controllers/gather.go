package controllers

import (
	"context"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/credential"
	"github.com/m2m-operator/m2m-operator/internal/journal"
	"github.com/m2m-operator/m2m-operator/internal/policy"
)

// gathered is what was found of a client in the cluster.
type gathered struct {
	pepper *credential.Pepper
	naming
	secret *corev1.Secret // of the name that the client's Secret has; nil: none
	// own are the client's Secrets under other names.
	own map[string]*corev1.Secret
	// holder is the client that the name belongs to, if it isn't this one.
	holder *v1alpha1.M2MClient
}

func (r *ClientReconciler) gather(ctx context.Context, c *v1alpha1.M2MClient, found gathered, overlap time.Duration) (gathered, error) {
	own := &corev1.SecretList{}
	err := r.Client.List(ctx, own, client.InNamespace(c.Namespace), client.MatchingFields{indexClientUID: string(c.UID)}, client.UnsafeDisableDeepCopy)
	if err != nil {
		return found, err
	}
	found.own = map[string]*corev1.Secret{}
	until := map[string]time.Time{}
	longest := r.Now().Add(overlap + credential.ClockTolerance)
	for i := range own.Items {
		if s := &own.Items[i]; s.DeletionTimestamp.IsZero() {
			found.own[s.Name], until[s.Name] = s, keepUntil(s, longest)
		}
	}
	found.naming = nameSecrets(c, until, r.Now(), longest)
	delete(found.own, found.name)
	found.secret, err = r.ownSecret(ctx, c, found.name)
	return found, err
}

// ownSecret reads the client's Secret. Where the cache has none and a credential
// was recorded, the API server is asked: a cached NotFound must not replace
// anybody's secret. A client without a record needs no such question, because
// creating a Secret that exists fails.
func (r *ClientReconciler) ownSecret(ctx context.Context, c *v1alpha1.M2MClient, name string) (*corev1.Secret, error) {
	key := client.ObjectKey{Namespace: c.Namespace, Name: name}
	secret := &corev1.Secret{}
	err := r.Client.Get(ctx, key, secret)
	if err == nil {
		return secret, nil
	}
	if !apierrors.IsNotFound(err) {
		return nil, err
	}
	if c.Status.Seal == "" && !stalledOnSecret(c) {
		return nil, nil
	}
	return r.liveSecret(ctx, key)
}

func (r *ClientReconciler) liveSecret(ctx context.Context, key client.ObjectKey) (*corev1.Secret, error) {
	secret := &corev1.Secret{}
	if err := r.Live.Get(ctx, key, secret); err != nil {
		return nil, client.IgnoreNotFound(err)
	}
	return secret, nil
}

// input is all that the decision depends on; a verdict says why there can be none yet.
func (r *ClientReconciler) input(ctx context.Context, c *v1alpha1.M2MClient, found *gathered, out outcome) (credential.Input, verdict, error) {
	unknown := found.pepper.CheckRecord(string(c.UID), out.record) != credential.SealValid
	observed, err := r.observed(ctx, c, found, !unknown)
	if err != nil {
		return credential.Input{}, verdict{}, err
	}
	first := credential.First{ClientID: c.Spec.ClientID}
	if unknown && observed.State != credential.SecretSealed {
		var refused verdict
		if first, refused, err = r.first(ctx, c); err != nil || refused.reason != "" {
			return credential.Input{}, refused, err
		}
	}
	usage, err := r.usage(ctx, c)
	if err != nil {
		return credential.Input{}, verdict{}, err
	}
	pending, seen := r.flights.observe(c, out.record, r.Elapsed())
	in := credential.Input{
		Now:      r.Now(),
		Rand:     r.Rand,
		Pepper:   found.pepper,
		UID:      string(c.UID),
		Live:     out.issuer.Spec.Environment != v1alpha1.EnvironmentTest,
		First:    first,
		NoSecret: !hasSecret(c),
		Rotation: r.rotation(out),
		Triggers: triggers(c),
		Record:   out.record,
		Secret:   observed,
		Pending:  pending,
		NextSeen: seen,
		Usage:    usage,
	}
	if in.NoSecret {
		in.Deposit = journal.ObserveDeposit(c, found.pepper)
	}
	if c.Spec.Token != nil && c.Spec.Token.NotBefore != nil {
		in.NotBefore = c.Spec.Token.NotBefore.UTC()
	}
	return in, verdict{}, nil
}

// observed classifies the client's Secret. Where its name has changed and there is
// none of the new name yet, the one of the old name says what the secret is.
func (r *ClientReconciler) observed(ctx context.Context, c *v1alpha1.M2MClient, found *gathered, sealed bool) (credential.ObservedSecret, error) {
	if hasSecret(c) && (found.secret == nil || !belongsTo(found.secret, c)) {
		var err error
		if found.holder, err = r.heldBy(ctx, c, found.name, sealed); err != nil || found.holder != nil {
			return credential.ObservedSecret{State: credential.SecretForeign}, err
		}
	}
	if found.secret != nil && !belongsTo(found.secret, c) && found.secret.Labels[v1alpha1.LabelAdopt] == c.Name && c.Status.Seal == "" {
		return r.observeAdoptable(ctx, c, found.secret, found.pepper)
	}
	observed := observe(c, found.secret, found.pepper)
	if observed.State != credential.SecretAbsent {
		return observed, nil
	}
	return newest(c, found, observed), nil
}

// newest is what the client's Secrets of other names say last; else what is given.
func newest(c *v1alpha1.M2MClient, found *gathered, last credential.ObservedSecret) credential.ObservedSecret {
	for _, secret := range found.own {
		if s := observe(c, secret, found.pepper); s.State == credential.SecretSealed && s.Version.Number > last.Version.Number {
			last = s
		}
	}
	return last
}

func (r *ClientReconciler) rotation(out outcome) credential.Rotation {
	return credential.Rotation{
		Paused:      !out.policy.Active,
		Staged:      out.rotation.Staged,
		Promote:     out.rotation.Promote,
		Cancel:      out.rotation.Cancel,
		Revoke:      out.rotation.Revoke,
		Interval:    out.rotation.Interval,
		Overlap:     out.rotation.Overlap,
		RetireFor:   out.rotation.RetireFor,
		Deadline:    out.rotation.Deadline,
		Propagation: r.Propagation,
	}
}

// maxTrigger bounds what is kept of a trigger: of a longer one the beginning counts.
const maxTrigger = 256

func triggers(c *v1alpha1.M2MClient) credential.Triggers {
	t := credential.Triggers{Annotation: beginning(c.Annotations[v1alpha1.AnnotationRotate], maxTrigger)}
	if c.Spec.Rotation != nil {
		t.Spec = c.Spec.Rotation.Trigger
	}
	return t
}

// beginning returns a text's first characters.
func beginning(text string, characters int) string {
	for i := range text {
		if characters--; characters < 0 {
			return text[:i]
		}
	}
	return text
}

// usage is what the servers reported, where a replaced secret outlives its overlap, or
// may have to make room for another.
func (r *ClientReconciler) usage(ctx context.Context, c *v1alpha1.M2MClient) (credential.Usage, error) {
	outlives := slices.ContainsFunc(c.Status.Credentials, func(v v1alpha1.CredentialStatus) bool {
		return v.RetireAfter != nil && !r.Now().Before(v.RetireAfter.Time)
	})
	if !outlives && len(c.Status.Credentials) < credential.MaxVersions {
		return credential.Usage{}, nil
	}
	usage := credential.Usage{LastUsed: map[string]time.Time{}}
	for _, u := range c.Status.Usage {
		usage.LastUsed[u.Version] = u.LastUsedAt.Time
	}
	var err error
	usage.Covered, usage.Gap, err = r.coverage(ctx)
	if pause := r.pauses.ended(c); pause.After(usage.Gap) {
		usage.Gap = pause
	}
	return usage, err
}

// effectiveRetirement is how a replaced secret ends, for the status.
func effectiveRetirement(r policy.Rotation) *v1alpha1.RetireWhenUnused {
	if r.RetireFor == 0 {
		return nil
	}
	return &v1alpha1.RetireWhenUnused{For: duration(r.RetireFor), Deadline: duration(r.Deadline)}
}
