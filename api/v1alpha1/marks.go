package v1alpha1

import (
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ReservedPrefix begins the names of what belongs to the operator itself. No M2MClient
// and none of their Secrets is named so.
const ReservedPrefix = "m2m-operator-"

// IsMarked tells whether an object has a label, an annotation or an owner of an
// M2MClient. A client's author decides what such a Secret holds, so nothing of the
// operator's own (pepper, signing keys, CA, certificates, project secrets) is read from it.
func IsMarked(o metav1.Object) bool {
	labels, annotations := o.GetLabels(), o.GetAnnotations()
	for _, key := range []string{LabelClient, LabelAdopt} {
		if _, ok := labels[key]; ok {
			return true
		}
	}
	for _, key := range []string{AnnotationClientUID, AnnotationClientID, AnnotationVersion, AnnotationSeal, AnnotationNextVersion, AnnotationNextSeal} {
		if _, ok := annotations[key]; ok {
			return true
		}
	}
	for _, owner := range o.GetOwnerReferences() {
		if owner.Kind == "M2MClient" && strings.HasPrefix(owner.APIVersion, SchemeGroupVersion.Group+"/") {
			return true
		}
	}
	return false
}
