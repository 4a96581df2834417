package usage

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var (
	someone  = Client{"default", "someone"}
	replaced = Standing{Ref: "uid", Served: true, Replacing: true}
	settled  = Standing{Ref: "uid", Served: true}
)

func standing(s Standing) func(Client, string) Standing {
	return func(Client, string) Standing { return s }
}

// start is later than any interval of these tests.
const start = 1_000_000_000

func newTestLedger(versions ...string) *Ledger {
	l := NewLedger(time.Hour)
	for _, v := range versions {
		l.Used(someone.Issuer, someone.ID, v, at(start))
	}
	return l
}

func TestDue(t *testing.T) {
	now := at(start + 60)
	for name, c := range map[string]struct {
		wrote    int64
		standing Standing
		due      int
	}{
		"never written":                 {0, settled, 1},
		"written an hour ago":           {60 - 3601, settled, 0},
		"so, and a replaced secret":     {60 - 3601, replaced, 1},
		"less, and a replaced secret":   {60 - 3600, replaced, 0},
		"written a day ago":             {60 - 24*3600 - 1, settled, 1},
		"not served":                    {0, Standing{Ref: "uid", Replacing: true}, 0},
		"not known":                     {0, Standing{}, 0},
		"gone":                          {0, Standing{Ref: "uid", Gone: true}, 0},
		"somebody else's clock is fast": {600, replaced, 0},
	} {
		l := newTestLedger("1")
		if c.wrote != 0 {
			l.Decide(at(0), someone, State{Valid: []string{"1"}, Wrote: at(start + c.wrote)})
		}
		if got := l.Due(now, standing(c.standing)); len(got) != c.due {
			t.Errorf("%s: %d due", name, len(got))
		}
	}
}

// The clients that somebody waits for come first, then whoever waits for longest.
func TestOrderOfTurns(t *testing.T) {
	l := NewLedger(time.Hour)
	for i, id := range []string{"a", "b", "c", "d"} {
		c := Client{"default", id}
		l.Used(c.Issuer, c.ID, "1", at(start))
		l.Decide(at(start+int64(10-i)), c, State{Paused: true, Valid: []string{"1"}})
	}
	due := l.Due(at(start+60), func(c Client, _ string) Standing {
		return Standing{Ref: c.ID, Served: true, Replacing: c.ID == "a" || c.ID == "b"}
	})
	order := ""
	for _, turn := range due {
		order += turn.ID
	}
	if order != "badc" {
		t.Errorf("order %s", order)
	}
}

func TestDecide(t *testing.T) {
	now := at(start + 60)
	both := []string{"2", "1"}
	for name, c := range map[string]struct {
		state   State
		want    []Use
		covered bool // nothing is unreported any more that matters
	}{
		"first report":         {State{Replacing: true, Valid: both}, []Use{{"1", at(start)}, {"2", at(start)}}, false},
		"another has reported": {State{Replacing: true, Valid: both, Reported: []Use{{"1", at(start)}, {"2", at(start + 1)}}}, nil, true},
		"it reported earlier":  {State{Replacing: true, Valid: both, Reported: []Use{{"1", at(start - 1)}, {"2", at(start + 1)}}}, []Use{{"2", at(start + 1)}, {"1", at(start)}}, false},
		"it has just written":  {State{Replacing: true, Valid: both, Wrote: at(start)}, nil, false},
		"paused":               {State{Replacing: true, Valid: both, Paused: true}, nil, true},
		"retired":              {State{Replacing: true, Valid: []string{"3"}}, nil, true},
		"nothing was replaced": {State{Valid: both, Wrote: at(start - 7200)}, nil, true},
	} {
		l := newTestLedger("1", "2")
		l.Due(now, standing(replaced))
		if got := l.Decide(now, someone, c.state); fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s: %v", name, got)
		}
		until, all := l.Covered(now)
		if want := at(start); all != c.covered || !all && !until.Equal(want) {
			t.Errorf("%s: covered until %v, all %v", name, until, all)
		}
	}
}

// What is used while a report is being written isn't taken for reported.
func TestUsedMeanwhile(t *testing.T) {
	l := newTestLedger("1")
	l.Due(at(start+60), standing(replaced))
	uses := l.Decide(at(start+60), someone, State{Replacing: true, Valid: []string{"1"}})
	l.Used(someone.Issuer, someone.ID, "1", at(start+61))
	l.Wrote(at(start+62), someone, uses)
	if until, all := l.Covered(at(start + 70)); all || until.After(at(start+61)) {
		t.Errorf("covered until %v, all %v", until, all)
	}
	if due := l.Due(at(start+62+3600), standing(replaced)); len(due) != 0 {
		t.Error("it is due too early")
	}
	if due := l.Due(at(start+63+3600), standing(replaced)); len(due) != 1 || due[0].Ref != "uid" {
		t.Errorf("due %v", due)
	}
}

// A tenant who pauses a client that is used holds nobody else back.
func TestPausedHoldsNobodyBack(t *testing.T) {
	l := newTestLedger("1")
	look := func(now int64, paused bool) {
		l.Due(at(now), standing(replaced))
		l.Decide(at(now), someone, State{Paused: paused, Replacing: true, Valid: []string{"1"}, Wrote: at(start)})
	}
	look(start+60, true)
	if until, _ := l.Covered(at(start + 60)); !until.Equal(at(start + 59)) {
		t.Errorf("paused: covered until %v", until)
	}
	look(start+120, false)
	if until, all := l.Covered(at(start + 120)); all || until.After(at(start)) {
		t.Errorf("no longer paused: covered until %v", until)
	}
}

// Requests are recorded in any order.
func TestUsedOutOfOrder(t *testing.T) {
	l := newTestLedger("1")
	l.Used(someone.Issuer, someone.ID, "1", at(start-5))
	l.Due(at(start+60), standing(replaced))
	if until, _ := l.Covered(at(start + 60)); !until.Equal(at(start - 5)) {
		t.Errorf("covered until %v", until)
	}
	l.Wrote(at(start+60), someone, l.Decide(at(start+60), someone, State{Replacing: true, Valid: []string{"1"}}))
	l.Used(someone.Issuer, someone.ID, "1", at(start-1))
	if _, all := l.Covered(at(start + 60)); !all {
		t.Error("a use is unreported that is earlier than what is reported")
	}
}

func TestForget(t *testing.T) {
	l := newTestLedger("1")
	l.Due(at(start), standing(Standing{Ref: "uid", Gone: true}))
	if got := l.size(); got != 0 {
		t.Errorf("%d clients are remembered that don't exist", got)
	}
	l = newTestLedger("1")
	l.Due(at(start+100*3600), standing(replaced))
	if got := l.size(); got != 1 {
		t.Error("what isn't reported was forgotten")
	}
	l.Wrote(at(start+100*3600), someone, []Use{{"1", at(start)}})
	for _, c := range []struct{ idle, want int }{{24, 1}, {26, 0}} {
		l.Due(at(start+int64(100+c.idle)*3600), standing(replaced))
		if got := l.size(); got != c.want {
			t.Errorf("after %d idle hours: %d", c.idle, got)
		}
	}
}

func (l *Ledger) size() (number int) {
	l.each(func(s *shard) { number += len(s.clients) })
	return number
}

// A token request pays next to nothing.
func TestUsedAllocatesNothing(t *testing.T) {
	l := newTestLedger("1-abcd")
	now := start
	if allocs := testing.AllocsPerRun(100, func() {
		now++
		l.Used(someone.Issuer, someone.ID, "1-abcd", at(int64(now)))
	}); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

// No use is lost, whoever works with the ledger meanwhile.
func TestConcurrentUse(t *testing.T) {
	l := NewLedger(time.Hour)
	var users, reporter sync.WaitGroup
	stop := make(chan struct{})
	reporter.Go(func() {
		for now := int64(start); ; now++ {
			for _, turn := range l.Due(at(now), standing(replaced)) {
				l.Wrote(at(0), turn.Client, l.Decide(at(now), turn.Client, State{Valid: []string{"1", "2"}}))
			}
			l.Covered(at(now))
			select {
			case <-stop:
				return
			default:
			}
		}
	})
	const last = start + 2000
	for n := range 4 {
		users.Go(func() {
			for second := int64(start); second <= last; second++ {
				l.Used("default", fmt.Sprint("client", n%3), []string{"1", "2"}[second%2], at(second))
			}
		})
	}
	users.Wait()
	close(stop)
	reporter.Wait()
	l.each(func(s *shard) {
		for c, e := range s.clients {
			for _, u := range e.uses {
				if u.last < last-1 || u.last > u.reported && u.first == 0 {
					t.Errorf("%v: %+v", c, u)
				}
			}
		}
	})
}

// world is an API server with one client, and servers that share it. Their clocks
// agree.
type world struct {
	now      int64
	version  int // of the resource
	paused   bool
	newest   int  // version of the secret
	replaced bool // the one before is valid too
	status   []Use
	stamp    int64 // the last write of usage
	servers  []*Ledger
	pending  []attempt // writes that are under way
	uses     []map[string][]int64
	knows    []bool // a server has looked since the client was paused or wasn't any more
}

type attempt struct {
	server, version int
	uses            []Use
}

const interval = 100 * time.Second

func newWorld(servers int) *world {
	w := &world{now: start, newest: 1, pending: make([]attempt, servers)}
	for range servers {
		w.servers = append(w.servers, NewLedger(interval))
		w.uses = append(w.uses, map[string][]int64{})
		w.knows = append(w.knows, true)
	}
	return w
}

func (w *world) valid() []string {
	if w.replaced {
		return []string{fmt.Sprint(w.newest), fmt.Sprint(w.newest - 1)}
	}
	return []string{fmt.Sprint(w.newest)}
}

// rotate replaces the secret, or retires the one that was replaced.
func (w *world) rotate() {
	if w.replaced = !w.replaced; w.replaced {
		w.newest++
	}
	w.version++
}

func (w *world) use(server int, version string) {
	w.servers[server].Used(someone.Issuer, someone.ID, version, at(w.now))
	w.uses[server][version] = append(w.uses[server][version], w.now)
}

// look lets a server read the client and decide.
func (w *world) look(server int) {
	l := w.servers[server]
	w.knows[server] = true
	for _, turn := range l.Due(at(w.now), standing(Standing{Ref: "uid", Served: true, Replacing: w.replaced})) {
		s := State{Paused: w.paused, Replacing: w.replaced, Valid: w.valid(), Reported: slices.Clone(w.status)}
		if w.stamp != 0 {
			s.Wrote = at(w.stamp)
		}
		if uses := l.Decide(at(w.now), turn.Client, s); uses != nil {
			w.pending[server] = attempt{server, w.version, uses}
		}
	}
}

// write lets a server's write arrive, if it has begun one, or get lost.
func (w *world) write(t *rapid.T, server int, lost bool) {
	a := w.pending[server]
	w.pending[server] = attempt{}
	if a.uses == nil || lost || a.version != w.version {
		return
	}
	if w.paused {
		t.Fatal("a paused client was written")
	}
	if gap := Gap(interval, w.replaced); w.stamp != 0 && time.Duration(w.now-w.stamp)*time.Second < gap {
		t.Fatalf("written after %d s", w.now-w.stamp)
	}
	w.status, w.stamp, w.version = a.uses, w.now, w.version+1
	w.servers[server].Wrote(at(w.now), someone, a.uses)
}

func (w *world) reported(version string) (last int64) {
	for _, u := range w.status {
		if u.Version == version {
			last = u.At.Unix()
		}
	}
	return last
}

// check: what a server claims to be reported is.
func (w *world) check(t *rapid.T, server int) {
	l := w.servers[server]
	l.Due(at(w.now), standing(Standing{Ref: "uid", Served: true, Replacing: w.replaced}))
	until, _ := l.Covered(at(w.now))
	if until.After(at(w.now)) {
		t.Fatalf("server %d covers the future", server)
	}
	for _, version := range w.valid() {
		for _, used := range w.uses[server][version] {
			if w.replaced && !w.paused && w.knows[server] && used < until.Unix() && used > w.reported(version) {
				t.Fatalf("server %d covers until %d, and a use of %s at %d isn't reported", server, until.Unix(), version, used)
			}
		}
	}
}

// However servers and uses meet: no two writes are closer than they may be, no
// server claims what isn't so, and in the end all is reported.
func TestServersShareOneStatus(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(rapid.IntRange(1, 3).Draw(t, "servers"))
		server := func(t *rapid.T) int { return rapid.IntRange(0, len(w.servers)-1).Draw(t, "server") }
		t.Repeat(map[string]func(*rapid.T){
			"use":   func(t *rapid.T) { w.use(server(t), rapid.SampledFrom(w.valid()).Draw(t, "version")) },
			"look":  func(t *rapid.T) { w.look(server(t)) },
			"write": func(t *rapid.T) { w.write(t, server(t), rapid.IntRange(0, 3).Draw(t, "lost") == 0) },
			"wait":  func(t *rapid.T) { w.now += rapid.Int64Range(0, 130).Draw(t, "seconds") },
			"pause": func(*rapid.T) {
				w.paused, w.version = !w.paused, w.version+1
				clear(w.knows)
			},
			"rotate": func(*rapid.T) { w.rotate() },
			"change": func(*rapid.T) { w.version++ },
			"crash": func(t *rapid.T) {
				n := server(t)
				w.servers[n], w.uses[n], w.pending[n] = NewLedger(interval), map[string][]int64{}, attempt{}
			},
			"": func(t *rapid.T) {
				for n := range w.servers {
					w.check(t, n)
				}
			},
		})
		w.paused = false
		for range 3 {
			w.now += int64(Gap(interval, false)/time.Second) + 2
			for n := range w.servers {
				w.look(n)
				w.write(t, n, false)
			}
		}
		for n := range w.servers {
			for _, version := range w.valid() {
				if uses := w.uses[n][version]; len(uses) > 0 && uses[len(uses)-1] > w.reported(version) {
					t.Fatalf("server %d: the use of %s at %d is never reported", n, version, uses[len(uses)-1])
				}
			}
		}
	})
}

func BenchmarkUsed(b *testing.B) {
	l := NewLedger(time.Hour)
	ids := make([]string, 1024)
	for i := range ids {
		ids[i] = fmt.Sprintf("m2m-client-live-00000000-0000-4000-8000-%012d", i)
	}
	now := time.Unix(start, 0)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			l.Used("default", ids[i%len(ids)], "1-x8Fa", now)
		}
	})
}
