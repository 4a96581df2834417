package gitops

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/test/eventually"
)

// sample is one of config/samples, in another namespace.
func sample(t *testing.T, file, namespace string) string {
	t.Helper()
	manifest, err := os.ReadFile(filepath.Join(root, "config", "samples", file))
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(manifest), "namespace: default", "namespace: "+namespace)
}

// What is applied a second time changes nothing: not a field, not an owner of one.
func TestApplyTwiceChangesNothing(t *testing.T) {
	t.Parallel()
	for way, args := range map[string][]string{
		"server-side": {"apply", "--server-side", "--field-manager=kustomize-controller", "-f", "-"},
		"client-side": {"apply", "-f", "-"},
	} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			namespace := shared.namespace(t)
			for file, name := range map[string]string{
				"m2mclient.yaml": "billing", "m2mclient-full.yaml": "reports",
				"m2mclient-rotation.yaml": "orders", "m2mclient-workload.yaml": "shipping",
			} {
				manifest := sample(t, file, namespace)
				shared.kubectl(t, manifest, args...)
				before := shared.waitReady(t, namespace, name)
				shared.kubectl(t, manifest, args...)
				after := &v1alpha1.M2MClient{}
				if err := shared.Get(t.Context(), client.ObjectKeyFromObject(before), after); err != nil {
					t.Fatal(err)
				}
				if after.ResourceVersion != before.ResourceVersion || after.Generation != 1 || !reflect.DeepEqual(after.ManagedFields, before.ManagedFields) {
					t.Errorf("%s: applied again, it is at generation %d, resourceVersion %s instead of %s, with fields managed as %v",
						file, after.Generation, after.ResourceVersion, before.ResourceVersion, after.ManagedFields)
				}
			}
		})
	}
}

// An issuer too, though the operator writes its status all the time.
func TestApplyIssuerTwiceChangesNothing(t *testing.T) {
	t.Parallel()
	manifest, err := os.ReadFile(filepath.Join(root, "config", "samples", "clusterm2missuer.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	apply := func() *v1alpha1.ClusterM2MIssuer {
		shared.kubectl(t, string(manifest), "apply", "--server-side", "-f", "-")
		shared.kubectl(t, "", "wait", "clusterm2missuer/partners", "--for=condition=Ready", "--timeout=1m")
		issuer := &v1alpha1.ClusterM2MIssuer{}
		if err := shared.Get(t.Context(), client.ObjectKey{Name: "partners"}, issuer); err != nil {
			t.Fatal(err)
		}
		return issuer
	}
	before, after := apply(), apply()
	if after.Generation != 1 || !reflect.DeepEqual(after.Spec, before.Spec) {
		t.Errorf("applied again, it is at generation %d: %+v", after.Generation, after.Spec)
	}
}

// What is taken out of Git goes, with its Secret; the rest stays.
func TestPrune(t *testing.T) {
	t.Parallel()
	for way, apply := range map[string]func(namespace string) []string{
		"by label": func(namespace string) []string {
			return []string{"apply", "-n", namespace, "--prune", "-l", "team=finance", "--prune-allowlist=m2m-operator.dev/v1alpha1/M2MClient", "-f", "-"}
		},
		"by ApplySet": func(namespace string) []string {
			return []string{"apply", "--server-side", "-n", namespace, "--prune", "--applyset=clients", "-f", "-"}
		},
	} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			namespace := shared.namespace(t)
			one := labelled("kept", namespace, map[string]string{"team": "finance"})
			two := labelled("dropped", namespace, map[string]string{"team": "finance"})
			shared.kubectl(t, one+"---\n"+two, apply(namespace)...)
			kept := shared.secret(t, shared.waitReady(t, namespace, "kept"))
			dropped := shared.secret(t, shared.waitReady(t, namespace, "dropped"))
			shared.kubectl(t, one, apply(namespace)...)
			eventually.Right(t, func() string {
				for _, gone := range []client.Object{&v1alpha1.M2MClient{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "dropped"}}, dropped.DeepCopy()} {
					if err := shared.Get(t.Context(), client.ObjectKeyFromObject(gone), gone); !apierrors.IsNotFound(err) {
						return fmt.Sprintf("%s of what was pruned: %v", gone.GetName(), err)
					}
				}
				return ""
			})
			if now := shared.secret(t, shared.waitReady(t, namespace, "kept")); now.ResourceVersion != kept.ResourceVersion || now.UID != kept.UID {
				t.Error("the Secret of the client that stays was written")
			}
		})
	}
}

func labelled(name, namespace string, labels map[string]string) string {
	metadata := map[string]any{"name": name, "namespace": namespace}
	if labels != nil {
		metadata["labels"] = labels
	}
	manifest, err := yaml.Marshal(map[string]any{
		"apiVersion": "m2m-operator.dev/v1alpha1", "kind": "M2MClient",
		"metadata": metadata, "spec": map[string]any{"scopes": []string{"read:invoices"}},
	})
	if err != nil {
		panic(err) // such a map can always be written
	}
	return string(manifest)
}

// A tool that finds its label on a Secret would prune it: it isn't in Git.
func TestTrackingStaysOffTheSecret(t *testing.T) {
	t.Parallel()
	namespace := shared.namespace(t)
	tracking := map[string]string{
		"app.kubernetes.io/instance":            "clients",
		"argocd.argoproj.io/instance":           "clients",
		"applyset.kubernetes.io/part-of":        "applyset-x",
		"kustomize.toolkit.fluxcd.io/name":      "clients",
		"kustomize.toolkit.fluxcd.io/namespace": "flux-system",
		"helm.toolkit.fluxcd.io/name":           "clients",
		"helm.toolkit.fluxcd.io/namespace":      "flux-system",
		"config.k8s.io/owning-inventory":        "clients",
		"fleet.cattle.io/objectset-hash":        "abc",
		"objectset.rio.cattle.io/hash":          "abc",
		"kapp.k14s.io/app":                      "1",
		"carvel.dev/app":                        "1",
	}
	annotations := map[string]string{
		"argocd.argoproj.io/tracking-id":                   "clients:m2m-operator.dev/M2MClient:x/billing",
		"argocd.argoproj.io/sync-wave":                     "1",
		"kustomize.toolkit.fluxcd.io/reconcile":            "enabled",
		"kustomize.toolkit.fluxcd.io/checksum":             "abc",
		"meta.helm.sh/release-name":                        "clients",
		"kubectl.kubernetes.io/last-applied-configuration": "{}",
		"config.kubernetes.io/origin":                      "path: a",
	}
	c := &v1alpha1.M2MClient{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "billing", Labels: tracking, Annotations: annotations}}
	if err := shared.Create(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	c = shared.waitReady(t, namespace, "billing")
	check := func() {
		t.Helper()
		secret := shared.secret(t, c)
		for key := range tracking {
			if value, ok := secret.Labels[key]; ok {
				t.Errorf("the Secret has the label %s: %s", key, value)
			}
		}
		for key := range annotations {
			if value, ok := secret.Annotations[key]; ok {
				t.Errorf("the Secret has the annotation %s: %s", key, value)
			}
		}
	}
	check()
	// Nor with the writes that come later.
	shared.kubectl(t, "", "annotate", "m2m", "-n", namespace, "billing", v1alpha1.AnnotationRotate+"=now")
	shared.waitVersion(t, c, "2-")
	check()
}

// waitVersion waits until the client's current secret is of this version.
func (o *operator) waitVersion(t *testing.T, c *v1alpha1.M2MClient, version string) {
	t.Helper()
	eventually.Right(t, func() string {
		*c = *o.waitReady(t, c.Namespace, c.Name)
		if len(c.Status.Credentials) == 0 || !strings.HasPrefix(c.Status.Credentials[0].Version, version) {
			return fmt.Sprintf("%s has the versions %+v, want %s", c.Name, c.Status.Credentials, version)
		}
		return ""
	})
}

// Drift correction applies the manifest over and over while the secret rotates. Both do
// what they are there for, and neither writes because of the other.
func TestDriftCorrection(t *testing.T) {
	t.Parallel()
	namespace := shared.namespace(t)
	twins := map[string]*v1alpha1.M2MClient{}
	for _, name := range []string{"alone", "corrected"} {
		shared.kubectl(t, labelled(name, namespace, nil), "apply", "--server-side", "--field-manager=kustomize-controller", "-f", "-")
		twins[name] = shared.waitReady(t, namespace, name)
	}
	writes := shared.countWrites(t, namespace, twins)

	inGit := &atomic.Value{}
	inGit.Store(labelled("corrected", namespace, nil))
	corrected, stop := context.WithCancel(t.Context())
	done := make(chan int)
	go func() { done <- correct(corrected, t, inGit) }()

	// By hand, with an annotation that isn't in Git; then by a change of the manifest.
	for _, c := range twins {
		shared.kubectl(t, "", "annotate", "m2m", "-n", namespace, c.Name, v1alpha1.AnnotationRotate+"=now")
	}
	for _, c := range twins {
		shared.waitVersion(t, c, "2-")
	}
	const trigger = "  rotation: {trigger: by-git}\n"
	inGit.Store(labelled("corrected", namespace, nil) + trigger)
	shared.kubectl(t, labelled("alone", namespace, nil)+trigger, "apply", "--server-side", "--field-manager=kustomize-controller", "-f", "-")
	for _, c := range twins {
		shared.waitVersion(t, c, "3-")
	}
	stop()
	if applied := <-done; applied < 10 {
		t.Errorf("the manifest was applied %d times only", applied)
	}
	c := shared.waitReady(t, namespace, "corrected")
	if c.Generation != 2 || c.Annotations[v1alpha1.AnnotationRotate] != "now" {
		t.Errorf("the client is at generation %d, with the annotations %v", c.Generation, c.Annotations)
	}
	alone, both := writes("alone"), writes("corrected")
	if alone == 0 || both != alone {
		t.Errorf("two rotations took %d writes alone, and %d with drift correction", alone, both)
	}
}

// correct applies what is in Git ten times a second, as a GitOps tool does, and returns
// how often it did.
func correct(ctx context.Context, t *testing.T, inGit *atomic.Value) (applied int) {
	for tick := time.NewTicker(100 * time.Millisecond); ; {
		object := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(inGit.Load().(string)), object); err != nil {
			t.Error(err)
			return applied
		}
		err := shared.Apply(ctx, client.ApplyConfigurationFromUnstructured(object), client.ForceOwnership, client.FieldOwner("kustomize-controller"))
		switch {
		case ctx.Err() != nil:
			tick.Stop()
			return applied
		case err != nil:
			t.Error(err)
		}
		applied++
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// countWrites counts what is written to clients and their Secrets from now on.
func (o *operator) countWrites(t *testing.T, namespace string, clients map[string]*v1alpha1.M2MClient) func(name string) int {
	t.Helper()
	changes := make(chan string, 1000)
	for _, list := range []client.ObjectList{&v1alpha1.M2MClientList{}, &corev1.SecretList{}} {
		if err := o.List(t.Context(), list, client.InNamespace(namespace)); err != nil {
			t.Fatal(err)
		}
		w, err := o.Watch(t.Context(), list, client.InNamespace(namespace), &client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: list.GetResourceVersion()}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(w.Stop)
		go func() {
			for event := range w.ResultChan() {
				if event.Type == watch.Modified {
					changes <- event.Object.(client.Object).GetName()
				}
			}
		}()
	}
	counts := map[string]int{}
	return func(name string) int {
		// What was written last comes to the watch last.
		for quiet := time.NewTimer(time.Second); ; {
			select {
			case changed := <-changes:
				counts[changed]++
				quiet.Reset(time.Second)
				continue
			case <-quiet.C:
			}
			break
		}
		if _, ok := clients[name]; !ok {
			t.Fatalf("nobody made %s", name)
		}
		return counts[name]
	}
}
