package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/test/installation"
)

// trialTimeout is how long a server may take to notice a change.
const trialTimeout = 30 * time.Second

// runCutoff measures how long a client that was made inactive still gets tokens.
func runCutoff(args []string) error {
	flags := newFlags("cutoff")
	trials := flags.Int("trials", 200, "how often the client is made inactive")
	servers := flags.Int("servers", 3, "replicas of the token server")
	pause := flags.Duration("pause", 0, "between two requests to one server; without one, what is measured has little of the CPU on a small machine")
	limit := flags.Duration("limit", 15*time.Minute, "when to give up")
	if err := flags.Parse(args); err != nil {
		return err
	}
	ctx, cancel := within(*limit)
	defer cancel()
	return withInstallation(ctx, wanted{servers: *servers}, func(ctx context.Context, i *installed) error {
		return measureCutoff(ctx, i.Installation, *trials, *pause)
	})
}

func measureCutoff(ctx context.Context, i *installation.Installation, trials int, pause time.Duration) error {
	if _, _, err := createAll(ctx, i, 1, nil); err != nil {
		return err
	}
	c, err := newCutoff(ctx, i, pause)
	if err != nil {
		return err
	}
	defer c.floor.stop()
	progress("Making a client inactive and active again, %d times", trials)
	for n := range trials {
		if err := c.trial(ctx); err != nil {
			return fmt.Errorf("trial %d: %w", n+1, err)
		}
		if (n+1)%50 == 0 {
			progress("%d of %d", n+1, trials)
		}
	}
	c.report()
	return nil
}

// cutoff is one client, asked for at each server.
type cutoff struct {
	*installation.Installation
	pollers []*poller
	floor   *eventTimes
	watch   []time.Duration // what a bare watch takes
}

// poller asks one server for tokens of the client.
type poller struct {
	url, form string
	caller    *http.Client
	pause     time.Duration

	took     []time.Duration
	requests atomic.Int64
	polling  time.Duration
}

func newCutoff(ctx context.Context, i *installation.Installation, pause time.Duration) (*cutoff, error) {
	secret := &corev1.Secret{}
	if err := i.Get(ctx, client.ObjectKey{Namespace: "default", Name: nameOf(0)}, secret); err != nil {
		return nil, err
	}
	u, err := url.Parse(string(secret.Data["token_url"]))
	if err != nil {
		return nil, err
	}
	c := &cutoff{Installation: i}
	for _, s := range i.Servers {
		c.pollers = append(c.pollers, &poller{
			url: s.URL + u.Path,
			form: url.Values{
				"grant_type": {"client_credentials"}, "client_id": {string(secret.Data["client_id"])}, "client_secret": {string(secret.Data["client_secret"])},
			}.Encode(),
			caller: &http.Client{Timeout: trialTimeout, Transport: &http.Transport{}}, // a connection of its own
			pause:  pause,
		})
	}
	c.floor, err = watchEventTimes(ctx, i)
	return c, err
}

// trial makes the client inactive while each server is asked without a break.
func (c *cutoff) trial(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, trialTimeout)
	defer cancel()
	refused, err := c.startPolling(ctx)
	if err != nil {
		return err
	}
	changed, err := mergePatch(ctx, c.Installation, nameOf(0), `{"spec":{"state":"Inactive"}}`)
	answered := time.Now()
	if err != nil {
		return err
	}
	for n, p := range c.pollers {
		at := <-refused[n]
		if at.IsZero() {
			return fmt.Errorf("%s did not refuse the client: %w", p.url, context.Cause(ctx))
		}
		p.took = append(p.took, at.Sub(answered))
	}
	seen, err := c.floor.of(ctx, changed.ResourceVersion)
	if err != nil {
		return err
	}
	c.watch = append(c.watch, seen.Sub(answered))
	_, err = mergePatch(ctx, c.Installation, nameOf(0), `{"spec":{"state":null}}`)
	return err
}

// startPolling returns when each server gives tokens. From the channels comes when
// each refused for the first time, or zero if it never did.
func (c *cutoff) startPolling(ctx context.Context) ([]<-chan time.Time, error) {
	var (
		granted sync.WaitGroup
		refused []<-chan time.Time
	)
	for _, p := range c.pollers {
		granted.Add(1)
		times := make(chan time.Time, 1)
		refused = append(refused, times)
		go func() {
			p.waitGranted(ctx)
			granted.Done()
			times <- p.waitRefused(ctx)
		}()
	}
	granted.Wait()
	return refused, ctx.Err()
}

func (p *poller) waitGranted(ctx context.Context) {
	for ctx.Err() == nil && p.ask(ctx) != http.StatusOK {
		_ = sleep(ctx, time.Millisecond)
	}
}

func (p *poller) waitRefused(ctx context.Context) time.Time {
	start := time.Now()
	defer func() { p.polling += time.Since(start) }()
	for ctx.Err() == nil {
		p.requests.Add(1)
		switch p.ask(ctx) {
		case http.StatusUnauthorized:
			return time.Now()
		case http.StatusOK:
			if p.pause > 0 {
				_ = sleep(ctx, p.pause)
			}
		default:
			return time.Time{}
		}
	}
	return time.Time{}
}

// ask returns the status of an answer, or 0 without one.
func (p *poller) ask(ctx context.Context) int {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url, strings.NewReader(p.form))
	if err != nil {
		return 0
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	response, err := p.caller.Do(request)
	if err != nil {
		return 0
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body) // so that the connection is used again
	return response.StatusCode
}

func (c *cutoff) report() {
	fmt.Println("From the API server's answer to the write of state: Inactive (less than 0: before it came)")
	var all []time.Duration
	for n, p := range c.pollers {
		all = append(all, p.took...)
		poll := p.polling / time.Duration(p.requests.Load())
		fmt.Printf("  to the first refusal of server %d: %s; asked every %.2f ms\n", n+1, distribution(p.took), float64(poll)/float64(time.Millisecond))
	}
	fmt.Printf("  to the first refusal, all servers: %s\n", distribution(all))
	fmt.Printf("  to the event in a bare watch here: %s\n", distribution(c.watch))
}

// eventTimes tells when a bare watch saw each version of the clients.
type eventTimes struct {
	stop   func()
	events <-chan seenAt
}

type seenAt struct {
	resourceVersion string
	at              time.Time
}

func watchEventTimes(ctx context.Context, i *installation.Installation) (*eventTimes, error) {
	watched, err := i.Watch(ctx, &v1alpha1.M2MClientList{}, client.InNamespace("default"))
	if err != nil {
		return nil, err
	}
	events := make(chan seenAt, 1000) // more than a trial has
	go func() {
		defer close(events)
		for event := range watched.ResultChan() {
			if c, ok := event.Object.(*v1alpha1.M2MClient); ok {
				events <- seenAt{c.ResourceVersion, time.Now()}
			}
		}
	}()
	return &eventTimes{stop: watched.Stop, events: events}, nil
}

// of waits for a version, and forgets those before it.
func (e *eventTimes) of(ctx context.Context, resourceVersion string) (time.Time, error) {
	for {
		select {
		case seen, open := <-e.events:
			if !open {
				return time.Time{}, fmt.Errorf("the watch ended before version %s", resourceVersion)
			}
			if seen.resourceVersion == resourceVersion {
				return seen.at, nil
			}
		case <-ctx.Done():
			return time.Time{}, context.Cause(ctx)
		}
	}
}
