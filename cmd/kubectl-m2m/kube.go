package main

import (
	"fmt"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
)

// fieldManager is who the fields belong to that this program sets.
const fieldManager = "kubectl-m2m"

// kube is the cluster that a command works on, and where it prints to.
type kube struct {
	genericiooptions.IOStreams
	flags *genericclioptions.ConfigFlags
}

// client talks to the API server, with watches. There is no cache.
func (k *kube) client() (client.WithWatch, error) {
	config, err := k.config()
	if err != nil {
		return nil, err
	}
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		return nil, err
	}
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return nil, err
	}
	return client.NewWithWatch(config, client.Options{Scheme: scheme})
}

func (k *kube) config() (*rest.Config, error) {
	config, err := k.flags.ToRESTConfig()
	if err != nil {
		return nil, fmt.Errorf("no cluster to work on (set --kubeconfig or --context): %w", err)
	}
	config.QPS, config.Burst = 50, 300 // kubectl's; the library's own 5 make long lists slow
	config.UserAgent = "kubectl-m2m/" + version
	return config, nil
}

// namespace is what -n or the context says.
func (k *kube) namespace() (string, error) {
	namespace, _, err := k.flags.ToRawKubeConfigLoader().Namespace()
	return namespace, err
}
