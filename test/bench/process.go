package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// server is a process that is measured: this program again, as a server.
type server struct {
	setup
	method method // how it is asked for tokens

	command *exec.Cmd
	input   io.WriteCloser // closing it ends the process
	address string
}

// start runs the server on one core, and waits until it listens.
func (s *server) start(core int) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	setup, err := json.Marshal(&s.setup)
	if err != nil {
		return err
	}
	s.command = exec.Command(program, serveArg, string(setup))
	s.command.Env = append(os.Environ(), "GOMAXPROCS=1")
	s.command.Stderr = os.Stderr
	output, err := s.command.StdoutPipe()
	if err != nil {
		return err
	}
	if s.input, err = s.command.StdinPipe(); err != nil {
		return err
	}
	if err := startOn(core, s.command); err != nil {
		return err
	}
	line, err := bufio.NewReader(output).ReadString('\n')
	if err != nil {
		return fmt.Errorf("the %s server did not start: %w", s.Kind, err)
	}
	s.address = strings.TrimSpace(line)
	return nil
}

func (s *server) stop() {
	_ = s.input.Close()
	_ = s.command.Wait()
}

// tokensPerCPUSecond loads the server for a while.
func (s *server) tokensPerCPUSecond(connections int, length time.Duration) (float64, error) {
	before, err := s.cpuTime()
	if err != nil {
		return 0, err
	}
	l := load{server: s, deadline: time.Now().Add(length)}
	if err := l.run(connections); err != nil {
		return 0, fmt.Errorf("loading the %s server: %w", s.Kind, err)
	}
	after, err := s.cpuTime()
	return float64(l.tokens.Load()) / (after - before).Seconds(), err
}

// cpuTime is the user and system time of the process, in nanoseconds and not in
// ticks (clock_getcpuclockid(3)).
func (s *server) cpuTime() (time.Duration, error) {
	const cpuclockSched = 2
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^s.command.Process.Pid<<3|cpuclockSched), &t); err != nil {
		return 0, fmt.Errorf("reading the CPU time of the %s server: %w", s.Kind, err)
	}
	return time.Duration(t.Nano()), nil
}

// startOn starts a command on one core: a child inherits the affinity of the
// thread that makes it.
func startOn(core int, command *exec.Cmd) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var mine unix.CPUSet
	if err := unix.SchedGetaffinity(0, &mine); err != nil {
		return fmt.Errorf("reading the CPU affinity: %w", err)
	}
	if err := pin(0, core); err != nil {
		return err
	}
	return errors.Join(command.Start(), unix.SchedSetaffinity(0, &mine))
}

// pinProcess keeps all threads of this process on one core.
func pinProcess(core int) error {
	threads, err := filepath.Glob("/proc/self/task/*")
	if err != nil {
		return err
	}
	for _, thread := range threads {
		id, err := strconv.Atoi(filepath.Base(thread))
		if err != nil {
			return err
		}
		if err := pin(id, core); err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
	}
	return nil
}

func pin(thread, core int) error {
	var set unix.CPUSet
	set.Set(core)
	if err := unix.SchedSetaffinity(thread, &set); err != nil {
		return fmt.Errorf("pinning to core %d: %w", core, err)
	}
	return nil
}
