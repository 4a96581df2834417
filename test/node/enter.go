//go:build linux

package node

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
)

// The program runs three times: outside, as the first process inside, and at last as
// itself. The environment says which one it is.
const (
	stageVariable = "M2M_NODE_STAGE"
	dirVariable   = "M2M_NODE_DIR"
	keepVariable  = "M2M_NODE_KEEP" // keep the node's folder
)

// Enter runs a function inside, in a new process, and returns its exit code. Inside means
// in namespaces of its own: network, processes, mounts. Addresses, rules and mounts of a
// node touch nothing of the machine, and all ends when the function does, or the program
// is killed. What prepare does, it does outside, before. Enter is for TestMain: what is
// before it runs three times.
func Enter(prepare func() error, run func() int) int {
	switch os.Getenv(stageVariable) {
	case "":
		return report(outside(prepare))
	case "first":
		return report(first())
	default:
		return run()
	}
}

func report(code int, err error) int {
	if err != nil {
		fmt.Fprintln(os.Stderr, "node:", err)
		return 1
	}
	return code
}

// outside makes the namespaces, waits until they end, and removes what is left of them.
func outside(prepare func() error) (code int, err error) {
	if os.Geteuid() != 0 {
		return 0, errors.New("a node can't run here: it takes root, for namespaces, mounts and cgroups")
	}
	if err := prepare(); err != nil {
		return 0, err
	}
	dir, err := os.MkdirTemp("", "node-")
	if err != nil {
		return 0, err
	}
	defer func() {
		removeCgroups(cgroupName(dir))
		if os.Getenv(keepVariable) != "" {
			fmt.Fprintln(os.Stderr, "node: its logs and files are in", dir)
			return
		}
		err = errors.Join(err, os.RemoveAll(dir))
	}()
	cmd := again("first", dirVariable+"="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS,
		Pdeathsig:  syscall.SIGKILL,
	}
	runtime.LockOSThread() // to the kernel the parent is this thread
	defer runtime.UnlockOSThread()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("a node can't run here: this root may not make namespaces (a container needs to be privileged): %w", err)
	}
	go func() {
		<-signals
		_ = cmd.Process.Kill()
	}()
	_ = cmd.Wait() // the state says how it ended
	if !cmd.ProcessState.Exited() {
		return 0, fmt.Errorf("the node's first process ended: %v", cmd.ProcessState)
	}
	return cmd.ProcessState.ExitCode(), nil
}

// again is this program, with the same arguments.
func again(stage string, env ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), append(env, stageVariable+"="+stage)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return cmd
}

// first is process 1: it furnishes the namespaces, starts the program in them, and takes
// the exit codes of orphans, shims of containers above all. With it everything ends.
func first() (int, error) {
	dir := os.Getenv(dirVariable)
	if err := errors.Join(furnish(dir), makeCgroups(cgroupName(dir))); err != nil {
		return 0, fmt.Errorf("a node can't run here: %w", err)
	}
	cmd := again("inside")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return 0, err
		case pid == cmd.Process.Pid && status.Signaled():
			return 128 + int(status.Signal()), nil
		case pid == cmd.Process.Pid:
			return status.ExitStatus(), nil
		}
	}
}

// privatePaths are where the programs of a node keep things that no flag moves.
var privatePaths = []string{"/run", "/var/log", "/var/lib/kubelet", "/var/lib/cni", "/var/lib/containerd"}

func furnish(dir string) error {
	mounts := errors.Join(
		mount("", "/", "", syscall.MS_REC|syscall.MS_SLAVE), // nothing reaches the machine
		mount("", "/", "", syscall.MS_REC|syscall.MS_SHARED),
		mount("proc", "/proc", "proc", syscall.MS_NOSUID|syscall.MS_NODEV|syscall.MS_NOEXEC),
	)
	for _, path := range privatePaths {
		own := filepath.Join(dir, path)
		mounts = errors.Join(mounts, os.MkdirAll(own, 0o755), os.MkdirAll(path, 0o755), mount(own, path, "", syscall.MS_BIND))
	}
	if mounts != nil {
		return mounts
	}
	commands := []string{
		"ip link set lo up",
		// With an address of its own: one that follows those of pods sends others astray.
		"ip link add " + bridge + " address 0a:58:0a:58:00:01 type bridge",
		"ip address add " + Address + "/16 dev " + bridge,
		"ip link set " + bridge + " up",
		// Sets the filters up that are looked at below.
		"iptables -t nat -L -n",
	}
	for _, command := range commands {
		words := strings.Fields(command)
		if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w %s", command, err, out)
		}
	}
	return errors.Join(
		syscall.Sethostname([]byte(Name)),
		sysctl("net/ipv4/ip_forward"),
		sysctl("net/bridge/bridge-nf-call-iptables"), // answers of a pod to a pod by its Service
	)
}

func mount(source, target, kind string, flags uintptr) error {
	if err := syscall.Mount(source, target, kind, flags, ""); err != nil {
		return fmt.Errorf("mounting %s: %w", target, err)
	}
	return nil
}

func sysctl(name string) error {
	return os.WriteFile(filepath.Join("/proc/sys", name), []byte("1"), 0o644)
}

const cgroups = "/sys/fs/cgroup"

// cgroupName is of the cgroup that holds those of the pods.
func cgroupName(dir string) string { return "m2m-" + filepath.Base(dir) }

// hierarchies are the folders where cgroups are made: one with version 2.
func hierarchies() []string {
	if _, err := os.Stat(filepath.Join(cgroups, "cgroup.controllers")); err == nil {
		return []string{cgroups}
	}
	all, _ := filepath.Glob(filepath.Join(cgroups, "*/cgroup.procs"))
	for i, file := range all {
		all[i] = filepath.Dir(file)
	}
	return all
}

func makeCgroups(name string) error {
	all := hierarchies()
	if len(all) == 0 {
		return fmt.Errorf("%s has no cgroups, which pods need", cgroups)
	}
	var errs error
	for _, hierarchy := range all {
		own := filepath.Join(hierarchy, name)
		errs = errors.Join(errs, os.MkdirAll(own, 0o755))
		// With version 1 a cpuset begins empty, and nothing can run in it.
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			if content, err := os.ReadFile(filepath.Join(hierarchy, file)); err == nil {
				errs = errors.Join(errs, os.WriteFile(filepath.Join(own, file), content, 0o644))
			}
		}
		// With version 2 a cgroup passes on the controllers that it is told to.
		for _, parent := range []string{hierarchy, own} {
			controllers, err := os.ReadFile(filepath.Join(parent, "cgroup.controllers"))
			if err != nil {
				continue
			}
			for controller := range strings.FieldsSeq(string(controllers)) {
				// What some need may fail for others, which the kubelet then names.
				_ = os.WriteFile(filepath.Join(parent, "cgroup.subtree_control"), []byte("+"+controller), 0o644)
			}
		}
	}
	return errs
}

// removeCgroups removes empty ones, from the inside out.
func removeCgroups(name string) {
	for _, hierarchy := range hierarchies() {
		var all []string
		_ = filepath.WalkDir(filepath.Join(hierarchy, name), func(path string, entry os.DirEntry, err error) error {
			if err == nil && entry.IsDir() {
				all = append(all, path)
			}
			return nil
		})
		for _, path := range slices.Backward(all) {
			_ = os.Remove(path)
		}
	}
}
