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
	"unique"

	"k8s.io/apimachinery/pkg/types"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/policy"
)

// Catalogue holds all clients. One watch changes it, one event at a time, while many
// requests read: what a search goes through is never changed, but replaced piece by piece.
// So the watch waits for no search, and each search sees one instant.
type Catalogue struct {
	identify func(*v1alpha1.M2MClient) (clientID string)

	// lookup guards what follows, and is held for a few accesses to a map.
	lookup  sync.RWMutex
	shelves map[string]*shelf // by the name of the issuer

	// events guards what follows: what the watch said last, and who waits for it.
	events  sync.Mutex
	objects map[types.UID]*v1alpha1.M2MClient
	entries map[types.UID]*entry
	waiting map[types.UID]*waiters
}

// shelf is the clients of one issuer.
type shelf struct {
	byID       map[string][]*entry // the one that holds the id comes first
	order      order               // of those that hold their ids: no two have one position
	namespaces map[string]int      // how many clients each has
}

// entry is a client with an id that can be believed. It is never changed. What a search
// asks about each stands in it, and as handles, which are compared without being read.
type entry struct {
	Position
	issuer string
	object *v1alpha1.M2MClient
	place  place
	name   unique.Handle[string]
	scopes []unique.Handle[string]
}

// place is all that says who may see a client.
type place struct {
	namespace unique.Handle[string]
	made      bool // by the management API
}

func newEntry(o *v1alpha1.M2MClient, id string) *entry {
	e := &entry{
		Position: Position{max(0, o.CreationTimestamp.Unix()), id},
		issuer:   policy.IssuerName(&o.Spec),
		object:   o,
		place:    place{unique.Make(o.Namespace), Made(o)},
		name:     unique.Make(o.Spec.DisplayName),
		scopes:   make([]unique.Handle[string], len(o.Spec.Scopes)),
	}
	for i, scope := range o.Spec.Scopes {
		e.scopes[i] = unique.Make(scope)
	}
	return e
}

// Made tells whether the management API made a client.
func Made(o *v1alpha1.M2MClient) bool { return o.Annotations[v1alpha1.AnnotationCredential] != "" }

// waiters wait for events about one object.
type waiters struct {
	changed chan struct{} // closed by the next event
	number  int
}

// New returns an empty catalogue. identify returns the id of a client; empty: its record
// can't be believed, or there is none yet, and the client isn't found. It is asked while
// events wait, and can't ask the catalogue.
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
		after = newEntry(o, id)
	}
	if before != nil && after != nil && before.issuer == after.issuer && before.Position == after.Position {
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
	same := s.byID[after.ClientID]
	at := slices.Index(same, before)
	same[at] = after
	if at == 0 {
		s.order.insert(after)
	}
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
	same := s.byID[e.ClientID]
	at, _ := slices.BinarySearchFunc(same, e, elder)
	s.settle(e.ClientID, slices.Insert(same, at, e))
	s.namespaces[e.object.Namespace]++
}

func (c *Catalogue) hide(e *entry) {
	if e == nil {
		return
	}
	c.lookup.Lock()
	defer c.lookup.Unlock()
	s := c.shelves[e.issuer]
	same := s.byID[e.ClientID]
	at := slices.Index(same, e)
	s.settle(e.ClientID, slices.Concat(same[:at], same[at+1:]))
	if s.namespaces[e.object.Namespace]--; s.namespaces[e.object.Namespace] == 0 {
		delete(s.namespaces, e.object.Namespace)
	}
	if len(s.byID) == 0 {
		delete(c.shelves, e.issuer)
	}
}

// elder says which of those with one id comes first, and holds it.
func elder(a, b *entry) int {
	return cmp.Or(cmp.Compare(a.Created, b.Created), cmp.Compare(a.object.UID, b.object.UID))
}

// settle takes who has an id now: another may hold it.
func (s *shelf) settle(id string, same []*entry) {
	before := s.holder(id)
	if s.byID[id] = same; len(same) == 0 {
		delete(s.byID, id)
	}
	after := s.holder(id)
	if before == after {
		return
	}
	if before != nil {
		s.order.remove(before.Position)
	}
	if after != nil {
		s.order.insert(after)
	}
}

// holder returns who holds an id; nil: nobody does.
func (s *shelf) holder(id string) *entry {
	if same := s.byID[id]; len(same) > 0 {
		return same[0]
	}
	return nil
}

// Client finds an issuer's client by its id. Of two that have it, that is the elder. What
// it returns mustn't be changed.
func (c *Catalogue) Client(issuer, clientID string) (*v1alpha1.M2MClient, bool) {
	c.lookup.RLock()
	defer c.lookup.RUnlock()
	if s := c.shelves[issuer]; s != nil {
		if e := s.holder(clientID); e != nil {
			return e.object, true
		}
	}
	return nil, false
}

// Namespaces returns those that have clients of an issuer, sorted.
func (c *Catalogue) Namespaces(issuer string) []string {
	namespaces := c.unsorted(issuer)
	slices.Sort(namespaces) // after the lock, which the watch waits for
	return namespaces
}

func (c *Catalogue) unsorted(issuer string) []string {
	c.lookup.RLock()
	defer c.lookup.RUnlock()
	s := c.shelves[issuer]
	if s == nil {
		return nil
	}
	return slices.AppendSeq(make([]string, 0, len(s.namespaces)), maps.Keys(s.namespaces))
}

// Await returns a client as soon as it satisfies a condition, which is asked now and
// after events about this client: not after each, where they come fast, but always about
// the last. It is asked about nil while the client isn't there. An error says that the
// context ended first.
func (c *Catalogue) Await(ctx context.Context, uid types.UID, holds func(o *v1alpha1.M2MClient) bool) (*v1alpha1.M2MClient, error) {
	for {
		o, w := c.wait(uid)
		if holds(o) {
			c.leave(uid, w)
			return o, nil
		}
		select {
		case <-w.changed:
		case <-ctx.Done():
			c.leave(uid, w)
			return nil, fmt.Errorf("waiting for an M2MClient to change: %w", ctx.Err())
		}
	}
}

// wait returns a client as it is, and what says that it has changed since.
func (c *Catalogue) wait(uid types.UID) (*v1alpha1.M2MClient, *waiters) {
	c.events.Lock()
	defer c.events.Unlock()
	w := c.waiting[uid]
	if w == nil {
		w = &waiters{changed: make(chan struct{})}
		c.waiting[uid] = w
	}
	w.number++
	return c.objects[uid], w
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
