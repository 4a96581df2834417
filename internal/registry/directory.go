package registry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/m2m-operator/m2m-operator/internal/token"
)

// Directory is an index with what there is to know about its freshness, and with the
// cluster's own keys: all that a [token.Authority] asks.
type Directory struct {
	*Index
	watches *Watches
	cluster *Cluster
	bound   time.Duration // past which nothing is relied on that the watches brought
}

// NewDirectory puts the parts together. bound is how long a server may go on that is cut
// off from the API server. Without watches the index is taken for fresh; without a
// cluster no ServiceAccount can authenticate.
func NewDirectory(index *Index, watches *Watches, cluster *Cluster, bound time.Duration) *Directory {
	return &Directory{index, watches, cluster, bound}
}

// Freshness implements [token.Directory].
func (d *Directory) Freshness(now time.Time) token.Freshness {
	if d.watches == nil {
		return token.Fresh
	}
	return d.watches.Freshness(now, d.bound)
}

// Cluster implements [token.Directory].
func (d *Directory) Cluster() *token.Cluster {
	if d.cluster == nil {
		return nil
	}
	return d.cluster.known.Load()
}

// UnknownClusterKey implements [token.Directory].
func (d *Directory) UnknownClusterKey() { d.cluster.Ask() }

// Await waits until what there was of a namespace's clients at a resourceVersion is in the index; false:
// the context ended before.
func (d *Directory) Await(ctx context.Context, namespace string, version uint64) bool {
	return d.watches == nil || d.watches.Await(ctx, namespace, version)
}

// Ready tells why the server can't be relied on; nil: it can. While the API server is
// away a server goes on, and is ready, until the bound.
func (d *Directory) Ready() error {
	if err := d.watches.Ready(); err != nil {
		return err
	}
	now := time.Now()
	if d.Freshness(now) != token.Expired {
		return nil
	}
	var errs []error
	for _, s := range d.watches.sinks {
		if age := s.age(now); age > d.bound {
			errs = append(errs, fmt.Errorf("the watch of %s has brought nothing for %s", s, age.Truncate(time.Second)))
		}
	}
	return errors.Join(errs...)
}

// State describes the watches, a line each.
func (d *Directory) State() []string {
	var lines []string
	now := time.Now()
	for _, s := range d.watches.sinks {
		state := "whole"
		if s.broken(now) {
			state = "broken"
		}
		lines = append(lines, fmt.Sprintf("watch of %s: %s, heard %s ago", s, state, s.age(now).Truncate(time.Second)))
	}
	return lines
}
