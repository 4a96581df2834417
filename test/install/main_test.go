// Package install proves what the manifests and the chart say, on a real control plane:
// that they can be applied, what they permit, and what stays when they are taken away.
package install

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/test/controlplane"
	"github.com/m2m-operator/m2m-operator/test/eventually"
	"github.com/m2m-operator/m2m-operator/test/installation"
)

// operatorNamespace is the operator's, as in config/rbac.
const operatorNamespace = "m2m-system"

var (
	// root is where the repository begins.
	root string
	// binary is the operator.
	binary string
	// shared is the cluster of the tests that take nothing away.
	shared *cluster
)

func TestMain(m *testing.M) { installation.Main(m, start) }

func start(ctx context.Context, dir string) (stop func() error, err error) {
	if root, err = controlplane.RepositoryRoot(); err != nil {
		return nil, err
	}
	for _, tool := range []string{"helm", "kustomize"} {
		if _, err := os.Stat(filepath.Join(root, "bin", tool)); err != nil {
			return nil, fmt.Errorf("there is no bin/%s: run `make bin/%s`", tool, tool)
		}
	}
	binary = filepath.Join(dir, "m2m-operator")
	if err := installation.Build(ctx, binary); err != nil {
		return nil, err
	}
	ctrl.SetLogger(logr.Discard())
	return func() error {
		if shared != nil {
			shared.Stop()
		}
		return nil
	}, nil
}

// cluster is a control plane with an administrator's client.
type cluster struct {
	*controlplane.Cluster
	client.WithWatch
}

// startCluster starts a control plane that a test has for itself.
func startCluster(t *testing.T) *cluster {
	t.Helper()
	c := newCluster(t)
	t.Cleanup(c.Stop)
	return c
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	// It outlives the test that needs it first.
	c, err := controlplane.Start(context.WithoutCancel(t.Context()), controlplane.Options{ControllerManager: true})
	if err != nil {
		t.Fatal(err)
	}
	admin, err := c.Client()
	if err != nil {
		c.Stop()
		t.Fatal(err)
	}
	return &cluster{c, admin}
}

// installed is the shared cluster, with the whole operator applied as the documentation says.
func installed(t *testing.T) *cluster {
	t.Helper()
	if shared != nil {
		return shared
	}
	shared = newCluster(t)
	shared.mustApply(t, build(t, "config/with-api"))
	shared.waitForKinds(t)
	eventually.Right(t, func() string { // authorizer and policies follow a moment later
		if !shared.may(t, account("api"), "list secrets", operatorNamespace) {
			return "the bindings don't count yet"
		}
		return ""
	})
	return shared
}

// mustApply applies manifests.
func (c *cluster) mustApply(t *testing.T, manifests string, flags ...string) {
	t.Helper()
	if out, err := c.apply(t, manifests, flags...); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func (c *cluster) apply(t *testing.T, manifests string, flags ...string) (string, error) {
	t.Helper()
	return c.kubectl(t, manifests, append([]string{"apply", "-f", "-"}, flags...)...)
}

func (c *cluster) kubectl(t *testing.T, stdin string, args ...string) (string, error) {
	t.Helper()
	cmd := c.Kubectl(t.Context(), args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (c *cluster) waitForKinds(t *testing.T) {
	t.Helper()
	if out, err := c.kubectl(t, "", "wait", "--for=condition=Established", "--timeout=1m", "crd", "--all"); err != nil {
		t.Fatal(out)
	}
}

// as is a client with the rights of one of the operator's ServiceAccounts.
func (c *cluster) as(t *testing.T, role string) client.Client {
	t.Helper()
	config, err := c.ServiceAccountConfig(t.Context(), operatorNamespace, "m2m-operator-"+role)
	if err != nil {
		t.Fatal(err)
	}
	made, err := client.New(config, client.Options{Scheme: scheme(t)})
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func scheme(t *testing.T) *runtime.Scheme {
	t.Helper()
	s := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(s), v1alpha1.AddToScheme(s)); err != nil {
		t.Fatal(err)
	}
	return s
}

// build is what kustomize makes of a folder of the repository, or of one of a test.
func build(t *testing.T, folder string) string {
	t.Helper()
	if !filepath.IsAbs(folder) {
		folder = filepath.Join(root, folder)
	}
	return output(t, "kustomize", "build", folder)
}

// output is what a pinned tool prints.
func output(t *testing.T, tool string, args ...string) string {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), filepath.Join(root, "bin", tool), args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", tool, strings.Join(args, " "), err, &stderr)
	}
	return string(out)
}

// objects reads manifests.
func objects(t *testing.T, manifests string) []*unstructured.Unstructured {
	t.Helper()
	var all []*unstructured.Unstructured
	decoder := yaml.NewYAMLOrJSONDecoder(strings.NewReader(manifests), 4096)
	for {
		o := &unstructured.Unstructured{}
		err := decoder.Decode(o)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		if o.GetKind() != "" {
			all = append(all, o)
		}
	}
}

// name tells objects apart.
func name(o *unstructured.Unstructured) string {
	return fmt.Sprintf("%s %s/%s", o.GetKind(), o.GetNamespace(), o.GetName())
}
