package controllers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/credential"
)

// Installation is what exists once for all clients: the pepper, and the issuer
// `default` that is made with it.
type Installation struct {
	base
	Namespace   string   // of the operator
	Within      []string // the namespaces whose clients it looks after; none means all
	Default     DefaultIssuer
	Propagation time.Duration // how long a secret is valid before it is visible

	mu     sync.Mutex
	loaded loadedPepper
	lost   lostPepper

	trusted trusted
}

// looksAfter tells whether the clients of a namespace are the operator's business.
func (i *Installation) looksAfter(namespace string) bool {
	return len(i.Within) == 0 || slices.Contains(i.Within, namespace)
}

// DefaultIssuer is what the issuer `default` will be. With no URL none is made.
type DefaultIssuer struct {
	URL         string
	Environment v1alpha1.Environment
	// APINamespace is where the management API makes clients; empty: it is closed.
	APINamespace string
	// GrantsNothing says that an administrator grants what clients may hold. Else all may
	// hold everything.
	GrantsNothing bool
}

// loadedPepper saves deriving the keys again for each client.
type loadedPepper struct {
	resourceVersion string
	pepper          *credential.Pepper
}

// lostPepper saves asking the API server again for each client of a lost pepper.
type lostPepper struct {
	err   *LostError
	until time.Time
}

// lostPepperRecheck is how long an answer about a lost pepper is believed; a
// pepper that comes back is seen at once.
const lostPepperRecheck = 10 * time.Second

// LostError says that keys which credentials depend on are gone or damaged. They
// are never silently made anew: that would cut off every client.
type LostError struct{ message string }

func (e *LostError) Error() string { return e.message }

// +kubebuilder:rbac:groups=m2m-operator.dev,resources=clusterm2missuers,verbs=create

// Start makes the pepper and the issuer `default` on the first start of all, and
// then looks after the pepper's keys. It implements manager.Runnable; only the
// leader runs it.
func (i *Installation) Start(ctx context.Context) error {
	backoff := wait.Backoff{Duration: time.Second, Factor: 2, Cap: time.Minute, Steps: 1 << 30}
	_ = wait.ExponentialBackoffWithContext(ctx, backoff, func(ctx context.Context) (bool, error) {
		_, err := i.Pepper(ctx)
		var lost *LostError
		switch {
		case errors.As(err, &lost):
			log.FromContext(ctx).Error(err, "No credential can be issued or checked")
			return true, nil
		case err != nil:
			log.FromContext(ctx).Error(err, "Can't set up the installation yet")
			return false, nil
		}
		return true, nil
	})
	i.rotatePepper(ctx)
	return nil
}

// Pepper returns the installation's pepper. It makes one where there is none and
// no credential depends on it; a [LostError] says that one is missing or damaged.
func (i *Installation) Pepper(ctx context.Context) (*credential.Pepper, error) {
	secret := &corev1.Secret{}
	err := i.Client.Get(ctx, i.pepperKey(), secret)
	if apierrors.IsNotFound(err) {
		secret, err = i.missingPepper(ctx)
	}
	if err != nil {
		return nil, err
	}
	if v1alpha1.IsMarked(secret) {
		return nil, &LostError{fmt.Sprintf("Secret %s, which every credential is checked with, was made for an M2MClient, so it could hold anybody's keys and is not used: delete it, and restore the pepper from a backup%s", i.pepperKey(), withoutBackup)}
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.loaded.pepper != nil && i.loaded.resourceVersion == secret.ResourceVersion {
		return i.loaded.pepper, nil
	}
	pepper, err := credential.ParsePepper(secret.Data)
	if err != nil && len(secret.Data) == 0 && secret.Annotations[annotationReplacePepper] == "true" {
		return i.replacePepper(ctx, secret)
	}
	if err != nil {
		return nil, &LostError{fmt.Sprintf("Secret %s, which every credential is checked with, is damaged (%v): restore it from a backup%s", i.pepperKey(), err, withoutBackup)}
	}
	i.loaded = loadedPepper{secret.ResourceVersion, pepper}
	return pepper, nil
}

// missingPepper handles a pepper that the cache doesn't have. The API server has
// the last word.
func (i *Installation) missingPepper(ctx context.Context) (*corev1.Secret, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.Now().Before(i.lost.until) {
		return nil, i.lost.err
	}
	secret := &corev1.Secret{}
	err := i.Live.Get(ctx, i.pepperKey(), secret)
	if err == nil || !apierrors.IsNotFound(err) {
		return secret, err
	}
	holder, err := i.credentialHolder(ctx)
	if err != nil {
		return nil, err
	}
	if holder != "" {
		i.lost.err = &LostError{fmt.Sprintf(
			"Secret %s, which every credential is checked with, is gone, and clients such as %s have credentials: restore it from a backup%s",
			i.pepperKey(), holder, withoutBackup)}
		i.lost.until = i.Now().Add(lostPepperRecheck)
		return nil, i.lost.err
	}
	// The issuer comes first: the pepper marks an installation as made, and an issuer
	// that a person deletes later doesn't come back.
	if err := i.createDefaultIssuer(ctx); err != nil {
		return nil, err
	}
	return i.createPepper(ctx)
}

// listPage is how many objects are asked for at a time.
const listPage = 500

// credentialHolder names a client that has a credential, if there is one: its status
// says so, or, where statuses were lost, its Secret does. Asked of the API server: on
// this answer all credentials depend.
func (i *Installation) credentialHolder(ctx context.Context) (string, error) {
	var holder string
	living := map[string]bool{}
	clients := &v1alpha1.M2MClientList{}
	err := eachPage(ctx, i.Live, i.Within, clients, listPage, func() (enough bool) {
		for n := range clients.Items {
			c := &clients.Items[n]
			if c.Status.Seal != "" || len(c.Status.Credentials) > 0 {
				holder = c.Namespace + "/" + c.Name
			}
			living[string(c.UID)] = true
		}
		return holder != ""
	})
	if err != nil {
		return "", fmt.Errorf("looking for clients that have credentials: %w", err)
	}
	if holder != "" || len(living) == 0 {
		return holder, nil
	}
	secrets := &metav1.PartialObjectMetadataList{}
	secrets.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("SecretList"))
	err = eachPage(ctx, i.Live, i.Within, secrets, listPage, func() (enough bool) {
		for n := range secrets.Items {
			s := &secrets.Items[n]
			if living[s.Annotations[v1alpha1.AnnotationClientUID]] && s.Annotations[v1alpha1.AnnotationSeal] != "" {
				holder = s.Namespace + "/" + s.Labels[v1alpha1.LabelClient]
			}
		}
		return holder != ""
	}, client.HasLabels{v1alpha1.LabelClient})
	if err != nil {
		return "", fmt.Errorf("looking for Secrets that hold credentials: %w", err)
	}
	return holder, nil
}

// eachPage lists page by page, until visit has enough: the API server is never asked for
// a whole large cluster at once. A cache has no pages: there size is 0. within are the
// namespaces that are listed; none means all.
func eachPage(ctx context.Context, from client.Reader, within []string, list client.ObjectList, size int64, visit func() (enough bool), which ...client.ListOption) error {
	if len(within) == 0 {
		_, err := eachPageOf(ctx, from, list, size, visit, which...)
		return err
	}
	for _, namespace := range within {
		enough, err := eachPageOf(ctx, from, list, size, visit, append(slices.Clone(which), client.InNamespace(namespace))...)
		if err != nil || enough {
			return err
		}
	}
	return nil
}

func eachPageOf(ctx context.Context, from client.Reader, list client.ObjectList, size int64, visit func() (enough bool), which ...client.ListOption) (enough bool, err error) {
	for {
		page := []client.ListOption{client.UnsafeDisableDeepCopy}
		if size > 0 {
			page = []client.ListOption{client.Limit(size), client.Continue(list.GetContinue())}
		}
		options := slices.Concat(which, page)
		if err := from.List(ctx, list, options...); err != nil {
			return false, err
		}
		if enough := visit(); enough || size == 0 || list.GetContinue() == "" {
			return enough, nil
		}
	}
}

func (i *Installation) createPepper(ctx context.Context) (*corev1.Secret, error) {
	pepper, err := credential.NewPepper(i.Rand)
	if err != nil {
		return nil, err
	}
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: i.Namespace,
			Name:      v1alpha1.PepperSecret,
			Labels:    map[string]string{v1alpha1.LabelManagedBy: v1alpha1.ManagedBy},
		},
		Data: pepper.Data(),
	}
	if err := i.Client.Create(ctx, secret); err != nil {
		return nil, fmt.Errorf("creating the pepper, Secret %s: %w", i.pepperKey(), err)
	}
	log.FromContext(ctx).Info("Made the pepper; back it up with the signing keys", "secret", i.pepperKey())
	i.Events.Eventf(secret, nil, corev1.EventTypeNormal, "PepperCreated", "Create", "every credential is checked with this Secret: back it up")
	return secret, nil
}

// annotationReplacePepper, on an empty Secret of the pepper's name, accepts that the
// pepper is lost: a new one is made.
const annotationReplacePepper = "m2m-operator.dev/replace-lost-pepper"

const withoutBackup = "; if there is none, create it empty with the annotation " + annotationReplacePepper + "=true: " +
	"then each client gets a new secret when its annotation " + v1alpha1.AnnotationRotate + " is set to a new text"

// replacePepper fills the empty Secret of a person who accepts that the pepper is lost.
func (i *Installation) replacePepper(ctx context.Context, secret *corev1.Secret) (*credential.Pepper, error) {
	pepper, err := credential.NewPepper(i.Rand)
	if err != nil {
		return nil, err
	}
	secret = secret.DeepCopy()
	if secret.Labels == nil {
		secret.Labels = map[string]string{}
	}
	secret.Labels[v1alpha1.LabelManagedBy] = v1alpha1.ManagedBy
	delete(secret.Annotations, annotationReplacePepper)
	secret.Data = pepper.Data()
	if err := i.Client.Update(ctx, secret); err != nil {
		return nil, err
	}
	i.Events.Eventf(secret, nil, corev1.EventTypeWarning, "PepperReplaced", "Update", "the pepper was given up for lost: every credential from before waits for a rotation")
	i.loaded = loadedPepper{secret.ResourceVersion, pepper}
	return pepper, nil
}

func (i *Installation) createDefaultIssuer(ctx context.Context) error {
	if i.Default.URL == "" {
		return nil
	}
	uuid, err := credential.NewUUID(i.Rand)
	if err != nil {
		return err
	}
	projectID := "project-live-" + uuid
	if i.Default.Environment == v1alpha1.EnvironmentTest {
		projectID = "project-test-" + uuid
	}
	issuer := &v1alpha1.ClusterM2MIssuer{
		ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.DefaultIssuer},
		Spec: v1alpha1.ClusterM2MIssuerSpec{
			URL:         i.Default.URL,
			ProjectID:   projectID,
			Environment: i.Default.Environment,
		},
	}
	if !i.Default.GrantsNothing {
		issuer.Spec.Grants = []v1alpha1.Grant{{
			Namespaces: v1alpha1.NamespaceSelection{Names: []string{"*"}},
			Scopes:     []string{"*"}, Audiences: []v1alpha1.Audience{"*"}, MetadataKeys: []string{"*"},
			ChosenClientIDs: true,
		}}
	}
	if i.Default.APINamespace != "" {
		issuer.Spec.ManagementAPI = &v1alpha1.ManagementAPISpec{Namespace: i.Default.APINamespace}
	}
	err = i.Client.Create(ctx, issuer)
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("creating ClusterM2MIssuer %q: %w", v1alpha1.DefaultIssuer, err)
	}
	log.FromContext(ctx).Info("Made the default issuer", "url", i.Default.URL, "projectID", projectID)
	return nil
}

func (i *Installation) pepperKey() client.ObjectKey {
	return client.ObjectKey{Namespace: i.Namespace, Name: v1alpha1.PepperSecret}
}
