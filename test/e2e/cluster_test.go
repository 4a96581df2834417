//go:build e2e && linux

package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/test/controlplane"
	"github.com/m2m-operator/m2m-operator/test/eventually"
	"github.com/m2m-operator/m2m-operator/test/node"
)

// The operator's namespace, and the one of the pods that use it.
const (
	system = "m2m-system"
	shop   = "shop"
)

// cluster is a node where pods call each other all the time.
type cluster struct {
	*node.Node

	root  string // of the repository
	calls *collector
}

func startCluster(t *testing.T) *cluster {
	t.Helper()
	root, err := controlplane.RepositoryRoot()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(root, imageFolder, "*.tar"))
	if err != nil {
		t.Fatal(err)
	}
	n, err := node.Start(t.Context(), node.Options{Images: files, Progress: os.Stdout})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Stop)
	return &cluster{Node: n, root: root, calls: newCollector(t)}
}

// kubectl runs an administrator's kubectl in the repository.
func (c *cluster) kubectl(t *testing.T, args ...string) string {
	t.Helper()
	return c.kubectlWith(t, "", args...)
}

func (c *cluster) kubectlWith(t *testing.T, input string, args ...string) string {
	t.Helper()
	cmd := c.Cluster.Kubectl(t.Context(), args...)
	cmd.Dir = c.root
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// apply applies a file of testdata with words in place of others, given in pairs.
func (c *cluster) apply(t *testing.T, file string, words ...string) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	c.kubectlWith(t, strings.NewReplacer(words...).Replace(string(content)), "apply", "--server-side", "-f", "-")
}

// shell runs a script as a reader of a document would, who stops at the first error.
func (c *cluster) shell(t *testing.T, dir, script string) {
	t.Helper()
	kubectl := c.Cluster.Kubectl(t.Context())
	cmd := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", script)
	cmd.Dir = dir
	cmd.Env = append(slices.Clone(kubectl.Env),
		"PATH="+strings.Join([]string{filepath.Dir(kubectl.Path), filepath.Join(c.root, "bin"), os.Getenv("PATH")}, ":"))
	cmd.WaitDelay = time.Second // what it left in the background may hold its output
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, script, out)
	}
}

// during lets pods call while something is done, and until each of the callers has called
// well once more, and returns all calls that ended since the last time.
func (c *cluster) during(t *testing.T, do func(), callers ...string) calls {
	t.Helper()
	do()
	done := time.Now()
	eventually.Right(t, func() string {
		for _, caller := range callers {
			if !c.calls.anyGood(done, caller) {
				return caller + " hasn't called well since"
			}
		}
		return ""
	})
	taken := c.calls.take()
	t.Log(taken)
	return taken
}

// undisturbed is during, and no call may fail.
func (c *cluster) undisturbed(t *testing.T, do func(), callers ...string) calls {
	t.Helper()
	taken := c.during(t, do, callers...)
	if failures := taken.failures(); len(failures) > 0 {
		t.Errorf("%d calls failed", len(failures))
	}
	return taken
}

// pods are those of a component of the operator that are to stay.
func (c *cluster) pods(ctx context.Context, component string) []corev1.Pod {
	return c.staying(ctx, system, client.MatchingLabels{"app.kubernetes.io/component": component})
}

// staying are the pods of a namespace with such labels, but for those that go.
func (c *cluster) staying(ctx context.Context, namespace string, labels client.MatchingLabels) []corev1.Pod {
	list := &corev1.PodList{}
	if err := c.List(ctx, list, client.InNamespace(namespace), labels); err != nil {
		return nil
	}
	return slices.DeleteFunc(list.Items, func(p corev1.Pod) bool { return p.DeletionTimestamp != nil })
}

// podOf is a pod of an app of the shop.
func (c *cluster) podOf(t *testing.T, app string) corev1.Pod {
	t.Helper()
	pods := c.staying(t.Context(), shop, client.MatchingLabels{"app": app})
	if len(pods) == 0 {
		t.Fatalf("%s has no pod", app)
	}
	return pods[0]
}

// available waits until all Deployments of a namespace have the pods that they should, and
// no others.
func (c *cluster) available(t *testing.T, namespace string) {
	t.Helper()
	eventually.Right(t, func() string {
		list := &appsv1.DeploymentList{}
		if err := c.List(t.Context(), list, client.InNamespace(namespace)); err != nil {
			return err.Error()
		}
		for _, d := range list.Items {
			s := d.Status
			if s.ObservedGeneration < d.Generation || s.UpdatedReplicas != *d.Spec.Replicas || s.AvailableReplicas != *d.Spec.Replicas || s.Replicas != *d.Spec.Replicas {
				return fmt.Sprintf("Deployment %s isn't available: %+v", d.Name, s)
			}
		}
		return ""
	})
}

// describe says what may be wrong in a namespace.
func (c *cluster) describe(ctx context.Context, namespace string) string {
	var said strings.Builder
	for _, args := range []string{
		"get pods,m2mclients -o wide",
		"get m2mclients -o jsonpath={range.items[*]}{.metadata.name}:{.status.conditions}{end}",
		"get events --sort-by=.lastTimestamp",
		"logs --all-containers --prefix --tail=5 --selector=app.kubernetes.io/name=m2m-operator",
	} {
		words := append(strings.Fields(args), "-n", namespace)
		out, _ := c.Cluster.Kubectl(ctx, words...).CombinedOutput()
		fmt.Fprintf(&said, "kubectl %s\n%s\n", strings.Join(words, " "), out)
	}
	return said.String()
}

// leader is the controller's pod that leads.
func (c *cluster) leader(t *testing.T) corev1.Pod {
	t.Helper()
	lease := &coordinationv1.Lease{}
	if err := c.Get(t.Context(), client.ObjectKey{Namespace: system, Name: "m2m-operator-controller"}, lease); err != nil {
		t.Fatal(err)
	}
	if lease.Spec.HolderIdentity == nil {
		t.Fatal("no controller leads")
	}
	name, _, _ := strings.Cut(*lease.Spec.HolderIdentity, "_")
	pods := c.pods(t.Context(), "controller")
	i := slices.IndexFunc(pods, func(p corev1.Pod) bool { return p.Name == name })
	if i < 0 {
		t.Fatalf("the leader %s is none of %d pods", name, len(pods))
	}
	return pods[i]
}

// crash ends the program in a pod without notice; the kubelet starts it again.
func (c *cluster) crash(t *testing.T, pod corev1.Pod) {
	t.Helper()
	if err := c.Kill(pod.UID, "m2m-operator"); err != nil {
		t.Fatal(err)
	}
}

// remove takes pods away, with no time to say goodbye.
func (c *cluster) remove(t *testing.T, pods ...corev1.Pod) {
	t.Helper()
	args := []string{"delete", "pod", "-n", system, "--grace-period=0", "--force"}
	for _, pod := range pods {
		args = append(args, pod.Name)
	}
	c.kubectl(t, args...)
}

// recovered waits until a component has two pods that are ready, where those that were
// hurt are gone or started again.
func (c *cluster) recovered(t *testing.T, component string, hurt ...corev1.Pod) {
	t.Helper()
	eventually.Right(t, func() string {
		pods := c.pods(t.Context(), component)
		if len(pods) != 2 {
			return fmt.Sprintf("%d pods of the %s", len(pods), component)
		}
		for _, pod := range pods {
			same := func(before corev1.Pod) bool {
				return before.UID == pod.UID && restarts(before) == restarts(pod)
			}
			if !isReady(pod) || slices.ContainsFunc(hurt, same) {
				return fmt.Sprintf("pod %s isn't ready again: %+v", pod.Name, pod.Status.ContainerStatuses)
			}
		}
		return ""
	})
}

func restarts(pod corev1.Pod) (number int32) {
	for _, container := range pod.Status.ContainerStatuses {
		number += container.RestartCount
	}
	return number
}

func isReady(pod corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

func (c *cluster) client(t *testing.T, name string) *v1alpha1.M2MClient {
	t.Helper()
	found := &v1alpha1.M2MClient{}
	if err := c.Get(t.Context(), client.ObjectKey{Namespace: shop, Name: name}, found); err != nil {
		t.Fatal(err)
	}
	return found
}

// rotate asks for another secret.
func (c *cluster) rotate(t *testing.T, name string) (before string) {
	t.Helper()
	before = c.client(t, name).Status.ClientSecretLastFour
	c.kubectl(t, "annotate", "--overwrite", "-n", shop, "m2mclient/"+name, v1alpha1.AnnotationRotate+"="+time.Now().Format(time.RFC3339Nano))
	return before
}

// usesNext waits until a client has another secret, and its pod uses it.
func (c *cluster) usesNext(t *testing.T, name, before string) {
	t.Helper()
	var next string
	eventually.Right(t, func() string {
		found := &v1alpha1.M2MClient{}
		if err := c.Get(t.Context(), client.ObjectKey{Namespace: shop, Name: name}, found); err != nil {
			return err.Error()
		}
		if next = found.Status.ClientSecretLastFour; next == before {
			return fmt.Sprintf("%s still has the secret before: %+v", name, found.Status.Conditions)
		}
		return ""
	})
	eventually.Right(t, func() string {
		if !c.calls.anyWith(next, name) {
			return name + " doesn't use its new secret"
		}
		return ""
	})
}
