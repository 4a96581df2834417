package controllers

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/claims"
	"github.com/m2m-operator/m2m-operator/internal/credential"
	"github.com/m2m-operator/m2m-operator/internal/journal"
	"github.com/m2m-operator/m2m-operator/internal/keyring"
	"github.com/m2m-operator/m2m-operator/internal/policy"
)

// settled is the verdict on a client whose Secret is as it should be.
func settled(c *v1alpha1.M2MClient, out outcome, restart verdict) verdict {
	d, violations := &out.decision, out.policy.Violations
	if err := claimsProblem(c, out); err != nil {
		violations = append(violations, policy.Violation{
			Reason: v1alpha1.ReasonClaimsTooLarge, Message: "tokens come without the issuer's custom claims: " + err.Error(),
		})
	}
	switch {
	case len(violations) > 0:
		return violated(violations)
	case d.Refused:
		return stalled(v1alpha1.ReasonCredentialAltered, fmt.Sprintf(
			"the annotation %s was altered, removed, or an older one was put back: the secrets that the status names stay valid; rotate the client's secret through the management API, and it is right again",
			v1alpha1.AnnotationCredential))
	case !hasSecret(c) && len(d.Record.Credentials) == 0 && len(c.Spec.WorkloadIdentities) == 0 && c.Spec.PublicKeys == nil:
		return stalled(v1alpha1.ReasonNoCredential, "spec.secret.delivery is None, and nothing else says how the client authenticates: add spec.workloadIdentities or spec.publicKeys")
	case restart.reason != "":
		return restart
	case !out.policy.Active:
		return ready(v1alpha1.ReasonInactive, "the client is inactive, as spec.state says: it gets no tokens and keeps its credential")
	case d.Phase == credential.PhaseRotating:
		return waiting(v1alpha1.ReasonRotating, fmt.Sprintf("a new secret is valid already, and replaces the one in Secret %q in a moment", out.name))
	case d.Phase == credential.PhaseLostAgain:
		return waiting(v1alpha1.ReasonSecretLostAgain, fmt.Sprintf(
			"older secrets are put back into Secret %q again and again: the next secret comes at %s; find out what does it, the Secret's managed fields and the audit log name it",
			out.name, d.NextAt.Format(time.RFC3339)))
	case !out.waits.IsZero():
		return waiting(v1alpha1.ReasonRenameWaits, fmt.Sprintf(
			"the Secret is still called %q: %d former ones are kept for running pods, the most there may be, and the first of them ends at %s; then it is called %q",
			out.name, maxFormer, out.waits.Format(time.RFC3339), secretName(c)))
	case d.Phase == credential.PhaseFull:
		return waiting(v1alpha1.ReasonTooManyVersions, fmt.Sprintf(
			"a rotation is due, and %d secrets are valid, the most there may be: it begins when the first of them ends, or is listed in spec.rotation.revoke", credential.MaxVersions))
	case d.Phase == credential.PhaseStaged:
		return ready(v1alpha1.ReasonStaged, fmt.Sprintf(
			"Secret %q holds version %s as the next client secret beside the current one, and both are valid: set spec.rotation.staged to promote or cancel it", out.name, d.Next.Version))
	case !hasSecret(c) && len(d.Record.Credentials) > 0:
		return ready(v1alpha1.ReasonIssued, "the client has the secret that the management API made, and no Secret")
	case !hasSecret(c):
		return ready(v1alpha1.ReasonIssued, "the client has its id, and authenticates without a Secret")
	default:
		return ready(v1alpha1.ReasonIssued, fmt.Sprintf("the credential is in Secret %q", out.name))
	}
}

// claimsProblem says why the issuer's custom claims can't be made of what the client holds.
func claimsProblem(c *v1alpha1.M2MClient, out outcome) error {
	spec := out.issuer.Spec.Token
	if spec == nil || spec.CustomClaims == "" {
		return nil
	}
	template, err := claims.Parse(spec.CustomClaims)
	if err != nil {
		return nil //nolint:nilerr // the issuer says so, in its own conditions
	}
	_, err = out.policy.Claims(template, out.record.ClientID, c.Namespace)
	return err
}

// violated names all that the client asks for and doesn't get.
func violated(all []policy.Violation) verdict {
	var messages []string
	for _, v := range all {
		messages = append(messages, v.Message)
	}
	return stalled(all[0].Reason, strings.Join(messages, ". "))
}

// stalledOnSecret tells whether the Secret's name was taken when last seen: then
// the live Secret is asked about before another is created.
func stalledOnSecret(c *v1alpha1.M2MClient) bool {
	condition := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionReady)
	return condition != nil && condition.Reason == v1alpha1.ReasonSecretConflict
}

// report writes the status if it changes, then tells of it.
func (r *ClientReconciler) report(ctx context.Context, c *v1alpha1.M2MClient, out outcome) (ctrl.Result, error) {
	was := c.Status.DeepCopy()
	slices.SortFunc(was.Conditions, byType)
	status := nextStatus(c, out, metav1.NewTime(r.Now()))
	if !equality.Semantic.DeepEqual(was, status) {
		next := c.DeepCopy()
		next.Status = *status
		if err := r.writeStatus(ctx, next); err != nil {
			return requeueOnConflict(client.IgnoreNotFound(err))
		}
		r.known.note(c, status, false)
		r.tell(c, was, status, out)
	}
	if out.again.IsZero() {
		return ctrl.Result{}, nil
	}
	return ctrl.Result{RequeueAfter: max(out.again.Sub(r.Now()), soonest)}, nil
}

// soonest is how soon a client is looked at again that asks for no particular time.
const soonest = 20 * time.Millisecond

// nextStatus is the whole status after a reconciliation.
func nextStatus(c *v1alpha1.M2MClient, out outcome, now metav1.Time) *v1alpha1.M2MClientStatus {
	s := c.Status.DeepCopy()
	s.ObservedGeneration = c.Generation
	kept := meta.FindStatusCondition(s.Conditions, v1alpha1.ConditionPreviousSecretInUse)
	if out.settled {
		kept, s.NextRotationTime = inUse(out), stampOf(out.decision.NextRotation)
	}
	s.Conditions = out.verdict.conditions(s.Conditions, c.Generation, now, kept, ambiguous(out.policy.Ambiguous))
	s.Effective = &v1alpha1.EffectiveClient{IssuerName: policy.IssuerName(&c.Spec), State: stateOf(c), Delivery: deliveryOf(c)}
	if hasSecret(c) {
		s.Effective.DeletionPolicy = deletionPolicy(c)
	}
	s.Effective.ServiceAccounts, s.Effective.PublicKeys = serviceAccounts(c), publicKeys(c)
	if out.issuer != nil {
		s.Issuer = policy.IssuerClaim(&out.issuer.Spec)
		s.TokenURL = tokenURL(out.issuer)
		s.GrantedScopes = out.policy.Scopes
		s.Effective.TokenLifetime = &metav1.Duration{Duration: out.policy.Lifetime}
		s.Effective.Audiences = out.policy.Audiences
		if hasSecret(c) {
			s.Effective.Overlap = duration(out.rotation.Overlap)
			s.Effective.RetireWhenUnused = effectiveRetirement(out.rotation)
		}
		s.RestartedFor = out.restartedFor
	}
	if out.delivered {
		s.SecretName, s.FormerSecrets = out.name, out.recorded(now.Time)
	}
	if out.decided {
		journal.Write(s, out.record)
	}
	slices.SortFunc(s.Conditions, byType)
	return s
}

func duration(d time.Duration) *metav1.Duration { return &metav1.Duration{Duration: d} }

func stampOf(t time.Time) *metav1.Time {
	if t.IsZero() {
		return nil
	}
	stamp := metav1.NewTime(t)
	return &stamp
}

// inUse says of the replaced secrets that outlive their overlap which they are. It
// names no time that changes with each use: that is in status.usage.
func inUse(out outcome) *metav1.Condition {
	var versions []string
	reason, because := v1alpha1.ReasonUnreported, "not all token servers have said yet that nobody uses it"
	for _, kept := range out.decision.Kept {
		versions = append(versions, kept.Version.String())
		if kept.Reported {
			reason, because = v1alpha1.ReasonInUse, "it was used lately, see status.usage: restart what got it by an environment variable or a subPath mount"
		}
	}
	if len(versions) == 0 {
		return nil
	}
	return &metav1.Condition{
		Type: v1alpha1.ConditionPreviousSecretInUse, Status: metav1.ConditionTrue, Reason: reason,
		Message: fmt.Sprintf("version %s of the secret was replaced and stays valid past its overlap, until it is unused for %s or its notAfter comes: %s",
			strings.Join(versions, ", "), out.rotation.RetireFor, because),
	}
}

// ambiguous warns of scopes that verifiers read differently.
func ambiguous(scopes []string) *metav1.Condition {
	if len(scopes) == 0 {
		return nil
	}
	return &metav1.Condition{
		Type: v1alpha1.ConditionAmbiguousScopes, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonSecondColon,
		Message: fmt.Sprintf("%q has two colons: what requires a scope of its first part with a wildcard is read differently by Stytch's SDKs; write scopes with one colon", scopes[0]),
	}
}

func stateOf(c *v1alpha1.M2MClient) v1alpha1.ClientState {
	if c.Spec.State == v1alpha1.ClientInactive {
		return v1alpha1.ClientInactive
	}
	return v1alpha1.ClientActive
}

func serviceAccounts(c *v1alpha1.M2MClient) []string {
	var names []string
	for _, w := range c.Spec.WorkloadIdentities {
		names = append(names, w.ServiceAccountName)
	}
	return names
}

// publicKeys are the thumbprints of the client's keys.
func publicKeys(c *v1alpha1.M2MClient) []string {
	if c.Spec.PublicKeys == nil {
		return nil
	}
	var thumbprints []string
	for _, k := range c.Spec.PublicKeys.Keys {
		public := keyring.JWK{KeyType: k.KeyType, Curve: k.Curve, X: k.X, Y: k.Y, N: k.N, E: k.E}
		thumbprints = append(thumbprints, public.Thumbprint())
	}
	return thumbprints
}

// tell sends the events that a person would want to know of, after the write that
// they report.
func (r *ClientReconciler) tell(c *v1alpha1.M2MClient, was, now *v1alpha1.M2MClientStatus, out outcome) {
	d := &out.decision
	if d.Forged {
		forgedStatuses.Inc()
		r.warn(c, "StatusForged", "the status held a credential that the operator didn't write; it was replaced")
	}
	if out.decided {
		r.tellCause(c, now, d, out.rotation.Overlap)
		for _, version := range d.Revoked {
			r.note(c, "SecretRevoked", "version %s of the secret was revoked and is no longer valid", version)
		}
		for _, version := range d.Ended {
			r.warn(c, "SecretEnded", "version %s of the secret, which was lost soon after it was made or unused for long, is no longer valid: it made room for another", version)
		}
		for _, version := range d.Retired {
			r.note(c, "SecretRetired", "version %s of the secret, which was replaced, is unused and no longer valid", version)
		}
	}
	if condition := meta.FindStatusCondition(now.Conditions, v1alpha1.ConditionPreviousSecretInUse); condition != nil &&
		meta.FindStatusCondition(was.Conditions, condition.Type) == nil {
		r.warn(c, condition.Type, "%s", condition.Message)
	}
	r.tellAuthentication(c, was, now)
	r.tellReadiness(c, was, now)
}

// tellAuthentication tells who else can speak as the client from now on: to add a key
// or a ServiceAccount takes no secret, only the right to write M2MClients.
func (r *ClientReconciler) tellAuthentication(c *v1alpha1.M2MClient, was, now *v1alpha1.M2MClientStatus) {
	if was.Effective == nil || was.Seal == "" || was.ObservedGeneration == now.ObservedGeneration {
		return // it is new, or nobody changed it
	}
	for _, way := range []struct {
		what     string
		was, now []string
	}{
		{"ServiceAccount", was.Effective.ServiceAccounts, now.Effective.ServiceAccounts},
		{"public key", was.Effective.PublicKeys, now.Effective.PublicKeys},
	} {
		for _, added := range without(way.now, way.was) {
			r.note(c, "AuthenticationAdded", "the client can be authenticated by the %s %s from now on", way.what, added)
		}
		for _, removed := range without(way.was, way.now) {
			r.note(c, "AuthenticationRemoved", "the client can no longer be authenticated by the %s %s", way.what, removed)
		}
	}
}

// without returns what of a list isn't in another.
func without(list, other []string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return slices.Contains(other, s) })
}

func (r *ClientReconciler) tellCause(c *v1alpha1.M2MClient, now *v1alpha1.M2MClientStatus, d *credential.Decision, overlap time.Duration) {
	version := d.Material.Version
	switch d.Cause {
	case credential.CauseIssued:
		if !hasSecret(c) {
			r.note(c, "ClientRegistered", "the client has the id %s, and no secret", now.ClientID)
			return
		}
		r.note(c, "CredentialIssued", "client %s was given its credential, version %s, in Secret %s", now.ClientID, version, now.SecretName)
	case credential.CauseDeposited:
		r.note(c, "CredentialChanged", "the management API changed the secrets of client %s: valid are %s", now.ClientID, validVersions(now))
	case credential.CauseRecovered:
		r.note(c, "CredentialRecovered", "the status was rebuilt from Secret %s, version %s", now.SecretName, version)
	case credential.CauseRestored:
		r.note(c, "CredentialRestored", "client %s was restored from Secret %s, version %s", now.ClientID, now.SecretName, version)
	case credential.CauseReissued:
		if !hasSecret(c) {
			r.warn(c, "ClientRegistered", "client %s is sealed anew, because the pepper key of its record is gone", now.ClientID)
			return
		}
		r.warn(c, "CredentialReissued", "client %s has a new secret, version %s: no earlier one is valid, because the pepper key that checked them is gone", now.ClientID, version)
	case credential.CauseSecretLost:
		r.warn(c, "SecretReplaced", "Secret %s was deleted: it holds a new secret, version %s; the lost one stays valid for %s", now.SecretName, version, overlap)
	case credential.CauseSecretAltered:
		if d.Phase == credential.PhaseRotating {
			r.warn(c, "SecretReplaced", "an older secret was put back into Secret %s: a new one replaces it", now.SecretName)
			return
		}
		r.warn(c, "SecretReplaced", "the secret in Secret %s was edited: it holds a new one, version %s; the one before stays valid for %s", now.SecretName, version, overlap)
	case credential.CauseRotated, credential.CauseResumed:
		r.note(c, "SecretRotated", "Secret %s holds a new secret, version %s; the one before stays valid for %s at least", now.SecretName, version, overlap)
	case credential.CauseStaged:
		r.note(c, "SecretStaged", "Secret %s holds version %s as the next client secret beside the current one", now.SecretName, d.Next.Version)
	case credential.CauseCancelled:
		r.note(c, "RotationCancelled", "the staged secret was dropped")
	case credential.CauseRevoked:
		r.note(c, "SecretReplaced", "the current secret was revoked: Secret %s holds a new one, version %s, which was delivered first", now.SecretName, version)
	}
}

// validVersions names the versions of a client's secret that authenticate.
func validVersions(s *v1alpha1.M2MClientStatus) string {
	var versions []string
	for i := range s.Credentials {
		versions = append(versions, s.Credentials[i].Version)
	}
	return strings.Join(versions, " and ")
}

func (r *ClientReconciler) tellReadiness(c *v1alpha1.M2MClient, was, now *v1alpha1.M2MClientStatus) {
	before := meta.FindStatusCondition(was.Conditions, v1alpha1.ConditionReady)
	after := meta.FindStatusCondition(now.Conditions, v1alpha1.ConditionReady)
	if before != nil && before.Reason == after.Reason && before.Message == after.Message {
		return
	}
	// A rotation is no news until it has ended, and has an event of its own.
	failed := before != nil && before.Status == metav1.ConditionFalse && before.Reason != v1alpha1.ReasonRotating
	if before != nil && before.Reason == v1alpha1.ReasonInactive && stateOf(c) == v1alpha1.ClientActive {
		r.note(c, "Activated", "the client gets tokens again")
	}
	switch {
	case after.Reason == v1alpha1.ReasonRotating:
	case after.Status == metav1.ConditionFalse:
		r.warn(c, after.Reason, "%s", after.Message)
	case after.Reason == v1alpha1.ReasonInactive:
		r.note(c, "Deactivated", "the client gets no tokens until spec.state is Active")
	case failed:
		r.note(c, "Recovered", "the client is ready again: %s no longer holds", before.Reason)
	}
}

func (r *ClientReconciler) note(c *v1alpha1.M2MClient, reason, format string, args ...any) {
	r.Events.Eventf(c, nil, corev1.EventTypeNormal, reason, "Reconcile", format, args...)
}

func (r *ClientReconciler) warn(c *v1alpha1.M2MClient, reason, format string, args ...any) {
	r.Events.Eventf(c, nil, corev1.EventTypeWarning, reason, "Reconcile", format, args...)
}

// apiMessage is an API server's message without the object that it repeats.
func apiMessage(err error) string {
	message := err.Error()
	const limit = 512
	if len(message) > limit {
		message = strings.ToValidUTF8(message[:limit], "") + "..."
	}
	return message
}
