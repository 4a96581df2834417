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
	ac "github.com/m2m-operator/m2m-operator/api/v1alpha1/applyconfiguration/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/credential"
	"github.com/m2m-operator/m2m-operator/internal/journal"
	"github.com/m2m-operator/m2m-operator/internal/policy"
)

// settled is the verdict on a client whose credential is delivered and valid.
func settled(c *v1alpha1.M2MClient, out outcome) verdict {
	switch {
	case out.policy.Violation != nil:
		return stalled(out.policy.Violation.Reason, out.policy.Violation.Message)
	case !out.policy.Active:
		return ready(v1alpha1.ReasonInactive, "the client is inactive, as spec.state says: it gets no tokens and keeps its credential")
	default:
		return ready(v1alpha1.ReasonIssued, fmt.Sprintf("the credential is in Secret %q", secretName(c)))
	}
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
		err := r.Client.Status().Apply(ctx, statusConfiguration(c, status), client.FieldOwner(v1alpha1.ManagedBy), client.ForceOwnership)
		if err != nil {
			return requeueOnConflict(client.IgnoreNotFound(err))
		}
		r.tell(c, was, status, out)
	}
	if out.again.IsZero() {
		return ctrl.Result{}, nil
	}
	return ctrl.Result{RequeueAfter: max(out.again.Sub(r.Now()), time.Second)}, nil
}

// nextStatus is the whole status after a reconciliation.
func nextStatus(c *v1alpha1.M2MClient, out outcome, now metav1.Time) *v1alpha1.M2MClientStatus {
	s := c.Status.DeepCopy()
	s.ObservedGeneration = c.Generation
	s.Conditions = out.verdict.conditions(s.Conditions, c.Generation, now)
	s.Effective = &v1alpha1.EffectiveClient{
		IssuerName:     policy.IssuerName(&c.Spec),
		State:          stateOf(c),
		DeletionPolicy: deletionPolicy(c),
	}
	if out.issuer != nil {
		s.Issuer = out.issuer.Spec.URL
		s.TokenURL = tokenURL(out.issuer)
		s.GrantedScopes = out.policy.Scopes
		s.Effective.TokenLifetime = &metav1.Duration{Duration: out.policy.Lifetime}
		s.Effective.Audiences = out.policy.Audiences
	}
	if out.delivered {
		s.SecretName = secretName(c)
	}
	if out.decided {
		journal.Write(s, out.record)
	}
	slices.SortFunc(s.Conditions, byType)
	return s
}

func stateOf(c *v1alpha1.M2MClient) v1alpha1.ClientState {
	if c.Spec.State == v1alpha1.ClientInactive {
		return v1alpha1.ClientInactive
	}
	return v1alpha1.ClientActive
}

// statusConfiguration is the status as server-side apply wants it, fenced by the
// UID and resourceVersion that were read.
func statusConfiguration(c *v1alpha1.M2MClient, s *v1alpha1.M2MClientStatus) *ac.M2MClientApplyConfiguration {
	status := ac.M2MClientStatus().
		WithObservedGeneration(s.ObservedGeneration).
		WithConditions(conditionConfigurations(s.Conditions)...).
		WithGrantedScopes(s.GrantedScopes...)
	setText(s.ClientID, status.WithClientID)
	setText(s.Issuer, status.WithIssuer)
	setText(s.TokenURL, status.WithTokenURL)
	setText(s.SecretName, status.WithSecretName)
	setText(s.ClientSecretLastFour, status.WithClientSecretLastFour)
	setText(s.Seal, status.WithSeal)
	effective := ac.EffectiveClient().
		WithIssuerName(s.Effective.IssuerName).
		WithState(s.Effective.State).
		WithDeletionPolicy(s.Effective.DeletionPolicy).
		WithAudiences(s.Effective.Audiences...)
	if s.Effective.TokenLifetime != nil {
		effective.WithTokenLifetime(*s.Effective.TokenLifetime)
	}
	status.WithEffective(effective)
	for _, credential := range s.Credentials {
		entry := ac.CredentialStatus().
			WithVersion(credential.Version).
			WithRole(credential.Role).
			WithHash(credential.Hash).
			WithCreatedAt(credential.CreatedAt)
		setText(credential.LastFour, entry.WithLastFour)
		if credential.NotAfter != nil {
			entry.WithNotAfter(*credential.NotAfter)
		}
		status.WithCredentials(entry)
	}
	return ac.M2MClient(c.Name, c.Namespace).WithUID(c.UID).WithResourceVersion(c.ResourceVersion).WithStatus(status)
}

// tell sends the events that a person would want to know of, after the write that
// they report.
func (r *ClientReconciler) tell(c *v1alpha1.M2MClient, was, now *v1alpha1.M2MClientStatus, out outcome) {
	if out.forged {
		r.warn(c, "StatusForged", "the status held a credential that the operator didn't write; it was replaced")
	}
	switch out.cause {
	case credential.CauseIssued:
		r.note(c, "CredentialIssued", "client %s was given its credential, version %s, in Secret %s", now.ClientID, out.version, now.SecretName)
	case credential.CauseRecovered:
		r.note(c, "CredentialRecovered", "the status was rebuilt from Secret %s, version %s", now.SecretName, out.version)
	case credential.CauseSecretLost:
		r.warn(c, "SecretReplaced", "Secret %s was deleted: it holds a new secret, version %s; the lost one stays valid for %s", now.SecretName, out.version, r.Overlap)
	case credential.CauseSecretAltered:
		r.warn(c, "SecretReplaced", "the secret in Secret %s was edited: it holds a new one, version %s; the one before stays valid for %s", now.SecretName, out.version, r.Overlap)
	}
	r.tellReadiness(c, was, now)
}

func (r *ClientReconciler) tellReadiness(c *v1alpha1.M2MClient, was, now *v1alpha1.M2MClientStatus) {
	before := meta.FindStatusCondition(was.Conditions, v1alpha1.ConditionReady)
	after := meta.FindStatusCondition(now.Conditions, v1alpha1.ConditionReady)
	if before != nil && before.Reason == after.Reason && before.Message == after.Message {
		return
	}
	switch {
	case after.Status == metav1.ConditionFalse:
		r.warn(c, after.Reason, "%s", after.Message)
	case after.Reason == v1alpha1.ReasonInactive:
		r.note(c, "Deactivated", "the client gets no tokens until spec.state is Active")
	case before != nil && before.Reason == v1alpha1.ReasonInactive:
		r.note(c, "Activated", "the client gets tokens again")
	case before != nil && before.Status != metav1.ConditionTrue:
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
