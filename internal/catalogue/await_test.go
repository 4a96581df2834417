package catalogue

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
)

func generation(uid string, n int) *v1alpha1.M2MClient {
	o := client(uid, "id-of-"+uid, 1)
	o.Generation = int64(n)
	return o
}

func TestAwaitIsAskedAboutItsClientOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(trusting)
		var asked []*v1alpha1.M2MClient
		var got *v1alpha1.M2MClient
		done := false
		go func() {
			var err error
			got, err = c.Await(t.Context(), "uid", func(o *v1alpha1.M2MClient) bool {
				asked = append(asked, o)
				return o != nil && o.Generation == 2
			})
			if err != nil {
				t.Error(err)
			}
			done = true
		}()
		first, second := generation("uid", 1), generation("uid", 2)
		for step, event := range []func(){
			func() {},
			func() { c.Set(client("other", "other", 1)); c.Remove("other"); c.Keep(nil); c.Reidentify() },
			func() { c.Set(first) },
			func() { c.Keep(map[types.UID]bool{}) },
			func() { c.Set(second) },
		} {
			if synctest.Wait(); done {
				t.Fatalf("it returned before step %d", step)
			}
			event()
		}
		synctest.Wait()
		if !done || got != second || len(c.waiting) != 0 {
			t.Errorf("returned %t, %v; %d still wait", done, got, len(c.waiting))
		}
		want := []*v1alpha1.M2MClient{nil, first, nil, second}
		if !slices.Equal(asked, want) {
			t.Errorf("asked about %v, want %v", asked, want)
		}
	})
}

// A deletion is seen: first as a client that can't be found any more, then as none.
func TestAwaitDeletion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(trusting)
		c.Set(generation("uid", 1))
		gone := false
		go func() {
			o, err := c.Await(t.Context(), "uid", func(o *v1alpha1.M2MClient) bool { return o == nil })
			if o != nil || err != nil {
				t.Errorf("%v, %v", o, err)
			}
			gone = true
		}()
		synctest.Wait()
		c.Remove("uid")
		synctest.Wait()
		if !gone {
			t.Error("the deletion went unnoticed")
		}
	})
}

func TestAwaitEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(trusting)
		c.Set(generation("uid", 1))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		never := func(*v1alpha1.M2MClient) bool { return false }
		if o, err := c.Await(ctx, "uid", never); o != nil || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v, %v", o, err)
		}
		if _, err := c.Await(ctx, "uid", never); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if o, err := c.Await(ctx, "uid", func(*v1alpha1.M2MClient) bool { return true }); o == nil || err != nil {
			t.Errorf("what holds already: %v, %v", o, err)
		}
		if len(c.waiting) != 0 {
			t.Errorf("%d still wait", len(c.waiting))
		}
	})
}

// However events and waiting fall together, nobody waits for what has come: each side of
// this goes on when the catalogue has told it that the other did.
func TestAwaitLosesNoEvent(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c := New(trusting)
	reaches := func(uid string, step int) {
		o, err := c.Await(ctx, types.UID(uid), func(o *v1alpha1.M2MClient) bool { return o != nil && o.Generation >= int64(step) })
		if err != nil {
			t.Errorf("%s, step %d: %v", uid, step, err)
			return
		}
		if found, ok := c.Client("default", o.Status.ClientID); !ok || found.Generation < int64(step) {
			t.Errorf("%s, step %d: told before it is found", uid, step)
		}
	}
	const steps, others = 500, 4
	var waiting sync.WaitGroup
	for n := range others {
		waiting.Go(func() {
			uid := "uid-" + strconv.Itoa(n)
			for step := 1; step <= steps && !t.Failed(); step++ {
				reaches("uid", step)
				c.Set(generation(uid, step))
			}
		})
	}
	for step := 1; step <= steps && !t.Failed(); step++ {
		c.Set(generation("uid", step))
		for n := range others {
			if (step+n)%3 != 0 { // else it may fall behind
				reaches("uid-"+strconv.Itoa(n), step)
			}
		}
	}
	waiting.Wait()
	if len(c.waiting) != 0 {
		t.Errorf("%d still wait", len(c.waiting))
	}
}
