// Package cli runs kubectl-m2m, as it is built for users, against an operator as it is
// shipped on a real control plane.
package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/test/eventually"
	"github.com/m2m-operator/m2m-operator/test/installation"
)

// cluster has the operator; tests take namespaces of their own in it.
var cluster *installation.Installation

// plugin and operator are the programs, kubeconfig that of an administrator.
var plugin, operator, kubeconfig string

func TestMain(m *testing.M) { installation.Main(m, start) }

func start(ctx context.Context, dir string) (stop func() error, err error) {
	plugin, kubeconfig = filepath.Join(dir, "kubectl-m2m"), filepath.Join(dir, "installation", "kubeconfig")
	build := exec.CommandContext(ctx, "go", "build", "-o", plugin, "github.com/m2m-operator/m2m-operator/cmd/kubectl-m2m")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building kubectl-m2m: %w\n%s", err, out)
	}
	operator = filepath.Join(dir, "m2m-operator")
	if err := installation.Build(ctx, operator); err != nil {
		return nil, err
	}
	cluster, err = installation.Start(ctx, installation.Options{
		Dir: filepath.Dir(kubeconfig), Binary: operator, Servers: 1, ControllerManager: true, ManagementAPI: true,
		ServerArgs: []string{"--usage-tick=1s"},
	})
	if err != nil {
		return nil, err
	}
	return cluster.Stop, nil
}

// run runs kubectl-m2m as an administrator whose context names no namespace.
func run(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	return runWith(t, "", args...)
}

// runWith runs kubectl-m2m with a text as its standard input.
func runWith(t *testing.T, stdin string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, plugin, args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+kubeconfig, "KUBECACHEDIR="+filepath.Join(filepath.Dir(kubeconfig), "plugin-cache"))
	cmd.Stdin = strings.NewReader(stdin)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

// mustRun runs kubectl-m2m and returns what it prints to stdout.
func mustRun(t *testing.T, args ...string) string {
	t.Helper()
	stdout, stderr, err := run(t, args...)
	if err != nil {
		t.Fatalf("kubectl m2m %s: %v\n%s%s", strings.Join(args, " "), err, stdout, stderr)
	}
	return stdout
}

// refused runs kubectl-m2m, which must fail, and returns what it says.
func refused(t *testing.T, args ...string) string {
	t.Helper()
	stdout, stderr, err := run(t, args...)
	if err == nil {
		t.Fatalf("kubectl m2m %s succeeded:\n%s%s", strings.Join(args, " "), stdout, stderr)
	}
	return stderr
}

// kubectl runs the real kubectl as an administrator.
func kubectl(t *testing.T, stdin string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	cmd := cluster.Cluster.Kubectl(t.Context(), args...)
	cmd.Stdin = strings.NewReader(stdin)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

// newNamespace makes a namespace for one test.
func newNamespace(t *testing.T) string {
	t.Helper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "cli-"}}
	if err := cluster.Create(t.Context(), namespace); err != nil {
		t.Fatal(err)
	}
	return namespace.Name
}

// m2mClient reads a client.
func m2mClient(t *testing.T, namespace, name string) *v1alpha1.M2MClient {
	t.Helper()
	c := &v1alpha1.M2MClient{}
	if err := cluster.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, c); err != nil {
		t.Fatal(err)
	}
	return c
}

// secretOf reads the Secret of a client.
func secretOf(t *testing.T, c *v1alpha1.M2MClient) *corev1.Secret {
	t.Helper()
	s := &corev1.Secret{}
	if err := cluster.Get(t.Context(), client.ObjectKey{Namespace: c.Namespace, Name: c.Status.SecretName}, s); err != nil {
		t.Fatal(err)
	}
	return s
}

// readyClient makes a client past kubectl-m2m, as Git would, and waits until it is ready.
func readyClient(t *testing.T, namespace, name string, change func(*v1alpha1.M2MClient)) *v1alpha1.M2MClient {
	t.Helper()
	c := &v1alpha1.M2MClient{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	if change != nil {
		change(c)
	}
	if err := cluster.Create(t.Context(), c, client.FieldOwner("a-pipeline")); err != nil {
		t.Fatal(err)
	}
	return waitReady(t, namespace, name)
}

// waitReady waits until a client is what its present manifest says.
func waitReady(t *testing.T, namespace, name string) *v1alpha1.M2MClient {
	t.Helper()
	var c *v1alpha1.M2MClient
	eventually.Right(t, func() string {
		c = m2mClient(t, namespace, name)
		if c.Status.ObservedGeneration == c.Generation && meta.IsStatusConditionTrue(c.Status.Conditions, v1alpha1.ConditionReady) {
			return ""
		}
		conditions, _ := json.Marshal(c.Status.Conditions)
		return fmt.Sprintf("%s/%s isn't ready: %s", namespace, name, conditions)
	})
	return c
}
