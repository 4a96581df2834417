// Caller asks for a token and calls a service with it, again and again, and tells the
// end-to-end tests how each call ended. It never asks twice for the same call.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/m2m-operator/m2m-operator/test/e2e/outcome"
)

// options are the flags.
type options struct {
	name    string
	target  string
	report  string
	workers int
	pause   time.Duration
	source  source
}

func parseFlags(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("caller", flag.ContinueOnError)
	flags.StringVar(&o.name, "name", "", "`name` in what is reported")
	flags.StringVar(&o.target, "target", "", "`URL` to call")
	flags.StringVar(&o.report, "report", "", "`URL` to report to")
	flags.IntVar(&o.workers, "workers", 2, "how many call at one time; every other one makes a new connection for each request")
	flags.DurationVar(&o.pause, "pause", 40*time.Millisecond, "how long a worker rests between two calls")
	flags.StringVar(&o.source.dir, "credential-dir", "", "`folder` with the credential; empty: it is in environment variables")
	flags.StringVar(&o.source.assertion, "assertion", "", "`file` with a ServiceAccount token, in place of a credential")
	flags.StringVar(&o.source.tokenURL, "token-url", "", "`URL` of the token endpoint, with -assertion")
	return o, flags.Parse(args)
}

func main() {
	o, err := parseFlags(os.Args[1:])
	if err != nil {
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	reports := &reporter{url: o.report}
	reporting, stopReporting := context.WithCancel(context.Background())
	var all, workers sync.WaitGroup
	all.Go(func() { reports.run(reporting) })
	for i := range o.workers {
		w := worker{options: o, web: &web{fresh: i%2 == 1}, reports: reports}
		workers.Go(func() { w.run(ctx) })
	}
	workers.Wait()
	stopReporting()
	all.Wait()
}

// worker makes one call after another; the one that it is at when the pod is stopped it
// brings to an end.
type worker struct {
	options

	web     *web
	reports *reporter
}

func (w worker) run(ctx context.Context) {
	pod, _ := os.Hostname()
	for ctx.Err() == nil {
		o := outcome.Outcome{Caller: w.name, Pod: pod, Began: time.Now()}
		if err := w.call(&o); err != nil {
			o.Error = err.Error()
			if refused, is := errors.AsType[*refusal](err); is {
				o.Status = refused.status
			}
			slog.Warn("failed", "what", o.Failed, "error", err)
		}
		o.Ended = time.Now()
		w.reports.add(o)
		select {
		case <-ctx.Done():
		case <-time.After(w.pause):
		}
	}
}

// timeout is what callers have who don't wait for ever.
const timeout = 10 * time.Second

func (w worker) call(o *outcome.Outcome) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	o.Failed = outcome.TokenRequest
	request, err := w.source.request(ctx)
	if err != nil {
		return err
	}
	o.Secret = request.lastFour
	if err := w.web.trust(request.authorities); err != nil {
		return err
	}
	answer, err := w.web.do(request.Request)
	if err != nil {
		return err
	}
	var token struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.Unmarshal(answer, &token); err != nil {
		return err
	}
	o.Failed = outcome.Call
	called, err := http.NewRequestWithContext(ctx, http.MethodGet, w.target, nil)
	if err != nil {
		return err
	}
	called.Header.Set("Authorization", "Bearer "+token.AccessToken)
	if _, err := w.web.do(called); err != nil {
		return err
	}
	o.Failed = ""
	return nil
}

// reporter sends what it is told, in order, and keeps it until somebody has taken it.
type reporter struct {
	url string

	mu      sync.Mutex
	waiting []outcome.Outcome
}

func (r *reporter) add(o outcome.Outcome) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting = append(r.waiting, o)
}

func (r *reporter) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			if err := r.send(); err != nil {
				slog.Error("the last outcomes are lost", "error", err)
			}
			return
		case <-time.After(100 * time.Millisecond):
			if err := r.send(); err != nil {
				slog.Error("outcomes wait", "error", err)
			}
		}
	}
}

func (r *reporter) send() error {
	r.mu.Lock()
	batch := r.waiting
	r.mu.Unlock()
	if len(batch) == 0 {
		return nil
	}
	body, err := json.Marshal(batch)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusNoContent {
		return fmt.Errorf("the tests answer %s", response.Status)
	}
	_, _ = io.Copy(io.Discard, response.Body)
	r.mu.Lock()
	r.waiting = r.waiting[len(batch):]
	r.mu.Unlock()
	return nil
}
