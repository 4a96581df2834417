package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"sync"
	"text/tabwriter"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
)

// bucket is the width of the histogram.
const bucket = 10 * time.Second

// intervalOptions are the flags of the benchmark.
type intervalOptions struct {
	clients           int
	interval, overlap time.Duration
	rate              float64
	slack             time.Duration
}

// allowance is how much later than the interval a rotation may be: the controller
// begins only so many a second.
func (o intervalOptions) allowance() time.Duration {
	return o.slack + time.Duration(float64(o.clients)/o.rate*float64(time.Second))
}

// runInterval measures how the rotations of clients of one age spread.
func runInterval(args []string) error {
	flags := newFlags("interval")
	var o intervalOptions
	flags.IntVar(&o.clients, "clients", 10_000, "how many M2MClients to create at one time")
	flags.DurationVar(&o.interval, "interval", 6*time.Minute, "spec.rotation.interval: each client rotates in its last tenth, chosen by chance")
	flags.DurationVar(&o.overlap, "overlap", 3*time.Minute, "spec.rotation.overlap")
	flags.Float64Var(&o.rate, "rotation-rate", 20, "--rotation-rate of the controller, which spreads rotations that only the interval asks for: how many begin in a second. Where a tenth of the interval is too short for all clients at this rate, they are late by what it takes")
	flags.DurationVar(&o.slack, "slack", 30*time.Second, "how late a rotation may be, beside what the rate explains")
	limit := flags.Duration("limit", time.Hour, "when to give up")
	if err := flags.Parse(args); err != nil {
		return err
	}
	ctx, cancel := within(*limit)
	defer cancel()
	w := wanted{audited: true, controllerArgs: []string{"--rotation-rate", strconv.FormatFloat(o.rate, 'f', -1, 64)}}
	return withInstallation(ctx, w, func(ctx context.Context, i *installed) error { return measureInterval(ctx, i, o) })
}

func measureInterval(ctx context.Context, i *installed, o intervalOptions) error {
	r := &rotations{after: make(map[string]time.Duration, o.clients)}
	if err := watchClients(ctx, i.Installation, r.add); err != nil {
		return err
	}
	progress("Creating %d clients with an interval of %v", o.clients, o.interval)
	_, ready, err := createAll(ctx, i.Installation, o.clients, func(_ int, c *v1alpha1.M2MClient) { c.Spec.Rotation = o.spec() })
	if err != nil {
		return err
	}
	if ready > o.interval*9/10 {
		return fmt.Errorf("it took %v until all were ready: choose a longer interval or fewer clients", ready.Round(time.Second))
	}
	progress("All are ready after %v, and rotate from %v to %v after that", ready.Round(time.Second), o.interval*9/10, o.interval)
	begin := time.Now()
	for rotated := 0; rotated < o.clients; {
		if err := sleep(ctx, bucket); err != nil {
			return fmt.Errorf("%d of %d have rotated: %w", rotated, o.clients, err)
		}
		if n := r.number(); n > rotated {
			rotated = n
			progress("%d of %d have rotated", rotated, o.clients)
		}
	}
	calls, err := i.audit.read(begin)
	if err != nil {
		return err
	}
	r.report(o)
	if err := r.reportSpread(calls); err != nil {
		return err
	}
	if late := r.count(o.interval+o.allowance(), 1<<62); late > 0 {
		return fmt.Errorf("%d rotations were later than the rate explains", late)
	}
	return nil
}

func (o intervalOptions) spec() *v1alpha1.RotationSpec {
	return &v1alpha1.RotationSpec{
		Interval:         &metav1.Duration{Duration: o.interval},
		Overlap:          &metav1.Duration{Duration: o.overlap},
		RetireWhenUnused: &v1alpha1.RetireWhenUnused{For: &metav1.Duration{}},
	}
}

// rotations are the first of each client: at which age its secret was replaced.
type rotations struct {
	mu    sync.Mutex
	after map[string]time.Duration
	first time.Time
	last  time.Time
	at    []time.Time
}

func (r *rotations) add(before, after *v1alpha1.M2MClient) {
	if before.Status.LastRotationTime != nil || after.Status.LastRotationTime == nil {
		return
	}
	for _, c := range before.Status.Credentials {
		if c.Role == "Current" {
			r.record(after.Name, c.CreatedAt.Time, after.Status.LastRotationTime.Time)
		}
	}
}

func (r *rotations) record(name string, from, to time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.after[name] = to.Sub(from)
	r.at = append(r.at, to)
	if r.first.IsZero() || to.Before(r.first) {
		r.first = to
	}
	if to.After(r.last) {
		r.last = to
	}
}

func (r *rotations) number() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.after)
}

// count counts the rotations at an age from one to another.
func (r *rotations) count(from, to time.Duration) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, age := range r.after {
		if from < age && age <= to {
			n++
		}
	}
	return n
}

// report compares with what the manifest says. Times in a status are whole seconds.
func (r *rotations) report(o intervalOptions) {
	const second = time.Second
	window := o.interval / 10
	fmt.Printf("%d clients rotated; at %v a second that takes %v at least, and the last tenth of the interval is %v\n",
		o.clients, o.rate, time.Duration(float64(o.clients)/o.rate*float64(second)).Round(second), window)
	for _, part := range []struct {
		title    string
		from, to time.Duration
	}{
		{"before the last tenth of the interval", -1 << 62, o.interval - window - second - 1},
		{"within it", o.interval - window - second - 1, o.interval + second},
		{"later, as the rate explains", o.interval + second, o.interval + o.allowance()},
		{"later than that", o.interval + o.allowance(), 1 << 62},
	} {
		fmt.Printf("  %-38s %6d\n", part.title, r.count(part.from, part.to))
	}
}

// reportSpread prints rotations and writes over the time in which clients rotated.
func (r *rotations) reportSpread(calls []answered) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	length := r.last.Sub(r.first) + time.Second
	buckets, seconds := make([]struct{ rotations, writes int }, length/bucket+1), make([]int, length/time.Second+1)
	for _, at := range r.at {
		buckets[at.Sub(r.first)/bucket].rotations++
	}
	total, delivered := 0, 0 // of second rotations too, of clients that were early
	for _, c := range calls {
		since := c.at.Sub(r.first)
		if !c.isWrite() || c.Resource == "leases" || since < 0 || since > length {
			continue
		}
		buckets[since/bucket].writes++
		seconds[since/time.Second]++
		total++
		if c.Resource == "secrets" {
			delivered++
		}
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "from second\trotations\twrites a second\tpeak\t")
	peak := 0
	for n, b := range buckets {
		most := 0
		for _, writes := range seconds[n*10 : min(n*10+10, len(seconds))] {
			most = max(most, writes)
		}
		peak = max(peak, most)
		fmt.Fprintf(table, "%d\t%d\t%.1f\t%d\t\n", n*10, b.rotations, float64(b.writes)/bucket.Seconds(), most)
	}
	mean := float64(total) / length.Seconds()
	fmt.Fprintf(table, "all\t%d\t%.1f\t%d\t\n", len(r.at), mean, peak)
	if err := table.Flush(); err != nil {
		return err
	}
	fmt.Printf("writes a second: peak/mean %.2f; %.2f writes, events among them, for each new secret in a Secret\n", float64(peak)/mean, float64(total)/float64(max(delivered, 1)))
	return nil
}
