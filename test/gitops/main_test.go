// Package gitops proves that a GitOps tool can drive the operator: on a real control
// plane, with the operator running as it is shipped.
package gitops

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/test/controlplane"
	"github.com/m2m-operator/m2m-operator/test/eventually"
	"github.com/m2m-operator/m2m-operator/test/installation"
)

// shared is the operator that the tests share.
var shared *operator

// root is where the repository begins.
var root string

// operator is an installation with what tests do to it.
type operator struct{ *installation.Installation }

func TestMain(m *testing.M) { installation.Main(m, start) }

func start(ctx context.Context, dir string) (stop func() error, err error) {
	if root, err = controlplane.RepositoryRoot(); err != nil {
		return nil, err
	}
	binary := filepath.Join(dir, "m2m-operator")
	// From its own module, which says what it is built of.
	build := exec.CommandContext(ctx, "go", "build", "-C", root, "-o", binary, "./cmd/m2m-operator")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building the operator: %w\n%s", err, out)
	}
	i, err := installation.Start(ctx, installation.Options{
		Dir: filepath.Join(dir, "installation"), Binary: binary, Servers: 1, ControllerManager: true,
	})
	if err != nil {
		return nil, err
	}
	shared = &operator{i}
	return i.Stop, nil
}

// namespace makes a namespace for a test. It isn't deleted: the cluster goes soon.
func (o *operator) namespace(t *testing.T) string {
	t.Helper()
	n := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"}}
	if err := o.Create(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	return n.Name
}

// kubectl runs kubectl with an input, and returns what it prints.
func (o *operator) kubectl(t *testing.T, input string, args ...string) string {
	t.Helper()
	cmd := o.Cluster.Kubectl(t.Context(), args...)
	cmd.Env = append(cmd.Env, "KUBECTL_APPLYSET=true") // an alpha feature of kubectl
	cmd.Stdin = strings.NewReader(input)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("kubectl %s: %v\n%s%s", strings.Join(args, " "), err, out, stderr.String())
	}
	return string(out)
}

// waitReady waits until the operator has done what the client's manifest says now.
func (o *operator) waitReady(t *testing.T, namespace, name string) *v1alpha1.M2MClient {
	t.Helper()
	c := &v1alpha1.M2MClient{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	eventually.Right(t, func() string {
		if err := o.Get(t.Context(), client.ObjectKeyFromObject(c), c); err != nil {
			return err.Error()
		}
		if !settled(c) {
			return fmt.Sprintf("%s isn't ready: %+v", name, c.Status.Conditions)
		}
		return ""
	})
	return c
}

// settled: the client is as its manifest says, and no rotation is under way.
func settled(c *v1alpha1.M2MClient) bool {
	for _, condition := range c.Status.Conditions {
		if condition.Type == v1alpha1.ConditionReady {
			return condition.Status == metav1.ConditionTrue && condition.ObservedGeneration == c.Generation &&
				c.Status.ObservedGeneration == c.Generation
		}
	}
	return false
}

// secret returns the Secret of a client.
func (o *operator) secret(t *testing.T, c *v1alpha1.M2MClient) *corev1.Secret {
	t.Helper()
	s := &corev1.Secret{}
	if err := o.Get(t.Context(), client.ObjectKey{Namespace: c.Namespace, Name: c.Status.SecretName}, s); err != nil {
		t.Fatal(err)
	}
	return s
}
