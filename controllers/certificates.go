package controllers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"net/url"
	"slices"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/certificate"
)

// CertificateReconciler keeps the certificates of the operator's own servers: an authority,
// serving certificates that it signs, and what others trust it by. Secrets of these names
// that it didn't make are left alone, and used as they are.
type CertificateReconciler struct {
	base
	Installation *Installation
	// Own is false where others make the serving certificates.
	Own bool
	// Names are the DNS names of the serving certificates, by their Secrets.
	Names map[string][]string
	// Changed gets an event when clients' Secrets have to follow; it must not block for long.
	Changed chan<- event.GenericEvent
}

// +kubebuilder:rbac:groups="",namespace=m2m-system,resources=configmaps,verbs=get;list;watch;create
// +kubebuilder:rbac:groups="",namespace=m2m-system,resources=configmaps,resourceNames=m2m-operator-ca,verbs=update

// ServingNames are the DNS names by which pods of a cluster reach the operator's Services
// in a namespace, and more for the token servers.
func ServingNames(namespace, clusterDomain string, more []string) map[string][]string {
	of := func(service string) []string {
		inNamespace := service + "." + namespace
		return []string{service, inNamespace, inNamespace + ".svc", inNamespace + ".svc." + clusterDomain}
	}
	return map[string][]string{
		v1alpha1.ServingSecret:    append(of("m2m-operator"), more...),
		v1alpha1.APIServingSecret: of("m2m-operator-api"),
	}
}

// SetupWithManager registers the reconciler.
func (r *CertificateReconciler) SetupWithManager(mgr ctrl.Manager) error {
	first := make(chan event.GenericEvent, 1)
	first <- event.GenericEvent{Object: &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: r.Installation.Namespace, Name: v1alpha1.AuthoritySecret}}}
	ours := handler.EnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) []reconcile.Request {
		if o.GetNamespace() != r.Installation.Namespace || !slices.Contains(r.watched(), o.GetName()) {
			return nil
		}
		return []reconcile.Request{{NamespacedName: r.key(v1alpha1.AuthoritySecret)}}
	})
	return ctrl.NewControllerManagedBy(mgr).
		Named("certificates").
		WatchesRawSource(source.Channel(first, ours)).
		Watches(&corev1.Secret{}, ours).
		Watches(&corev1.ConfigMap{}, ours).
		Complete(traced(r.Tracer, "certificates", r))
}

func (r *CertificateReconciler) watched() []string {
	return append(slices.Collect(maps.Keys(r.Names)), v1alpha1.AuthoritySecret, v1alpha1.AuthorityConfigMap)
}

func (r *CertificateReconciler) key(name string) client.ObjectKey {
	return client.ObjectKey{Namespace: r.Installation.Namespace, Name: name}
}

// Reconcile implements reconcile.Reconciler. What exists is read from the API server:
// Secrets of others aren't in the cache.
func (r *CertificateReconciler) Reconcile(ctx context.Context, _ ctrl.Request) (ctrl.Result, error) {
	next := r.Now().Add(recheck)
	var err error
	if r.Own {
		var at time.Time
		if at, err = r.keep(ctx); err == nil {
			next = soonerOf(next, at)
		}
	}
	// Whatever is wrong with the operator's own: clients have to be told what there is.
	if err := r.publish(ctx); err != nil {
		return ctrl.Result{}, err
	}
	if err != nil {
		return requeueOnConflict(err)
	}
	return ctrl.Result{RequeueAfter: max(next.Sub(r.Now()), retryDelay)}, nil
}

// errTaken says that a name which the operator needs belongs to something else.
var errTaken = errors.New("it isn't the operator's: delete it, or start the controller with --own-certificates=false")

// keep keeps authority, bundle and serving certificates, in this order: what signs is kept
// before anything is signed, and known before it is needed.
func (r *CertificateReconciler) keep(ctx context.Context) (time.Time, error) {
	secret, err := r.secret(ctx, v1alpha1.AuthoritySecret)
	if err != nil {
		return time.Time{}, err
	}
	if secret != nil && !isOurs(secret) {
		return time.Time{}, fmt.Errorf("secret %s: %w", client.ObjectKeyFromObject(secret), errTaken)
	}
	pairs, err := r.serving(ctx)
	if err != nil {
		return time.Time{}, err
	}
	in := certificate.Input{Now: r.Now(), Names: map[string][]string{}, Serving: map[string]certificate.Pair{}}
	for name, s := range pairs {
		in.Names[name] = r.Names[name]
		if s != nil {
			in.Serving[name] = certificate.Pair{Certificate: s.Data[corev1.TLSCertKey], Key: s.Data[corev1.TLSPrivateKeyKey]}
		}
	}
	in.Authorities = r.authorities(ctx, secret)
	if in.Shown, in.Spread, err = r.known(ctx, certificate.Bundle(in.Authorities)); err != nil {
		return time.Time{}, err
	}
	in.Renew = asked(secret)
	d, err := certificate.Decide(in, r.Rand)
	if err != nil {
		return time.Time{}, err
	}
	if d.Changed || in.Renew {
		if err := r.writeAuthorities(ctx, secret, d); err != nil {
			return time.Time{}, err
		}
	}
	bundle := certificate.Bundle(d.Authorities)
	if err := r.writeBundle(ctx, bundle); err != nil {
		return time.Time{}, err
	}
	return d.NextAt, r.writeServing(ctx, pairs, d.Serving, bundle)
}

// authorities reads what is there. A text that isn't whole counts for nothing: its keys
// can't be used, and others are made, which everybody has to be told of.
func (r *CertificateReconciler) authorities(ctx context.Context, secret *corev1.Secret) []certificate.Authority {
	if secret == nil {
		return nil
	}
	all, err := certificate.Decode(secret.Data[v1alpha1.AuthorityKey])
	if err != nil {
		log.FromContext(ctx).Error(err, "The authority of the serving certificates is lost: another is made, which verifiers and pods don't know yet", "secret", client.ObjectKeyFromObject(secret))
		return nil
	}
	return all
}

// asked tells whether a person wants another authority who has none yet.
func asked(secret *corev1.Secret) bool {
	if secret == nil {
		return false
	}
	text := secret.Annotations[v1alpha1.AnnotationRotate]
	return text != "" && text != secret.Annotations[v1alpha1.AnnotationRotatedFor]
}

// secret reads a Secret of the operator's namespace; nil: there is none.
func (r *CertificateReconciler) secret(ctx context.Context, name string) (*corev1.Secret, error) {
	s := &corev1.Secret{}
	if err := r.Live.Get(ctx, r.key(name), s); err != nil {
		return nil, client.IgnoreNotFound(err)
	}
	return s, nil
}

// serving reads the Secrets of the serving certificates that are the operator's to write.
func (r *CertificateReconciler) serving(ctx context.Context) (map[string]*corev1.Secret, error) {
	all := map[string]*corev1.Secret{}
	for name := range r.Names {
		s, err := r.secret(ctx, name)
		if err != nil {
			return nil, err
		}
		if s == nil || isOurs(s) {
			all[name] = s
		}
	}
	return all, nil
}

func isOurs(o client.Object) bool {
	return o.GetLabels()[v1alpha1.LabelManagedBy] == v1alpha1.ManagedBy && !v1alpha1.IsMarked(o)
}

// known tells whether a bundle is in the ConfigMap, and whether all Secrets of clients that
// have one have this.
func (r *CertificateReconciler) known(ctx context.Context, bundle []byte) (shown, spread bool, err error) {
	m := &corev1.ConfigMap{}
	if err := r.Live.Get(ctx, r.key(v1alpha1.AuthorityConfigMap), m); err != nil {
		return false, false, client.IgnoreNotFound(err)
	}
	if m.Data[v1alpha1.AuthorityBundleKey] != string(bundle) {
		return false, false, nil
	}
	spread, id := true, certificate.ID(bundle)
	secrets := &corev1.SecretList{}
	err = eachPage(ctx, r.Client, r.Installation.Within, secrets, 0, func() (enough bool) {
		for i := range secrets.Items {
			if has := secrets.Items[i].Annotations[v1alpha1.AnnotationAuthority]; has != "" && has != id {
				spread = false
			}
		}
		return !spread
	}, client.HasLabels{v1alpha1.LabelClient})
	return true, spread, err
}

func (r *CertificateReconciler) writeAuthorities(ctx context.Context, secret *corev1.Secret, d certificate.Decision) error {
	text, err := certificate.Encode(d.Authorities)
	if err != nil {
		return err
	}
	desired := r.object(secret, v1alpha1.AuthoritySecret, corev1.SecretTypeOpaque)
	desired.Data = map[string][]byte{v1alpha1.AuthorityKey: text}
	if to := desired.Annotations[v1alpha1.AnnotationRotate]; to != "" {
		desired.Annotations[v1alpha1.AnnotationRotatedFor] = to
	}
	if err := r.write(ctx, secret, desired); err != nil {
		return fmt.Errorf("keeping the authority of the serving certificates: %w", err)
	}
	if d.Made {
		log.FromContext(ctx).Info("Made an authority for serving certificates", "secret", client.ObjectKeyFromObject(desired))
		r.Events.Eventf(desired, nil, corev1.EventTypeNormal, "AuthorityMade", "Rotate",
			"an authority was made; it is published, and signs serving certificates a day later, or at once if it is the first")
	}
	return nil
}

func (r *CertificateReconciler) writeBundle(ctx context.Context, bundle []byte) error {
	m := &corev1.ConfigMap{}
	err := r.Live.Get(ctx, r.key(v1alpha1.AuthorityConfigMap), m)
	data := map[string]string{v1alpha1.AuthorityBundleKey: string(bundle)}
	switch {
	case apierrors.IsNotFound(err):
		key := r.key(v1alpha1.AuthorityConfigMap)
		m = &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name, Labels: map[string]string{v1alpha1.LabelManagedBy: v1alpha1.ManagedBy}},
			Data:       data,
		}
		err = r.Client.Create(ctx, m)
	case err != nil:
	case !isOurs(m):
		err = errTaken
	case !maps.Equal(m.Data, data):
		m.Data = data
		err = r.Client.Update(ctx, m)
	}
	if err != nil {
		return fmt.Errorf("publishing the authority, ConfigMap %s: %w", r.key(v1alpha1.AuthorityConfigMap), err)
	}
	return nil
}

func (r *CertificateReconciler) writeServing(ctx context.Context, have map[string]*corev1.Secret, made map[string]certificate.Pair, bundle []byte) error {
	for _, name := range slices.Sorted(maps.Keys(have)) {
		desired := r.object(have[name], name, corev1.SecretTypeTLS)
		if pair, anew := made[name]; anew {
			desired.Data = map[string][]byte{corev1.TLSCertKey: pair.Certificate, corev1.TLSPrivateKeyKey: pair.Key}
		}
		desired.Data, desired.Annotations = maps.Clone(desired.Data), maps.Clone(desired.Annotations)
		if !bytes.Equal(desired.Data[v1alpha1.AuthorityBundleKey], bundle) {
			desired.Data[v1alpha1.AuthorityBundleKey] = bundle
			metav1.SetMetaDataAnnotation(&desired.ObjectMeta, v1alpha1.AnnotationAuthoritySince, r.Now().UTC().Format(time.RFC3339))
		}
		if err := r.write(ctx, have[name], desired); err != nil {
			return fmt.Errorf("keeping a serving certificate, Secret %s: %w", name, err)
		}
	}
	return nil
}

// object is a Secret of the operator's to be written, as it is or new.
func (r *CertificateReconciler) object(existing *corev1.Secret, name string, kind corev1.SecretType) *corev1.Secret {
	if existing != nil {
		return existing.DeepCopy()
	}
	key := r.key(name)
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name, Labels: map[string]string{v1alpha1.LabelManagedBy: v1alpha1.ManagedBy}},
		Type:       kind,
	}
}

// write creates or updates a Secret; the resourceVersion that was read fences an update.
func (r *CertificateReconciler) write(ctx context.Context, existing, desired *corev1.Secret) error {
	switch {
	case existing == nil:
		return r.Client.Create(ctx, desired)
	case sameSecret(existing, desired):
		return nil
	}
	return r.Client.Update(ctx, desired)
}

// trust is what clients need to trust the token servers.
type trust struct {
	names  []string // DNS names of the serving certificate
	bundle string   // of authorities, in PEM; empty: the system's do
	id     string
	since  time.Time // when it changed
}

// trusted is what the clients' reconciler reads.
type trusted struct{ now atomic.Pointer[trust] }

// publish notes what the token servers are trusted by, and wakes the clients if it changed.
func (r *CertificateReconciler) publish(ctx context.Context) error {
	s, err := r.secret(ctx, v1alpha1.ServingSecret)
	if err != nil {
		return err
	}
	t := &trust{since: r.Now()}
	if s != nil && !v1alpha1.IsMarked(s) {
		if t.names, err = certificate.Names(s.Data[corev1.TLSCertKey]); err != nil {
			log.FromContext(ctx).Error(err, "The token servers' certificate can't be read: clients get no authority for it", "secret", client.ObjectKeyFromObject(s))
		}
		t.bundle = string(s.Data[v1alpha1.AuthorityBundleKey])
		t.id = certificate.ID([]byte(t.bundle))
		if at, err := time.Parse(time.RFC3339, s.Annotations[v1alpha1.AnnotationAuthoritySince]); err == nil && isOurs(s) {
			t.since = at
		}
	}
	before := r.Installation.trusted.now.Load()
	if before != nil && before.id == t.id && slices.Equal(before.names, t.names) {
		return nil
	}
	r.Installation.trusted.now.Store(t)
	if before == nil {
		return nil // clients haven't been looked at without it
	}
	select {
	case r.Changed <- event.GenericEvent{Object: &corev1.Secret{}}:
	case <-ctx.Done():
	}
	return nil
}

// spreadTime is how long after a change the last client gets it: half of the day for which
// an authority is known before it signs.
const spreadTime = 12 * time.Hour

// authorityFor is the bundle by which a client trusts its token endpoint; empty where that
// isn't at a name of the operator's own certificate: others know what it is trusted by. Of a
// change clients that have an earlier bundle are told by and by: they keep it till the time
// that is returned. One that shares no authority with the new one is of no use any more, or
// not to be trusted.
func (t *trust) authorityFor(issuerURL, uid, has, hasID string, now time.Time) (bundle string, at time.Time) {
	u, err := url.Parse(issuerURL)
	if err != nil || t.bundle == "" || !certificate.Covers(t.names, u.Hostname()) {
		return "", time.Time{}
	}
	if has == t.bundle || certificate.ID([]byte(has)) != hasID || !certificate.Share([]byte(has), []byte(t.bundle)) {
		return t.bundle, time.Time{}
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(uid)) // it takes all
	if turn := t.since.Add(time.Duration(h.Sum64() % uint64(spreadTime))); now.Before(turn) {
		return has, turn
	}
	return t.bundle, time.Time{}
}
