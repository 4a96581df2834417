package assertion

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// An assertion is taken once before it expires, whatever others do, and nothing is kept
// for long.
func TestReplays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const perClient, total = 4, 7
		r := NewReplays(perClient, total)
		now := time.Unix(1_800_000_000, 0)
		until := map[string]time.Time{} // of what was taken
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 90).Draw(t, "seconds")) * time.Second)
			client := rapid.SampledFrom([]string{"a", "b", "a\nb"}).Draw(t, "client")
			id := fmt.Sprint(rapid.IntRange(0, 9).Draw(t, "id"))
			expires := now.Add(time.Duration(rapid.IntRange(1, 300).Draw(t, "lifetime")) * time.Second)
			name := client + "/" + id
			err := r.Use(client, id, expires, now)
			switch used, seen := until[name]; {
			case err == nil && seen && now.Before(used):
				t.Fatalf("%s was taken twice", name)
			case err == nil:
				until[name] = expires
			case errors.Is(err, ErrReplayed) && !seen:
				t.Fatalf("%s was refused as used, and was not", name)
			}
			living := 0
			for _, end := range until {
				if now.Before(end.Add(2 * time.Minute)) {
					living++
				}
			}
			if len(r.used) > min(total, living) || r.clients[client] > perClient {
				t.Fatalf("%d are remembered, %d of %q; %d can be alive", len(r.used), r.clients[client], client, living)
			}
			if errors.Is(err, ErrTooMany) && r.clients[client] < perClient && len(r.used) < total {
				t.Fatalf("refused as too many with %d of the client's, %d in all", r.clients[client], len(r.used))
			}
		}
	})
}

// Clients that use up their share don't use up others'.
func TestShares(t *testing.T) {
	r := NewReplays(2, 100)
	now := time.Unix(1_800_000_000, 0)
	use := func(client, id string) error { return r.Use(client, id, now.Add(time.Minute), now) }
	for i, want := range []error{nil, nil, ErrTooMany} {
		if err := use("greedy", fmt.Sprint(i)); !errors.Is(err, want) || want == nil && err != nil {
			t.Errorf("number %d: %v", i, err)
		}
	}
	if err := use("modest", "0"); err != nil {
		t.Error(err)
	}
	now = now.Add(4 * time.Minute)
	if err := use("greedy", "3"); err != nil {
		t.Errorf("after the others expired: %v", err)
	}
}
