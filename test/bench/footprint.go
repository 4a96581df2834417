package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/m2m-operator/m2m-operator/test/installation"
)

// footprint is what a process holds, in bytes, and the processor's time that it used.
type footprint struct {
	resident, heap float64
	cpu            time.Duration
}

// roles are the processes of the operator, in the order in which they are reported.
var roles = []string{"controller", "server", "api"}

// footprints reads what the roles use from their metrics.
func footprints(i *installation.Installation) (map[string]footprint, error) {
	all := map[string]footprint{}
	for role, url := range i.MetricsURLs() {
		f, err := footprintAt(url)
		if err != nil {
			return nil, fmt.Errorf("reading the metrics of the %s: %w", role, err)
		}
		all[role] = f
	}
	return all, nil
}

func footprintAt(url string) (f footprint, err error) {
	var seconds float64
	for name, value := range map[string]*float64{
		"process_resident_memory_bytes": &f.resident, "go_memstats_heap_alloc_bytes": &f.heap, "process_cpu_seconds_total": &seconds,
	} {
		if *value, err = metricAt(url, name); err != nil {
			return footprint{}, err
		}
	}
	f.cpu = time.Duration(seconds * float64(time.Second))
	return f, nil
}

// metricAt is a metric, the sum of it where it has labels.
func metricAt(url, metric string) (sum float64, err error) {
	response, err := http.Get(url)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		series, text, _ := strings.Cut(lines.Text(), " ")
		if name, _, _ := strings.Cut(series, "{"); name != metric {
			continue
		}
		value, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return 0, err
		}
		sum += value
	}
	return sum, lines.Err()
}

// measureIdleRoles prints what the roles use while nobody asks them for anything.
func measureIdleRoles(ctx context.Context, i *installation.Installation, clients int, empty map[string]footprint, length time.Duration) error {
	before, err := footprints(i)
	if err != nil {
		return err
	}
	progress("Watching idle roles for %v", length)
	if err := sleep(ctx, length); err != nil {
		return err
	}
	after, err := footprints(i)
	if err != nil {
		return err
	}
	for _, role := range roles {
		e, f := empty[role], after[role]
		fmt.Printf("  %-10s resident %.1f -> %.1f MiB (%.2f KiB a client), heap %.1f -> %.1f MiB (%.2f KiB a client), idle %.2f %% of a processor\n",
			role, mib(e.resident), mib(f.resident), perClient(f.resident-e.resident, clients), mib(e.heap), mib(f.heap), perClient(f.heap-e.heap, clients),
			100*(f.cpu-before[role].cpu).Seconds()/length.Seconds())
	}
	return nil
}

func perClient(bytes float64, clients int) float64 {
	if clients == 0 {
		return 0
	}
	return bytes / 1024 / float64(clients)
}

// measureStart starts each role anew, and prints how long it takes to be ready, the stop of
// the one before included, and what it holds then.
func measureStart(ctx context.Context, i *installation.Installation) error {
	// Who watches the processes takes the end of one for a failure.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Minute)
	defer cancel()
	restart := map[string]func() error{
		"controller": func() error { return errors.Join(i.RestartController(ctx), i.WaitForController(ctx)) },
		"server":     func() error { return i.RestartServer(ctx, 0) },
		"api":        func() error { return i.RestartAPI(ctx) },
	}
	for _, role := range roles {
		begin := time.Now()
		if err := restart[role](); err != nil {
			return err
		}
		took := time.Since(begin)
		all, err := footprints(i)
		if err != nil {
			return err
		}
		fmt.Printf("  %-10s stopped, started and ready in %.2f s, with %.2f s of a processor, resident %.1f MiB\n",
			role, took.Seconds(), all[role].cpu.Seconds(), mib(all[role].resident))
	}
	return nil
}
