// Package controllers keeps M2MClients and ClusterM2MIssuers as their manifests
// say: gather what is there, let pure code decide, apply the decision.
package controllers

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/credential"
	"github.com/m2m-operator/m2m-operator/internal/journal"
	"github.com/m2m-operator/m2m-operator/internal/policy"
)

// recheck is how soon something is looked at again that no watch may tell of, such
// as a Secret that isn't ours: foreign Secrets are not in the cache.
const recheck = time.Minute

// ClientReconciler gives each M2MClient its credential, and rotates it.
type ClientReconciler struct {
	base
	Installation *Installation
	Direct       client.Client // without a cache, for kinds that are not watched
	Propagation  time.Duration // how long a secret is valid before it is visible
	// RestartSpacing is the least time between two restarts of a workload.
	RestartSpacing time.Duration
	// Authorities tells when all clients' Secrets have to follow another authority.
	Authorities <-chan event.GenericEvent

	flights flights  // rotations under way
	turns   *turns   // of rotations that the interval asks for
	claims  idClaims // of client ids that were chosen
	pauses  pauses
	known   standings
	access  accessCache
}

// +kubebuilder:rbac:groups=m2m-operator.dev,resources=m2mclients,verbs=get;list;watch
// +kubebuilder:rbac:groups=m2m-operator.dev,resources=m2mclients/status,verbs=update
// +kubebuilder:rbac:groups="",resources=secrets,verbs=get;list;watch;create;update;delete
// +kubebuilder:rbac:groups="",resources=namespaces,verbs=get;list;watch
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// Reconcile implements reconcile.Reconciler.
func (r *ClientReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	c := &v1alpha1.M2MClient{}
	if err := r.Client.Get(ctx, req.NamespacedName, c); err != nil {
		r.forget(req.NamespacedName, err)
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	namespace, err := r.namespace(ctx, c.Namespace)
	if err != nil {
		return ctrl.Result{}, err
	}
	untouchable := r.untouchable(c, namespace)
	r.known.note(c, &c.Status, untouchable)
	if untouchable {
		return ctrl.Result{}, nil
	}
	out, err := r.reconcile(ctx, c, namespace)
	switch {
	case errors.Is(err, errGone):
		return ctrl.Result{}, nil
	case errors.Is(err, errStale):
		return ctrl.Result{RequeueAfter: retryDelay}, nil
	case err != nil:
		return requeueOnConflict(err)
	}
	return r.report(ctx, c, out)
}

// forget drops what is kept in memory of a client that is gone.
func (r *ClientReconciler) forget(key client.ObjectKey, err error) {
	if apierrors.IsNotFound(err) {
		r.flights.forget(key)
		r.turns.forget(key)
		r.claims.forget(key, r.Now())
		r.pauses.forget(key)
		r.known.forget(key)
	}
}

// untouchable tells whether nothing may be written for a client: it is going, its
// namespace is, or a person paused it.
func (r *ClientReconciler) untouchable(c *v1alpha1.M2MClient, namespace *metav1.PartialObjectMetadata) bool {
	paused := r.pauses.note(c, r.Now())
	return paused || !c.DeletionTimestamp.IsZero() || namespace == nil || !namespace.DeletionTimestamp.IsZero()
}

// namespace returns the metadata of a namespace; nil: there is none. One that the cache
// hasn't heard of is new.
func (r *ClientReconciler) namespace(ctx context.Context, name string) (*metav1.PartialObjectMetadata, error) {
	namespace := &metav1.PartialObjectMetadata{}
	namespace.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	err := r.Client.Get(ctx, client.ObjectKey{Name: name}, namespace)
	if apierrors.IsNotFound(err) {
		err = r.Live.Get(ctx, client.ObjectKey{Name: name}, namespace)
	}
	if err != nil {
		return nil, client.IgnoreNotFound(err)
	}
	return namespace, nil
}

// outcome is what a reconciliation leads to: what the status will say, the events
// that tell of it, and when to look again.
type outcome struct {
	verdict  verdict
	issuer   *v1alpha1.ClusterM2MIssuer
	allowed  policy.Allowance
	policy   policy.Effective
	rotation policy.Rotation
	decision credential.Decision
	settled  bool // decision says what holds from now on
	record   credential.Record
	decided  bool // record is to be written
	// delivered is false while the Secret doesn't hold what it should.
	delivered bool
	naming
	restartedFor string
	again        time.Time
}

var (
	// errGone says that a live read found the client deleted or made anew.
	errGone = errors.New("the client is gone")
	// errStale says that a live read found what the cache doesn't have yet.
	errStale = errors.New("the cache is behind the API server")
)

func (r *ClientReconciler) reconcile(ctx context.Context, c *v1alpha1.M2MClient, namespace *metav1.PartialObjectMetadata) (outcome, error) {
	out := outcome{record: journal.Read(&c.Status), restartedFor: c.Status.RestartedFor}
	if why := reserved(c, r.Installation.Namespace); why != "" {
		out.verdict = stalled(v1alpha1.ReasonReservedName, why)
		return out, nil
	}
	issuer, verdict, err := r.issuer(ctx, c)
	if err != nil || issuer == nil {
		out.verdict = verdict
		return out, err
	}
	out.issuer, out.allowed = issuer, policy.Allow(&issuer.Spec, policy.Namespace{Name: namespace.Name, Labels: namespace.Labels})
	out.policy = policy.Resolve(&c.Spec, &issuer.Spec, out.allowed)
	out.rotation = policy.ResolveRotation(&c.Spec, out.policy.Lifetime)
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
	found := gathered{pepper: pepper}
	if hasSecret(c) {
		if found, err = r.gather(ctx, c, found, out.rotation.Overlap); err != nil {
			return out, err
		}
	}
	result, err := r.decide(ctx, c, found, out)
	if exists, ok := errors.AsType[*existsError](err); ok {
		found.secret = exists.secret
		return r.decide(ctx, c, found, out)
	}
	return result, err
}

// reserved says why a client can't be where it is, or be named so: in the operator's
// namespace, and under names of its form, stand keys that all credentials depend on.
func reserved(c *v1alpha1.M2MClient, operator string) string {
	switch {
	case c.Namespace == operator:
		return fmt.Sprintf("no M2MClient lives in namespace %q, which holds the operator's own keys: create it in another namespace", operator)
	case strings.HasPrefix(c.Name, v1alpha1.ReservedPrefix):
		return fmt.Sprintf("names that begin with %q are the operator's own: create the M2MClient with another name", v1alpha1.ReservedPrefix)
	case strings.HasPrefix(secretName(c), v1alpha1.ReservedPrefix):
		return fmt.Sprintf("names that begin with %q are the operator's own: choose another spec.secret.name", v1alpha1.ReservedPrefix)
	}
	return ""
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

// decide asks for the decision and carries it out: first the Secret, then, in
// report, the status. A crash between the two is taken up by the next decision.
func (r *ClientReconciler) decide(ctx context.Context, c *v1alpha1.M2MClient, found gathered, out outcome) (outcome, error) {
	in, verdict, err := r.input(ctx, c, &found, out)
	if err != nil || verdict.reason != "" {
		out.verdict, out.again = verdict, r.Now().Add(importRecheck(c, r.Now()))
		return out, err
	}
	d, err := credential.Decide(in)
	if err != nil {
		return out, err
	}
	if d.Scheduled {
		turn := r.turns.take(client.ObjectKeyFromObject(c), r.Now())
		if in.Held = r.Now().Before(turn); in.Held {
			if d, err = credential.Decide(in); err != nil {
				return out, err
			}
			d.NextAt = turn
		}
	}
	out.decision, out.settled = d, true
	if d.Problem != credential.ProblemNone {
		out.verdict, out.again = r.problem(c, found, d)
		out.record, out.decided = d.Record, d.Changed
		return out, nil
	}
	if err := r.checkLive(ctx, c, found.secret, d); err != nil {
		return out, err
	}
	if d.ClaimsID {
		if out.verdict, err = r.claim(ctx, c, &out, d); err != nil || out.verdict.reason != "" {
			out.again = r.Now().Add(recheck)
			return out, err
		}
	} else {
		r.claims.hold(out.issuer.Name, d.Record.ClientID, client.ObjectKeyFromObject(c))
	}
	if !hasSecret(c) {
		out.record, out.decided, out.again = d.Record, true, d.NextAt
		out.verdict = settled(c, out, verdict)
		return out, nil
	}
	return r.deliver(ctx, c, found, out)
}

// checkLive makes sure, before a secret is made or another delivered, that the
// decision isn't one about the past: a cached state must not replace anybody's
// secret, and a foreground deletion takes the Secret first. A client that has no
// credential yet needs no such question: creating a Secret that exists fails.
func (r *ClientReconciler) checkLive(ctx context.Context, c *v1alpha1.M2MClient, secret *corev1.Secret, d credential.Decision) error {
	if !d.Generated && !d.Delivers || c.Status.Seal == "" {
		return nil
	}
	live := &v1alpha1.M2MClient{}
	err := r.Live.Get(ctx, client.ObjectKeyFromObject(c), live)
	switch {
	case apierrors.IsNotFound(err), err == nil && (live.UID != c.UID || !live.DeletionTimestamp.IsZero()):
		return errGone
	case err != nil:
		return err
	case live.ResourceVersion != c.ResourceVersion:
		return errStale
	case !d.Generated || secret == nil:
		return nil // what is written to the Secret is fenced by its resourceVersion
	}
	now, err := r.liveSecret(ctx, client.ObjectKeyFromObject(secret))
	if err == nil && (now == nil || now.ResourceVersion != secret.ResourceVersion) {
		return errStale
	}
	return err
}

// problem translates what keeps a credential from being delivered.
func (r *ClientReconciler) problem(c *v1alpha1.M2MClient, found gathered, d credential.Decision) (verdict, time.Time) {
	switch d.Problem {
	case credential.ProblemSecretForeign:
		return secretTaken(c, found), r.Now().Add(recheck)
	case credential.ProblemLostAgain:
		return waiting(v1alpha1.ReasonSecretLostAgain, fmt.Sprintf(
			"Secret %q is deleted or edited again and again, soon after it was made: the next secret comes at %s; find out what does it, the Secret's managed fields and the audit log name it",
			found.name, d.NextAt.Format(time.RFC3339))), d.NextAt
	case credential.ProblemTooManyVersions:
		return waiting(v1alpha1.ReasonTooManyVersions, fmt.Sprintf(
			"Secret %q was lost or edited, and %d earlier secrets are valid and may be in use, the most there may be: the next is made at %s, or when one of them is listed in spec.rotation.revoke",
			found.name, credential.MaxVersions, d.NextAt.Format(time.RFC3339))), d.NextAt
	case credential.ProblemDepositRefused:
		return stalled(v1alpha1.ReasonCredentialAltered, fmt.Sprintf(
			"the annotation %s is not what the management API wrote for this client, and the status holds no credential: put it back as it was in a backup, or delete the client and make another",
			v1alpha1.AnnotationCredential)), r.Now().Add(recheck)
	default:
		return stalled(v1alpha1.ReasonPepperLost, fmt.Sprintf(
			"this client's credential was sealed with a pepper key that Secret %s doesn't hold: restore that Secret from a backup; if there is none, set the annotation %s of this M2MClient to a new text, and it gets a new secret",
			r.Installation.pepperKey(), v1alpha1.AnnotationRotate)), r.Now().Add(recheck)
	}
}

func secretTaken(c *v1alpha1.M2MClient, found gathered) verdict {
	owner, secret := "something else", found.secret
	if found.holder != nil {
		return stalled(v1alpha1.ReasonSecretConflict, fmt.Sprintf(
			"Secret %q is that of M2MClient %q, also while it isn't there: choose another spec.secret.name, or delete that client or let it have another name; then its name is free when the overlap is over",
			found.name, found.holder.Name))
	}
	if name := secret.Labels[v1alpha1.LabelClient]; name != "" {
		owner = fmt.Sprintf("an M2MClient %q", name)
	}
	if secret.Labels[v1alpha1.LabelAdopt] == c.Name {
		return stalled(v1alpha1.ReasonSecretConflict, fmt.Sprintf(
			"Secret %q has the adopt label, and no credential that this client can take over: it was edited, a living M2MClient has it, or this client has its own credential already; to import its values name it in spec.secret.importFrom of a new M2MClient",
			secret.Name))
	}
	return stalled(v1alpha1.ReasonSecretConflict, fmt.Sprintf(
		"Secret %q belongs to %s and is left alone: delete or rename that Secret, or choose another spec.secret.name",
		secret.Name, owner))
}
