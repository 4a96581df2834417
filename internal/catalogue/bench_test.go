package catalogue

import (
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/managementapi"
)

const many = 100_000

// crowd returns a catalogue of 100 000 clients with five scopes each, made over a day and
// a bit, in 1000 namespaces.
func crowd(b *testing.B) *Catalogue {
	b.Helper()
	c := New(trusting)
	for i := range many {
		c.Set(member(i * 7919 % many)) // the watch lists them by name, not by age
	}
	return c
}

func member(i int) *v1alpha1.M2MClient {
	o := client(fmt.Sprintf("uid-%d", i), fmt.Sprintf("m2m-client-test-00000000-0000-4000-8000-%012d", i), int64(1_790_000_000+i))
	o.Namespace = "team-" + strconv.Itoa(i%1000)
	o.Spec.DisplayName = "Billing service " + strconv.Itoa(i%50_000)
	for s := range 5 {
		o.Spec.Scopes = append(o.Spec.Scopes, "read:resource-"+strconv.Itoa((i+s)%500))
	}
	return o
}

func BenchmarkSearch(b *testing.B) {
	c := crowd(b)
	visible := map[string]bool{}
	for i := range 1000 {
		visible["team-"+strconv.Itoa(i)] = i%10 != 0
	}
	see := func(namespace string, _ bool) bool { return visible[namespace] }
	var much []managementapi.Operand
	for i := range 20 {
		o := managementapi.Operand{Field: managementapi.FieldScopes}
		for v := range 100 {
			o.Values = append(o.Values, "read:resource-"+strconv.Itoa(i+v))
		}
		much = append(much, o)
	}
	id := member(77_777).Status.ClientID
	for _, tt := range []struct {
		name  string
		query managementapi.Query
		after Position
	}{
		{name: "all"},
		{name: "all/late", after: Position{Created: 1_790_090_000}},
		{name: "name", query: all(managementapi.FieldClientName, "Billing service 4711")},
		{name: "scope", query: all(managementapi.FieldScopes, "read:resource-11")},
		{name: "id", query: all(managementapi.FieldClientID, id)},
		{name: "large", query: managementapi.Query{Operands: much}},
	} {
		b.Run(tt.name, func(b *testing.B) {
			start := cpu(b)
			for b.Loop() {
				c.Search("default", tt.query, see, tt.after, 100)
			}
			report(b, start)
		})
	}
}

func BenchmarkClient(b *testing.B) {
	c := crowd(b)
	id := member(77_777).Status.ClientID
	for b.Loop() {
		c.Client("default", id)
	}
}

func BenchmarkSet(b *testing.B) {
	c := crowd(b)
	objects := make([]*v1alpha1.M2MClient, many)
	for i := range objects {
		objects[i] = member(i)
	}
	b.Run("changed", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			c.Set(objects[i*7919%many])
		}
	})
	b.Run("gone and new", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			o := objects[i*7919%many]
			c.Remove(o.UID)
			c.Set(o)
		}
	})
}

// What an event of the watch costs while 100 callers search and look up.
func BenchmarkSetWhileMany(b *testing.B) {
	c := crowd(b)
	done := make(chan struct{})
	var readers sync.WaitGroup
	for i := range 100 {
		readers.Go(func() {
			id := member(i).Status.ClientID
			for {
				select {
				case <-done:
					return
				default:
					c.Search("default", all(managementapi.FieldScopes, "read:resource-11"), everybody, Position{}, 100)
					c.Client("default", id)
				}
			}
		})
	}
	var took []time.Duration
	for i := 0; b.Loop(); i++ {
		o := member(i * 7919 % many)
		start := time.Now()
		c.Set(o)
		took = append(took, time.Since(start))
	}
	close(done)
	readers.Wait()
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Nanoseconds()), "p50-ns")
	b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds()), "p99-ns")
	b.ReportMetric(float64(took[len(took)-1].Nanoseconds()), "max-ns")
}
