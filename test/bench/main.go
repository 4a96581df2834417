// Command bench measures the product.
package main

import (
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/go-logr/logr"
	ctrl "sigs.k8s.io/controller-runtime"
)

// benchmark is one of the measurements; it prints its result.
type benchmark struct {
	about string
	run   func(args []string) error
}

var benchmarks = map[string]benchmark{
	"apply": {"time from a manifest to a token that its Secret buys", runApply},
	"scale": {"many clients: time until all are ready, writes, memory", runScale},
	"token": {"tokens per CPU-second of the token endpoint, against a floor server", runToken},
}

func main() {
	ctrl.SetLogger(logr.Discard())
	if err := dispatch(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func dispatch(args []string) error {
	if len(args) > 0 && args[0] == serveArg {
		return serve(args[1:]) // this process is one of the servers measured
	}
	if len(args) == 0 {
		return runAll()
	}
	if b, ok := benchmarks[args[0]]; ok {
		return b.run(args[1:])
	}
	fmt.Fprintln(os.Stderr, "usage: go run ./test/bench [benchmark [flags]]; without one, all of them")
	for _, name := range slices.Sorted(maps.Keys(benchmarks)) {
		fmt.Fprintf(os.Stderr, "  %-8s %s\n", name, benchmarks[name].about)
	}
	return fmt.Errorf("there is no benchmark %q", args[0])
}

func runAll() error {
	for _, name := range slices.Sorted(maps.Keys(benchmarks)) {
		fmt.Printf("== %s: %s\n", name, benchmarks[name].about)
		if err := benchmarks[name].run(nil); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}
