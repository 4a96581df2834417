// Package installation runs the operator as it is shipped, on a real control plane:
// each role is a process of its own, under its own ServiceAccount and RBAC.
package installation

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/test/controlplane"
	"github.com/m2m-operator/m2m-operator/test/process"
)

// Namespace is the operator's, as in config/rbac.
const Namespace = "m2m-system"

// stopGrace is how long a role may take to stop.
const stopGrace = 10 * time.Second

// Options say what to start.
type Options struct {
	Dir               string // for logs, keys and kubeconfigs
	Binary            string // the operator
	Servers           int
	ControllerManager bool
}

// Installation is a control plane with the operator on it.
type Installation struct {
	client.WithWatch // an administrator's
	Cluster          *controlplane.Cluster
	Controller       *process.Process
	Servers          []*Server

	options   Options
	metrics   string // address of the controller's /metrics
	processes []*process.Process
}

// Server is a replica of the token server.
type Server struct {
	*process.Process
	URL   string
	Audit string // the file with its audit lines
}

// Build builds the operator.
func Build(ctx context.Context, output string, flags ...string) error {
	args := append([]string{"build", "-o", output}, flags...)
	build := exec.CommandContext(ctx, "go", append(args, "github.com/m2m-operator/m2m-operator/cmd/m2m-operator")...)
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building the operator: %w\n%s", err, out)
	}
	return nil
}

// Start starts everything, and returns when each server is ready. If it can't,
// nothing keeps running.
func Start(ctx context.Context, o Options) (*Installation, error) {
	cluster, err := controlplane.Start(ctx, controlplane.Options{
		Install:           []string{"config/crd", "config/rbac"},
		ControllerManager: o.ControllerManager,
		Dir:               o.Dir,
	})
	if err != nil {
		return nil, err
	}
	i := &Installation{Cluster: cluster, options: o}
	if err := i.start(ctx); err != nil {
		return nil, errors.Join(err, i.Stop())
	}
	return i, nil
}

func (i *Installation) start(ctx context.Context) error {
	scheme := runtime.NewScheme()
	err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme))
	if err != nil {
		return err
	}
	if i.WithWatch, err = client.NewWithWatch(i.Cluster.Config(), client.Options{Scheme: scheme}); err != nil {
		return err
	}
	if i.metrics, err = controlplane.FreeAddress(); err != nil {
		return err
	}
	for range i.options.Servers {
		if err := i.startServer(ctx); err != nil {
			return err
		}
	}
	if err := i.startController(ctx); err != nil {
		return err
	}
	for _, s := range i.Servers {
		if err := s.waitReady(ctx); err != nil {
			return fmt.Errorf("%w\n%s\n%s", err, process.LogTail(s.Log), process.LogTail(i.Controller.Log))
		}
	}
	return nil
}

func (i *Installation) startController(ctx context.Context) error {
	p, err := i.role(ctx, "controller",
		"--default-issuer-url", i.Servers[0].URL, "--default-issuer-environment", "Test",
		"--metrics-bind-address", i.metrics, "--health-probe-bind-address", "0")
	i.Controller = p
	return err
}

// RestartController ends the controller and starts another.
func (i *Installation) RestartController(ctx context.Context) error {
	i.Controller.Stop(stopGrace)
	return i.startController(ctx)
}

func (i *Installation) startServer(ctx context.Context) error {
	address, err := controlplane.FreeAddress()
	if err != nil {
		return err
	}
	s := &Server{URL: "http://" + address, Audit: filepath.Join(i.options.Dir, fmt.Sprintf("audit-%d.log", len(i.Servers)))}
	if s.Process, err = i.role(ctx, "server", "--bind-address", address, "--audit-log", s.Audit); err != nil {
		return err
	}
	i.Servers = append(i.Servers, s)
	return nil
}

// role starts a role of the operator as its own ServiceAccount.
func (i *Installation) role(ctx context.Context, name string, args ...string) (*process.Process, error) {
	kubeconfig, err := i.Cluster.ServiceAccountKubeconfig(ctx, Namespace, "m2m-operator-"+name)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(i.options.Dir, name+".kubeconfig")
	if err := os.WriteFile(file, kubeconfig, 0o600); err != nil {
		return nil, err
	}
	args = append([]string{name, "--kubeconfig", file, "--namespace", Namespace}, args...)
	log := filepath.Join(i.options.Dir, fmt.Sprintf("%s-%d.log", name, len(i.processes)))
	p, err := process.Start(name, log, exec.Command(i.options.Binary, args...))
	if err == nil {
		i.processes = append(i.processes, p)
	}
	return p, err
}

// Stop stops everything, and reports the panics and data races that were seen.
func (i *Installation) Stop() error {
	var errs []error
	for _, p := range i.processes {
		p.Stop(stopGrace)
		log, err := os.ReadFile(p.Log)
		if err != nil {
			errs = append(errs, err)
		}
		for _, bad := range []string{"DATA RACE", "panic:"} {
			if strings.Contains(string(log), bad) {
				errs = append(errs, fmt.Errorf("%s: %s\n%s", p.Name, bad, log))
			}
		}
	}
	i.Cluster.Stop()
	return errors.Join(errs...)
}

// waitReady waits until the replica has a pepper, a signing key and its watches.
func (s *Server) waitReady(ctx context.Context) error {
	for {
		response, err := http.Get(s.URL + "/readyz")
		if err == nil {
			_ = response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the server at %s is not ready: %w", s.URL, ctx.Err())
		case <-s.Done():
			return s.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// MetricsURLs are where the controller and the servers show their metrics.
func (i *Installation) MetricsURLs() map[string]string {
	urls := map[string]string{"controller": "http://" + i.metrics + "/metrics"}
	for _, s := range i.Servers {
		urls["server"] = s.URL + "/metrics"
	}
	return urls
}
