// Package registry feeds the token servers: it watches clients, issuers, keys,
// namespaces and ServiceAccounts, and keeps what a request needs in an index.
package registry

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/journal"
	"github.com/m2m-operator/m2m-operator/internal/token"
)

// +kubebuilder:rbac:groups=m2m-operator.dev,resources=m2mclients;clusterm2missuers,verbs=get;list;watch
// +kubebuilder:rbac:groups=m2m-operator.dev,resources=m2mclients/status,verbs=patch
// +kubebuilder:rbac:groups="",resources=namespaces;serviceaccounts,verbs=list;watch
// +kubebuilder:rbac:groups="",namespace=m2m-system,resources=secrets,verbs=get;list;watch
// +kubebuilder:rbac:groups=coordination.k8s.io,namespace=m2m-system,resources=leases,verbs=create;patch;delete

// Watches keep an index up to date. They hold no objects of their own: a reflector
// hands each event to the index, so a client costs its entry there and no more.
type Watches struct {
	index      *Index // nil: what the watches bring goes elsewhere
	reflectors []*cache.Reflector
	sinks      []*sink
	clients    map[string]*sink // of M2MClients, by namespace; metav1.NamespaceAll: of all
}

// NewWatches prepares the watches of issuers and namespaces, of the Secrets of the
// operator's namespace, and of the clients and ServiceAccounts within some namespaces;
// none means all.
func NewWatches(config *rest.Config, namespace string, within []string, index *Index) (*Watches, error) {
	own, err := restClient(config, v1alpha1.SchemeGroupVersion, "/apis", v1alpha1.AddToScheme)
	if err != nil {
		return nil, err
	}
	core, err := restClient(config, corev1.SchemeGroupVersion, "/api", clientgoscheme.AddToScheme)
	if err != nil {
		return nil, err
	}
	objects, err := metadata.NewForConfig(unlimited(config))
	if err != nil {
		return nil, fmt.Errorf("preparing to talk to the API server about metadata: %w", err)
	}
	w := &Watches{index: index}
	// Keys come first: what is seen before them has to be looked at twice.
	w.watch("secrets", cache.NewListWatchFromClient(core, "secrets", namespace, fields.Everything()), &corev1.Secret{}, secretsInto(index))
	w.watch("clusterm2missuers", everywhere(own, "clusterm2missuers"), &v1alpha1.ClusterM2MIssuer{}, issuersInto(index))
	w.watch("namespaces", metadataOf(objects, "namespaces", metav1.NamespaceAll), &metav1.PartialObjectMetadata{}, &namespaces{index: index})
	w.clients = w.watchEach("m2mclients", within, clientsOf(own), &v1alpha1.M2MClient{}, &clients{index})
	w.watchEach("serviceaccounts", within, func(namespace string) *cache.ListWatch {
		return metadataOf(objects, "serviceaccounts", namespace)
	}, &metav1.PartialObjectMetadata{}, &accounts{index})
	return w, nil
}

// AddSecret watches one Secret of a namespace beside the others, and hands over what it
// holds, now and whenever that changes. That it goes is no change: who uses it goes on.
func (w *Watches) AddSecret(config *rest.Config, namespace, name string, changed func(*corev1.Secret)) error {
	core, err := restClient(config, corev1.SchemeGroupVersion, "/api", clientgoscheme.AddToScheme)
	if err != nil {
		return err
	}
	one := cache.NewListWatchFromClient(core, "secrets", namespace, fields.OneTermEqualSelector(metav1.ObjectNameField, name))
	w.watch("secrets", one, &corev1.Secret{}, followed(changed)).namespace = namespace + " named " + name
	return nil
}

// followed hands over a Secret, unless it was made for an M2MClient: then its author
// decides what it holds.
type followed func(*corev1.Secret)

func (f followed) set(o metav1.Object) {
	if secret := o.(*corev1.Secret); !v1alpha1.IsMarked(secret) {
		f(secret)
	}
}

func (f followed) remove(metav1.Object)    {}
func (f followed) keep(map[types.UID]bool) {}
func (f followed) strip(o metav1.Object)   { o.SetManagedFields(nil) }

// clientsOf lists and watches the M2MClients of a namespace.
func clientsOf(client rest.Interface) func(namespace string) *cache.ListWatch {
	return func(namespace string) *cache.ListWatch {
		return cache.NewListWatchFromClient(client, "m2mclients", namespace, fields.Everything())
	}
}

func everywhere(client rest.Interface, resource string) *cache.ListWatch {
	return cache.NewListWatchFromClient(client, resource, metav1.NamespaceAll, fields.Everything())
}

// metadataOf lists and watches a resource of the core group, of which only the metadata
// is of interest.
func metadataOf(client metadata.Interface, resource, namespace string) *cache.ListWatch {
	objects := client.Resource(corev1.SchemeGroupVersion.WithResource(resource)).Namespace(namespace)
	return &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			return objects.List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return objects.Watch(ctx, o)
		},
	}
}

// unlimited is a configuration without a limit of its own: a few watches, and writers
// that pace themselves.
func unlimited(config *rest.Config) *rest.Config {
	c := rest.CopyConfig(config)
	c.QPS = -1
	return c
}

func restClient(config *rest.Config, gv schema.GroupVersion, path string, add func(*runtime.Scheme) error) (rest.Interface, error) {
	scheme := runtime.NewScheme()
	if err := add(scheme); err != nil {
		return nil, err
	}
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	c := unlimited(config)
	c.GroupVersion, c.APIPath = &gv, path
	c.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	client, err := rest.RESTClientFor(c)
	if err != nil {
		return nil, fmt.Errorf("preparing to talk to the API server about %s: %w", gv, err)
	}
	return client, nil
}

// watchEach watches a resource in each of these namespaces, or in all where there is none.
func (w *Watches) watchEach(resource string, within []string, lw func(namespace string) *cache.ListWatch, kind runtime.Object, to receiver) map[string]*sink {
	if len(within) == 0 {
		return map[string]*sink{metav1.NamespaceAll: w.watch(resource, lw(metav1.NamespaceAll), kind, to)}
	}
	sinks := map[string]*sink{}
	whole := &union{to: to, parts: map[string]map[types.UID]bool{}}
	for _, namespace := range within {
		s := w.watch(resource, lw(namespace), kind, part{whole, namespace})
		s.namespace = namespace
		sinks[namespace] = s
	}
	return sinks
}

func (w *Watches) watch(resource string, lw *cache.ListWatch, kind runtime.Object, to receiver) *sink {
	s := &sink{resource: resource, to: to}
	reflector := cache.NewReflectorWithOptions(&minded{lw, s}, kind, s, cache.ReflectorOptions{Name: "m2m-operator-" + resource})
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
			errs = append(errs, fmt.Errorf("the watch of %s has not synced yet", s))
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	if w.index == nil {
		return nil
	}
	return w.index.Ready()
}

// silent is how long a watch may bring nothing: the API server sends a bookmark about
// once a minute.
const silent = 150 * time.Second

// Freshness tells how far what the watches brought can be relied on: answers are stale
// while one of them is broken, and expired when one has been for longer than a bound.
func (w *Watches) Freshness(now time.Time, bound time.Duration) token.Freshness {
	freshness := token.Fresh
	for _, s := range w.sinks {
		switch age := s.age(now); {
		case age > max(bound, silent):
			return token.Expired
		case s.broken(now):
			freshness = token.Stale
		}
	}
	return freshness
}

// ageMetric says how stale a watch is.
var ageMetric = prometheus.NewDesc("m2m_watch_age_seconds",
	"Time since the watch of a resource last brought something; the API server sends something about once a minute.", []string{"resource"}, nil)

// cutMetric says whether a watch is known to be broken.
var cutMetric = prometheus.NewDesc("m2m_watch_broken",
	"1 while the watch of a resource is broken.", []string{"resource"}, nil)

// Describe implements [prometheus.Collector].
func (w *Watches) Describe(to chan<- *prometheus.Desc) {
	to <- ageMetric
	to <- cutMetric
}

// Collect implements [prometheus.Collector].
func (w *Watches) Collect(to chan<- prometheus.Metric) {
	now := time.Now()
	ages, cuts := map[string]float64{}, map[string]float64{}
	for _, s := range w.sinks { // of several watches of one resource, the worst counts
		ages[s.resource] = max(ages[s.resource], s.age(now).Seconds())
		if s.broken(now) {
			cuts[s.resource] = 1
		}
	}
	for resource, age := range ages {
		to <- prometheus.MustNewConstMetric(ageMetric, prometheus.GaugeValue, age, resource)
		to <- prometheus.MustNewConstMetric(cutMetric, prometheus.GaugeValue, cuts[resource], resource)
	}
}

// Heard returns when the watch of clients last brought something, of several the one that
// was heard of longest ago: an event, or the bookmark that comes about once a minute;
// zero: nothing yet.
func (w *Watches) Heard() time.Time {
	var first *time.Time
	for _, s := range w.clients {
		heard := s.heard.Load()
		if heard == nil {
			return time.Time{}
		}
		if first == nil || heard.Before(*first) {
			first = heard
		}
	}
	if first == nil {
		return time.Time{}
	}
	return *first
}

// Await waits until the watch of clients has brought all that there was of a namespace at
// a resourceVersion; false: the context ended before, or nobody watches the namespace.
func (w *Watches) Await(ctx context.Context, namespace string, version uint64) bool {
	s := w.clients[namespace]
	if s == nil {
		s = w.clients[metav1.NamespaceAll]
	}
	return s != nil && s.await(ctx, version)
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
	resource  string
	namespace string // empty: all
	to        receiver
	synced    atomic.Bool
	cut       atomic.Bool // the API server couldn't be reached when last tried
	// heard is when something came last, with the reading of a clock that can't be set; nil: never.
	heard atomic.Pointer[time.Time]
	progress
}

// String names what is watched.
func (s *sink) String() string {
	if s.namespace == "" {
		return s.resource
	}
	return s.resource + " in " + s.namespace
}

func (s *sink) hear() {
	now := time.Now()
	s.heard.Store(&now)
}

// age is how long nothing was heard.
func (s *sink) age(now time.Time) time.Duration {
	heard := s.heard.Load()
	if heard == nil {
		return math.MaxInt64
	}
	return max(0, now.Sub(*heard))
}

func (s *sink) broken(now time.Time) bool { return s.cut.Load() || s.age(now) > silent }

// minded is a ListWatch that notes whether the API server answers: a reflector tries
// again by itself, and says nothing of it.
type minded struct {
	*cache.ListWatch
	sink *sink
}

// ListWithContext implements cache.ListerWithContext.
func (m *minded) ListWithContext(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
	list, err := m.ListWatch.ListWithContext(ctx, o)
	m.sink.cut.Store(err != nil)
	return list, err
}

// WatchWithContext implements cache.WatcherWithContext.
func (m *minded) WatchWithContext(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
	w, err := m.ListWatch.WatchWithContext(ctx, o)
	m.sink.cut.Store(err != nil)
	return w, err
}

// Add implements cache.ReflectorStore.
func (s *sink) Add(o any) error { return s.with(o, s.to.set) }

// Update implements cache.ReflectorStore.
func (s *sink) Update(o any) error { return s.with(o, s.to.set) }

// Delete implements cache.ReflectorStore.
func (s *sink) Delete(o any) error { return s.with(o, s.to.remove) }

// Replace implements cache.ReflectorStore: a list, at the start and after a watch
// was lost for too long.
func (s *sink) Replace(list []any, version string) error {
	if b, ok := s.to.(interface{ begin() }); ok {
		b.begin()
	}
	listed := make(map[types.UID]bool, len(list))
	for _, o := range list {
		if err := s.with(o, func(o metav1.Object) { listed[o.GetUID()] = true; s.to.set(o) }); err != nil {
			return err
		}
	}
	s.to.keep(listed)
	s.reach(version)
	s.hear()
	s.synced.Store(true)
	return nil
}

// UpdateResourceVersion implements cache.ResourceVersionUpdater: it follows whatever
// the watch brings, when that has been taken.
func (s *sink) UpdateResourceVersion(version string) {
	s.reach(version)
	s.hear()
}

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
	c.Spec.Secret, c.Spec.Rotation = nil, nil
	revoked := c.Status.RevokedTokens
	c.Status = journal.Only(&c.Status)
	c.Status.RevokedTokens = revoked
}

// namespaces hands the labels of namespaces to the index: those of the first list, and
// of each later one, all at once.
type namespaces struct {
	index  *Index
	listed map[string]map[string]string // nil: not in the middle of a list
}

func (s *namespaces) begin() { s.listed = map[string]map[string]string{} }

func (s *namespaces) set(o metav1.Object) {
	if s.listed != nil {
		s.listed[o.GetName()] = o.GetLabels()
		return
	}
	s.index.SetNamespace(o.GetName(), o.GetLabels())
}

func (s *namespaces) remove(o metav1.Object) { s.index.RemoveNamespace(o.GetName()) }

func (s *namespaces) keep(map[types.UID]bool) {
	s.index.SetNamespaces(s.listed)
	s.listed = nil
}

func (s *namespaces) strip(o metav1.Object) { o.SetManagedFields(nil); o.SetAnnotations(nil) }

// accounts hands the UIDs of ServiceAccounts to the index.
type accounts struct{ index *Index }

func (s *accounts) set(o metav1.Object)            { s.index.SetAccount(accountOf(o), o.GetUID()) }
func (s *accounts) remove(o metav1.Object)         { s.index.RemoveAccount(accountOf(o), o.GetUID()) }
func (s *accounts) keep(listed map[types.UID]bool) { s.index.KeepAccounts(listed) }

func (s *accounts) strip(o metav1.Object) {
	o.SetManagedFields(nil)
	o.SetAnnotations(nil)
	o.SetLabels(nil)
}

func accountOf(o metav1.Object) token.Account {
	return token.Account{Namespace: o.GetNamespace(), Name: o.GetName()}
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
