// Package v1alpha1 is the API of m2m-operator: machine-to-machine clients and the
// issuers that sign their tokens.
//
// +kubebuilder:object:generate=true
// +kubebuilder:ac:generate=true
// +kubebuilder:ac:output:package="applyconfiguration"
// +groupName=m2m-operator.dev
package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// SchemeGroupVersion is the group and version of these kinds.
var SchemeGroupVersion = schema.GroupVersion{Group: "m2m-operator.dev", Version: "v1alpha1"}

// AddToScheme registers these kinds.
var AddToScheme = schemeBuilder.AddToScheme

var schemeBuilder = runtime.NewSchemeBuilder(addKnownTypes)

func addKnownTypes(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(SchemeGroupVersion,
		&M2MClient{}, &M2MClientList{},
		&ClusterM2MIssuer{}, &ClusterM2MIssuerList{},
	)
	metav1.AddToGroupVersion(scheme, SchemeGroupVersion)
	return nil
}
