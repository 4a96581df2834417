package controllers

import (
	"context"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	ac "github.com/m2m-operator/m2m-operator/api/v1alpha1/applyconfiguration/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/keyring"
	"github.com/m2m-operator/m2m-operator/internal/policy"
	"github.com/m2m-operator/m2m-operator/internal/token"
)

// annotationReplaceKey, on an issuer, accepts the loss of the key that it names: a
// new one is made. It works once, because the new key has another name.
const annotationReplaceKey = "m2m-operator.dev/replace-lost-signing-key"

// IssuerReconciler gives each ClusterM2MIssuer its signing key.
type IssuerReconciler struct {
	base
	Installation *Installation
}

// +kubebuilder:rbac:groups=m2m-operator.dev,resources=clusterm2missuers,verbs=get;list;watch
// +kubebuilder:rbac:groups=m2m-operator.dev,resources=clusterm2missuers/status,verbs=patch

// Reconcile implements reconcile.Reconciler.
func (r *IssuerReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	issuer := &v1alpha1.ClusterM2MIssuer{}
	if err := r.Client.Get(ctx, req.NamespacedName, issuer); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !issuer.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, nil
	}
	ring, verdict, err := r.reconcile(ctx, issuer)
	if err != nil {
		return requeueOnConflict(err)
	}
	return r.report(ctx, issuer, ring, verdict)
}

func (r *IssuerReconciler) reconcile(ctx context.Context, issuer *v1alpha1.ClusterM2MIssuer) (keyring.Ring, verdict, error) {
	all := &v1alpha1.ClusterM2MIssuerList{}
	if err := r.Client.List(ctx, all); err != nil {
		return keyring.Ring{}, verdict{}, err
	}
	if rival := policy.Rival(issuer, all.Items); rival != nil {
		return keyring.Ring{}, stalled(v1alpha1.ReasonConflict, fmt.Sprintf(
			"the older ClusterM2MIssuer %q has the same spec.url or spec.projectID: delete this one and create it with others", rival.Name)), nil
	}
	// Without the pepper no client can be checked, so no token be signed.
	var lost *LostError
	if _, err := r.Installation.Pepper(ctx); errors.As(err, &lost) {
		return keyring.Ring{}, stalled(v1alpha1.ReasonPepperLost, lost.Error()), nil
	} else if err != nil {
		return keyring.Ring{}, verdict{}, err
	}
	return r.keys(ctx, issuer)
}

// keys returns the issuer's signing keys, and makes the first.
func (r *IssuerReconciler) keys(ctx context.Context, issuer *v1alpha1.ClusterM2MIssuer) (keyring.Ring, verdict, error) {
	secret, err := r.keySecret(ctx, issuer)
	if err != nil {
		return keyring.Ring{}, verdict{}, err
	}
	var ring keyring.Ring
	if secret == nil {
		if lost, err := r.lost(ctx, issuer); err != nil || lost.reason != "" {
			return keyring.Ring{}, lost, err
		}
	} else if ring, err = keyring.Parse(secret.Data); err != nil {
		return keyring.Ring{}, stalled(v1alpha1.ReasonSigningKeyCorrupt, fmt.Sprintf(
			"Secret %s is damaged: %v; restore it from a backup", r.keysKey(issuer), err)), nil
	}
	ring, changed, err := ring.Ensure(r.Rand, algorithm(issuer), r.Now())
	if err == nil && changed {
		err = r.writeKeys(ctx, issuer, secret, ring)
	}
	if err != nil {
		return keyring.Ring{}, verdict{}, err
	}
	return ring, ready(v1alpha1.ReasonSigning, "tokens are signed with the key "+ring.Keys[len(ring.Keys)-1].ID), nil
}

func (r *IssuerReconciler) keySecret(ctx context.Context, issuer *v1alpha1.ClusterM2MIssuer) (*corev1.Secret, error) {
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
	keys := issuer.Status.Keys
	if holder < 0 || len(keys) > 0 && issuer.Annotations[annotationReplaceKey] == keys[len(keys)-1].KeyID {
		return verdict{}, nil
	}
	message := fmt.Sprintf("Secret %s is gone, and clients such as %s/%s have credentials: restore it from a backup",
		r.keysKey(issuer), clients.Items[holder].Namespace, clients.Items[holder].Name)
	if len(keys) > 0 {
		message += fmt.Sprintf("; or accept that tokens signed so far no longer verify, and annotate this issuer with %s=%s",
			annotationReplaceKey, keys[len(keys)-1].KeyID)
	}
	return stalled(v1alpha1.ReasonSigningKeyLost, message), nil
}

func (r *IssuerReconciler) writeKeys(ctx context.Context, issuer *v1alpha1.ClusterM2MIssuer, existing *corev1.Secret, ring keyring.Ring) error {
	data, err := ring.Data()
	if err != nil {
		return err
	}
	if existing != nil {
		updated := existing.DeepCopy()
		updated.Data = data
		return r.Client.Update(ctx, updated)
	}
	key := r.keysKey(issuer)
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
	r.Events.Eventf(issuer, nil, corev1.EventTypeNormal, "SigningKeyCreated", "Create",
		"the signing key %s is in Secret %s: back it up", ring.Keys[0].ID, key)
	return nil
}

func (r *IssuerReconciler) report(ctx context.Context, issuer *v1alpha1.ClusterM2MIssuer, ring keyring.Ring, v verdict) (ctrl.Result, error) {
	was := issuer.Status.DeepCopy()
	next := was.DeepCopy()
	next.ObservedGeneration = issuer.Generation
	next.Conditions = v.conditions(next.Conditions, nil, issuer.Generation, metav1.NewTime(r.Now()))
	next.TokenURL, next.JWKSURL = tokenURL(issuer), jwksURL(issuer)
	if v.ready {
		next.Keys = nil
		for _, k := range ring.Keys {
			next.Keys = append(next.Keys, v1alpha1.SigningKeyStatus{
				KeyID: k.ID, Algorithm: string(k.Algorithm), ActiveFrom: metav1.NewTime(k.ActiveFrom),
			})
		}
	}
	slices.SortFunc(was.Conditions, byType)
	slices.SortFunc(next.Conditions, byType)
	result := ctrl.Result{}
	if !v.ready {
		result.RequeueAfter = recheck
	}
	if equality.Semantic.DeepEqual(was, next) {
		return result, nil
	}
	err := r.Client.Status().Apply(ctx, issuerConfiguration(issuer, next), client.FieldOwner(v1alpha1.ManagedBy), client.ForceOwnership)
	if err != nil {
		return requeueOnConflict(client.IgnoreNotFound(err))
	}
	before := meta.FindStatusCondition(was.Conditions, v1alpha1.ConditionReady)
	if before == nil || before.Reason != v.reason {
		kind := corev1.EventTypeNormal
		if !v.ready {
			kind = corev1.EventTypeWarning
		}
		r.Events.Eventf(issuer, nil, kind, v.reason, "Reconcile", "%s", v.message)
	}
	return result, nil
}

func issuerConfiguration(issuer *v1alpha1.ClusterM2MIssuer, s *v1alpha1.ClusterM2MIssuerStatus) *ac.ClusterM2MIssuerApplyConfiguration {
	status := ac.ClusterM2MIssuerStatus().
		WithObservedGeneration(s.ObservedGeneration).
		WithConditions(conditionConfigurations(s.Conditions)...).
		WithTokenURL(s.TokenURL).
		WithJWKSURL(s.JWKSURL)
	for _, k := range s.Keys {
		status.WithKeys(ac.SigningKeyStatus().WithKeyID(k.KeyID).WithAlgorithm(k.Algorithm).WithActiveFrom(k.ActiveFrom))
	}
	return ac.ClusterM2MIssuer(issuer.Name).WithUID(issuer.UID).WithResourceVersion(issuer.ResourceVersion).WithStatus(status)
}

func (r *IssuerReconciler) keysKey(issuer *v1alpha1.ClusterM2MIssuer) client.ObjectKey {
	return client.ObjectKey{Namespace: r.Installation.Namespace, Name: v1alpha1.SigningKeysSecretPrefix + issuer.Name}
}

func algorithm(issuer *v1alpha1.ClusterM2MIssuer) keyring.Algorithm {
	if issuer.Spec.Signing == nil || issuer.Spec.Signing.Algorithm == "" {
		return keyring.ES256
	}
	return keyring.Algorithm(issuer.Spec.Signing.Algorithm)
}

// issuerReady tells whether an issuer can sign, or why not.
func issuerReady(issuer *v1alpha1.ClusterM2MIssuer) (string, bool) {
	if !issuer.DeletionTimestamp.IsZero() {
		return "it is being deleted", false
	}
	condition := meta.FindStatusCondition(issuer.Status.Conditions, v1alpha1.ConditionReady)
	if condition == nil {
		return "the operator has not looked at it yet", false
	}
	return condition.Message, condition.Status == metav1.ConditionTrue
}

func tokenURL(issuer *v1alpha1.ClusterM2MIssuer) string {
	return token.EndpointURL(issuer.Spec.URL, issuer.Spec.ProjectID)
}

func jwksURL(issuer *v1alpha1.ClusterM2MIssuer) string {
	return token.JWKSURL(issuer.Spec.URL, issuer.Spec.ProjectID)
}
