package main

import (
	"fmt"
	"syscall"
	"time"
)

// down stops the supervisor, which stops the rest, and then what it may have left.
func down(s state) error {
	running := s.running()
	if len(running) == 0 {
		s.forget()
		fmt.Println("Nothing is running.")
		return nil
	}
	for _, p := range running {
		if !s.owns(p.pid) {
			continue // the supervisor has stopped it
		}
		fmt.Printf("Stopping %s (%d)\n", p.name, p.pid)
		if !s.end(p.pid) {
			return fmt.Errorf("%s (%d) doesn't stop", p.name, p.pid)
		}
	}
	s.forget()
	fmt.Println("Stopped.")
	return nil
}

// end stops a process of ours, by force if it takes too long.
func (s state) end(pid int) bool {
	for _, attempt := range []struct {
		signal   syscall.Signal
		patience time.Duration
	}{{syscall.SIGTERM, 40 * time.Second}, {syscall.SIGKILL, 5 * time.Second}} {
		if !s.owns(pid) {
			return true
		}
		_ = syscall.Kill(pid, attempt.signal)
		for deadline := time.Now().Add(attempt.patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
			if !s.owns(pid) {
				return true
			}
		}
	}
	return false
}
