package catalogue

import (
	"slices"

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
// come after next. It is asked about each client, so visible must be quick.
func (c *Catalogue) Search(issuer string, q managementapi.Query, visible func(*v1alpha1.M2MClient) bool, after Position, limit int) (page []*v1alpha1.M2MClient, total int, next Position, more bool) {
	matches := matcher(q)
	start := key{after, last}
	for _, chunk := range c.candidates(issuer, q) {
		for _, e := range chunk {
			if e.shadowed.Load() || !matches(e) || !visible(e.object) {
				continue
			}
			total++
			switch {
			case e.compare(start) <= 0:
			case len(page) == limit:
				more = true
			default:
				page, next = append(page, e.object), e.Position
			}
		}
	}
	return page, total, next, more
}

// last comes after every UID.
const last = "\xff"

// candidates are the clients that may match, in order: all of the issuer, or those with
// the ids that a query insists on.
func (c *Catalogue) candidates(issuer string, q managementapi.Query) [][]*entry {
	c.lookup.RLock()
	defer c.lookup.RUnlock()
	s := c.shelves[issuer]
	if s == nil {
		return nil
	}
	byID := slices.IndexFunc(q.Operands, func(o managementapi.Operand) bool { return o.Field == managementapi.FieldClientID })
	if byID < 0 || q.Any && len(q.Operands) > 1 {
		return s.order.chunks()
	}
	var found []*entry
	for _, id := range q.Operands[byID].Values {
		found = append(found, s.byID[id]...)
	}
	slices.SortFunc(found, func(a, b *entry) int { return a.compare(b.key) })
	return [][]*entry{slices.Compact(found)}
}

// matcher tells which clients a query finds.
func matcher(q managementapi.Query) func(*entry) bool {
	var operands []func(*entry) bool
	for _, o := range q.Operands {
		operands = append(operands, operand(o))
	}
	return func(e *entry) bool {
		for _, holds := range operands {
			if holds(e) == q.Any {
				return q.Any
			}
		}
		return !q.Any || len(operands) == 0
	}
}

func operand(o managementapi.Operand) func(*entry) bool {
	values := make(map[string]bool, len(o.Values))
	for _, value := range o.Values {
		values[value] = true
	}
	switch o.Field {
	case managementapi.FieldClientID:
		return func(e *entry) bool { return values[e.ClientID] }
	case managementapi.FieldClientName:
		return func(e *entry) bool { return values[e.object.Spec.DisplayName] }
	case managementapi.FieldScopes:
		return func(e *entry) bool {
			return slices.ContainsFunc(e.object.Spec.Scopes, func(scope string) bool { return values[scope] })
		}
	}
	return func(*entry) bool { return false }
}
