package installation

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/test/controlplane"
)

// APINamespace is where the management API makes clients, as in config/rbac/api.
const APINamespace = "m2m-api"

func (i *Installation) startAPI(ctx context.Context) error {
	address, err := controlplane.FreeAddress()
	if err != nil {
		return err
	}
	i.API = &Server{URL: "http://" + address, Audit: filepath.Join(i.options.Dir, "audit-api.log"), address: address}
	return i.runAPI(ctx)
}

func (i *Installation) runAPI(ctx context.Context) (err error) {
	args := []string{"--bind-address", i.API.address, "--audit-log", i.API.Audit}
	i.API.Process, err = i.role(ctx, "api", append(args, i.options.APIArgs...)...)
	return err
}

// RestartAPI ends the management API, starts another at its address, and waits until
// that is ready.
func (i *Installation) RestartAPI(ctx context.Context) error {
	i.API.Stop(stopGrace)
	if err := i.runAPI(ctx); err != nil {
		return err
	}
	return i.API.WaitFor(ctx, i.API.ready)
}

// openAPI makes a project secret of the issuer `default`.
func (i *Installation) openAPI(ctx context.Context) error {
	issuer := &v1alpha1.ClusterM2MIssuer{}
	if err := i.Get(ctx, client.ObjectKey{Name: v1alpha1.DefaultIssuer}, issuer); err != nil {
		return err
	}
	secret, err := i.NewProjectSecret(ctx, issuer.Name)
	i.ProjectID, i.ProjectSecret = issuer.Spec.ProjectID, secret
	return err
}

// NewProjectSecret makes a project secret as kubectl m2m does.
func (i *Installation) NewProjectSecret(ctx context.Context, issuer string) (string, error) {
	secret := "secret-test-" + rand.Text() + rand.Text()
	digest := sha256.Sum256([]byte(secret))
	err := i.Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: Namespace, GenerateName: "m2m-operator-project-" + issuer + "-",
			Labels:      map[string]string{v1alpha1.LabelIssuer: issuer},
			Annotations: map[string]string{v1alpha1.AnnotationLastFour: secret[len(secret)-4:]},
		},
		Type: v1alpha1.ProjectSecretType,
		Data: map[string][]byte{v1alpha1.ProjectSecretHashKey: []byte(hex.EncodeToString(digest[:]))},
	})
	if err != nil {
		return "", fmt.Errorf("making a project secret: %w", err)
	}
	return secret, nil
}
