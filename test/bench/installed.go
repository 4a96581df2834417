package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	crcache "sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/test/installation"
)

// installed is the operator that a benchmark runs against.
type installed struct {
	*installation.Installation
	audit apiAudit // what its ServiceAccounts ask of the API server; empty unless wanted
}

// wanted is what a benchmark needs of an installation.
type wanted struct {
	servers        int
	controllerArgs []string
	audited        bool
	managementAPI  bool
	apiArgs        []string
}

// newFlags are the flags of a benchmark, with its usage.
func newFlags(name string) *flag.FlagSet {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.Usage = func() {
		fmt.Fprintf(flags.Output(), "usage: go run ./test/bench %s [flags]: %s\n", name, about(name))
		flags.PrintDefaults()
	}
	return flags
}

// within returns a context that ends after a limit, or when somebody stops the
// benchmark: then what was started is stopped in order.
func within(limit time.Duration) (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ctx, cancel := context.WithTimeout(ctx, limit)
	return ctx, func() { cancel(); stop() }
}

// progress tells who waits what is going on. Results go to the standard output.
func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, time.Now().Format(time.TimeOnly)+" "+format+"\n", args...)
}

// withInstallation runs a measurement on a fresh installation. Its context ends
// when one of the processes does.
func withInstallation(ctx context.Context, w wanted, measure func(context.Context, *installed) error) error {
	dir, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	o := installation.Options{
		Dir:            filepath.Join(dir, "state"),
		Binary:         filepath.Join(dir, "m2m-operator"),
		Servers:        max(w.servers, 1),
		ControllerArgs: w.controllerArgs,
		ManagementAPI:  w.managementAPI,
		APIArgs:        w.apiArgs,
		Progress:       os.Stderr,
	}
	var audit apiAudit
	if w.audited {
		if audit, o.APIServerArgs, err = newAPIAudit(dir); err != nil {
			return err
		}
	}
	if err := installation.Build(ctx, o.Binary); err != nil {
		return err
	}
	i, err := installation.Start(ctx, o)
	if err != nil {
		return err
	}
	running, stopWatching := i.WhileRunning(ctx)
	err = measure(running, &installed{i, audit})
	if cause := context.Cause(running); err != nil && cause != nil && !errors.Is(err, cause) {
		err = errors.Join(cause, err) // a process that died, say
	}
	stopWatching()
	return errors.Join(err, i.Stop())
}

// watchClients hands changes of M2MClients to a handler, from when it returns on.
func watchClients(ctx context.Context, i *installation.Installation, changed func(before, after *v1alpha1.M2MClient)) error {
	watched, err := crcache.New(rest.CopyConfig(i.Cluster.Config()), crcache.Options{
		Scheme:           i.Scheme(),
		DefaultTransform: crcache.TransformStripManagedFields(),
	})
	if err != nil {
		return err
	}
	informer, err := watched.GetInformer(ctx, &v1alpha1.M2MClient{}, crcache.BlockUntilSynced(false))
	if err != nil {
		return err
	}
	_, err = informer.AddEventHandler(cache.ResourceEventHandlerFuncs{UpdateFunc: func(before, after any) {
		changed(before.(*v1alpha1.M2MClient), after.(*v1alpha1.M2MClient))
	}})
	if err != nil {
		return err
	}
	go func() { _ = watched.Start(ctx) }()
	if !watched.WaitForCacheSync(ctx) {
		return context.Cause(ctx)
	}
	return nil
}

// sleep waits, and no longer than the benchmark may run.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// mergePatch changes a client of the namespace `default`.
func mergePatch(ctx context.Context, i *installation.Installation, name, patch string) (*v1alpha1.M2MClient, error) {
	c := &v1alpha1.M2MClient{}
	c.Namespace, c.Name = "default", name
	return c, i.Patch(ctx, c, client.RawPatch("application/merge-patch+json", []byte(patch)))
}

// distribution describes durations in milliseconds.
func distribution(durations []time.Duration) string {
	sorted := slices.Sorted(slices.Values(durations))
	at := func(part float64) float64 {
		return float64(sorted[int(math.Ceil(part*float64(len(sorted))))-1]) / float64(time.Millisecond)
	}
	return fmt.Sprintf("p50 %.2f ms, p90 %.2f ms, p99 %.2f ms, longest %.2f ms, of %d", at(0.5), at(0.9), at(0.99), at(1), len(sorted))
}
