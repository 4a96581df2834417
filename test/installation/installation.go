// Package installation runs the operator as it is shipped, on a real control plane:
// each role is a process of its own, under its own ServiceAccount and RBAC.
package installation

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
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
	ServerAddress     string // of the first server; empty: a free one
	ControllerManager bool
	ManagementAPI     bool      // one replica, which the servers pass calls on to
	Install           []string  // folders to apply in place of config/crd and config/rbac
	ControllerArgs    []string  // more flags of the controller
	ServerArgs        []string  // more flags of the servers
	APIArgs           []string  // more flags of the management API
	APIServerArgs     []string  // more flags of kube-apiserver
	Progress          io.Writer // nil: nobody waits to read it
}

// readyTimeout is how long the operator may take on a busy machine.
const readyTimeout = 2 * time.Minute

// Installation is a control plane with the operator on it.
type Installation struct {
	client.WithWatch // an administrator's
	Cluster          *controlplane.Cluster
	Controller       *process.Process
	Servers          []*Server
	// Of the management API, where there is one.
	API           *Server
	ProjectID     string // of the issuer `default`
	ProjectSecret string

	options   Options
	ops       string     // address of the controller's /metrics and /readyz
	mu        sync.Mutex // roles may be restarted at one time
	processes []*process.Process
}

// Server is a replica of the token server.
type Server struct {
	*process.Process
	URL   string
	Audit string // the file with its audit lines

	address string
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

// Start starts everything, and returns when it is ready. If it can't, nothing keeps
// running.
func Start(ctx context.Context, o Options) (*Installation, error) {
	i := &Installation{options: o}
	install := o.Install
	if install == nil {
		install = []string{"config/crd", "config/rbac"}
		if o.ManagementAPI {
			install = append(install, "config/rbac/api")
		}
	}
	i.say("Starting a Kubernetes control plane and installing " + strings.Join(install, ", "))
	var err error
	i.Cluster, err = controlplane.Start(ctx, controlplane.Options{
		Install:           install,
		ControllerManager: o.ControllerManager,
		Dir:               o.Dir,
		APIServerArgs:     o.APIServerArgs,
	})
	if err != nil {
		return nil, err
	}
	if err := i.start(ctx); err != nil {
		return nil, errors.Join(err, i.Stop())
	}
	return i, nil
}

func (i *Installation) start(ctx context.Context) (err error) {
	if i.WithWatch, err = i.Cluster.Client(); err != nil {
		return err
	}
	if i.ops, err = controlplane.FreeAddress(); err != nil {
		return err
	}
	i.say("Starting the roles of the operator, each as its own ServiceAccount")
	if i.options.ManagementAPI {
		if err := i.startAPI(ctx); err != nil {
			return err
		}
	}
	address := i.options.ServerAddress
	for range i.options.Servers {
		if err := i.startServer(ctx, address); err != nil {
			return err
		}
		address = ""
	}
	if err := i.StartController(ctx); err != nil {
		return err
	}
	i.say("Waiting until they are ready")
	if err := i.waitReady(ctx); err != nil || i.API == nil {
		return err
	}
	return i.openAPI(ctx)
}

func (i *Installation) say(line string) {
	if i.options.Progress != nil {
		fmt.Fprintln(i.options.Progress, line)
	}
}

// waitReady waits until each replica has a pepper, a signing key and its watches,
// and the issuer `default` says that it is ready.
func (i *Installation) waitReady(ctx context.Context) error {
	ctx, stopWatching := i.WhileRunning(ctx)
	defer stopWatching()
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for {
		err := i.ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-time.After(20 * time.Millisecond):
			continue
		case <-ctx.Done():
		}
		if cause := context.Cause(ctx); !errors.Is(cause, context.DeadlineExceeded) {
			return cause
		}
		err = fmt.Errorf("the operator isn't ready after %v: %w", readyTimeout, err)
		for _, p := range i.processes {
			err = fmt.Errorf("%w\n%s", err, process.LogTail(p.Log))
		}
		return err
	}
}

func (i *Installation) ready(ctx context.Context) error {
	issuer := &v1alpha1.ClusterM2MIssuer{}
	if err := i.Get(ctx, client.ObjectKey{Name: v1alpha1.DefaultIssuer}, issuer); err != nil {
		return err
	}
	if !meta.IsStatusConditionTrue(issuer.Status.Conditions, v1alpha1.ConditionReady) {
		return errors.New("the issuer `default` isn't ready")
	}
	for _, s := range i.replicas() {
		if err := s.ready(); err != nil {
			return err
		}
	}
	return nil
}

// replicas are all that serve HTTP.
func (i *Installation) replicas() []*Server {
	if i.API == nil {
		return i.Servers
	}
	return append([]*Server{i.API}, i.Servers...)
}

// WhileRunning returns a context that ends when one of the processes does; its
// cause is how that one ended.
func (i *Installation) WhileRunning(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	for _, p := range i.Processes() {
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

// Processes are all that was started, in order.
func (i *Installation) Processes() []*process.Process {
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.Concat(i.Cluster.Processes(), i.processes)
}

// StartController starts the controller, after the one before has ended.
func (i *Installation) StartController(ctx context.Context) error {
	args := []string{
		"--default-issuer-url", i.Servers[0].URL, "--default-issuer-environment", "Test",
		"--ops-bind-address", i.ops,
	}
	if i.options.ManagementAPI {
		args = append(args, "--default-issuer-api-namespace", APINamespace)
	}
	p, err := i.role(ctx, "controller", append(args, i.options.ControllerArgs...)...)
	i.Controller = p
	return err
}

// RestartController ends the controller and starts another.
func (i *Installation) RestartController(ctx context.Context) error {
	i.Controller.Stop(stopGrace)
	return i.StartController(ctx)
}

// WaitForController waits until the controller's watches are ready to lead.
func (i *Installation) WaitForController(ctx context.Context) error {
	return i.Controller.WaitFor(ctx, func() error { return answersReady("http://" + i.ops) })
}

// KillController ends the controller as a lost node would: it can't tell anybody,
// nor release its lease.
func (i *Installation) KillController() error {
	if err := i.Controller.Err(); err != nil {
		return err
	}
	if err := syscall.Kill(i.Controller.PID, syscall.SIGKILL); err != nil {
		return fmt.Errorf("killing the controller: %w", err)
	}
	<-i.Controller.Done()
	return nil
}

func (i *Installation) startServer(ctx context.Context, address string) error {
	s, err := i.newServer(ctx, address, filepath.Join(i.options.Dir, numbered("audit", len(i.Servers))))
	if err == nil {
		i.Servers = append(i.Servers, s)
	}
	return err
}

// AddServer starts a replica that is not one of Servers, with more flags, and waits until
// it is ready.
func (i *Installation) AddServer(ctx context.Context, audit string, args ...string) (*Server, error) {
	s, err := i.newServer(ctx, "", audit, args...)
	if err != nil {
		return nil, err
	}
	return s, s.WaitFor(ctx, s.ready)
}

// AddTLSServer starts a replica that is not one of Servers and serves TLS, with the
// certificate of a Secret, at the address that it returns. Its URL is that of its probes.
func (i *Installation) AddTLSServer(ctx context.Context, audit, secret string) (s *Server, address string, err error) {
	if address, err = controlplane.FreeAddress(); err != nil {
		return nil, "", err
	}
	ops, err := controlplane.FreeAddress()
	if err != nil {
		return nil, "", err
	}
	s = &Server{URL: "http://" + ops, Audit: audit, address: address}
	if err := i.run(ctx, s, "--tls-secret", secret, "--ops-bind-address", ops); err != nil {
		return nil, "", err
	}
	return s, address, s.WaitFor(ctx, s.ready)
}

func (i *Installation) newServer(ctx context.Context, address, audit string, args ...string) (s *Server, err error) {
	if address == "" {
		if address, err = controlplane.FreeAddress(); err != nil {
			return nil, err
		}
	}
	s = &Server{URL: "http://" + address, Audit: audit, address: address}
	return s, i.run(ctx, s, args...)
}

func (i *Installation) run(ctx context.Context, s *Server, more ...string) (err error) {
	args := []string{"--bind-address", s.address, "--audit-log", s.Audit}
	if i.API != nil {
		args = append(args, "--management-api-url", i.API.URL)
	}
	s.Process, err = i.role(ctx, "server", slices.Concat(args, i.options.ServerArgs, more)...)
	return err
}

// RestartServer ends one of Servers, starts another at its address, and waits until
// that is ready.
func (i *Installation) RestartServer(ctx context.Context, n int) error {
	s := i.Servers[n]
	s.Stop(stopGrace)
	if err := i.run(ctx, s); err != nil {
		return err
	}
	return s.WaitFor(ctx, s.ready)
}

func (s *Server) ready() error { return answersReady(s.URL) }

func answersReady(base string) error {
	response, err := http.Get(base + "/readyz")
	if err != nil {
		return err
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s/readyz answers %s", base, response.Status)
	}
	return nil
}

// numbered names a log; the first has no number.
func numbered(name string, before int) string {
	if before == 0 {
		return name + ".log"
	}
	return fmt.Sprintf("%s-%d.log", name, before+1)
}

// role starts a role of the operator as its own ServiceAccount.
func (i *Installation) role(ctx context.Context, name string, args ...string) (*process.Process, error) {
	kubeconfig, err := i.Cluster.ServiceAccountKubeconfig(ctx, Namespace, "m2m-operator-"+name)
	if err != nil {
		return nil, err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	file := filepath.Join(i.options.Dir, name+".kubeconfig")
	if err := os.WriteFile(file, kubeconfig, 0o600); err != nil {
		return nil, err
	}
	args = append([]string{name, "--kubeconfig", file, "--namespace", Namespace}, args...)
	before := 0
	for _, p := range i.processes {
		if p.Name == name {
			before++
		}
	}
	log := filepath.Join(i.options.Dir, numbered(name, before))
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

// MetricsURLs are where the controller and the servers show their metrics.
func (i *Installation) MetricsURLs() map[string]string {
	urls := map[string]string{"controller": "http://" + i.ops + "/metrics"}
	if i.API != nil {
		urls["api"] = i.API.URL + "/metrics"
	}
	for _, s := range i.Servers {
		urls["server"] = s.URL + "/metrics"
	}
	return urls
}
