// Package registry feeds the token servers: it watches clients, issuers and keys,
// and keeps what a token request needs in an index.
package registry

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/journal"
)

// +kubebuilder:rbac:groups=m2m-operator.dev,resources=m2mclients;clusterm2missuers,verbs=get;list;watch
// +kubebuilder:rbac:groups=m2m-operator.dev,resources=m2mclients/status,verbs=patch
// +kubebuilder:rbac:groups="",namespace=m2m-system,resources=secrets,verbs=get;list;watch
// +kubebuilder:rbac:groups=coordination.k8s.io,namespace=m2m-system,resources=leases,verbs=create;patch;delete

// Watches keep an index up to date. They hold no objects of their own: a reflector
// hands each event to the index, so a client costs its entry there and no more.
type Watches struct {
	index      *Index
	reflectors []*cache.Reflector
	sinks      []*sink
	clients    *sink
}

// NewWatches prepares the watches of all clients, all issuers and the Secrets of
// the operator's namespace.
func NewWatches(config *rest.Config, namespace string, index *Index) (*Watches, error) {
	own, err := restClient(config, v1alpha1.SchemeGroupVersion, "/apis", v1alpha1.AddToScheme)
	if err != nil {
		return nil, err
	}
	core, err := restClient(config, corev1.SchemeGroupVersion, "/api", clientgoscheme.AddToScheme)
	if err != nil {
		return nil, err
	}
	w := &Watches{index: index}
	// Keys come first: what is seen before them has to be looked at twice.
	w.watch(core, "secrets", namespace, &corev1.Secret{}, secretsInto(index))
	w.watch(own, "clusterm2missuers", metav1.NamespaceAll, &v1alpha1.ClusterM2MIssuer{}, issuersInto(index))
	w.clients = w.watch(own, "m2mclients", metav1.NamespaceAll, &v1alpha1.M2MClient{}, &clients{index})
	return w, nil
}

func restClient(config *rest.Config, gv schema.GroupVersion, path string, add func(*runtime.Scheme) error) (rest.Interface, error) {
	scheme := runtime.NewScheme()
	if err := add(scheme); err != nil {
		return nil, err
	}
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	c := rest.CopyConfig(config)
	c.GroupVersion, c.APIPath = &gv, path
	c.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	c.QPS = -1 // three watches, and a reporter that paces itself
	client, err := rest.RESTClientFor(c)
	if err != nil {
		return nil, fmt.Errorf("preparing to talk to the API server about %s: %w", gv, err)
	}
	return client, nil
}

func (w *Watches) watch(client rest.Interface, resource, namespace string, kind runtime.Object, to receiver) *sink {
	s := &sink{resource: resource, to: to}
	lw := cache.NewListWatchFromClient(client, resource, namespace, fields.Everything())
	reflector := cache.NewReflectorWithOptions(lw, kind, s, cache.ReflectorOptions{Name: "m2m-operator-" + resource})
	w.sinks, w.reflectors = append(w.sinks, s), append(w.reflectors, reflector)
	return s
}

// Run watches until the context ends.
func (w *Watches) Run(ctx context.Context) {
	var running sync.WaitGroup
	for _, r := range w.reflectors {
		running.Go(func() { r.RunWithContext(ctx) })
	}
	running.Wait()
}

// Ready tells why the index can't be relied on yet; nil: it can.
func (w *Watches) Ready() error {
	var errs []error
	for _, s := range w.sinks {
		if !s.synced.Load() {
			errs = append(errs, fmt.Errorf("the watch of %s has not synced yet", s.resource))
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	return w.index.Ready()
}

// Heard returns when the watch of clients last brought something: an event, or the
// bookmark that comes about once a minute; zero: nothing yet.
func (w *Watches) Heard() time.Time {
	if nano := w.clients.heard.Load(); nano != 0 {
		return time.Unix(0, nano)
	}
	return time.Time{}
}

// receiver takes the events of one kind.
type receiver interface {
	set(o metav1.Object)
	remove(o metav1.Object)
	keep(listed map[types.UID]bool)
	strip(o metav1.Object)
}

// sink is a reflector's store that stores nothing.
type sink struct {
	resource string
	to       receiver
	synced   atomic.Bool
	heard    atomic.Int64 // Unix time in nanoseconds
}

// Add implements cache.ReflectorStore.
func (s *sink) Add(o any) error { return s.with(o, s.to.set) }

// Update implements cache.ReflectorStore.
func (s *sink) Update(o any) error { return s.with(o, s.to.set) }

// Delete implements cache.ReflectorStore.
func (s *sink) Delete(o any) error { return s.with(o, s.to.remove) }

// Replace implements cache.ReflectorStore: a list, at the start and after a watch
// was lost for too long.
func (s *sink) Replace(list []any, _ string) error {
	listed := make(map[types.UID]bool, len(list))
	for _, o := range list {
		if err := s.with(o, func(o metav1.Object) { listed[o.GetUID()] = true; s.to.set(o) }); err != nil {
			return err
		}
	}
	s.to.keep(listed)
	s.synced.Store(true)
	return nil
}

// UpdateResourceVersion implements cache.ResourceVersionUpdater: it follows whatever
// the watch brings.
func (s *sink) UpdateResourceVersion(string) { s.heard.Store(time.Now().UnixNano()) }

// Resync implements cache.ReflectorStore.
func (s *sink) Resync() error { return nil }

// Transformer implements cache.TransformingStore: a first list of many objects is
// held in memory for a moment, so it is made small as it comes.
func (s *sink) Transformer() cache.TransformFunc {
	return func(o any) (any, error) { return o, s.with(o, s.to.strip) }
}

func (s *sink) with(o any, do func(metav1.Object)) error {
	if tombstone, ok := o.(cache.DeletedFinalStateUnknown); ok {
		o = tombstone.Obj
	}
	object, err := meta.Accessor(o)
	if err != nil {
		return fmt.Errorf("the watch of %s brought a %T: %w", s.resource, o, err)
	}
	do(object)
	return nil
}

// clients hands M2MClients to the index.
type clients struct{ index *Index }

func (s *clients) set(o metav1.Object) {
	s.strip(o)
	s.index.SetClient(o.(*v1alpha1.M2MClient))
}

func (s *clients) remove(o metav1.Object)         { s.index.RemoveClient(o.GetUID()) }
func (s *clients) keep(listed map[types.UID]bool) { s.index.KeepClients(listed) }

// strip drops what tokens don't depend on.
func (s *clients) strip(o metav1.Object) {
	c := o.(*v1alpha1.M2MClient)
	c.ManagedFields, c.Annotations, c.Labels = nil, nil, nil
	c.Spec.DisplayName, c.Spec.Description, c.Spec.ClientID = "", "", ""
	c.Spec.Secret, c.Spec.Rotation, c.Spec.TrustedMetadata = nil, nil, nil
	c.Status = journal.Only(&c.Status)
}

// named hands objects of a kind of which there are few to the index by their names.
type named struct {
	change func(name string, o metav1.Object) // nil: it is gone
	seen   map[types.UID]string
}

func (n *named) set(o metav1.Object) {
	n.seen[o.GetUID()] = o.GetName()
	n.change(o.GetName(), o)
}

func (n *named) remove(o metav1.Object) {
	delete(n.seen, o.GetUID())
	n.change(o.GetName(), nil)
}

// keep forgets what isn't listed any more, but for a name that another has taken.
func (n *named) keep(listed map[types.UID]bool) {
	taken := map[string]bool{}
	for uid, name := range n.seen {
		taken[name] = taken[name] || listed[uid]
	}
	for uid, name := range n.seen {
		if listed[uid] {
			continue
		}
		delete(n.seen, uid)
		if !taken[name] {
			n.change(name, nil)
		}
	}
}

func (n *named) strip(o metav1.Object) { o.SetManagedFields(nil) }

func issuersInto(index *Index) *named {
	return &named{seen: map[types.UID]string{}, change: func(name string, o metav1.Object) {
		if o == nil {
			index.RemoveIssuer(name)
			return
		}
		index.SetIssuer(o.(*v1alpha1.ClusterM2MIssuer))
	}}
}

// secretsInto hands over the pepper and the signing keys, and passes by what else
// the operator's namespace holds.
func secretsInto(index *Index) *named {
	return &named{seen: map[types.UID]string{}, change: func(name string, o metav1.Object) {
		secret, _ := o.(*corev1.Secret)
		if name == v1alpha1.PepperSecret {
			index.SetPepper(secret)
		} else if issuer, ok := strings.CutPrefix(name, v1alpha1.SigningKeysSecretPrefix); ok {
			index.SetKeys(issuer, secret)
		}
	}}
}
