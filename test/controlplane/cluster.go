// Package controlplane runs a real Kubernetes control plane: etcd, kube-apiserver
// and, where garbage collection or namespace deletion matter,
// kube-controller-manager. It listens on loopback only, forgets everything when
// it is stopped, and does not outlive the program that started it.
package controlplane

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/test/process"
)

// Options say what to start.
type Options struct {
	// Install are folders of the repository to apply, such as "config/crd".
	Install []string
	// ControllerManager starts kube-controller-manager. What Install names is there
	// before: it looks for new kinds only twice a minute.
	ControllerManager bool
	// Dir keeps logs and keys. Without it they are in a temporary folder that Stop
	// removes.
	Dir string
	// Port is the API server's; 0 is a free one.
	Port int
	// APIServerArgs are more flags for kube-apiserver.
	APIServerArgs []string
}

// Cluster is a running control plane.
type Cluster struct {
	manager   *process.Process // kube-controller-manager; nil: it does not run
	dir       string
	temporary bool
	assets    string
	users     users
	address   string // of the API server
	apiServer *process.Process
	etcd      *process.Process
	etcdURL   string
	// apiServerArgs start it again as it was.
	apiServerArgs []string
	ca            []byte
	processes     []*process.Process
}

// startTimeout is generous: a machine may be busy with other tests.
const startTimeout = 2 * time.Minute

// Start starts a control plane and returns when it is ready. If it can't,
// nothing keeps running.
func Start(ctx context.Context, o Options) (*Cluster, error) {
	c, err := newCluster(o)
	if err != nil {
		return nil, err
	}
	startCtx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := c.start(startCtx, o); err != nil {
		c.Stop()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, fmt.Errorf("starting a control plane: %w", err)
	}
	return c, nil
}

func newCluster(o Options) (*Cluster, error) {
	programs := []string{"etcd", "kube-apiserver", "kubectl"}
	if o.ControllerManager {
		programs = append(programs, "kube-controller-manager")
	}
	assets, err := findAssets(programs)
	if err != nil {
		return nil, err
	}
	c := &Cluster{dir: o.Dir, assets: assets, users: newUsers()}
	if c.dir == "" {
		c.temporary = true
		c.dir, err = os.MkdirTemp("", "controlplane-")
	} else {
		err = os.MkdirAll(c.dir, 0o700)
	}
	if err != nil {
		return nil, err
	}
	c.dir, err = filepath.Abs(c.dir) // it is named in files that others read
	return c, err
}

func (c *Cluster) start(ctx context.Context, o Options) error {
	etcd, err := c.startEtcd(ctx)
	if err != nil {
		return err
	}
	if err := c.startAPIServer(ctx, etcd, o); err != nil {
		return err
	}
	if err := os.WriteFile(c.path("kubeconfig"), c.Kubeconfig(), 0o600); err != nil {
		return err
	}
	if err := c.Apply(ctx, o.Install...); err != nil {
		return err
	}
	if o.ControllerManager {
		return c.startControllerManager()
	}
	return nil
}

// stopGrace is short: nothing that could be lost is worth a long wait.
const stopGrace = 5 * time.Second

// Stop stops the control plane and forgets its state.
func (c *Cluster) Stop() {
	for _, p := range slices.Backward(c.processes) {
		p.Stop(stopGrace)
	}
	if c.temporary {
		_ = os.RemoveAll(c.dir)
	}
}

// Processes are the programs that it consists of.
func (c *Cluster) Processes() []*process.Process { return c.processes }

// Config is an administrator's, without client-side rate limits.
func (c *Cluster) Config() *rest.Config {
	config := c.config(c.users.admin)
	config.QPS = -1
	return config
}

// Client is an administrator's, for the kinds of Kubernetes and of the operator.
func (c *Cluster) Client() (client.WithWatch, error) {
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		return nil, err
	}
	return client.NewWithWatch(c.Config(), client.Options{Scheme: scheme})
}

// Kubeconfig is an administrator's.
func (c *Cluster) Kubeconfig() []byte { return c.kubeconfig(c.users.admin) }

// Kubectl is a kubectl command of an administrator, ready to run.
func (c *Cluster) Kubectl(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(c.assets, "kubectl"), args...)
	cmd.Env = append(os.Environ(),
		"KUBECONFIG="+c.path("kubeconfig"),
		// A cache in the home folder could be that of an earlier cluster on this port.
		"KUBECACHEDIR="+c.path("kubectl-cache"),
	)
	return cmd
}

// run starts a program of the control plane.
func (c *Cluster) run(name string, args ...string) (*process.Process, error) {
	p, err := process.Start(name, c.path(name+".log"), exec.Command(filepath.Join(c.assets, name), args...))
	if err == nil {
		c.processes = append(c.processes, p)
	}
	return p, err
}

func (c *Cluster) path(name string) string { return filepath.Join(c.dir, name) }

// findAssets returns the folder that has all of the programs.
func findAssets(programs []string) (string, error) {
	assets := os.Getenv("KUBEBUILDER_ASSETS")
	if assets == "" {
		root, err := RepositoryRoot()
		if err != nil {
			return "", err
		}
		assets = filepath.Join(root, "bin", "k8s")
	}
	for _, program := range programs {
		if _, err := os.Stat(filepath.Join(assets, program)); err != nil {
			return "", fmt.Errorf("%s has no %s: run `make controlplane`, or let KUBEBUILDER_ASSETS name a folder with %v", assets, program, programs)
		}
	}
	return assets, nil
}

// RepositoryRoot is where this repository begins, above the working directory.
func RepositoryRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "PROJECT")); err == nil {
			return dir, nil
		}
	}
	return "", errors.New("not inside the m2m-operator repository")
}
