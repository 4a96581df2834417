package controlplane

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/m2m-operator/m2m-operator/test/eventually"
)

func TestCluster(t *testing.T) {
	ctx := t.Context()
	cluster, err := Start(ctx, Options{Install: []string{"config/default"}, ControllerManager: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Stop)
	admin := clientset(t, cluster.Config())

	t.Run("a ServiceAccount may do what its role says and no more", func(t *testing.T) {
		config, err := cluster.ServiceAccountConfig(ctx, "m2m-system", "m2m-operator-server")
		if err != nil {
			t.Fatal(err)
		}
		server := clientset(t, config)
		if _, err := server.CoreV1().Secrets("m2m-system").List(ctx, metav1.ListOptions{}); err != nil {
			t.Errorf("Secrets of its own namespace: %v", err)
		}
		if _, err := server.CoreV1().Secrets("").List(ctx, metav1.ListOptions{}); !apierrors.IsForbidden(err) {
			t.Errorf("Secrets of all namespaces: %v; want Forbidden", err)
		}
	})

	t.Run("a deleted namespace goes with what is in it", func(t *testing.T) {
		namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "short-lived"}}
		if _, err := admin.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		createConfigMap(t, admin, metav1.ObjectMeta{Namespace: namespace.Name, Name: "content"})
		if err := admin.CoreV1().Namespaces().Delete(ctx, namespace.Name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		eventuallyGone(t, "the namespace", func() error {
			_, err := admin.CoreV1().Namespaces().Get(ctx, namespace.Name, metav1.GetOptions{})
			return err
		})
	})

	t.Run("an object goes with its owner", func(t *testing.T) {
		owner := createConfigMap(t, admin, metav1.ObjectMeta{Namespace: "default", Name: "owner"})
		createConfigMap(t, admin, metav1.ObjectMeta{
			Namespace:       "default",
			Name:            "owned",
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: owner.Name, UID: owner.UID}},
		})
		if err := admin.CoreV1().ConfigMaps("default").Delete(ctx, "owner", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		eventuallyGone(t, "the owned ConfigMap", func() error {
			_, err := admin.CoreV1().ConfigMaps("default").Get(ctx, "owned", metav1.GetOptions{})
			return err
		})
	})
}

func TestStartSaysWhatIsMissing(t *testing.T) {
	t.Setenv("KUBEBUILDER_ASSETS", t.TempDir())
	if _, err := Start(t.Context(), Options{}); err == nil {
		t.Fatal("started without programs")
	}
}

func clientset(t *testing.T, config *rest.Config) *kubernetes.Clientset {
	t.Helper()
	clients, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return clients
}

func createConfigMap(t *testing.T, clients *kubernetes.Clientset, meta metav1.ObjectMeta) *corev1.ConfigMap {
	t.Helper()
	created, err := clients.CoreV1().ConfigMaps(meta.Namespace).Create(t.Context(), &corev1.ConfigMap{ObjectMeta: meta}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return created
}

func eventuallyGone(t *testing.T, what string, get func() error) {
	t.Helper()
	eventually.Right(t, func() string {
		if err := get(); !apierrors.IsNotFound(err) {
			return fmt.Sprintf("%s is still there (%v)", what, err)
		}
		return ""
	})
}
