package controllers

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/claims"
	"github.com/m2m-operator/m2m-operator/internal/keyring"
	"github.com/m2m-operator/m2m-operator/internal/policy"
)

// IssuerReconciler gives each ClusterM2MIssuer its signing keys.
type IssuerReconciler struct {
	base
	Installation *Installation
	// Lead is how far ahead the date of a key rotation on demand lies at least.
	Lead time.Duration

	counted memory[count]
	known   memory[issuerStanding]
}

// +kubebuilder:rbac:groups=m2m-operator.dev,resources=clusterm2missuers,verbs=get;list;watch
// +kubebuilder:rbac:groups=m2m-operator.dev,resources=clusterm2missuers/status,verbs=update

// Reconcile implements reconcile.Reconciler.
func (r *IssuerReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	issuer := &v1alpha1.ClusterM2MIssuer{}
	err := r.Client.Get(ctx, req.NamespacedName, issuer)
	if apierrors.IsNotFound(err) {
		r.known.forget(req.NamespacedName)
		return r.keepForComeback(ctx, req.Name)
	}
	if err != nil || !issuer.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, err
	}
	found, err := r.reconcile(ctx, issuer)
	if err != nil {
		return requeueOnConflict(err)
	}
	return r.report(ctx, issuer, found)
}

// issued is what a reconciliation of an issuer leads to.
type issued struct {
	verdict verdict
	ring    keyring.Ring // empty: it isn't known
	plan    keyring.Plan
	again   time.Time // when the keys need to be looked at
}

func (r *IssuerReconciler) reconcile(ctx context.Context, issuer *v1alpha1.ClusterM2MIssuer) (issued, error) {
	all := &v1alpha1.ClusterM2MIssuerList{}
	if err := r.Client.List(ctx, all); err != nil {
		return issued{}, err
	}
	if rival := policy.Rival(issuer, all.Items); rival != nil {
		return issued{verdict: stalled(v1alpha1.ReasonConflict, fmt.Sprintf(
			"the older ClusterM2MIssuer %q has the same spec.url, spec.projectID or `iss` claim: delete this one and create it with others", rival.Name))}, nil
	}
	// Without the pepper no client can be checked, so no token be signed.
	var lost *LostError
	if _, err := r.Installation.Pepper(ctx); errors.As(err, &lost) {
		return issued{verdict: stalled(v1alpha1.ReasonPepperLost, lost.Error())}, nil
	} else if err != nil {
		return issued{}, err
	}
	found, err := r.keys(ctx, issuer)
	if err == nil && found.verdict.ready {
		found.verdict = checkManifest(issuer, found.verdict)
	}
	return found, err
}

// checkManifest says what is wrong with a manifest that a schema can't tell.
func checkManifest(issuer *v1alpha1.ClusterM2MIssuer, otherwise verdict) verdict {
	if t := issuer.Spec.Token; t != nil && t.CustomClaims != "" {
		if _, err := claims.Parse(t.CustomClaims); err != nil {
			return stalled(v1alpha1.ReasonInvalidClaims, fmt.Sprintf(
				"spec.token.customClaims can't be used, and nobody is given tokens until it can: %v", err))
		}
	}
	if err := policy.CheckGrants(&issuer.Spec); err != nil {
		return stalled(v1alpha1.ReasonInvalidGrants, err.Error())
	}
	return otherwise
}

// issuerReady tells whether an issuer can sign, or why not. A grant that can't be read
// takes only what it grants.
func issuerReady(issuer *v1alpha1.ClusterM2MIssuer) (string, bool) {
	if !issuer.DeletionTimestamp.IsZero() {
		return "it is being deleted", false
	}
	condition := meta.FindStatusCondition(issuer.Status.Conditions, v1alpha1.ConditionReady)
	if condition == nil {
		return "the operator has not looked at it yet", false
	}
	return condition.Message, condition.Status == metav1.ConditionTrue || condition.Reason == v1alpha1.ReasonInvalidGrants
}

func (r *IssuerReconciler) keysKey(issuer string) client.ObjectKey {
	return client.ObjectKey{Namespace: r.Installation.Namespace, Name: v1alpha1.SigningKeysSecretPrefix + issuer}
}
