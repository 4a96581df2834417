//go:build e2e && linux

package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/test/e2e/outcome"
	"github.com/m2m-operator/m2m-operator/test/eventually"
	"github.com/m2m-operator/m2m-operator/test/markdown"
	"github.com/m2m-operator/m2m-operator/test/node"
)

// One installation goes through all of it: what comes later finds what was before.
func TestEndToEnd(t *testing.T) {
	c := startCluster(t)
	for _, step := range []struct {
		name string
		test func(*testing.T)
	}{
		{"the quick start, as it stands", c.testQuickstart},
		{"a pod that mounts its Secret calls one that verifies", c.testExamples},
		{"pods with files, with variables, with a ServiceAccount alone call all the time", c.testCallers},
		{"metrics of each pod, where a ServiceMonitor looks", c.testMetrics},
		{"network policies let through what they say", c.testNetworkPolicies},
		{"a rotation, and the kubelet updates the files", c.testRotation},
		{"a rotation restarts a Deployment that has the secret in variables", c.testRestart},
		{"Inactive cuts off", c.testInactive},
		{"all controllers are removed", c.testControllersRemoved},
		{"the leader crashes in the middle of a rotation", c.testLeaderCrashes},
		{"a server crashes", func(t *testing.T) { c.testServerEnds(t, c.crash) }},
		{"a server is removed", func(t *testing.T) { c.testServerEnds(t, func(t *testing.T, pod corev1.Pod) { c.remove(t, pod) }) }},
		{"API server and etcd crash", c.testControlPlaneCrashes},
		{"an upgrade", c.testUpgrade},
		{"the operator is removed and installed again", c.testReinstallation},
	} {
		if !t.Run(step.name, step.test) {
			ctx := context.WithoutCancel(t.Context())
			t.Fatalf("What comes next builds on it.\n%s%s", c.describe(ctx, system), c.describe(ctx, shop))
		}
	}
}

// testQuickstart applies dist/install.yaml, as the page says first.
func (c *cluster) testQuickstart(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(c.root, "docs", "quickstart.md"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, folder := range []string{"config", "dist"} {
		if err := os.Symlink(filepath.Join(c.root, folder), filepath.Join(dir, folder)); err != nil {
			t.Fatal(err)
		}
	}
	for _, manifest := range markdown.Fences(string(page), "yaml") {
		if strings.Contains(manifest.Text, "kind: Job") {
			if err := os.WriteFile(filepath.Join(dir, "job.yaml"), []byte(manifest.Text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	script := "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n"
	for _, block := range markdown.Fences(string(page), "sh ") {
		script += block.Text
		if strings.Contains(block.Text, "port-forward") {
			script += "sleep 3 # a reader isn't faster\n"
		}
	}
	c.shell(t, dir, script)
}

// testExamples runs the two services of examples/ in pods that may do nothing but that.
func (c *cluster) testExamples(t *testing.T) {
	c.kubectl(t, "apply", "--server-side", "-k", "config/restart") // for invoicing
	c.apply(t, "shop.yaml")
	c.kubectl(t, "wait", "-n", shop, "m2mclient", "--all", "--for=condition=Ready", "--timeout=1m")
	c.shell(t, c.root, c.operations(t, "trust"))
	issuer := &v1alpha1.ClusterM2MIssuer{}
	if err := c.Get(t.Context(), client.ObjectKey{Name: "default"}, issuer); err != nil {
		t.Fatal(err)
	}
	c.apply(t, "orders.yaml", "PROJECT", issuer.Spec.ProjectID)
	c.available(t, shop)
	c.kubectl(t, "wait", "-n", shop, "job/example", "--for=condition=Complete", "--timeout=2m")
	if said := c.kubectl(t, "logs", "-n", shop, "job/example"); !strings.Contains(said, `"order-1"`) {
		t.Errorf("the example says %q", said)
	}
}

// The callers; in files, in variables, and without any secret.
const (
	billing   = "billing"
	invoicing = "invoicing"
	shipping  = "shipping"
)

var everybody = []string{billing, invoicing, shipping}

func (c *cluster) testCallers(t *testing.T) {
	c.apply(t, "callers.yaml", "REPORT", c.calls.url, "TOKENURL", c.client(t, shipping).Status.TokenURL)
	c.available(t, shop)
	none := c.Get(t.Context(), client.ObjectKey{Namespace: shop, Name: shipping}, &corev1.Secret{})
	if !apierrors.IsNotFound(none) {
		t.Errorf("the Secret of a client that has only ServiceAccounts: %v", none)
	}
	c.undisturbed(t, func() { time.Sleep(5 * time.Second) }, everybody...)
}

func (c *cluster) testMetrics(t *testing.T) {
	c.kubectl(t, "apply", "--server-side", "-f", "config/prometheus/service.yaml")
	list := &discoveryv1.EndpointSliceList{}
	found := map[string]bool{}
	eventually.Right(t, func() string {
		if err := c.List(t.Context(), list, client.InNamespace(system), client.MatchingLabels{discoveryv1.LabelServiceName: "m2m-operator-metrics"}); err != nil {
			return err.Error()
		}
		for _, slice := range list.Items {
			for _, endpoint := range slice.Endpoints {
				found[fmt.Sprintf("http://%s:%d/metrics", endpoint.Addresses[0], *slice.Ports[0].Port)] = true
			}
		}
		if len(found) != 4 {
			return fmt.Sprintf("the Service for metrics leads to %v; want two controllers and two servers", found)
		}
		return ""
	})
	for url := range found {
		response, err := http.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		if err != nil || response.StatusCode != http.StatusOK || !strings.Contains(string(body), "\nprocess_cpu_seconds_total ") {
			t.Errorf("%s: %s, %v", url, response.Status, err)
		}
		_ = response.Body.Close()
	}
}

// What dialing ends with, as curl says it.
const (
	connected = 0
	refused   = 7 // by the pod: nobody listens there
	dropped   = 28
)

// testNetworkPolicies dials from pods into pods. The operator's policies were in force from
// the beginning, and stay.
func (c *cluster) testNetworkPolicies(t *testing.T) {
	server, controller := c.pods(t.Context(), "server")[0], c.pods(t.Context(), "controller")[0]
	orders, caller := c.podOf(t, "orders"), c.podOf(t, billing)
	api := node.ServiceAddress + ":443"
	var dialing sync.WaitGroup
	for _, dial := range []struct {
		from corev1.Pod
		to   string
		want int
	}{
		{caller, server.Status.PodIP + ":8443", connected},
		{caller, server.Status.PodIP + ":8081", connected},
		{caller, server.Status.PodIP + ":8082", dropped},
		{caller, controller.Status.PodIP + ":8081", connected},
		{caller, controller.Status.PodIP + ":8443", dropped},
		{caller, orders.Status.PodIP + ":8082", refused},
		{server, api, connected},
		{server, orders.Status.PodIP + ":8081", dropped},
		{server, controller.Status.PodIP + ":8081", dropped},
		{controller, api, connected},
		{controller, orders.Status.PodIP + ":8081", dropped},
	} {
		dialing.Go(func() {
			curl, err := c.Within(t.Context(), dial.from.UID, "curl", "--silent", "--output", "/dev/null", "--connect-timeout", "5", "http://"+dial.to)
			if err != nil {
				t.Error(err)
				return
			}
			_ = curl.Run() // what it ends with is looked at
			if got := curl.ProcessState.ExitCode(); got != dial.want {
				t.Errorf("from %s to %s: %d, not %d", dial.from.Name, dial.to, got, dial.want)
			}
		})
	}
	dialing.Wait()
}

func (c *cluster) testRotation(t *testing.T) {
	before := c.client(t, billing).Status.ClientSecretLastFour
	taken := c.undisturbed(t, func() {
		c.rotate(t, billing)
		c.usesNext(t, billing, before)
	}, everybody...)
	pods := map[string]bool{}
	for _, o := range taken.of(billing) {
		pods[o.Pod] = true
	}
	if len(pods) != 1 {
		t.Errorf("pods %v called: the one that ran should have gone on", pods)
	}
}

func (c *cluster) testRestart(t *testing.T) {
	taken := c.undisturbed(t, func() {
		before := c.rotate(t, invoicing)
		c.usesNext(t, invoicing, before)
		c.available(t, shop)
	}, everybody...)
	secrets := map[string]string{}
	for _, o := range taken.of(invoicing) {
		if secrets[o.Pod] == "" {
			secrets[o.Pod] = o.Secret
		}
		if secrets[o.Pod] != o.Secret {
			t.Fatalf("pod %s has used two secrets: it has no variables", o.Pod)
		}
	}
	if len(secrets) != 2 {
		t.Errorf("pods %v called; want one before and one after", secrets)
	}
}

func (c *cluster) testInactive(t *testing.T) {
	set := func(state v1alpha1.ClientState) {
		c.kubectl(t, "patch", "m2mclient", shipping, "-n", shop, "--type=merge", "--patch", fmt.Sprintf(`{"spec":{"state":%q}}`, state))
	}
	taken := c.during(t, func() {
		set(v1alpha1.ClientInactive)
		switched := time.Now()
		eventually.Right(t, func() string {
			lately := time.Now().Add(-2 * time.Second)
			if lately.Before(switched) || c.calls.anyGood(lately, shipping) || !c.calls.anyRefused(lately, shipping) {
				return "the client isn't cut off at both servers"
			}
			return ""
		})
		set(v1alpha1.ClientActive)
	}, everybody...)
	// Who goes on with a credential that is refused is put off after a while.
	if others := taken.failures().where(func(o outcome.Outcome) bool {
		return o.Caller != shipping || o.Failed != outcome.TokenRequest || o.Status != http.StatusUnauthorized && o.Status != http.StatusTooManyRequests
	}); len(others) > 0 {
		t.Errorf("other failures: %s", others)
	}
}

func (c *cluster) testControllersRemoved(t *testing.T) {
	c.undisturbed(t, func() {
		pods := c.pods(t.Context(), "controller")
		c.remove(t, pods...)
		c.recovered(t, "controller", pods...)
		before := c.rotate(t, billing)
		c.usesNext(t, billing, before)
	}, everybody...)
}

// testLeaderCrashes kills the controller that leads as soon as it has written the first word
// of a rotation: the next secret is valid, and not yet delivered.
func (c *cluster) testLeaderCrashes(t *testing.T) {
	leader := c.leader(t)
	c.undisturbed(t, func() {
		list := &v1alpha1.M2MClientList{}
		if err := c.List(t.Context(), list, client.InNamespace(shop)); err != nil {
			t.Fatal(err)
		}
		watcher, err := c.Watch(t.Context(), list, client.InNamespace(shop), &client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: list.ResourceVersion}})
		if err != nil {
			t.Fatal(err)
		}
		defer watcher.Stop()
		before := c.rotate(t, billing)
		waitNext(t, watcher)
		c.crash(t, leader)
		if found := c.client(t, billing); found.Status.ClientSecretLastFour != before {
			t.Error("the rotation was over before the leader crashed")
		}
		c.usesNext(t, billing, before)
		c.recovered(t, "controller", leader)
	}, everybody...)
}

// waitNext waits until billing has a secret that is valid and will be its next one.
func waitNext(t *testing.T, watcher watch.Interface) {
	t.Helper()
	timeout := time.After(eventually.Patience)
	for {
		select {
		case event := <-watcher.ResultChan():
			found, _ := event.Object.(*v1alpha1.M2MClient)
			if found == nil {
				t.Fatalf("the watch ended: %v", event)
			}
			for _, credential := range found.Status.Credentials {
				if found.Name == billing && credential.Role == "Next" {
					return
				}
			}
		case <-timeout:
			t.Fatal("the rotation didn't begin")
		}
	}
}

// testServerEnds: what a server was at when it ended is lost, and so are new connections to
// it until the node knows. Nobody may be refused.
func (c *cluster) testServerEnds(t *testing.T, end func(*testing.T, corev1.Pod)) {
	taken := c.during(t, func() {
		victim := c.pods(t.Context(), "server")[0]
		end(t, victim)
		c.recovered(t, "server", victim)
	}, everybody...)
	if others := taken.failures().where(func(o outcome.Outcome) bool { return o.Status != 0 || o.Failed != outcome.TokenRequest }); len(others) > 0 {
		t.Errorf("other failures: %s", others)
	}
}

func (c *cluster) testControlPlaneCrashes(t *testing.T) {
	c.undisturbed(t, func() {
		if err := c.Cluster.Kill(t.Context(), func() { time.Sleep(5 * time.Second) }); err != nil {
			t.Fatal(err)
		}
		before := c.rotate(t, billing)
		c.usesNext(t, billing, before)
		c.available(t, system)
	}, everybody...)
}

func (c *cluster) testUpgrade(t *testing.T) {
	manifest, err := os.ReadFile(filepath.Join(c.root, "dist", "install.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	upgraded := strings.ReplaceAll(string(manifest), image, nextImage)
	dir := t.TempDir()
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "dist"), 0o700), os.WriteFile(filepath.Join(dir, "dist", "install.yaml"), []byte(upgraded), 0o600)); err != nil {
		t.Fatal(err)
	}
	c.undisturbed(t, func() {
		c.shell(t, dir, c.operations(t, "upgrade"))
		c.available(t, system)
		c.gone(t, system, func(pod corev1.Pod) bool { return pod.Spec.Containers[0].Image == image })
	}, everybody...)
}

// operations are the commands of docs/operations.md for a purpose.
func (c *cluster) operations(t *testing.T, purpose string) string {
	t.Helper()
	page, err := os.ReadFile(filepath.Join(c.root, "docs", "operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	blocks := markdown.Fences(string(page), "sh "+purpose)
	if len(blocks) != 1 {
		t.Fatalf("%d blocks of docs/operations.md say how to %s", len(blocks), purpose)
	}
	return blocks[0].Text
}

func (c *cluster) gone(t *testing.T, namespace string, is func(corev1.Pod) bool) {
	t.Helper()
	eventually.Right(t, func() string {
		list := &corev1.PodList{}
		if err := c.List(t.Context(), list, client.InNamespace(namespace)); err != nil {
			return err.Error()
		}
		for _, pod := range list.Items {
			if is(pod) {
				return "pod " + pod.Name + " is still there"
			}
		}
		return ""
	})
}

// testReinstallation removes the operator as the documents say. What pods have, stays, and
// goes on.
func (c *cluster) testReinstallation(t *testing.T) {
	before := c.client(t, billing).Status.ClientSecretLastFour
	c.shell(t, c.root, c.operations(t, "uninstall"))
	c.gone(t, system, func(corev1.Pod) bool { return true })
	taken := c.during(t, func() {
		c.kubectl(t, "apply", "--server-side", "-f", "dist/install.yaml")
		c.available(t, system)
	}, everybody...)
	if refused := taken.refused(); len(refused) > 0 {
		t.Errorf("refused: %s", refused)
	}
	if after := c.client(t, billing).Status.ClientSecretLastFour; after != before {
		t.Errorf("the secret ends with %s; it ended with %s", after, before)
	}
}
