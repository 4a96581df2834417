package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/m2m-operator/m2m-operator/test/controlplane"
)

// state is what `up` leaves in a folder, for `down` and for people.
type state struct {
	root string // of the repository
	dir  string
}

func newState() (state, error) {
	root, err := controlplane.RepositoryRoot()
	return state{root: root, dir: filepath.Join(root, ".local")}, err
}

func (s state) path(name string) string { return filepath.Join(s.dir, name) }

// operator is the program whose roles are run.
func (s state) operator() (string, error) {
	program := filepath.Join(s.root, "bin", "m2m-operator")
	if _, err := os.Stat(program); err != nil {
		return "", fmt.Errorf("%w: run `make build`", err)
	}
	return program, nil
}

// pid is a process that was started, by the name of what it does.
type pid struct {
	name string
	pid  int
}

const supervisor = "supervisor"

func (s state) writePIDs(pids []pid) error {
	var content strings.Builder
	for _, p := range pids {
		fmt.Fprintf(&content, "%s %d\n", p.name, p.pid)
	}
	return os.WriteFile(s.path("pids"), []byte(content.String()), 0o600)
}

// running returns the processes that were recorded, the supervisor first, and
// still run.
func (s state) running() []pid {
	content, err := os.ReadFile(s.path("pids"))
	if err != nil {
		return nil
	}
	var running []pid
	for line := range strings.Lines(string(content)) {
		name, number, _ := strings.Cut(strings.TrimSpace(line), " ")
		if id, err := strconv.Atoi(number); err == nil && s.owns(id) {
			running = append(running, pid{name, id})
		}
	}
	return running
}

// owns tells whether a process is one of ours, and not another one that the number
// was given to since: all of ours have the folder on their command line.
func (s state) owns(pid int) bool {
	command, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil { // there is no /proc, or no such process
		command, err = exec.Command("ps", "-o", "command=", "-p", strconv.Itoa(pid)).Output()
	}
	return err == nil && bytes.Contains(command, []byte(s.dir))
}

// forget removes what leads to a cluster that is gone. Logs stay.
func (s state) forget() {
	for _, name := range []string{"pids", "env", "kubeconfig"} {
		_ = os.Remove(s.path(name))
	}
}
