// Package usage remembers when the secrets of clients were used, and decides when
// that is written down: rarely, and so that what isn't is known.
package usage

import (
	"cmp"
	"slices"
	"time"
)

// Use says when a version of a client's secret was last used.
type Use struct {
	Version string
	At      time.Time // whole seconds, UTC
}

// maxUses is how many versions a status has room for.
const maxUses = 16

// seldom is how many intervals are between two writes where nothing waits for them.
const seldom = 24

// Gap returns the least time between two writes of a client's usage, of all servers
// together. While a replaced secret is valid, somebody waits to retire it.
func Gap(interval time.Duration, replacing bool) time.Duration {
	if replacing {
		return interval
	}
	return seldom * interval
}

// Merge returns what a status should say of the versions that are valid: of each the
// latest use, the latest of all first.
func Merge(reported, seen []Use, valid []string) []Use {
	var merged []Use
	for _, version := range valid {
		var last time.Time
		for _, u := range slices.Concat(reported, seen) {
			if u.Version == version && u.At.After(last) {
				last = u.At
			}
		}
		if !last.IsZero() {
			merged = append(merged, Use{version, last.UTC().Truncate(time.Second)})
		}
	}
	slices.SortFunc(merged, func(a, b Use) int {
		return cmp.Or(b.At.Compare(a.At), cmp.Compare(a.Version, b.Version))
	})
	merged = slices.CompactFunc(merged, func(a, b Use) bool { return a.Version == b.Version })
	return merged[:min(len(merged), maxUses)]
}
