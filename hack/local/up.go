package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"github.com/m2m-operator/m2m-operator/test/process"
)

// up starts a supervisor that outlives it, and follows its progress until all is
// ready.
func up(ctx context.Context, s state) error {
	if len(s.running()) > 0 {
		return status(s)
	}
	if err := os.RemoveAll(s.dir); err != nil {
		return err
	}
	if err := os.Mkdir(s.dir, 0o700); err != nil {
		return err
	}
	cmd, progress, err := startSupervisor(s)
	if err != nil {
		return err
	}
	// Ctrl-C means that nothing is to be left running.
	context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(syscall.SIGTERM) })
	for lines := bufio.NewScanner(progress); lines.Scan(); {
		if lines.Text() == ready {
			return status(s)
		}
		fmt.Println(lines.Text())
	}
	_ = cmd.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return fmt.Errorf("it didn't start, and nothing is left running\n%s", process.LogTail(s.path("supervisor.log")))
}

// startSupervisor returns the supervisor and what it says about its progress.
func startSupervisor(s state) (*exec.Cmd, *os.File, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	log, err := os.Create(s.path("supervisor.log"))
	if err != nil {
		return nil, nil, err
	}
	defer log.Close()
	progress, theirs, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer theirs.Close()
	cmd := exec.Command(self, superviseCommand, s.dir)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // it outlives the terminal
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	return cmd, progress, s.writePIDs([]pid{{supervisor, cmd.Process.Pid}})
}
