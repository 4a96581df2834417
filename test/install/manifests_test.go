package install

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/test/eventually"
)

// everything is an overlay with all components that a cluster takes as it is.
func everything(t *testing.T) string {
	t.Helper()
	return overlay(t, `components: [CONFIG/api, CONFIG/hpa, CONFIG/namespaced/limit, CONFIG/namespaced/limit-api]
configMapGenerator: [{name: m2m-operator-namespaces, namespace: m2m-system, literals: ["namespaces=team-a,m2m-api"]}]`)
}

// overlay is what kustomize makes of config/default and more.
func overlay(t *testing.T, more string) string {
	t.Helper()
	dir := t.TempDir()
	config, err := filepath.Rel(dir, filepath.Join(root, "config"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(more, "resources:") {
		more = "resources: [CONFIG/default]\n" + more
	}
	more = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n" + strings.ReplaceAll(more, "CONFIG", config)
	if err := os.WriteFile(filepath.Join(dir, "kustomization.yaml"), []byte(more), 0o600); err != nil {
		t.Fatal(err)
	}
	return build(t, dir)
}

// warnings collects what the API server warns of.
type warnings struct {
	mu  sync.Mutex
	all []string
}

// HandleWarningHeader implements [rest.WarningHandler].
func (w *warnings) HandleWarningHeader(_ int, _ string, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, text)
}

// The pods of each Deployment may run in a namespace that enforces `restricted`.
func TestPodSecurity(t *testing.T) {
	c := installed(t)
	heard := &warnings{}
	config := c.Config()
	config.WarningHandler = heard
	admin, err := client.New(config, client.Options{Scheme: scheme(t)})
	if err != nil {
		t.Fatal(err)
	}
	create := func(pod *corev1.Pod) error { return admin.Create(t.Context(), pod, client.DryRunAll) }
	for _, deployment := range deployments(t, build(t, "config/with-api")) {
		pod := podOf(deployment)
		eventually.Right(t, func() string { // the PriorityClass and the ServiceAccount have just been made
			if err := create(pod.DeepCopy()); err != nil {
				return err.Error()
			}
			return ""
		})
		pod.Spec.Containers[0].SecurityContext.ReadOnlyRootFilesystem = nil
		pod.Spec.Containers[0].SecurityContext.Capabilities = nil
		if err := create(pod); !apierrors.IsForbidden(err) {
			t.Errorf("the namespace doesn't enforce `restricted`: %v", err)
		}
	}
	if len(heard.all) > 0 {
		t.Errorf("the API server warns: %v", heard.all)
	}
}

func podOf(d *appsv1.Deployment) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: d.Namespace, Name: d.Name, Labels: d.Spec.Template.Labels},
		Spec:       *d.Spec.Template.Spec.DeepCopy(),
	}
}

func deployments(t *testing.T, manifests string) []*appsv1.Deployment {
	t.Helper()
	var all []*appsv1.Deployment
	for _, o := range objects(t, manifests) {
		if o.GetKind() == "Deployment" {
			d := &appsv1.Deployment{}
			if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, d); err != nil {
				t.Fatal(err)
			}
			all = append(all, d)
		}
	}
	if len(all) < 2 {
		t.Fatalf("%d Deployments", len(all))
	}
	return all
}

// The program knows every flag that manifests and chart give it.
func TestFlagsExist(t *testing.T) {
	all := []string{everything(t), template(t)}
	for _, values := range valuesFiles(t) {
		all = append(all, template(t, "--values", values))
	}
	for _, manifests := range all {
		for _, d := range deployments(t, manifests) {
			args := append([]string{}, d.Spec.Template.Spec.Containers[0].Args...)
			for i, arg := range args {
				args[i] = strings.NewReplacer("$(POD_NAMESPACE)", operatorNamespace, "$(NAMESPACES)", "team-a").Replace(arg)
				if strings.Contains(args[i], "$(") {
					t.Errorf("%s: nothing sets the variable in %s", d.Name, arg)
				}
			}
			if out, err := exec.CommandContext(t.Context(), binary, append(args, "--help")...).CombinedOutput(); err != nil {
				t.Errorf("%s: %.300s", d.Name, out)
			}
		}
	}
}

// Pods are told to stop later than the Service forgets them, and have the time to end
// what they serve: 20 s, and the last report.
func TestGracefulEnd(t *testing.T) {
	for _, d := range deployments(t, build(t, "config/with-api")) {
		spec := d.Spec.Template.Spec
		container := spec.Containers[0]
		if container.StartupProbe == nil || container.LivenessProbe == nil || container.ReadinessProbe == nil {
			t.Errorf("%s lacks a probe", d.Name)
		}
		if d.Spec.Strategy.RollingUpdate == nil || d.Spec.Strategy.RollingUpdate.MaxUnavailable.IntValue() != 0 {
			t.Errorf("%s may have fewer pods while it is updated", d.Name)
		}
		if d.Name == "m2m-operator-controller" {
			continue
		}
		if container.Lifecycle == nil || container.Lifecycle.PreStop == nil || container.Lifecycle.PreStop.Sleep == nil {
			t.Errorf("%s stops listening while it is still asked", d.Name)
			continue
		}
		const gracePeriod, report = 20, 5 // seconds; of --shutdown-grace-period, and of the last report
		if need := container.Lifecycle.PreStop.Sleep.Seconds + gracePeriod + report; *spec.TerminationGracePeriodSeconds <= need {
			t.Errorf("%s is killed after %d s, and may need %d", d.Name, *spec.TerminationGracePeriodSeconds, need)
		}
	}
}

// With the autoscaler nothing else sets the number of servers.
func TestAutoscalerIsAlone(t *testing.T) {
	for what, manifests := range map[string]string{
		"config/hpa": everything(t),
		"chart":      template(t, "--set=server.autoscaling.enabled=true"),
	} {
		all := byName(t, manifests)
		if all["HorizontalPodAutoscaler m2m-system/m2m-operator-server"] == nil {
			t.Errorf("%s: there is no autoscaler", what)
		}
		server := all["Deployment m2m-system/m2m-operator-server"].Object
		if replicas, found, err := unstructured.NestedInt64(server, "spec", "replicas"); found || err != nil {
			t.Errorf("%s: the Deployment sets %d replicas (%v)", what, replicas, err)
		}
	}
}
