package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
)

const (
	superviseCommand = "supervise"
	ready            = "ready" // the supervisor's last word to `up`
	progressFD       = 3
)

// supervise runs an installation until it is told to stop or a part of it ends.
func supervise(ctx context.Context, s state) (err error) {
	defer s.forget()
	up := os.NewFile(progressFD, "progress")
	i, err := install(ctx, s, io.MultiWriter(os.Stdout, up))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, i.Stop()) }()
	if err := i.record(); err != nil {
		return err
	}
	fmt.Fprintln(up, ready)
	_ = up.Close()

	running, stopWatching := i.WhileRunning(ctx)
	defer stopWatching()
	<-running.Done()
	if ctx.Err() == nil {
		return context.Cause(running)
	}
	return nil
}

// record writes what `down` and people need. The kubeconfig is there already.
func (i *local) record() error {
	pids := []pid{{supervisor, os.Getpid()}}
	for _, p := range i.Processes() {
		pids = append(pids, pid{p.Name, p.PID})
	}
	if err := i.writePIDs(pids); err != nil {
		return err
	}
	env := fmt.Sprintf("export KUBECONFIG=%s\nexport M2M_URL=%s\nexport M2M_PROJECT_ID=%s\nexport M2M_PROJECT_SECRET=%s\n",
		i.path("kubeconfig"), i.Servers[0].URL, i.ProjectID, i.ProjectSecret)
	return os.WriteFile(i.path("env"), []byte(env), 0o600)
}
