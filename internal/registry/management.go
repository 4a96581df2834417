package registry

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
)

// Receiver takes what a watch brings, one event at a time.
type Receiver interface {
	// Set takes an object as it is now.
	Set(o metav1.Object)
	// Remove takes an object that is gone, as it was last.
	Remove(o metav1.Object)
	// Keep forgets all objects but those of a new list.
	Keep(listed map[types.UID]bool)
}

// Receivers take what the management API needs to know.
type Receivers struct {
	Secrets    Receiver // Secrets of the operator's namespace
	Issuers    Receiver // ClusterM2MIssuers
	Namespaces Receiver // metadata of namespaces
	Clients    Receiver // M2MClients
}

// NewManagementWatches prepares the watches of the management API: of clients within some
// namespaces; none means all.
func NewManagementWatches(config *rest.Config, namespace string, within []string, to Receivers) (*Watches, error) {
	own, err := restClient(config, v1alpha1.SchemeGroupVersion, "/apis", v1alpha1.AddToScheme)
	if err != nil {
		return nil, err
	}
	core, err := restClient(config, corev1.SchemeGroupVersion, "/api", clientgoscheme.AddToScheme)
	if err != nil {
		return nil, err
	}
	objects, err := metadata.NewForConfig(unlimited(config))
	if err != nil {
		return nil, fmt.Errorf("preparing to talk to the API server about metadata: %w", err)
	}
	w := &Watches{}
	w.watch("secrets", cache.NewListWatchFromClient(core, "secrets", namespace, fields.Everything()), &corev1.Secret{}, passedOn{to.Secrets})
	w.watch("clusterm2missuers", everywhere(own, "clusterm2missuers"), &v1alpha1.ClusterM2MIssuer{}, passedOn{to.Issuers})
	w.watch("namespaces", metadataOf(objects, "namespaces", metav1.NamespaceAll), &metav1.PartialObjectMetadata{}, passedOn{to.Namespaces})
	w.clients = w.watchEach("m2mclients", within, clientsOf(own), &v1alpha1.M2MClient{}, passedOn{to.Clients})
	return w, nil
}

// passedOn hands events on to somebody else.
type passedOn struct{ to Receiver }

func (p passedOn) set(o metav1.Object)            { p.strip(o); p.to.Set(o) }
func (p passedOn) remove(o metav1.Object)         { p.to.Remove(o) }
func (p passedOn) keep(listed map[types.UID]bool) { p.to.Keep(listed) }
func (p passedOn) strip(o metav1.Object)          { o.SetManagedFields(nil) }
