package main

import (
	"encoding/json"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
)

// backup is what a file has that can be restored, ready to be created.
type backup struct {
	secrets []*unstructured.Unstructured
	clients []*unstructured.Unstructured
	// versions are those that the clients have in their Secrets.
	versions map[client.ObjectKey]string
	skipped  []string
}

// newBackup takes M2MClients and their Secrets from objects, and from these all that
// belongs to the cluster that they come from. What names no namespace gets the given one.
func newBackup(objects []*unstructured.Unstructured, namespace string) backup {
	b := backup{versions: map[client.ObjectKey]string{}}
	for _, o := range objects {
		o = o.DeepCopy()
		if o.GetNamespace() == "" {
			o.SetNamespace(namespace)
		}
		name := fmt.Sprintf("%s %s/%s", clean(o.GetKind()), clean(o.GetNamespace()), clean(o.GetName()))
		owner := o.GetLabels()[v1alpha1.LabelClient]
		switch {
		case o.GetName() == "":
			b.skipped = append(b.skipped, name+": it has no name")
		case o.GroupVersionKind() == clientGVK:
			b.clients = append(b.clients, asNew(o))
		case o.GetKind() != "Secret" || o.GetAPIVersion() != "v1":
			b.skipped = append(b.skipped, name+": only M2MClients and their Secrets are restored")
		case owner == "" || o.GetAnnotations()[v1alpha1.AnnotationSeal] == "":
			b.skipped = append(b.skipped, name+": it is no client's Secret that the operator sealed; `kubectl create` restores it")
		default:
			b.versions[client.ObjectKey{Namespace: o.GetNamespace(), Name: owner}] = o.GetAnnotations()[v1alpha1.AnnotationVersion]
			b.secrets = append(b.secrets, asNew(withLabel(o, v1alpha1.LabelAdopt, owner)))
		}
	}
	return b
}

// asNew is an object as it can be created: of its metadata only what people wrote stays.
func asNew(o *unstructured.Unstructured) *unstructured.Unstructured {
	metadata := map[string]any{"name": o.GetName(), "namespace": o.GetNamespace()}
	for _, key := range []string{"labels", "annotations"} {
		if values, found, err := unstructured.NestedMap(o.Object, "metadata", key); found && err == nil && len(values) > 0 {
			metadata[key] = values
		}
	}
	o.Object["metadata"] = metadata
	unstructured.RemoveNestedField(o.Object, "status")
	return o
}

func withLabel(o *unstructured.Unstructured, key, value string) *unstructured.Unstructured {
	labels := o.GetLabels()
	labels[key] = value
	o.SetLabels(labels)
	return o
}

// releasing is the patch by which this program stops being a field manager of an object,
// or nil while it is the only one.
func releasing(live *unstructured.Unstructured) ([]byte, error) {
	others := slices.DeleteFunc(slices.Clone(live.GetManagedFields()), func(e metav1.ManagedFieldsEntry) bool {
		return e.Manager == fieldManager && e.Subresource == ""
	})
	if len(others) == 0 {
		return nil, nil
	}
	return json.Marshal(map[string]any{"metadata": map[string]any{
		"uid": live.GetUID(), "resourceVersion": live.GetResourceVersion(), "managedFields": others,
	}})
}
