package controlplane

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// users are the bearer tokens of those who are no ServiceAccounts.
type users struct{ admin, controllerManager string }

func newUsers() users { return users{admin: rand.Text(), controllerManager: rand.Text()} }

func (u users) write(file string) error {
	content := fmt.Sprintf("%s,admin,admin,system:masters\n%s,system:kube-controller-manager,system:kube-controller-manager\n",
		u.admin, u.controllerManager)
	return os.WriteFile(file, []byte(content), 0o600)
}

// ServiceAccountConfig is the access of a ServiceAccount, which exists already:
// what RBAC grants it, and no more.
func (c *Cluster) ServiceAccountConfig(ctx context.Context, namespace, name string) (*rest.Config, error) {
	token, err := c.serviceAccountToken(ctx, namespace, name)
	if err != nil {
		return nil, err
	}
	return c.config(token), nil
}

// ServiceAccountKubeconfig is [Cluster.ServiceAccountConfig] as a file's content.
func (c *Cluster) ServiceAccountKubeconfig(ctx context.Context, namespace, name string) ([]byte, error) {
	token, err := c.serviceAccountToken(ctx, namespace, name)
	if err != nil {
		return nil, err
	}
	return c.kubeconfig(token), nil
}

// serviceAccountToken is valid for a year, as long as the API server's certificate.
func (c *Cluster) serviceAccountToken(ctx context.Context, namespace, name string) (string, error) {
	clients, err := kubernetes.NewForConfig(c.Config())
	if err != nil {
		return "", err
	}
	seconds := int64((365 * 24 * time.Hour).Seconds())
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds}}
	request, err = clients.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, name, request, metav1.CreateOptions{})
	if err != nil {
		return "", fmt.Errorf("requesting a token for ServiceAccount %s/%s: %w", namespace, name, err)
	}
	return request.Status.Token, nil
}

func (c *Cluster) config(token string) *rest.Config {
	return &rest.Config{
		Host:            "https://" + c.address,
		BearerToken:     token,
		TLSClientConfig: rest.TLSClientConfig{CAData: c.ca},
	}
}

func (c *Cluster) kubeconfig(token string) []byte {
	const name = "m2m-operator"
	config := clientcmdapi.NewConfig()
	config.Clusters[name] = &clientcmdapi.Cluster{Server: "https://" + c.address, CertificateAuthorityData: c.ca}
	config.AuthInfos[name] = &clientcmdapi.AuthInfo{Token: token}
	config.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: name}
	config.CurrentContext = name
	content, err := clientcmd.Write(*config)
	if err != nil {
		panic(err) // these few strings can always be written
	}
	return content
}
