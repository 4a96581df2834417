package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
)

// backup is what a file has that can be restored, ready to be created.
type backup struct {
	issuers []*unstructured.Unstructured
	secrets []*unstructured.Unstructured
	clients []*unstructured.Unstructured
	// versions are those that the clients have in their Secrets.
	versions map[client.ObjectKey]string
	// ids are those that the clients had.
	ids     map[client.ObjectKey]string
	skipped []string
}

// newBackup takes issuers, M2MClients and their Secrets from objects, and from these all
// that belongs to the cluster that they come from. What names no namespace gets the given
// one. Where the objects have clients, only Secrets of these are taken: one that outlived
// its client (Retain) must not become another's.
func newBackup(objects []*unstructured.Unstructured, namespace string) backup {
	b := backup{versions: map[client.ObjectKey]string{}, ids: map[client.ObjectKey]string{}}
	uids := clientUIDs(objects, namespace)
	for _, o := range objects {
		o = o.DeepCopy()
		if o.GetNamespace() == "" && o.GroupVersionKind() != issuerGVK {
			o.SetNamespace(namespace)
		}
		key := client.ObjectKey{Namespace: o.GetNamespace(), Name: o.GetLabels()[v1alpha1.LabelClient]}
		name := fmt.Sprintf("%s %s/%s", clean(o.GetKind()), clean(o.GetNamespace()), clean(o.GetName()))
		switch uid, there := uids[key]; {
		case o.GetName() == "":
			b.skipped = append(b.skipped, name+": it has no name")
		case o.GroupVersionKind() == issuerGVK:
			b.issuers = append(b.issuers, asNew(o))
		case o.GroupVersionKind() == clientGVK:
			b.ids[client.ObjectKeyFromObject(o)], _, _ = unstructured.NestedString(o.Object, "status", "clientID")
			b.clients = append(b.clients, asNew(o))
		case o.GetKind() != "Secret" || o.GetAPIVersion() != "v1":
			b.skipped = append(b.skipped, name+": only ClusterM2MIssuers, M2MClients and their Secrets are restored")
		case key.Name == "" || o.GetAnnotations()[v1alpha1.AnnotationSeal] == "":
			b.skipped = append(b.skipped, name+": it is no client's Secret that the operator sealed; `kubectl create` restores it")
		case len(uids) > 0 && !there, uid != "" && uid != types.UID(o.GetAnnotations()[v1alpha1.AnnotationClientUID]):
			b.skipped = append(b.skipped, name+": the client that it was made for is not in the file; `kubectl create` restores it")
		default:
			b.versions[key] = o.GetAnnotations()[v1alpha1.AnnotationVersion]
			b.secrets = append(b.secrets, asNew(withLabel(o, v1alpha1.LabelAdopt, key.Name)))
		}
	}
	return b
}

// all is in the order in which things are created: no client may be without its issuer,
// or get another credential than its own.
func (b backup) all() []*unstructured.Unstructured {
	return slices.Concat(b.issuers, b.secrets, b.clients)
}

// clientUIDs are the UIDs of the M2MClients among objects; "" where one isn't said.
func clientUIDs(objects []*unstructured.Unstructured, namespace string) map[client.ObjectKey]types.UID {
	uids := map[client.ObjectKey]types.UID{}
	for _, o := range objects {
		if o.GroupVersionKind() == clientGVK {
			uids[client.ObjectKey{Namespace: cmp.Or(o.GetNamespace(), namespace), Name: o.GetName()}] = o.GetUID()
		}
	}
	return uids
}

// asNew is an object as it can be created: of its metadata only what people wrote stays.
func asNew(o *unstructured.Unstructured) *unstructured.Unstructured {
	metadata := map[string]any{"name": o.GetName()}
	if namespace := o.GetNamespace(); namespace != "" {
		metadata["namespace"] = namespace
	}
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
