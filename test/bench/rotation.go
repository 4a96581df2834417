package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/test/installation"
)

// rotationTrigger asks for the one rotation of each client.
const rotationTrigger = "benchmark"

// eventsDrain is how long events may come after what they tell of.
const eventsDrain = 5 * time.Second

// runRotation measures what a rotation on demand costs, and how long it takes until
// the Secret has the new secret.
func runRotation(args []string) error {
	flags := newFlags("rotation")
	number := flags.Int("clients", 200, "how many M2MClients to rotate, once each")
	perSecond := flags.Float64("rate", 20, "triggers a second; 0: all at once, which measures a queue")
	delay := flags.Duration("propagation-delay", 2*time.Second, "of the controller: part of the time measured")
	limit := flags.Duration("limit", 15*time.Minute, "when to give up")
	if err := flags.Parse(args); err != nil {
		return err
	}
	ctx, cancel := within(*limit)
	defer cancel()
	w := wanted{audited: true, controllerArgs: []string{"--propagation-delay", delay.String()}}
	return withInstallation(ctx, w, func(ctx context.Context, i *installed) error {
		return measureRotation(ctx, i, *number, *perSecond, *delay)
	})
}

func measureRotation(ctx context.Context, i *installed, number int, perSecond float64, delay time.Duration) error {
	progress("Creating %d clients", number)
	if _, _, err := createAll(ctx, i.Installation, number, nil); err != nil {
		return err
	}
	if err := sleep(ctx, eventsDrain); err != nil {
		return err
	}
	delivered, err := watchDeliveries(ctx, i.Installation)
	if err != nil {
		return err
	}
	defer delivered.stop()
	settled, err := watchRotated(ctx, i.Installation, number)
	if err != nil {
		return err
	}
	progress("Rotating them")
	turns := rate.NewLimiter(rate.Inf, 1)
	if perSecond > 0 {
		turns.SetLimit(rate.Limit(perSecond))
	}
	begin, asked := time.Now(), make([]time.Time, number)
	err = inParallel(ctx, number, func(n int) error {
		if err := turns.Wait(ctx); err != nil {
			return err
		}
		asked[n] = time.Now()
		_, err := mergePatch(ctx, i.Installation, nameOf(n), `{"spec":{"rotation":{"trigger":"`+rotationTrigger+`"}}}`)
		return err
	})
	if err != nil {
		return err
	}
	select {
	case <-settled:
	case <-ctx.Done():
		return fmt.Errorf("not all clients were rotated: %w", context.Cause(ctx))
	}
	took := time.Since(begin)
	progress("All are rotated; waiting for events")
	if err := sleep(ctx, eventsDrain); err != nil {
		return err
	}
	return reportRotation(i, delivered, begin, asked, took, delay)
}

func reportRotation(i *installed, delivered *deliveries, begin time.Time, asked []time.Time, took, delay time.Duration) error {
	times, err := delivered.since(asked)
	if err != nil {
		return err
	}
	fmt.Printf("%d clients rotated in %.1f s, with a propagation delay of %v\n", len(asked), took.Seconds(), delay)
	fmt.Printf("from the trigger's request to the new secret in the Secret: %s\n", distribution(times))
	calls, err := i.audit.read(begin)
	if err != nil {
		return err
	}
	writes, events, reads := map[call]tally{}, map[call]tally{}, map[call]tally{}
	for c, n := range count(calls) {
		switch {
		case !c.isWrite():
			reads[c] = n
		case c.Resource == "events":
			events[c] = n
		case c.Resource != "leases":
			writes[c] = n
		}
	}
	for _, part := range []struct {
		title  string
		counts map[call]tally
	}{{"writes", writes}, {"events", events}, {"reads past the cache", reads}} {
		total := 0
		for _, n := range part.counts {
			total += n.all
		}
		fmt.Printf("%s: %.3f for a rotation\n", part.title, float64(total)/float64(len(asked)))
		if err := printCalls(part.counts, "rotation", float64(len(asked))); err != nil {
			return err
		}
	}
	return nil
}

// watchRotated is closed when a number of clients have ended their rotation.
func watchRotated(ctx context.Context, i *installation.Installation, number int) (<-chan struct{}, error) {
	done, rotated := make(chan struct{}), 0
	return done, watchClients(ctx, i, func(before, after *v1alpha1.M2MClient) {
		if isRotated(before) || !isRotated(after) {
			return
		}
		if rotated++; rotated == number {
			close(done)
		}
	})
}

func isRotated(c *v1alpha1.M2MClient) bool {
	return isReady(c) && c.Status.ObservedGeneration == c.Generation && c.Status.LastRotationTime != nil
}

// deliveries are the times at which Secrets were seen with another secret than at first.
type deliveries struct {
	stop func()

	mu    sync.Mutex
	first map[string]string
	at    map[string]time.Time
}

func watchDeliveries(ctx context.Context, i *installation.Installation) (*deliveries, error) {
	events, err := i.Watch(ctx, &corev1.SecretList{}, client.InNamespace("default"))
	if err != nil {
		return nil, err
	}
	d := &deliveries{stop: events.Stop, first: map[string]string{}, at: map[string]time.Time{}}
	go func() {
		for event := range events.ResultChan() {
			d.add(event, time.Now())
		}
	}()
	return d, nil
}

func (d *deliveries) add(event watch.Event, now time.Time) {
	secret, ok := event.Object.(*corev1.Secret)
	if !ok {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	value := string(secret.Data["client_secret"])
	first, known := d.first[secret.Name]
	if !known {
		d.first[secret.Name] = value
	} else if first != value && d.at[secret.Name].IsZero() {
		d.at[secret.Name] = now
	}
}

// since tells how long each delivery took.
func (d *deliveries) since(asked []time.Time) ([]time.Duration, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var times []time.Duration
	for n, start := range asked {
		at := d.at[nameOf(n)]
		if at.IsZero() {
			return nil, fmt.Errorf("the Secret of %s was not seen with another secret", nameOf(n))
		}
		times = append(times, at.Sub(start))
	}
	return times, nil
}
