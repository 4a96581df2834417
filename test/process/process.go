// Package process runs programs that must not outlive the one that started them.
package process

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// Process is a running program.
type Process struct {
	Name string
	PID  int
	Log  string // the file that it writes to

	cmd  *exec.Cmd
	done chan struct{}
}

// Start starts a command in a process group of its own, so that Ctrl-C reaches
// this program only, which then stops its children in order. What the command
// writes, and isn't sent elsewhere, goes to the file log.
func Start(name, log string, cmd *exec.Cmd) (*Process, error) {
	file, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if cmd.Stdout == nil {
		cmd.Stdout = file
	}
	if cmd.Stderr == nil {
		cmd.Stderr = file
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	dieWithParent(cmd.SysProcAttr)

	p := &Process{Name: name, Log: log, cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// To the kernel the parent is the thread that started the child.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // the state says how it ended
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	p.PID = cmd.Process.Pid
	return p, nil
}

// Done is closed when the program has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err says how a program ended that should be running, with the end of its log.
func (p *Process) Err() error {
	select {
	case <-p.done:
		return fmt.Errorf("%s stopped by itself (%s)\n%s", p.Name, p.cmd.ProcessState, LogTail(p.Log))
	default:
		return nil
	}
}

// WaitFor waits until check passes, and no longer than the program runs.
func (p *Process) WaitFor(ctx context.Context, check func() error) error {
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-p.Done():
			return p.Err()
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w\n%s", p.Name, err, LogTail(p.Log))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Stop ends the program: gently, and after the grace period by force, with what it
// has started itself.
func (p *Process) Stop(grace time.Duration) {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(grace):
		_ = syscall.Kill(-p.PID, syscall.SIGKILL)
		<-p.done
	}
}

// LogTail returns the last lines of a log, under its name.
func LogTail(log string) string {
	const lines = 20
	content, err := os.ReadFile(log)
	if err != nil {
		return err.Error()
	}
	all := bytes.Split(bytes.TrimRight(content, "\n"), []byte("\n"))
	tail := all[max(0, len(all)-lines):]
	return fmt.Sprintf("--- end of %s:\n%s", log, bytes.Join(tail, []byte("\n")))
}
