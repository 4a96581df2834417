// Package controllers keeps M2MClients and ClusterM2MIssuers as their manifests
// say: gather what is there, let pure code decide, apply the decision.
package controllers

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/credential"
	"github.com/m2m-operator/m2m-operator/internal/journal"
	"github.com/m2m-operator/m2m-operator/internal/policy"
)

// recheck is how soon something is looked at again that no watch may tell of, such
// as a Secret that isn't ours: foreign Secrets are not in the cache.
const recheck = time.Minute

// ClientReconciler gives each M2MClient its credential.
type ClientReconciler struct {
	base
	Installation *Installation
	Overlap      time.Duration // how long a replaced secret stays valid
}

// +kubebuilder:rbac:groups=m2m-operator.dev,resources=m2mclients,verbs=get;list;watch
// +kubebuilder:rbac:groups=m2m-operator.dev,resources=m2mclients/status,verbs=patch
// +kubebuilder:rbac:groups="",resources=secrets,verbs=get;list;watch;create;update
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// Reconcile implements reconcile.Reconciler.
func (r *ClientReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	c := &v1alpha1.M2MClient{}
	if err := r.Client.Get(ctx, req.NamespacedName, c); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !c.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, nil // nothing is written for a client that is going
	}
	out, err := r.reconcile(ctx, c)
	switch {
	case errors.Is(err, errGone):
		return ctrl.Result{}, nil
	case err != nil:
		return requeueOnConflict(err)
	}
	return r.report(ctx, c, out)
}

// outcome is what a reconciliation leads to: what the status will say, the events
// that tell of it, and when to look again.
type outcome struct {
	verdict verdict
	issuer  *v1alpha1.ClusterM2MIssuer
	policy  policy.Effective
	record  credential.Record
	decided bool // record is a decision's, to be written
	// delivered is false while the Secret doesn't hold what it should.
	delivered bool
	cause     credential.Cause
	forged    bool
	version   credential.Version
	again     time.Time
}

// errGone says that a live read found the client deleted or made anew.
var errGone = errors.New("the client is gone")

func (r *ClientReconciler) reconcile(ctx context.Context, c *v1alpha1.M2MClient) (outcome, error) {
	out := outcome{record: journal.Read(&c.Status)}
	issuer, verdict, err := r.issuer(ctx, c)
	if err != nil || issuer == nil {
		out.verdict = verdict
		return out, err
	}
	out.issuer, out.policy = issuer, policy.Resolve(&c.Spec, &issuer.Spec)
	pepper, err := r.Installation.Pepper(ctx)
	var lost *LostError
	switch {
	case errors.As(err, &lost):
		out.verdict, out.again = stalled(v1alpha1.ReasonPepperLost, lost.Error()), r.Now().Add(recheck)
		return out, nil
	case err != nil:
		return out, err
	case verdict.reason != "":
		out.verdict = verdict
		return out, nil
	}
	secret, err := r.observedSecret(ctx, c)
	if err != nil {
		return out, err
	}
	result, err := r.decide(ctx, c, secret, pepper, out)
	if exists, ok := errors.AsType[*existsError](err); ok {
		return r.decide(ctx, c, exists.secret, pepper, out)
	}
	return result, err
}

// existsError says that a Secret exists which the cache doesn't have: somebody
// else's, or our own that lost its label or has not come through the watch yet.
type existsError struct{ secret *corev1.Secret }

func (e *existsError) Error() string { return "Secret " + e.secret.Name + " exists already" }

// issuer finds the client's issuer, or says why there is none to use.
func (r *ClientReconciler) issuer(ctx context.Context, c *v1alpha1.M2MClient) (*v1alpha1.ClusterM2MIssuer, verdict, error) {
	name := policy.IssuerName(&c.Spec)
	issuer := &v1alpha1.ClusterM2MIssuer{}
	err := r.Client.Get(ctx, client.ObjectKey{Name: name}, issuer)
	if apierrors.IsNotFound(err) {
		return nil, stalled(v1alpha1.ReasonIssuerNotFound, fmt.Sprintf(
			"there is no ClusterM2MIssuer %q: create it, or name another in spec.issuerRef of a new M2MClient", name)), nil
	}
	if err != nil {
		return nil, verdict{}, err
	}
	if why, ready := issuerReady(issuer); !ready {
		return issuer, waiting(v1alpha1.ReasonIssuerNotReady, fmt.Sprintf("the ClusterM2MIssuer %q is not ready: %s", name, why)), nil
	}
	return issuer, verdict{}, nil
}

// observedSecret reads the client's Secret. Where the cache has none and a
// credential was recorded, the API server is asked: a cached NotFound must not
// replace anybody's secret. A client without a record needs no such question,
// because creating a Secret that exists fails.
func (r *ClientReconciler) observedSecret(ctx context.Context, c *v1alpha1.M2MClient) (*corev1.Secret, error) {
	key := client.ObjectKey{Namespace: c.Namespace, Name: secretName(c)}
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

// checkLive makes sure, before a recorded credential is replaced, that the client
// still exists and isn't being deleted: a foreground deletion takes the Secret first.
func (r *ClientReconciler) checkLive(ctx context.Context, c *v1alpha1.M2MClient) error {
	live := &v1alpha1.M2MClient{}
	err := r.Live.Get(ctx, client.ObjectKeyFromObject(c), live)
	if apierrors.IsNotFound(err) || err == nil && (live.UID != c.UID || !live.DeletionTimestamp.IsZero()) {
		return errGone
	}
	return err
}

// decide asks for the decision and carries it out: first the Secret, then, in
// report, the status. A crash between the two is taken up by the next decision.
func (r *ClientReconciler) decide(ctx context.Context, c *v1alpha1.M2MClient, secret *corev1.Secret, pepper *credential.Pepper, out outcome) (outcome, error) {
	decision, err := credential.Decide(credential.Input{
		Now:     r.Now(),
		Rand:    r.Rand,
		Pepper:  pepper,
		UID:     string(c.UID),
		Live:    out.issuer.Spec.Environment != v1alpha1.EnvironmentTest,
		Overlap: r.Overlap,
		Record:  out.record,
		Secret:  observe(c, secret, pepper),
	})
	if err != nil {
		return out, err
	}
	if decision.Problem != credential.ProblemNone {
		out.verdict, out.again = r.problem(c, secret, decision)
		return out, nil
	}
	if decision.New && out.record.Seal != "" {
		if err := r.checkLive(ctx, c); err != nil {
			return out, err
		}
	}
	return r.deliver(ctx, c, secret, pepper, decision, out)
}

// deliver brings the Secret up to date and says what the status becomes.
func (r *ClientReconciler) deliver(ctx context.Context, c *v1alpha1.M2MClient, secret *corev1.Secret, pepper *credential.Pepper, decision credential.Decision, out outcome) (outcome, error) {
	desired, err := renderSecret(c, secret, delivery{
		clientID: decision.Record.ClientID,
		material: decision.Material,
		tokenURL: tokenURL(out.issuer),
		issuer:   out.issuer.Spec.URL,
		jwksURL:  jwksURL(out.issuer),
		scopes:   out.policy.Scopes,
	}, pepper)
	if err != nil {
		out.verdict = stalled(v1alpha1.ReasonInvalidTemplate, err.Error())
		return out, nil
	}
	refusal, err := r.writeSecret(ctx, c, secret, desired)
	if err != nil {
		return out, err
	}
	if refusal.reason != "" {
		out.verdict, out.again = refusal, r.Now().Add(recheck)
		if decision.New {
			return out, nil // nobody has the new secret: what was valid stays so
		}
	}
	out.delivered, out.decided = true, true
	out.record, out.cause, out.forged = decision.Record, decision.Cause, decision.Forged
	out.version = decision.Material.Version
	if out.again.IsZero() {
		out.again = decision.NextAt
	}
	if refusal.reason == "" {
		out.verdict = settled(c, out)
	}
	return out, nil
}

// writeSecret creates or updates the Secret, or says why the API server refuses it.
func (r *ClientReconciler) writeSecret(ctx context.Context, c *v1alpha1.M2MClient, existing, desired *corev1.Secret) (verdict, error) {
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
		return stalled(v1alpha1.ReasonNamespaceTerminating, fmt.Sprintf(
			"namespace %q is being deleted: no Secret can be made in it", c.Namespace)), nil
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

// problem translates what keeps a decision from being made.
func (r *ClientReconciler) problem(c *v1alpha1.M2MClient, secret *corev1.Secret, d credential.Decision) (verdict, time.Time) {
	switch d.Problem {
	case credential.ProblemSecretForeign:
		return secretTaken(secret), r.Now().Add(recheck)
	case credential.ProblemTooManyVersions:
		return waiting(v1alpha1.ReasonTooManyVersions, fmt.Sprintf(
			"Secret %q was lost or edited, and %d earlier secrets are still valid, the most there may be: the next is made at %s",
			secretName(c), credential.MaxVersions, d.NextAt.Format(time.RFC3339))), d.NextAt
	default:
		return stalled(v1alpha1.ReasonPepperLost, fmt.Sprintf(
			"this client's credential was sealed with a pepper key that Secret %s doesn't hold: restore that Secret from a backup",
			r.Installation.pepperKey())), r.Now().Add(recheck)
	}
}

func secretTaken(secret *corev1.Secret) verdict {
	owner := "something else"
	if name := secret.Labels[v1alpha1.LabelClient]; name != "" {
		owner = fmt.Sprintf("an M2MClient %q", name)
	}
	return stalled(v1alpha1.ReasonSecretConflict, fmt.Sprintf(
		"Secret %q belongs to %s and is left alone: delete or rename that Secret, or apply this M2MClient under another name or spec.secret.name",
		secret.Name, owner))
}
