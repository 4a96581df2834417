//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// role says which part of the story this process plays.
const role = "PAUSE_TEST_ROLE"

// theEnd is the descriptor of a pipe that children hold open as long as they live.
const theEnd = 3

func TestMain(m *testing.M) {
	switch os.Getenv(role) {
	case "first": // process 1 of a namespace: it has a child that leaves it an orphan
		play("parent")
		main()
		os.Exit(0)
	case "parent":
		play("orphan")
		os.Exit(0)
	case "orphan":
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func play(next string) {
	pipe := os.NewFile(theEnd, "pipe")
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{role + "=" + next}
	cmd.ExtraFiles = []*os.File{pipe}
	if err := errors.Join(cmd.Start(), pipe.Close()); err != nil {
		os.Exit(3)
	}
}

func TestOrphansAreReapedUntilTheEnd(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(signal.String(), func(t *testing.T) {
			childrenLive, childrensEnd, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer childrenLive.Close()
			cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
			cmd.Env = []string{role + "=first"}
			cmd.ExtraFiles = []*os.File{childrensEnd}
			cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
			err = cmd.Start()
			childrensEnd.Close()
			if errors.Is(err, syscall.EPERM) {
				t.Skip("process namespaces need root")
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadAll(childrenLive); err != nil { // until all children have ended
				t.Fatal(err)
			}
			waitForNoZombies(t, cmd.Process.Pid)
			if err := cmd.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err != nil {
				t.Errorf("pause ended with %v", err)
			}
		})
	}
}

// waitForNoZombies waits until a process whose children have ended has none.
func waitForNoZombies(t *testing.T, pid int) {
	t.Helper()
	var children []byte
	for range 1000 {
		lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid)) // each thread has its own
		if err != nil || len(lists) == 0 {
			t.Fatalf("the process is gone (%v)", err)
		}
		children = nil
		for _, list := range lists {
			some, _ := os.ReadFile(list) // a thread may have ended
			children = append(children, some...)
		}
		if len(children) == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("zombies of %d: %s", pid, children)
}
