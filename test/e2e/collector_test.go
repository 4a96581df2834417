//go:build e2e && linux

package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/m2m-operator/m2m-operator/test/e2e/outcome"
	"github.com/m2m-operator/m2m-operator/test/node"
)

// collector takes what callers report. It is no pod: it loses nothing when they go.
type collector struct {
	url string

	mu  sync.Mutex
	all calls
}

func newCollector(t *testing.T) *collector {
	t.Helper()
	listener, err := net.Listen("tcp", net.JoinHostPort(node.Address, "0"))
	if err != nil {
		t.Fatal(err)
	}
	c := &collector{url: "http://" + listener.Addr().String()}
	server := &http.Server{Handler: c}
	t.Cleanup(func() { _ = server.Close() })
	go func() { _ = server.Serve(listener) }()
	return c
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var batch calls
	if err := json.NewDecoder(r.Body).Decode(&batch); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	c.all = append(c.all, batch...)
	c.mu.Unlock()
	w.WriteHeader(http.StatusNoContent)
}

// take returns what was reported since it was taken last, so that no call is looked at
// twice, and none is lost between two looks.
func (c *collector) take() calls {
	c.mu.Lock()
	defer c.mu.Unlock()
	taken := c.all
	c.all = nil
	slices.SortFunc(taken, func(a, b outcome.Outcome) int { return a.Ended.Compare(b.Ended) })
	return taken
}

// anyGood says whether a caller's call that began since then ended well.
func (c *collector) anyGood(since time.Time, caller string) bool {
	return c.any(func(o outcome.Outcome) bool { return o.Caller == caller && o.Failed == "" && o.Began.After(since) })
}

// anyWith says whether a caller's call with such a secret ended well.
func (c *collector) anyWith(lastFour, caller string) bool {
	return c.any(func(o outcome.Outcome) bool { return o.Caller == caller && o.Failed == "" && o.Secret == lastFour })
}

// anyRefused says whether a call of a caller was refused, from then on.
func (c *collector) anyRefused(since time.Time, caller string) bool {
	return c.any(func(o outcome.Outcome) bool { return o.Caller == caller && o.Status != 0 && o.Began.After(since) })
}

func (c *collector) any(is func(outcome.Outcome) bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.ContainsFunc(c.all, is)
}

// calls are in the order in which they ended.
type calls []outcome.Outcome

func (c calls) where(is func(outcome.Outcome) bool) (found calls) {
	for _, o := range c {
		if is(o) {
			found = append(found, o)
		}
	}
	return found
}

func (c calls) failures() calls {
	return c.where(func(o outcome.Outcome) bool { return o.Failed != "" })
}

// refused are those that an answer refused: no mere loss of a connection.
func (c calls) refused() calls { return c.where(func(o outcome.Outcome) bool { return o.Status != 0 }) }

func (c calls) of(caller string) calls {
	return c.where(func(o outcome.Outcome) bool { return o.Caller == caller })
}

// longestGap is the longest time in which no call of a caller ended well.
func (c calls) longestGap() (longest time.Duration) {
	last := map[string]time.Time{}
	for _, o := range c {
		if o.Failed != "" {
			continue
		}
		if before, found := last[o.Caller]; found {
			longest = max(longest, o.Ended.Sub(before))
		}
		last[o.Caller] = o.Ended
	}
	return longest
}

func (c calls) slowest() (slowest time.Duration) {
	for _, o := range c {
		if o.Failed == "" {
			slowest = max(slowest, o.Ended.Sub(o.Began))
		}
	}
	return slowest
}

func (c calls) String() string {
	text := fmt.Sprintf("%d calls, %d failed (%d of them refused); the longest time without a good one %v, the slowest good one %v",
		len(c), len(c.failures()), len(c.refused()), c.longestGap().Round(time.Millisecond), c.slowest().Round(time.Millisecond))
	const shown = 5
	for i, o := range c.failures() {
		if i == shown {
			text += "\n  ..."
			break
		}
		text += fmt.Sprintf("\n  %s to %s, %s: %s: %s", o.Began.Format("15:04:05.000"), o.Ended.Format("05.000"), o.Pod, o.Failed, o.Error)
	}
	return text
}
