package catalogue

import (
	"slices"
	"unique"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/managementapi"
)

// Position is where a page ends: at a client, by when it was made and its id. Neither ever
// changes, so what stays is neither skipped nor shown twice while others come and go.
// The zero value is the beginning.
type Position struct {
	Created  int64 // Unix time in seconds
	ClientID string
}

// Search returns the clients of an issuer that match and that the caller may see: those
// after a position, at most limit, and how many there are in all. More tells whether some
// come after next. All of it is of one instant. visible is asked at most twice about a
// namespace: about the clients that the management API made there, and about the others.
// What is returned mustn't be changed.
func (c *Catalogue) Search(issuer string, q managementapi.Query, visible func(namespace string, made bool) bool, after Position, limit int) (page []*v1alpha1.M2MClient, total int, next Position, more bool) {
	m := newMatcher(q)
	seen := map[place]bool{}
	for _, chunk := range c.candidates(issuer, q) {
		for _, e := range chunk {
			if !m.matches(e) {
				continue
			}
			see, known := seen[e.place]
			if !known {
				see = visible(e.place.namespace.Value(), e.place.made)
				seen[e.place] = see
			}
			if !see {
				continue
			}
			total++
			switch {
			case e.compare(after) <= 0:
			case len(page) == limit:
				more = true
			default:
				page, next = append(page, e.object), e.Position
			}
		}
	}
	return page, total, next, more
}

// candidates are the clients that may match, in order: all of the issuer, or those with
// the ids that a query insists on.
func (c *Catalogue) candidates(issuer string, q managementapi.Query) [][]*entry {
	ids, few := insists(q)
	c.lookup.RLock()
	defer c.lookup.RUnlock()
	s := c.shelves[issuer]
	switch {
	case s == nil:
		return nil
	case !few:
		return s.order.chunks
	}
	var found []*entry
	for _, id := range ids {
		if e := s.holder(id); e != nil {
			found = append(found, e)
		}
	}
	slices.SortFunc(found, func(a, b *entry) int { return a.compare(b.Position) })
	return [][]*entry{slices.Compact(found)}
}

// insists returns the ids of which a client must have one to match; false: it can have any.
func insists(q managementapi.Query) (ids []string, only bool) {
	for _, o := range q.Operands {
		switch {
		case o.Field == managementapi.FieldClientID && q.Any:
			ids, only = append(ids, o.Values...), true
		case o.Field == managementapi.FieldClientID:
			return o.Values, true
		case q.Any:
			return nil, false
		}
	}
	return ids, only
}

// maxOperands bounds the operands of a query: one with more finds nothing.
const maxOperands = 64

// matcher is a query, made ready to be asked about very many clients: each costs the same
// however many operands and values there are.
type matcher struct {
	one    bool   // one operand is enough
	needed uint64 // a bit for each operand
	// The bits of the operands that hold where the field has this value.
	ids           map[string]uint64
	names, scopes map[unique.Handle[string]]uint64
}

func newMatcher(q managementapi.Query) *matcher {
	if len(q.Operands) > maxOperands {
		return &matcher{needed: 1}
	}
	m := &matcher{one: q.Any, ids: map[string]uint64{}, names: map[unique.Handle[string]]uint64{}, scopes: map[unique.Handle[string]]uint64{}}
	for i, o := range q.Operands {
		bit := uint64(1) << i
		m.needed |= bit // also of a field that isn't known: no client has it
		for _, value := range o.Values {
			switch o.Field {
			case managementapi.FieldClientID:
				m.ids[value] |= bit
			case managementapi.FieldClientName:
				m.names[unique.Make(value)] |= bit
			case managementapi.FieldScopes:
				m.scopes[unique.Make(value)] |= bit
			}
		}
	}
	return m
}

func (m *matcher) matches(e *entry) bool {
	if m.needed == 0 {
		return true
	}
	var held uint64
	if len(m.ids) > 0 {
		held |= m.ids[e.ClientID]
	}
	if len(m.names) > 0 {
		held |= m.names[e.name]
	}
	if len(m.scopes) > 0 {
		for _, scope := range e.scopes {
			held |= m.scopes[scope]
		}
	}
	return held == m.needed || m.one && held != 0
}
