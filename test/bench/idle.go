package main

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
)

// runIdle counts the writes of an operator that has nothing to do.
func runIdle(args []string) error {
	flags := newFlags("idle")
	number := flags.Int("clients", 500, "how many M2MClients there are")
	rotating := flags.Int("rotating", 100, "how many of them have an interval, of 2160h")
	servers := flags.Int("servers", 3, "replicas of the token server")
	settle := flags.Duration("settle", 30*time.Second, "how long to wait when all are ready, before counting")
	length := flags.Duration("duration", 10*time.Minute, "how long to count")
	if err := flags.Parse(args); err != nil {
		return err
	}
	ctx, cancel := within(*length + *settle + 10*time.Minute)
	defer cancel()
	return withInstallation(ctx, wanted{servers: *servers, audited: true}, func(ctx context.Context, i *installed) error {
		return measureIdle(ctx, i, *number, *rotating, *settle, *length)
	})
}

func measureIdle(ctx context.Context, i *installed, number, rotating int, settle, length time.Duration) error {
	progress("Creating %d clients, %d of them with an interval", number, rotating)
	_, _, err := createAll(ctx, i.Installation, number, func(n int, c *v1alpha1.M2MClient) {
		if n < rotating {
			c.Spec.Rotation = &v1alpha1.RotationSpec{Interval: &metav1.Duration{Duration: 2160 * time.Hour}}
		}
	})
	if err != nil {
		return err
	}
	progress("All are ready; waiting %v", settle)
	if err := sleep(ctx, settle); err != nil {
		return err
	}
	begin := time.Now()
	for left := length; left > 0; left = length - time.Since(begin) {
		progress("Counting for %v more", left.Round(time.Second))
		if err := sleep(ctx, min(left, time.Minute)); err != nil {
			return err
		}
	}
	return reportIdle(i, begin, time.Since(begin))
}

// reportIdle lists the writes, and fails if there were some to what nobody asked to
// be changed.
func reportIdle(i *installed, begin time.Time, length time.Duration) error {
	calls, err := i.audit.read(begin)
	if err != nil {
		return err
	}
	leases, others, wrong := map[call]tally{}, map[call]tally{}, 0
	for c, n := range count(calls) {
		switch c.Resource {
		case "leases":
			leases[c] = n
			continue
		case "m2mclients", "m2mclients/status", "secrets", "events":
			if c.isWrite() {
				wrong += n.all
			}
		}
		others[c] = n
	}
	fmt.Printf("In %v of idleness: %d writes to M2MClients, Secrets and events\n", length.Round(time.Second), wrong)
	fmt.Println("Leases:")
	if err := printCalls(leases, "minute", length.Minutes()); err != nil {
		return err
	}
	fmt.Println("Everything else that was asked of the API server, but for watches and lists:")
	if err := printCalls(others, "minute", length.Minutes()); err != nil {
		return err
	}
	if wrong > 0 {
		return fmt.Errorf("an idle operator made %d writes", wrong)
	}
	return nil
}
