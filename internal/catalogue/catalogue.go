// Package catalogue finds clients for the management API: by id, and by search in pages
// that stay right while clients come and go. It is in memory, and fed by a watch.
package catalogue

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"k8s.io/apimachinery/pkg/types"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/policy"
)

// Catalogue holds all clients. One watch changes it, one event at a time, while many
// requests read.
type Catalogue struct {
	identify func(*v1alpha1.M2MClient) (clientID string)

	// lookup guards what follows, and is held for a single access to a map.
	lookup  sync.RWMutex
	shelves map[string]*shelf // by the name of the issuer

	// events guards what follows: what the watch said last, and who waits for it.
	events  sync.Mutex
	objects map[types.UID]*v1alpha1.M2MClient
	entries map[types.UID]*entry
	waiting map[types.UID]*waiters
}

// shelf is the clients of one issuer that can be found.
type shelf struct {
	order      order
	byID       map[string][]*entry // the one that holds the id comes first
	namespaces map[string]int      // how many clients each has
}

// entry is a client that can be found.
type entry struct {
	key
	issuer string
	object *v1alpha1.M2MClient
	// shadowed: another holds the id. That changes while the entry stays.
	shadowed atomic.Bool
}

// waiters wait for events about one object.
type waiters struct {
	changed chan struct{} // closed by the next event
	number  int
}

// New returns an empty catalogue. identify returns the id of a client; empty: its record
// can't be believed, or there is none yet, and the client isn't found.
func New(identify func(*v1alpha1.M2MClient) (clientID string)) *Catalogue {
	return &Catalogue{
		identify: identify,
		shelves:  map[string]*shelf{},
		objects:  map[types.UID]*v1alpha1.M2MClient{},
		entries:  map[types.UID]*entry{},
		waiting:  map[types.UID]*waiters{},
	}
}

// Set takes a client as it is now. It is kept, and mustn't be changed afterwards.
func (c *Catalogue) Set(o *v1alpha1.M2MClient) {
	c.events.Lock()
	defer c.events.Unlock()
	c.objects[o.UID] = o
	c.index(o)
	c.tell(o.UID)
}

// Remove forgets a client.
func (c *Catalogue) Remove(uid types.UID) {
	c.events.Lock()
	defer c.events.Unlock()
	c.remove(uid)
}

// Keep forgets all clients but those of a new list.
func (c *Catalogue) Keep(listed map[types.UID]bool) {
	c.events.Lock()
	defer c.events.Unlock()
	for uid := range c.objects {
		if !listed[uid] {
			c.remove(uid)
		}
	}
}

// Reidentify asks for all ids again: what they are checked with has changed.
func (c *Catalogue) Reidentify() {
	c.events.Lock()
	defer c.events.Unlock()
	for _, o := range c.objects {
		c.index(o)
	}
}

func (c *Catalogue) remove(uid types.UID) {
	c.hide(c.entries[uid])
	delete(c.entries, uid)
	delete(c.objects, uid)
	c.tell(uid)
}

// index puts a client where it is found, if it can be.
func (c *Catalogue) index(o *v1alpha1.M2MClient) {
	before := c.entries[o.UID]
	var after *entry
	if id := c.identify(o); id != "" && o.DeletionTimestamp.IsZero() {
		after = &entry{key: key{Position{o.CreationTimestamp.Unix(), id}, string(o.UID)}, issuer: policy.IssuerName(&o.Spec), object: o}
	}
	if before != nil && after != nil && before.issuer == after.issuer && before.key == after.key {
		c.replace(before, after)
	} else {
		c.hide(before)
		c.show(after)
	}
	if after == nil {
		delete(c.entries, o.UID)
	} else {
		c.entries[o.UID] = after
	}
}

// replace is one step for readers: a client that changes is never missing.
func (c *Catalogue) replace(before, after *entry) {
	c.lookup.Lock()
	defer c.lookup.Unlock()
	s := c.shelves[after.issuer]
	after.shadowed.Store(before.shadowed.Load())
	same := s.byID[after.ClientID]
	same[slices.Index(same, before)] = after
	s.order.insert(after)
}

func (c *Catalogue) show(e *entry) {
	if e == nil {
		return
	}
	c.lookup.Lock()
	defer c.lookup.Unlock()
	s := c.shelves[e.issuer]
	if s == nil {
		s = &shelf{byID: map[string][]*entry{}, namespaces: map[string]int{}}
		c.shelves[e.issuer] = s
	}
	s.byID[e.ClientID] = append(s.byID[e.ClientID], e)
	s.settle(e.ClientID)
	s.namespaces[e.object.Namespace]++
	s.order.insert(e)
}

func (c *Catalogue) hide(e *entry) {
	if e == nil {
		return
	}
	c.lookup.Lock()
	defer c.lookup.Unlock()
	s := c.shelves[e.issuer]
	s.byID[e.ClientID] = slices.DeleteFunc(s.byID[e.ClientID], func(other *entry) bool { return other == e })
	s.settle(e.ClientID)
	if s.namespaces[e.object.Namespace]--; s.namespaces[e.object.Namespace] == 0 {
		delete(s.namespaces, e.object.Namespace)
	}
	s.order.remove(e.key)
}

// settle makes the eldest of those with an id the one that holds it.
func (s *shelf) settle(id string) {
	same := s.byID[id]
	if len(same) == 0 {
		delete(s.byID, id)
		return
	}
	slices.SortFunc(same, func(a, b *entry) int {
		return cmp.Or(cmp.Compare(a.Created, b.Created), cmp.Compare(a.uid, b.uid))
	})
	for i, e := range same {
		e.shadowed.Store(i > 0)
	}
}

// Client finds an issuer's client by its id. Of two that have it, that is the elder.
func (c *Catalogue) Client(issuer, clientID string) (*v1alpha1.M2MClient, bool) {
	c.lookup.RLock()
	defer c.lookup.RUnlock()
	if s := c.shelves[issuer]; s != nil && len(s.byID[clientID]) > 0 {
		return s.byID[clientID][0].object, true
	}
	return nil, false
}

// Namespaces returns those that have clients of an issuer, sorted.
func (c *Catalogue) Namespaces(issuer string) []string {
	c.lookup.RLock()
	defer c.lookup.RUnlock()
	s := c.shelves[issuer]
	if s == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(s.namespaces))
}

// Await returns a client as soon as it satisfies a condition, which is asked now and
// after each event about it; nil is one that isn't there. An error says that the context
// ended first.
func (c *Catalogue) Await(ctx context.Context, uid types.UID, holds func(o *v1alpha1.M2MClient) bool) (*v1alpha1.M2MClient, error) {
	for {
		c.events.Lock()
		o := c.objects[uid]
		if holds(o) {
			c.events.Unlock()
			return o, nil
		}
		w := c.wait(uid)
		c.events.Unlock()
		select {
		case <-w.changed:
		case <-ctx.Done():
			c.leave(uid, w)
			return nil, fmt.Errorf("waiting for an M2MClient to change: %w", ctx.Err())
		}
	}
}

func (c *Catalogue) wait(uid types.UID) *waiters {
	w := c.waiting[uid]
	if w == nil {
		w = &waiters{changed: make(chan struct{})}
		c.waiting[uid] = w
	}
	w.number++
	return w
}

// leave forgets one that waits no more.
func (c *Catalogue) leave(uid types.UID, w *waiters) {
	c.events.Lock()
	defer c.events.Unlock()
	if w.number--; w.number == 0 && c.waiting[uid] == w {
		delete(c.waiting, uid)
	}
}

// tell wakes who waits for an object.
func (c *Catalogue) tell(uid types.UID) {
	if w := c.waiting[uid]; w != nil {
		delete(c.waiting, uid)
		close(w.changed)
	}
}
