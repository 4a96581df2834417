package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"time"

	"github.com/m2m-operator/m2m-operator/test/controlplane"
	"github.com/m2m-operator/m2m-operator/test/process"
)

const namespace = "m2m-system" // as in config/rbac

// installation is a control plane with the operator on it.
type installation struct {
	state
	operator string // the program
	cluster  *controlplane.Cluster
	roles    []*process.Process
	url      string // of the token server
}

// readyTimeout is how long the operator may take on a busy machine.
const readyTimeout = 2 * time.Minute

// install starts everything in the state's folder and returns when it is ready. If
// it can't, nothing keeps running.
func install(ctx context.Context, s state, progress io.Writer) (*installation, error) {
	operator, err := s.operator()
	if err != nil {
		return nil, err
	}
	fmt.Fprintln(progress, "Starting a Kubernetes control plane and installing config/crd and config/rbac")
	cluster, err := controlplane.Start(ctx, controlplane.Options{
		Dir:               s.dir,
		Install:           []string{"config/crd", "config/rbac"},
		ControllerManager: true,
	})
	if err != nil {
		return nil, err
	}
	i := &installation{state: s, operator: operator, cluster: cluster}
	if err := i.start(ctx, progress); err != nil {
		i.stop()
		return nil, err
	}
	return i, nil
}

func (i *installation) start(ctx context.Context, progress io.Writer) error {
	fmt.Fprintln(progress, "Starting the controller and the server, each as its own ServiceAccount")
	address, err := serverAddress()
	if err != nil {
		return err
	}
	i.url = "http://" + address
	metrics, err := controlplane.FreeAddress()
	if err != nil {
		return err
	}
	err = i.startRole(ctx, "controller",
		"--default-issuer-url="+i.url,
		"--default-issuer-environment=Test",
		"--metrics-bind-address="+metrics,
		"--health-probe-bind-address=0",
	)
	if err != nil {
		return err
	}
	if err := i.startRole(ctx, "server", "--bind-address="+address, "--audit-log="+i.path("audit.log")); err != nil {
		return err
	}
	fmt.Fprintln(progress, "Waiting until they are ready")
	return i.waitUntilReady(ctx)
}

// startRole starts a role of the operator with the access that RBAC gives to its
// ServiceAccount.
func (i *installation) startRole(ctx context.Context, role string, args ...string) error {
	kubeconfig, err := i.cluster.ServiceAccountKubeconfig(ctx, namespace, "m2m-operator-"+role)
	if err != nil {
		return err
	}
	file := i.path(role + ".kubeconfig")
	if err := os.WriteFile(file, kubeconfig, 0o600); err != nil {
		return err
	}
	args = append([]string{role, "--kubeconfig=" + file, "--namespace=" + namespace}, args...)
	p, err := process.Start(role, i.path(role+".log"), exec.Command(i.operator, args...))
	if err == nil {
		i.roles = append(i.roles, p)
	}
	return err
}

func (i *installation) waitUntilReady(ctx context.Context) error {
	ctx, stopWatching := i.whileRunning(ctx)
	defer stopWatching()
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for _, wait := range [][]string{
		{"wait", "--for=create", "clusterm2missuer/default", "--timeout=-1s"},
		{"wait", "--for=condition=Ready", "clusterm2missuer/default", "--timeout=-1s"},
	} {
		if output, err := i.cluster.Kubectl(ctx, wait...).CombinedOutput(); err != nil {
			return i.notReady(ctx, fmt.Errorf("%w: %s", err, output))
		}
	}
	for {
		response, err := http.Get(i.url + "/readyz")
		if err == nil {
			_ = response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
			err = fmt.Errorf("/readyz answers %s", response.Status)
		}
		select {
		case <-ctx.Done():
			return i.notReady(ctx, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (i *installation) notReady(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); !errors.Is(cause, context.DeadlineExceeded) {
		return cause
	}
	err = fmt.Errorf("the operator isn't ready after %v: %w", readyTimeout, err)
	for _, p := range i.roles {
		err = fmt.Errorf("%w\n%s", err, process.LogTail(p.Log))
	}
	return err
}

// processes are all that was started, in order.
func (i *installation) processes() []*process.Process {
	return append(i.cluster.Processes(), i.roles...)
}

// whileRunning returns a context that ends when one of the processes does; its
// cause is how that one ended.
func (i *installation) whileRunning(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	for _, p := range i.processes() {
		go func() {
			select {
			case <-p.Done():
				cancel(p.Err())
			case <-ctx.Done():
			}
		}()
	}
	return ctx, func() { cancel(nil) }
}

func (i *installation) stop() {
	const grace = 5 * time.Second
	for _, p := range i.roles {
		p.Stop(grace)
	}
	i.cluster.Stop()
}

// serverAddress is the same from one run to the next where possible.
func serverAddress() (string, error) {
	const usual = "127.0.0.1:8080"
	listener, err := net.Listen("tcp", usual)
	if err != nil {
		return controlplane.FreeAddress()
	}
	return usual, listener.Close()
}
