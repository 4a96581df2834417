// Command bench measures the product.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"

	"github.com/go-logr/logr"
	ctrl "sigs.k8s.io/controller-runtime"
)

// benchmark is one of the measurements; it prints its result.
type benchmark struct {
	name, about string
	run         func(args []string) error
	byNameOnly  bool // it takes long
}

func benchmarks() []benchmark {
	return []benchmark{
		{name: "algorithms", about: "tokens per CPU-second with each signature algorithm, against floor servers", run: runAlgorithms},
		{name: "apply", about: "time from a manifest to a token that its Secret buys", run: runApply},
		{name: "cutoff", about: "time from a client made inactive to its refusal at each server", run: runCutoff},
		{name: "idle", about: "writes while nothing happens", run: runIdle, byNameOnly: true},
		{name: "interval", about: "many clients of one age with a rotation interval: how their rotations spread", run: runInterval, byNameOnly: true},
		{name: "management", about: "calls of the management API a second, against the same writes and reads of the API server", run: runManagement},
		{name: "methods", about: "tokens per CPU-second with each way to authenticate, against floor servers", run: runMethods},
		{name: "refusal", about: "time until a request is refused, by why it is", run: runRefusal},
		{name: "rotation", about: "writes of a rotation, and time until the Secret has the new secret", run: runRotation},
		{name: "scale", about: "many clients: time until all are ready, writes, memory", run: runScale},
		{name: "tls", about: "tokens per CPU-second with a TLS handshake for each, against a floor server", run: runTLS},
		{name: "token", about: "tokens per CPU-second of the token endpoint, against a floor server", run: runToken},
	}
}

func main() {
	ctrl.SetLogger(logr.Discard())
	if err := dispatch(os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
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
	for _, b := range benchmarks() {
		if b.name == args[0] {
			return b.run(args[1:])
		}
	}
	printUsage()
	if slices.Contains([]string{"-h", "-help", "--help", "help"}, args[0]) {
		return nil
	}
	return fmt.Errorf("there is no benchmark %q", args[0])
}

func printUsage() {
	fmt.Fprintln(os.Stderr, "usage: go run ./test/bench [benchmark [flags]]; without one, all but those marked *; -h after a name lists its flags")
	for _, b := range benchmarks() {
		mark := " "
		if b.byNameOnly {
			mark = "*"
		}
		fmt.Fprintf(os.Stderr, "%s %-10s %s\n", mark, b.name, b.about)
	}
}

// about says what a benchmark measures.
func about(name string) string {
	for _, b := range benchmarks() {
		if b.name == name {
			return b.about
		}
	}
	return ""
}

func runAll() error {
	for _, b := range benchmarks() {
		if b.byNameOnly {
			continue
		}
		fmt.Printf("== %s: %s\n", b.name, b.about)
		if err := b.run(nil); err != nil {
			return fmt.Errorf("%s: %w", b.name, err)
		}
	}
	return nil
}
