//go:build linux

// Package node runs a real Kubernetes node with its control plane: what is applied to it
// runs in containers, reaches other pods by their Services' names, and mounts Secrets. It
// takes root, and Debian's packages containerd, runc, containernetworking-plugins,
// iptables, conntrack and iproute2. It lives in namespaces of its own, see [Enter].
package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/test/controlplane"
	"github.com/m2m-operator/m2m-operator/test/process"
)

const (
	// Name is the node's.
	Name = "node"
	// Address is the node's, on the bridge that joins the pods: the test's in the eyes of
	// a pod.
	Address = "10.88.0.1"
	// PauseImage is what one of the images must be: a program that holds a pod's
	// namespaces, and does nothing.
	PauseImage = "m2m-node-pause:latest"

	// ServiceAddress is the one of the API server's Service.
	ServiceAddress = "10.0.0.1"

	bridge     = "cni0"
	podRange   = "10.88.0.0/16"
	serverPort = 6443 // the API server's; its own in a network of its own
	domain     = "cluster.local"
)

// Options say what to start.
type Options struct {
	// Images are files that containerd imports: nothing is ever pulled.
	Images []string
	// Progress gets a line for each step.
	Progress io.Writer
}

// Node is a running node.
type Node struct {
	client.WithWatch // an administrator's
	Cluster          *controlplane.Cluster
	// Dir is for files of the test, too: it is removed in the end.
	Dir string

	assets    string
	authority *authority
	server    string // URL of the API server
	clients   kubernetes.Interface
	processes []*process.Process
	names     *resolver
	policies  *policies
	progress  io.Writer
	began     time.Time
}

// startTimeout is generous: a machine may be busy with other tests.
const startTimeout = 5 * time.Minute

// Start starts a node, inside [Enter], and returns when it takes pods. If it can't,
// nothing keeps running.
func Start(ctx context.Context, o Options) (*Node, error) {
	n := &Node{Dir: os.Getenv(dirVariable), progress: o.Progress, began: time.Now()}
	if n.Dir == "" {
		return nil, errors.New("a node runs inside of node.Enter only")
	}
	startCtx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for _, step := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"the control plane", n.startControlPlane},
		{"the containers' runtime", n.startContainerd},
		{"the images", func(ctx context.Context) error { return n.Import(ctx, o.Images...) }},
		{"names of Services", func(ctx context.Context) (err error) {
			n.names, err = startResolver(ctx, n.clients)
			return err
		}},
		{"network policies", func(ctx context.Context) (err error) {
			n.policies, err = startPolicies(ctx, n.clients, func(err error) { n.say("network policies: %v", err) })
			return err
		}},
		{"the programs of the node", n.startPrograms},
		{"the node", n.waitReady},
	} {
		if err := step.do(startCtx); err != nil {
			n.Stop()
			return nil, fmt.Errorf("starting a node: %s: %w", step.what, err)
		}
		n.say("%s: ready", step.what)
	}
	return n, nil
}

func (n *Node) say(format string, args ...any) {
	if n.progress != nil {
		fmt.Fprintf(n.progress, "%5.1f s  %s\n", time.Since(n.began).Seconds(), fmt.Sprintf(format, args...))
	}
}

// stopGrace is short: containers and mounts end with their namespaces.
const stopGrace = 5 * time.Second

// Stop stops the programs. Containers end when Enter's function does.
func (n *Node) Stop() {
	for _, p := range slices.Backward(n.processes) {
		p.Stop(stopGrace)
	}
	if n.policies != nil {
		n.policies.stop()
	}
	if n.names != nil {
		n.names.stop()
	}
	if n.Cluster != nil {
		n.Cluster.Stop()
	}
}

// Processes are the programs of the node, without those of [Node.Cluster].
func (n *Node) Processes() []*process.Process { return n.processes }

// Import makes images known to the node.
func (n *Node) Import(ctx context.Context, files ...string) error {
	for _, file := range files {
		out, err := exec.CommandContext(ctx, "ctr", "--namespace", "k8s.io", "--address", containerdSocket, "images", "import", file).CombinedOutput()
		if err != nil {
			return fmt.Errorf("importing %s: %w\n%s", file, err, out)
		}
	}
	return nil
}

// Kill kills the processes of a pod that run such a program.
func (n *Node) Kill(pod types.UID, program string) error {
	killed := false
	for pid, executable := range processesOf(pod) {
		if filepath.Base(executable) != program {
			continue
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			return err
		}
		killed = true
	}
	if !killed {
		return fmt.Errorf("no process of pod %s runs %s", pod, program)
	}
	return nil
}

// Within is a program of this machine that has the network of a pod.
func (n *Node) Within(ctx context.Context, pod types.UID, program string, args ...string) (*exec.Cmd, error) {
	for pid := range processesOf(pod) {
		return exec.CommandContext(ctx, "nsenter", append([]string{"--net", "--target", strconv.Itoa(pid), program}, args...)...), nil
	}
	return nil, fmt.Errorf("pod %s has no process", pod)
}

// processesOf are a pod's processes and what they run.
func processesOf(pod types.UID) map[int]string {
	found := map[int]string{}
	all, _ := filepath.Glob("/proc/[0-9]*") // the pattern is a good one
	for _, process := range all {
		// A process that is gone has no files.
		executable, _ := os.Readlink(filepath.Join(process, "exe"))
		groups, _ := os.ReadFile(filepath.Join(process, "cgroup"))
		pid, err := strconv.Atoi(filepath.Base(process))
		if err == nil && strings.Contains(string(groups), "/pod"+string(pod)+"/") {
			found[pid] = executable
		}
	}
	return found
}

// waitReady waits until pods can run, and those of the namespace default have an account.
func (n *Node) waitReady(ctx context.Context) error {
	kubelet := n.processes[len(n.processes)-1]
	return kubelet.WaitFor(ctx, func() error {
		account := &corev1.ServiceAccount{}
		if err := n.Get(ctx, client.ObjectKey{Namespace: "default", Name: "default"}, account); err != nil {
			return err
		}
		node := &corev1.Node{}
		if err := n.Get(ctx, client.ObjectKey{Name: Name}, node); err != nil {
			return err
		}
		for _, condition := range node.Status.Conditions {
			if condition.Type == corev1.NodeReady && condition.Status == corev1.ConditionTrue {
				return nil
			}
		}
		return fmt.Errorf("it isn't ready: %v", node.Status.Conditions)
	})
}

// follow starts informers until the end of watching, and waits until they know what there is.
func follow(ctx, watching context.Context, factory informers.SharedInformerFactory) error {
	factory.Start(watching.Done())
	for kind, synced := range factory.WaitForCacheSync(ctx.Done()) {
		if !synced {
			return fmt.Errorf("the API server didn't list all of %s in time", kind)
		}
	}
	return nil
}

// run starts a program from Debian's packages or the folder of Kubernetes.
func (n *Node) run(name, binary string, args ...string) (*process.Process, error) {
	p, err := process.Start(name, n.path(name+".log"), exec.Command(binary, args...))
	if err == nil {
		n.processes = append(n.processes, p)
	}
	return p, err
}

func (n *Node) path(name string) string { return filepath.Join(n.Dir, name) }

func (n *Node) write(name, content string) (string, error) {
	file := n.path(name)
	return file, os.WriteFile(file, []byte(content), 0o600)
}
