package controllers

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/certificate"
	"github.com/m2m-operator/m2m-operator/internal/credential"
)

// annotationTemplate lists, on a Secret, the labels and annotations that came from
// the client's template, so that one that leaves the template leaves the Secret,
// while those that others put there stay.
const annotationTemplate = "m2m-operator.dev/template"

// secretName returns the name of a client's Secret.
func secretName(client *v1alpha1.M2MClient) string {
	if client.Spec.Secret != nil && client.Spec.Secret.Name != "" {
		return client.Spec.Secret.Name
	}
	return client.Name
}

// hasSecret tells whether a client has a secret, and a Secret to deliver it.
func hasSecret(client *v1alpha1.M2MClient) bool { return deliveryOf(client) == v1alpha1.DeliverySecret }

func deliveryOf(client *v1alpha1.M2MClient) v1alpha1.SecretDelivery {
	if client.Spec.Secret != nil && client.Spec.Secret.Delivery != "" {
		return client.Spec.Secret.Delivery
	}
	return v1alpha1.DeliverySecret
}

func deletionPolicy(client *v1alpha1.M2MClient) v1alpha1.DeletionPolicy {
	if client.Spec.Secret != nil && client.Spec.Secret.DeletionPolicy != "" {
		return client.Spec.Secret.DeletionPolicy
	}
	return v1alpha1.DeletionDelete
}

// observe classifies what stands where a client's Secret should be.
func observe(client *v1alpha1.M2MClient, secret *corev1.Secret, pepper *credential.Pepper) credential.ObservedSecret {
	switch {
	case secret == nil:
		return credential.ObservedSecret{State: credential.SecretAbsent}
	case belongsTo(secret, client):
		return open(secret, string(client.UID), pepper)
	case importsFrom(client, secret):
		return credential.ObservedSecret{State: credential.SecretAbsent} // to be taken over
	default:
		return credential.ObservedSecret{State: credential.SecretForeign}
	}
}

// open reads what a Secret says that was made for the client with a UID.
func open(secret *corev1.Secret, uid string, pepper *credential.Pepper) credential.ObservedSecret {
	observed := credential.ObservedSecret{State: credential.SecretAltered}
	current := identityOf(secret, uid, false)
	next := identityOf(secret, uid, true)
	observed.ClientID, observed.Version, observed.Next.Version = current.ClientID, current.Version, next.Version
	// Whatever key holds it: the seal says which value is the secret, so that keys
	// can be renamed.
	for _, value := range secret.Data {
		switch pepper.CheckSecret(current, string(value), secret.Annotations[v1alpha1.AnnotationSeal]) {
		case credential.SealValid:
			observed.State, observed.Value = credential.SecretSealed, string(value)
		case credential.SealUnknownKey:
			observed.State = credential.SecretUnknownKey
		}
		if pepper.CheckSecret(next, string(value), secret.Annotations[v1alpha1.AnnotationNextSeal]) == credential.SealValid {
			observed.Next.Value = string(value)
		}
	}
	return observed
}

// identityOf is what a Secret's seal binds its secret to. A version that can't be
// read is one that no seal holds for.
func identityOf(secret *corev1.Secret, uid string, next bool) credential.SecretIdentity {
	annotation := v1alpha1.AnnotationVersion
	if next {
		annotation = v1alpha1.AnnotationNextVersion
	}
	version, _ := credential.ParseVersion(secret.Annotations[annotation])
	return credential.SecretIdentity{
		UID:       uid,
		Namespace: secret.Namespace,
		Name:      secret.Name,
		ClientID:  secret.Annotations[v1alpha1.AnnotationClientID],
		Version:   version,
		Next:      next,
	}
}

// belongsTo tells whether the operator made the Secret for this client. A Secret
// that outlives its client (Retain) has no owner, so an annotation names it too.
func belongsTo(secret *corev1.Secret, client *v1alpha1.M2MClient) bool {
	if uid, ok := secret.Annotations[v1alpha1.AnnotationClientUID]; ok {
		return uid == string(client.UID)
	}
	return metav1.IsControlledBy(secret, client)
}

// delivery is all that a client's Secret says.
type delivery struct {
	clientID string
	material credential.Material
	next     credential.Material // zero: no secret is staged
	tokenURL string
	issuer   string
	jwksURL  string
	scopes   []string
	metadata v1alpha1.SecretMetadata // of the template
	ca       string                  // in PEM; empty: the system's authorities do
}

// renderSecret returns a Secret of a client as it should be. What others added to
// the metadata of an existing one is kept; data is the operator's alone.
func renderSecret(client *v1alpha1.M2MClient, name string, existing *corev1.Secret, d delivery, pepper *credential.Pepper) (*corev1.Secret, error) {
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: client.Namespace, Name: name},
		Type:       corev1.SecretTypeOpaque,
	}
	if existing != nil {
		secret = existing.DeepCopy()
	}
	var err error
	if secret.Data, err = renderData(client, d); err != nil {
		return nil, err
	}
	renderMetadata(client, secret, d, pepper)
	renderOwner(client, secret)
	return secret, nil
}

func renderData(client *v1alpha1.M2MClient, d delivery) (map[string][]byte, error) {
	template := secretTemplate(client)
	keys := v1alpha1.SecretKeys{}
	if template.Keys != nil {
		keys = *template.Keys
	}
	standard := []struct {
		name  string
		key   v1alpha1.SecretKey
		value string
	}{
		{"client_id", keys.ClientID, d.clientID},
		{"client_secret", keys.ClientSecret, d.material.Value},
		{"token_url", keys.TokenURL, d.tokenURL},
		{"issuer", keys.Issuer, d.issuer},
		{"jwks_url", keys.JWKSURL, d.jwksURL},
		{"scopes", keys.Scopes, strings.Join(d.scopes, " ")},
	}
	data := map[string][]byte{}
	values := map[string]string{}
	for _, s := range standard {
		values[s.name] = s.value
		data[cmp.Or(string(s.key), s.name)] = []byte(s.value)
	}
	if d.ca != "" {
		data[authorityKey(client)] = []byte(d.ca)
	}
	if d.next.Value != "" {
		data[cmp.Or(string(keys.NextClientSecret), "next_client_secret")] = []byte(d.next.Value)
	}
	for _, key := range slices.Sorted(maps.Keys(template.Data)) {
		text, err := compose(string(template.Data[key]), values)
		if err != nil {
			return nil, fmt.Errorf("spec.secret.template.data[%q]: %w", key, err)
		}
		data[key] = []byte(text)
	}
	return data, nil
}

// authorityKey is the key under which a client's Secret has what its token endpoint is
// trusted by.
func authorityKey(client *v1alpha1.M2MClient) string {
	if keys := secretTemplate(client).Keys; keys != nil {
		return cmp.Or(string(keys.CACertificate), v1alpha1.AuthorityBundleKey)
	}
	return v1alpha1.AuthorityBundleKey
}

func renderMetadata(client *v1alpha1.M2MClient, secret *corev1.Secret, d delivery, pepper *credential.Pepper) {
	labels, annotations := maps.Clone(secret.Labels), maps.Clone(secret.Annotations)
	if labels == nil {
		labels = map[string]string{}
	}
	if annotations == nil {
		annotations = map[string]string{}
	}
	dropTemplated(labels, annotations)
	applyTemplate(d.metadata, labels, annotations)
	labels[v1alpha1.LabelManagedBy] = v1alpha1.ManagedBy
	labels[v1alpha1.LabelClient] = client.Name
	delete(labels, v1alpha1.LabelAdopt) // it counts once
	delete(annotations, v1alpha1.AnnotationKeepUntil)
	annotations[v1alpha1.AnnotationClientUID] = string(client.UID)
	annotations[v1alpha1.AnnotationClientID] = d.clientID
	delete(annotations, v1alpha1.AnnotationAuthority)
	if d.ca != "" {
		annotations[v1alpha1.AnnotationAuthority] = certificate.ID([]byte(d.ca))
	}
	secret.Labels, secret.Annotations = labels, annotations
	seal(secret, string(client.UID), d.material, pepper, v1alpha1.AnnotationVersion, v1alpha1.AnnotationSeal)
	seal(secret, string(client.UID), d.next, pepper, v1alpha1.AnnotationNextVersion, v1alpha1.AnnotationNextSeal)
}

// seal binds a secret to its client by annotations. A seal that holds is kept,
// though an older pepper key made it: a new one would be a write for nothing.
func seal(secret *corev1.Secret, uid string, m credential.Material, pepper *credential.Pepper, versionKey, sealKey string) {
	if m.Value == "" {
		delete(secret.Annotations, versionKey)
		delete(secret.Annotations, sealKey)
		return
	}
	secret.Annotations[versionKey] = m.Version.String()
	identity := identityOf(secret, uid, sealKey == v1alpha1.AnnotationNextSeal)
	if pepper.CheckSecret(identity, m.Value, secret.Annotations[sealKey]) != credential.SealValid {
		secret.Annotations[sealKey] = pepper.SealSecret(identity, m.Value)
	}
}

// templated is the content of annotationTemplate.
type templated struct {
	Labels      []string `json:"labels,omitempty"`
	Annotations []string `json:"annotations,omitempty"`
}

// dropTemplated removes what an earlier template added. Someone may have edited
// the list: the operator's own keys are set afterwards, and anything else that it
// names is metadata that they could have removed themselves.
func dropTemplated(labels, annotations map[string]string) {
	var added templated
	if json.Unmarshal([]byte(annotations[annotationTemplate]), &added) != nil {
		added = templated{}
	}
	for _, key := range added.Labels {
		delete(labels, key)
	}
	for _, key := range added.Annotations {
		if !strings.HasPrefix(key, "m2m-operator.dev/") {
			delete(annotations, key)
		}
	}
	delete(annotations, annotationTemplate)
}

func applyTemplate(metadata v1alpha1.SecretMetadata, labels, annotations map[string]string) {
	if len(metadata.Labels)+len(metadata.Annotations) == 0 {
		return
	}
	added := templated{
		Labels:      slices.Sorted(maps.Keys(metadata.Labels)),
		Annotations: slices.Sorted(maps.Keys(metadata.Annotations)),
	}
	for key, value := range metadata.Labels {
		labels[key] = string(value)
	}
	for key, value := range metadata.Annotations {
		annotations[key] = string(value)
	}
	list, _ := json.Marshal(added) // strings always encode
	annotations[annotationTemplate] = string(list)
}

// renderOwner makes garbage collection remove the Secret with its client, or,
// with Retain, not. Other owners are left alone.
func renderOwner(client *v1alpha1.M2MClient, secret *corev1.Secret) {
	owners := slices.DeleteFunc(slices.Clone(secret.OwnerReferences), func(o metav1.OwnerReference) bool { return o.UID == client.UID })
	if deletionPolicy(client) == v1alpha1.DeletionDelete {
		isController := true
		owners = append(owners, metav1.OwnerReference{
			APIVersion: v1alpha1.SchemeGroupVersion.String(),
			Kind:       "M2MClient",
			Name:       client.Name,
			UID:        client.UID,
			Controller: &isController,
		})
	}
	secret.OwnerReferences = owners
}

func secretTemplate(client *v1alpha1.M2MClient) v1alpha1.SecretTemplate {
	if client.Spec.Secret == nil || client.Spec.Secret.Template == nil {
		return v1alpha1.SecretTemplate{}
	}
	return *client.Spec.Secret.Template
}

// sameSecret tells whether an update would change nothing.
func sameSecret(a, b *corev1.Secret) bool {
	return equality.Semantic.DeepEqual(a.Data, b.Data) &&
		equality.Semantic.DeepEqual(a.Labels, b.Labels) &&
		equality.Semantic.DeepEqual(a.Annotations, b.Annotations) &&
		equality.Semantic.DeepEqual(a.OwnerReferences, b.OwnerReferences)
}
