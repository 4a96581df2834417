package controllers

import (
	"cmp"
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/credential"
)

// first is what the client's first credential is to be: its own choice, an import,
// or left to the operator. A verdict says what an import waits for.
func (r *ClientReconciler) first(ctx context.Context, c *v1alpha1.M2MClient) (credential.First, verdict, error) {
	first := credential.First{ClientID: c.Spec.ClientID}
	if c.Spec.Secret == nil || c.Spec.Secret.ImportFrom == nil {
		return first, verdict{}, nil
	}
	from := c.Spec.Secret.ImportFrom
	source, err := r.liveSecret(ctx, client.ObjectKey{Namespace: c.Namespace, Name: from.Name})
	switch {
	case err != nil:
		return first, verdict{}, err
	case source == nil:
		return first, waiting(v1alpha1.ReasonImportWaiting, fmt.Sprintf(
			"there is no Secret %q to import from yet: create it, with the label %s: %s", from.Name, v1alpha1.LabelAdopt, c.Name)), nil
	case source.Labels[v1alpha1.LabelAdopt] != c.Name:
		return first, waiting(v1alpha1.ReasonImportWaiting, fmt.Sprintf(
			"Secret %q doesn't permit the import: give it the label %s: %s", from.Name, v1alpha1.LabelAdopt, c.Name)), nil
	}
	return imported(c, source)
}

// imported reads a credential that was made elsewhere. No message repeats a secret.
func imported(c *v1alpha1.M2MClient, source *corev1.Secret) (credential.First, verdict, error) {
	from := c.Spec.Secret.ImportFrom
	idKey := cmp.Or(string(from.ClientIDKey), "client_id")
	secretKey := cmp.Or(string(from.ClientSecretKey), "client_secret")
	first := credential.First{ClientID: string(source.Data[idKey]), Secret: string(source.Data[secretKey])}
	for _, key := range []string{idKey, secretKey} {
		if len(source.Data[key]) == 0 {
			return first, stalled(v1alpha1.ReasonImportRefused, fmt.Sprintf(
				"Secret %q has no value for the key %q: add it, or name another key in spec.secret.importFrom", from.Name, key)), nil
		}
	}
	if err := credential.CheckImport(first.ClientID, first.Secret); err != nil {
		return first, stalled(v1alpha1.ReasonImportRefused, fmt.Sprintf("what Secret %q holds is refused: %v", from.Name, err)), nil
	}
	if c.Spec.ClientID != "" && c.Spec.ClientID != first.ClientID {
		return first, stalled(v1alpha1.ReasonImportRefused, fmt.Sprintf(
			"spec.clientID is not the client id in Secret %q: leave spec.clientID out of a new M2MClient", from.Name)), nil
	}
	return first, verdict{}, nil
}

// importsFrom tells whether a client is to take a Secret over, which permits it.
func importsFrom(c *v1alpha1.M2MClient, secret *corev1.Secret) bool {
	return c.Spec.Secret != nil && c.Spec.Secret.ImportFrom != nil && c.Spec.Secret.ImportFrom.Name == secret.Name &&
		secret.Labels[v1alpha1.LabelAdopt] == c.Name && secret.Annotations[v1alpha1.AnnotationClientUID] == "" && c.Status.Seal == ""
}

// importRecheck is how soon a Secret to import is looked for again, which no watch
// tells of: soon at first, and no tenant makes it often.
func importRecheck(c *v1alpha1.M2MClient, now time.Time) time.Duration {
	return min(max(now.Sub(c.CreationTimestamp.Time)/4, 2*time.Second), recheck)
}

// observeAdoptable classifies a Secret that its label lets a new client take over,
// such as after a restore that made new UIDs: its seal says that the operator made
// it for a client here. A client that is still there keeps it.
func (r *ClientReconciler) observeAdoptable(ctx context.Context, c *v1alpha1.M2MClient, secret *corev1.Secret, pepper *credential.Pepper) (credential.ObservedSecret, error) {
	uid := secret.Annotations[v1alpha1.AnnotationClientUID]
	if uid == "" {
		return observe(c, secret, pepper), nil
	}
	clients := &v1alpha1.M2MClientList{}
	if err := r.Live.List(ctx, clients, client.InNamespace(c.Namespace)); err != nil {
		return credential.ObservedSecret{}, err
	}
	for i := range clients.Items {
		if string(clients.Items[i].UID) == uid {
			return credential.ObservedSecret{State: credential.SecretForeign}, nil
		}
	}
	observed := open(secret, uid, pepper)
	if observed.State == credential.SecretAltered {
		observed.State = credential.SecretForeign // it may hold what a person wants to keep
	}
	observed.Adopted = true
	return observed, nil
}
