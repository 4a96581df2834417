package controllers

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/credential"
	"github.com/m2m-operator/m2m-operator/internal/policy"
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

// idClaims are the client ids that this process has let clients take and whose
// statuses it may not have seen yet, by issuer and id.
type idClaims struct {
	mu sync.Mutex
	by map[string]client.ObjectKey
}

func (s *idClaims) forget(key client.ObjectKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.by, func(_ string, by client.ObjectKey) bool { return by == key })
}

// claim lets a client have an id that no seal of its own vouches for, or says why
// not: it must be permitted, and nobody else's.
func (r *ClientReconciler) claim(ctx context.Context, c *v1alpha1.M2MClient, out *outcome, d credential.Decision) (verdict, error) {
	id, issuer := d.Record.ClientID, out.issuer
	chosen := d.Cause == credential.CauseIssued || d.Cause == credential.CauseDeposited && c.Spec.ClientID != ""
	if chosen && !out.allowed.ChosenClientIDs {
		return stalled(v1alpha1.ReasonClientIDNotPermitted, fmt.Sprintf(
			"the ClusterM2MIssuer %q doesn't let namespace %q choose client ids: ask for a grant with chosenClientIDs (spec.grants of the issuer), or create an M2MClient without spec.clientID and importFrom",
			issuer.Name, c.Namespace)), nil
	}
	taken := stalled(v1alpha1.ReasonClientIDTaken, fmt.Sprintf(
		"the client id %q belongs to another client or project: choose another for a new M2MClient", beginning(id, 128)))
	free, err := r.isFree(ctx, c, issuer, id)
	if err != nil || !free {
		return taken, err
	}
	r.claims.mu.Lock()
	defer r.claims.mu.Unlock()
	if r.claims.by == nil {
		r.claims.by = map[string]client.ObjectKey{}
	}
	name, me := idKey(issuer.Name, id), client.ObjectKeyFromObject(c)
	if by, ok := r.claims.by[name]; ok && by != me {
		return taken, nil
	}
	r.claims.by[name] = me
	return verdict{}, nil
}

// isFree tells whether no project and no other client has an id. A client that has
// a credential keeps its id; of those that have none, and may choose, the oldest
// comes first.
func (r *ClientReconciler) isFree(ctx context.Context, c *v1alpha1.M2MClient, issuer *v1alpha1.ClusterM2MIssuer, id string) (bool, error) {
	issuers := &v1alpha1.ClusterM2MIssuerList{}
	if err := r.Client.List(ctx, issuers, client.UnsafeDisableDeepCopy); err != nil {
		return false, err
	}
	for i := range issuers.Items {
		if issuers.Items[i].Spec.ProjectID == id {
			return false, nil
		}
	}
	others := &v1alpha1.M2MClientList{}
	if err := r.Client.List(ctx, others, client.MatchingFields{indexClientID: idKey(issuer.Name, id)}, client.UnsafeDisableDeepCopy); err != nil {
		return false, err
	}
	for i := range others.Items {
		other := &others.Items[i]
		has := other.Status.ClientID == id && other.Status.Seal != ""
		if other.UID == c.UID || !has && !older(other, c) {
			continue
		}
		if !has {
			var err error
			if has, err = r.mayChoose(ctx, other, issuer); err != nil {
				return false, err
			}
		}
		if has {
			return false, nil
		}
	}
	return true, nil
}

func (r *ClientReconciler) mayChoose(ctx context.Context, c *v1alpha1.M2MClient, issuer *v1alpha1.ClusterM2MIssuer) (bool, error) {
	namespace, err := r.namespace(ctx, c.Namespace)
	if err != nil || namespace == nil {
		return false, err
	}
	return policy.Allow(&issuer.Spec, policy.Namespace{Name: namespace.Name, Labels: namespace.Labels}).ChosenClientIDs, nil
}

func older(a, b *v1alpha1.M2MClient) bool {
	if !a.CreationTimestamp.Equal(&b.CreationTimestamp) {
		return a.CreationTimestamp.Before(&b.CreationTimestamp)
	}
	return a.UID < b.UID
}

func idKey(issuer, id string) string { return issuer + "/" + id }
