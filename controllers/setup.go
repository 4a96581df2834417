package controllers

import (
	"context"
	"maps"
	"slices"
	"strings"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/labels"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/policy"
)

// Indexes of the cache.
const (
	indexIssuer     = "issuer"     // M2MClients by the name of their issuer
	indexSecretName = "secretName" // M2MClients by the names of Secrets that they have, keep or want
	indexClientID   = "clientID"   // M2MClients by issuer and the client id that they have or want
	indexClientUID  = "clientUID"  // Secrets by the UID of their client
)

// CacheOptions keep the cache small: of all Secrets only the operator's own, of
// Leases only those of token servers, of clients and their Secrets only those within some
// namespaces (none means all), and of no object the managed fields.
func CacheOptions(namespace string, within []string) cache.Options {
	ours := labels.SelectorFromSet(labels.Set{v1alpha1.LabelManagedBy: v1alpha1.ManagedBy})
	var clients, secrets map[string]cache.Config
	if len(within) > 0 {
		clients = map[string]cache.Config{}
		for _, name := range within {
			clients[name] = cache.Config{}
		}
		secrets = maps.Clone(clients)
		secrets[namespace] = cache.Config{}
	}
	return cache.Options{
		DefaultTransform: cache.TransformStripManagedFields(),
		ByObject: map[client.Object]cache.ByObject{
			&v1alpha1.M2MClient{}:   {Namespaces: clients},
			&corev1.Secret{}:        {Label: ours, Namespaces: secrets},
			&corev1.ConfigMap{}:     {Label: ours, Namespaces: map[string]cache.Config{namespace: {}}},
			&coordinationv1.Lease{}: {Label: ours, Namespaces: map[string]cache.Config{namespace: {}}},
		},
	}
}

// SetupIndexes adds to the cache what the reconcilers look up.
func SetupIndexes(ctx context.Context, indexer client.FieldIndexer) error {
	err := indexer.IndexField(ctx, &v1alpha1.M2MClient{}, indexIssuer, func(o client.Object) []string {
		return []string{policy.IssuerName(&o.(*v1alpha1.M2MClient).Spec)}
	})
	if err != nil {
		return err
	}
	err = indexer.IndexField(ctx, &v1alpha1.M2MClient{}, indexSecretName, func(o client.Object) []string {
		return secretNames(o.(*v1alpha1.M2MClient))
	})
	if err != nil {
		return err
	}
	err = indexer.IndexField(ctx, &v1alpha1.M2MClient{}, indexClientID, clientIDs)
	if err != nil {
		return err
	}
	return indexer.IndexField(ctx, &corev1.Secret{}, indexClientUID, func(o client.Object) []string {
		if uid := o.GetAnnotations()[v1alpha1.AnnotationClientUID]; uid != "" {
			return []string{uid}
		}
		return nil
	})
}

// clientIDs are the ids that a client has or wants to have, with its issuer.
func clientIDs(o client.Object) []string {
	c := o.(*v1alpha1.M2MClient)
	issuer := policy.IssuerName(&c.Spec)
	var ids []string
	for _, id := range []string{c.Status.ClientID, c.Spec.ClientID} {
		if id != "" && !slices.Contains(ids, idKey(issuer, id)) {
			ids = append(ids, idKey(issuer, id))
		}
	}
	return ids
}

// SetupWithManager registers the reconciler. workers is how many clients are
// reconciled at one time.
func (r *ClientReconciler) SetupWithManager(mgr ctrl.Manager, workers int) error {
	return ctrl.NewControllerManagedBy(mgr).
		Named("m2mclient").
		For(&v1alpha1.M2MClient{}).
		Watches(&corev1.Secret{}, handler.EnqueueRequestsFromMapFunc(r.clientsOfSecret)).
		Watches(&v1alpha1.M2MClient{}, handler.EnqueueRequestsFromMapFunc(r.clientsOfName), builder.WithPredicates(freesName())).
		Watches(&v1alpha1.ClusterM2MIssuer{}, handler.EnqueueRequestsFromMapFunc(r.clientsOfIssuer), builder.WithPredicates(issuerChanged())).
		WatchesMetadata(&corev1.Namespace{}, handler.EnqueueRequestsFromMapFunc(r.clientsOfNamespace), builder.WithPredicates(relabelled())).
		WatchesRawSource(source.Channel(r.Authorities, handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, _ client.Object) []reconcile.Request {
			return r.requests(ctx)
		}))).
		WithOptions(controller.Options{MaxConcurrentReconciles: workers}).
		Complete(traced(r.Tracer, "m2mclient", r))
}

// clientsOfSecret wakes the client that owns a Secret and those that wait for its
// name; the pepper wakes them all.
func (r *ClientReconciler) clientsOfSecret(ctx context.Context, secret client.Object) []reconcile.Request {
	if client.ObjectKeyFromObject(secret) == r.Installation.pepperKey() {
		return r.requests(ctx)
	}
	if !r.Installation.looksAfter(secret.GetNamespace()) {
		return nil
	}
	requests := r.requests(ctx, client.InNamespace(secret.GetNamespace()), client.MatchingFields{indexSecretName: secret.GetName()})
	// One of a name that its client doesn't use any more.
	owner := reconcile.Request{NamespacedName: client.ObjectKey{Namespace: secret.GetNamespace(), Name: secret.GetLabels()[v1alpha1.LabelClient]}}
	if owner.Name != "" && !slices.Contains(requests, owner) {
		requests = append(requests, owner)
	}
	return requests
}

// clientsOfName wakes those that wait for the name of a client's Secret.
func (r *ClientReconciler) clientsOfName(ctx context.Context, o client.Object) []reconcile.Request {
	var requests []reconcile.Request
	for _, name := range secretNames(o.(*v1alpha1.M2MClient)) {
		for _, request := range r.requests(ctx, client.InNamespace(o.GetNamespace()), client.MatchingFields{indexSecretName: name}) {
			if request.Name != o.GetName() && !slices.Contains(requests, request) {
				requests = append(requests, request)
			}
		}
	}
	return requests
}

// freesName lets through the clients that may leave the name of a Secret to another.
func freesName() predicate.Predicate {
	return predicate.Funcs{
		CreateFunc: func(event.CreateEvent) bool { return false },
		UpdateFunc: func(e event.UpdateEvent) bool {
			before, after := e.ObjectOld.(*v1alpha1.M2MClient), e.ObjectNew.(*v1alpha1.M2MClient)
			return !slices.Equal(secretNames(before), secretNames(after))
		},
	}
}

func (r *ClientReconciler) clientsOfIssuer(ctx context.Context, issuer client.Object) []reconcile.Request {
	return r.requests(ctx, client.MatchingFields{indexIssuer: issuer.GetName()})
}

func (r *ClientReconciler) clientsOfNamespace(ctx context.Context, namespace client.Object) []reconcile.Request {
	if !r.Installation.looksAfter(namespace.GetName()) {
		return nil
	}
	return r.requests(ctx, client.InNamespace(namespace.GetName()))
}

// relabelled lets through the namespaces whose labels change: grants go by them.
func relabelled() predicate.Predicate {
	return predicate.Funcs{
		CreateFunc: func(event.CreateEvent) bool { return false },
		DeleteFunc: func(event.DeleteEvent) bool { return false },
		UpdateFunc: func(e event.UpdateEvent) bool { return !maps.Equal(e.ObjectOld.GetLabels(), e.ObjectNew.GetLabels()) },
	}
}

func (r *ClientReconciler) requests(ctx context.Context, opts ...client.ListOption) []reconcile.Request {
	clients := &v1alpha1.M2MClientList{}
	// An event handler must not wait for the writes of the workers that it feeds.
	opts = append(opts, client.DisableReadYourWritesConsistency, client.UnsafeDisableDeepCopy)
	if err := r.Client.List(ctx, clients, opts...); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "Can't list the clients to look at again")
		return nil
	}
	requests := make([]reconcile.Request, 0, len(clients.Items))
	for i := range clients.Items {
		requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&clients.Items[i])})
	}
	return requests
}

// issuerChanged lets through what matters to clients: the spec, and readiness.
func issuerChanged() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before, after := e.ObjectOld.(*v1alpha1.ClusterM2MIssuer), e.ObjectNew.(*v1alpha1.ClusterM2MIssuer)
		return before.Generation != after.Generation ||
			meta.IsStatusConditionTrue(before.Status.Conditions, v1alpha1.ConditionReady) !=
				meta.IsStatusConditionTrue(after.Status.Conditions, v1alpha1.ConditionReady) ||
			!after.DeletionTimestamp.IsZero()
	}}
}

// SetupWithManager registers the reconciler.
func (r *IssuerReconciler) SetupWithManager(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).
		Named("clusterm2missuer").
		For(&v1alpha1.ClusterM2MIssuer{}).
		Watches(&corev1.Secret{}, handler.EnqueueRequestsFromMapFunc(r.issuersOfSecret)).
		Watches(&v1alpha1.ClusterM2MIssuer{}, handler.EnqueueRequestsFromMapFunc(r.rivals), builder.WithPredicates(comesOrGoes())).
		Complete(traced(r.Tracer, "clusterm2missuer", r))
}

// issuersOfSecret wakes the issuer that the keys belong to; the pepper wakes all.
func (r *IssuerReconciler) issuersOfSecret(ctx context.Context, secret client.Object) []reconcile.Request {
	if secret.GetNamespace() != r.Installation.Namespace {
		return nil
	}
	if secret.GetName() == v1alpha1.PepperSecret {
		return r.rivals(ctx, nil)
	}
	name, ok := strings.CutPrefix(secret.GetName(), v1alpha1.SigningKeysSecretPrefix)
	if !ok {
		return nil
	}
	return []reconcile.Request{{NamespacedName: client.ObjectKey{Name: name}}}
}

// rivals wakes all issuers: one that comes or goes may decide a conflict.
func (r *IssuerReconciler) rivals(ctx context.Context, _ client.Object) []reconcile.Request {
	issuers := &v1alpha1.ClusterM2MIssuerList{}
	if err := r.Client.List(ctx, issuers, client.DisableReadYourWritesConsistency); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "Can't list the issuers to look at again")
		return nil
	}
	var requests []reconcile.Request
	for i := range issuers.Items {
		requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&issuers.Items[i])})
	}
	return requests
}

func comesOrGoes() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(event.UpdateEvent) bool { return false }}
}
