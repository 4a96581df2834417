package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/test/installation"
)

// runHere runs both roles in the foreground against the user's current kubeconfig
// context, with the user's own access.
func runHere(ctx context.Context, s state) error {
	operator, err := s.operator()
	if err != nil {
		return err
	}
	if err := prepareCluster(ctx); err != nil {
		return err
	}
	address, err := serverAddress()
	if err != nil {
		return err
	}
	url := "http://" + address
	fmt.Printf("Token server: %s. Ctrl-C stops both roles.\n", url)
	group, ctx := errgroup.WithContext(ctx)
	for _, args := range [][]string{
		{"controller", "--namespace=" + installation.Namespace, "--default-issuer-url=" + url, "--default-issuer-environment=Test", "--ops-bind-address=0"},
		{"server", "--namespace=" + installation.Namespace, "--bind-address=" + address},
	} {
		group.Go(func() error { return runRole(ctx, operator, args) })
	}
	return group.Wait()
}

func runRole(ctx context.Context, operator string, args []string) error {
	cmd := exec.CommandContext(ctx, operator, args...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Run(); ctx.Err() == nil {
		return fmt.Errorf("%s stopped by itself: %w", args[0], err)
	}
	return nil
}

// prepareCluster says which cluster it is, and makes the operator's namespace.
func prepareCluster(ctx context.Context) error {
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(clientcmd.NewDefaultClientConfigLoadingRules(), nil)
	kubeconfig, err := loader.RawConfig()
	if err != nil {
		return err
	}
	config, err := loader.ClientConfig()
	if err != nil {
		return err
	}
	fmt.Printf("Cluster: context %q, %s\n", kubeconfig.CurrentContext, config.Host)
	clients, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	if _, err := clients.Discovery().ServerResourcesForGroupVersion(v1alpha1.SchemeGroupVersion.String()); apierrors.IsNotFound(err) {
		return errors.New("this cluster doesn't have the CRDs: run `make install`")
	} else if err != nil {
		return err
	}
	_, err = clients.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: installation.Namespace}}, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}
