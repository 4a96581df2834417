// Command local runs the operator on a control plane of this machine, for people
// who try it or work on it.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

const usage = `usage: local COMMAND

  up      start a control plane with the operator, and leave it running
  status  say what runs
  down    stop it
  demo    show the whole life of a client, step by step
  run     run the operator here, against the current kubeconfig context
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C doesn't wait
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "local:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("no command\n%s", usage)
	}
	here, err := newState()
	if err != nil {
		return err
	}
	switch args[0] {
	case "up":
		return up(ctx, here)
	case superviseCommand:
		return supervise(ctx, here)
	case "status":
		return status(here)
	case "down":
		return down(here)
	case "demo":
		return demo(ctx, here)
	case "run":
		return runHere(ctx, here)
	default:
		return fmt.Errorf("unknown command %q\n%s", args[0], usage)
	}
}
