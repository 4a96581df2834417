package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/credential"
	"github.com/m2m-operator/m2m-operator/internal/token"
	"github.com/m2m-operator/m2m-operator/test/controlplane"
	"github.com/m2m-operator/m2m-operator/test/installation"
)

// scaleWorkers is how many clients are created at one time.
const scaleWorkers = 32

// runScale measures what many clients cost: how long until all are ready, how many
// writes the controller makes, what the roles use when nobody asks them for anything, and
// how long they take to start.
func runScale(args []string) error {
	flags := newFlags("scale")
	number := flags.Int("clients", 10_000, "how many M2MClients to create")
	idle := flags.Duration("idle", time.Minute, "how long the roles are watched when all is done")
	floor := flags.Bool("floor", true, "measure the bare writes first")
	limit := flags.Duration("limit", 30*time.Minute, "when to give up")
	if err := flags.Parse(args); err != nil {
		return err
	}
	ctx, cancel := within(*limit)
	defer cancel()
	if *floor {
		if err := measureBare(ctx, *number); err != nil {
			return err
		}
	}
	return withInstallation(ctx, wanted{managementAPI: true}, func(ctx context.Context, i *installed) error {
		return measureScale(ctx, i.Installation, *number, *idle)
	})
}

// measureBare is the floor: the same writes with nobody to watch them or decide
// them, each worker making a client, its Secret and its status.
func measureBare(ctx context.Context, number int) error {
	cluster, err := controlplane.Start(ctx, controlplane.Options{Install: []string{"config/crd"}})
	if err != nil {
		return err
	}
	defer cluster.Stop()
	c, err := cluster.Client()
	if err != nil {
		return err
	}
	pepper, err := credential.NewPepper(rand.Reader)
	if err != nil {
		return err
	}
	start := time.Now()
	err = inParallel(ctx, number, func(n int) error { return writeBare(ctx, c, pepper, n) })
	fmt.Printf("floor: the bare writes of %d clients, %d at a time: %.1f s\n", number, scaleWorkers, time.Since(start).Seconds())
	return err
}

func writeBare(ctx context.Context, c client.Client, pepper *credential.Pepper, n int) error {
	m2m := newClient(pepper, n, 1)
	m2m.Namespace, m2m.Name, m2m.UID = "default", nameOf(n), ""
	status := m2m.Status
	if err := c.Create(ctx, m2m); err != nil {
		return err
	}
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: m2m.Namespace, Name: m2m.Name},
		StringData: map[string]string{
			"client_id": status.ClientID, "client_secret": status.Seal, "scopes": "read:settings write:settings", "issuer": "https://auth.example.com",
			"token_url": token.EndpointURL("https://auth.example.com", projectID), "jwks_url": token.JWKSURL("https://auth.example.com", projectID),
		},
	}
	if err := c.Create(ctx, secret); err != nil {
		return err
	}
	status.Conditions = []metav1.Condition{{
		Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonIssued,
		Message: "the credential is there", LastTransitionTime: metav1.Now(), ObservedGeneration: 1,
	}}
	status.ObservedGeneration, status.SecretName = 1, secret.Name
	m2m.Status = status
	return c.Status().Update(ctx, m2m)
}

// inParallel does something for each of a number of clients.
func inParallel(ctx context.Context, number int, do func(n int) error) error {
	return parallel(ctx, scaleWorkers, number, do)
}

// parallel does something a number of times, so many at a time.
func parallel(ctx context.Context, workers, number int, do func(n int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	numbers := make(chan int)
	for range workers {
		group.Go(func() error {
			for n := range numbers {
				if err := do(n); err != nil {
					return err
				}
			}
			return nil
		})
	}
	group.Go(func() error {
		defer close(numbers)
		for n := range number {
			select {
			case numbers <- n:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	return group.Wait()
}

func measureScale(ctx context.Context, i *installation.Installation, number int, idle time.Duration) error {
	empty, err := footprints(i)
	if err != nil {
		return err
	}
	before, err := writes(ctx, i)
	if err != nil {
		return err
	}
	created, ready, err := createAll(ctx, i, number, nil)
	if err != nil {
		return err
	}
	fmt.Printf("%d clients, %d at a time: created in %.1f s, all Ready %.1f s after the first create\n",
		number, scaleWorkers, created.Seconds(), ready.Seconds())
	after, err := writes(ctx, i)
	if err != nil {
		return err
	}
	for _, kind := range []string{"secrets", "m2mclients/status", "events"} {
		n := after[kind] - before[kind]
		fmt.Printf("  writes to %-18s %6d, %.3f a client\n", kind, n, float64(n)/float64(number))
	}
	if err := waitForEmptyQueue(ctx, i); err != nil {
		return err
	}
	if err := measureIdleRoles(ctx, i, number, empty, idle); err != nil {
		return err
	}
	return measureStart(ctx, i)
}

// waitForEmptyQueue waits until the controller has looked again at all that it has written,
// and a garbage collection longer.
func waitForEmptyQueue(ctx context.Context, i *installation.Installation) error {
	start := time.Now()
	for {
		waiting, err := metricAt(i.MetricsURLs()["controller"], "workqueue_depth")
		if err != nil {
			return err
		}
		if waiting == 0 {
			break
		}
		if err := sleep(ctx, time.Second); err != nil {
			return err
		}
	}
	fmt.Printf("  the controller's queue was empty %.1f s later\n", time.Since(start).Seconds())
	return sleep(ctx, 2*time.Minute+5*time.Second) // the runtime collects every two minutes
}

// nameOf names the n-th client that a benchmark creates.
func nameOf(n int) string { return fmt.Sprintf("client-%06d", n) }

// createAll creates the clients, each changed if need be, and tells how long that
// took and how long until all were ready, from the first create on.
func createAll(ctx context.Context, i *installation.Installation, number int, change func(n int, c *v1alpha1.M2MClient)) (created, ready time.Duration, err error) {
	done, err := watchReady(ctx, i, number)
	if err != nil {
		return 0, 0, err
	}
	start := time.Now()
	err = inParallel(ctx, number, func(n int) error {
		c := &v1alpha1.M2MClient{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: nameOf(n)}}
		c.Spec.Scopes = []string{"read:invoices", "write:invoices"}
		if change != nil {
			change(n, c)
		}
		return i.Create(ctx, c)
	})
	if err != nil {
		return 0, 0, err
	}
	created = time.Since(start)
	select {
	case at := <-done:
		return created, at.Sub(start), nil
	case <-ctx.Done():
		return 0, 0, fmt.Errorf("not all clients became ready: %w", context.Cause(ctx))
	}
}

// watchReady sends the time at which a number of clients are ready.
func watchReady(ctx context.Context, i *installation.Installation, number int) (<-chan time.Time, error) {
	done, ready := make(chan time.Time, 1), 0
	return done, watchClients(ctx, i, func(before, after *v1alpha1.M2MClient) {
		if isReady(before) || !isReady(after) {
			return
		}
		if ready++; ready == number {
			done <- time.Now()
		}
	})
}

func isReady(c *v1alpha1.M2MClient) bool {
	return meta.IsStatusConditionTrue(c.Status.Conditions, v1alpha1.ConditionReady)
}

var requestTotal = regexp.MustCompile(`^apiserver_request_total\{.*resource="([a-z0-9]+)".*subresource="([a-z]*)".*verb="(POST|PUT|PATCH|APPLY|DELETE)".*\} (\S+)$`)

// writes counts the writes that the API server saw, of whatever outcome, by
// resource. Nobody but the controller writes Secrets, statuses and events here.
func writes(ctx context.Context, i *installation.Installation) (map[string]int, error) {
	out, err := i.Cluster.Kubectl(ctx, "get", "--raw", "/metrics").Output()
	if err != nil {
		return nil, fmt.Errorf("reading the API server's metrics: %w", err)
	}
	counts := map[string]int{}
	for line := range strings.Lines(string(out)) {
		m := requestTotal.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			continue
		}
		n, err := strconv.ParseFloat(m[4], 64)
		if err != nil {
			return nil, err
		}
		kind := m[1]
		if m[2] != "" {
			kind += "/" + m[2]
		}
		counts[kind] += int(n)
	}
	return counts, nil
}

func mib(bytes float64) float64 { return bytes / (1 << 20) }
