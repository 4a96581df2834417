// kubectl-m2m is a kubectl plugin for people who work with M2MClients: `kubectl m2m`.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
)

// version is set when the binary is built.
var version = "dev"

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	streams := genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr}
	return newCommand(streams).ExecuteContext(ctx)
}

func newCommand(streams genericiooptions.IOStreams) *cobra.Command {
	k := &kube{IOStreams: streams, flags: genericclioptions.NewConfigFlags(true)}
	root := &cobra.Command{
		Use:   "kubectl-m2m",
		Short: "Work with the M2MClients of a cluster",
		Long: `kubectl m2m creates M2MClients, shows them, rotates and revokes their secrets, and
gets and verifies their tokens.

It changes manifests by server-side apply as its own field manager, kubectl-m2m, and
never takes a field that another manager owns: where Git owns one it says so.`,
		Annotations:   map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl m2m"},
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetIn(streams.In)
	root.SetOut(streams.Out)
	root.SetErr(streams.ErrOut)
	k.flags.AddFlags(root.PersistentFlags())
	root.AddCommand(clientCommands(k)...)
	root.AddCommand(tokenCommands(k)...)
	describeCompletion(root)
	return root
}
