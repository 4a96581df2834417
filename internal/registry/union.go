package registry

import (
	"maps"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// union makes one watch of those of several namespaces, for a receiver that takes one
// event at a time and lists of everything.
type union struct {
	mu    sync.Mutex
	to    receiver
	parts map[string]map[types.UID]bool // what is there, by namespace
}

// part is the receiver of one namespace.
type part struct {
	whole     *union
	namespace string
}

func (p part) set(o metav1.Object) {
	u := p.whole
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.parts[p.namespace] == nil {
		u.parts[p.namespace] = map[types.UID]bool{}
	}
	u.parts[p.namespace][o.GetUID()] = true
	u.to.set(o)
}

func (p part) remove(o metav1.Object) {
	u := p.whole
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.parts[p.namespace], o.GetUID())
	u.to.remove(o)
}

// keep is what one namespace has; of the others nothing is forgotten.
func (p part) keep(listed map[types.UID]bool) {
	u := p.whole
	u.mu.Lock()
	defer u.mu.Unlock()
	u.parts[p.namespace] = listed
	all := map[types.UID]bool{}
	for _, known := range u.parts {
		maps.Copy(all, known)
	}
	u.to.keep(all)
}

func (p part) strip(o metav1.Object) { p.whole.to.strip(o) }
