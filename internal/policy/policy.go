// Package policy says what a client effectively holds: what its manifest asks for,
// within what its issuer allows. The controller and the token servers compute it
// by the same pure function, so that a condition and a token never disagree.
package policy

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/claims"
	"github.com/m2m-operator/m2m-operator/internal/jws"
)

// What holds where an issuer says nothing.
const (
	DefaultLifetime    = time.Hour
	DefaultMinLifetime = time.Minute
	DefaultMaxLifetime = 24 * time.Hour
)

// MaxMetadataBytes bounds trustedMetadata, as compact JSON. What is larger is
// never put into a token.
const MaxMetadataBytes = 4096

// Violation is something that a manifest asks for and doesn't get.
type Violation struct {
	Reason  string // a condition's reason
	Message string // what happened and what to do
}

// Effective is what a client holds.
type Effective struct {
	Active   bool
	Scopes   []string
	Lifetime time.Duration
	// Audiences is the complete `aud` claim; with the RFC9068 profile a request may ask
	// for some of them.
	Audiences []string
	Metadata  map[string]apiextensionsv1.JSON // what of trustedMetadata counts
	// PublicKeys check what the client signs.
	PublicKeys jws.KeySet
	// SecretMetadata is what of the template's labels and annotations the Secret gets.
	SecretMetadata v1alpha1.SecretMetadata
	// Ambiguous are the scopes that verifiers of the issuer's profile read differently.
	Ambiguous  []string
	Violations []Violation // none: the client is what its manifest says
}

// Resolve computes what a client of an issuer holds, within what is allowed to its
// namespace.
func Resolve(client *v1alpha1.M2MClientSpec, issuer *v1alpha1.ClusterM2MIssuerSpec, allowed Allowance) Effective {
	e := Effective{Active: client.State != v1alpha1.ClientInactive}
	var refused refusals
	e.Scopes, refused.scopes = allowed.scopes.divide(client.Scopes)
	e.Audiences, refused.audiences = audiences(client.Token, issuer, allowed)
	e.Metadata, refused.metadataKeys = let(client.TrustedMetadata, allowed.metadataKeys)
	e.note(refused.violation())
	e.note(e.secretMetadata(client.Secret, issuer.SecretMetadata))

	var outside *Violation
	e.Lifetime, outside = lifetime(client.Token, issuer.Token)
	e.note(outside)
	if size := metadataSize(client.TrustedMetadata); size > MaxMetadataBytes {
		e.Metadata = nil
		e.note(&Violation{v1alpha1.ReasonMetadataTooLarge, fmt.Sprintf(
			"spec.trustedMetadata has %d bytes of compact JSON, more than %d, and is not used: make it smaller", size, MaxMetadataBytes)})
	}
	var unusable *Violation
	e.PublicKeys, unusable = publicKeys(client.PublicKeys)
	e.note(unusable)
	if Profile(issuer) == v1alpha1.ProfileStytch {
		e.Ambiguous = ambiguous(e.Scopes)
	}
	return e
}

// Claims puts what a client holds into its issuer's template of custom claims. The error
// says what can't be used; there are no custom claims then.
func (e *Effective) Claims(template *claims.Template, clientID, namespace string) (claims.Bound, error) {
	if template == nil {
		return claims.Bound{}, nil
	}
	c := claims.Client{ID: clientID, Namespace: namespace, Metadata: map[string]json.RawMessage{}}
	for key, value := range e.Metadata {
		c.Metadata[key] = value.Raw
	}
	return template.Bind(c)
}

func (e *Effective) note(v *Violation) {
	if v != nil {
		e.Violations = append(e.Violations, *v)
	}
}

// IssuerName returns the name of a client's issuer.
func IssuerName(client *v1alpha1.M2MClientSpec) string {
	if client.IssuerRef != nil && client.IssuerRef.Name != "" {
		return client.IssuerRef.Name
	}
	return v1alpha1.DefaultIssuer
}

// IssuerLifetime returns the lifetime of tokens of clients that set none, and the
// bounds for those that do.
func IssuerLifetime(token *v1alpha1.IssuerTokenSpec) (lifetime, shortest, longest time.Duration) {
	lifetime, shortest, longest = DefaultLifetime, DefaultMinLifetime, DefaultMaxLifetime
	if token == nil {
		return
	}
	for dst, src := range map[*time.Duration]*metav1.Duration{
		&lifetime: token.Lifetime, &shortest: token.MinLifetime, &longest: token.MaxLifetime,
	} {
		if src != nil {
			*dst = src.Duration
		}
	}
	return
}

// lifetime keeps within the issuer's bounds, and says so where that changes what was asked for.
func lifetime(client *v1alpha1.TokenSpec, issuer *v1alpha1.IssuerTokenSpec) (time.Duration, *Violation) {
	fallback, shortest, longest := IssuerLifetime(issuer)
	if client == nil || client.Lifetime == nil {
		return fallback, nil
	}
	asked := client.Lifetime.Duration
	given := min(max(asked, shortest), longest)
	if given == asked {
		return given, nil
	}
	return given, &Violation{v1alpha1.ReasonLifetimeOutOfBounds, fmt.Sprintf(
		"spec.token.lifetime is %s, outside the issuer's bounds of %s to %s: tokens live %s; choose a lifetime within the bounds",
		asked, shortest, longest, given)}
}

// Profile returns the form of an issuer's tokens.
func Profile(issuer *v1alpha1.ClusterM2MIssuerSpec) v1alpha1.TokenProfile {
	if issuer.Token == nil || issuer.Token.Profile == "" {
		return v1alpha1.ProfileStytch
	}
	return issuer.Token.Profile
}

// IssuerClaim returns the `iss` claim of an issuer's tokens.
func IssuerClaim(issuer *v1alpha1.ClusterM2MIssuerSpec) string {
	if issuer.Token != nil && issuer.Token.Issuer != "" {
		return issuer.Token.Issuer
	}
	return issuer.URL
}

// audiences returns the complete `aud` claim of a client's tokens, and what of it was
// refused: its own audiences as far as they are granted, or the issuer's. The project
// id comes first with the Stytch profile, and stands in where nothing else is named
// with the other.
func audiences(client *v1alpha1.TokenSpec, issuer *v1alpha1.ClusterM2MIssuerSpec, allowed Allowance) (complete, refused []string) {
	var named []string
	switch {
	case client != nil && len(client.Audiences) > 0:
		named, refused = divideAudiences(client.Audiences, allowed, issuer.ProjectID)
	case issuer.Token != nil:
		for _, a := range issuer.Token.Audiences {
			named = append(named, string(a))
		}
	}
	if len(named) == 0 || Profile(issuer) == v1alpha1.ProfileStytch {
		complete = append(complete, issuer.ProjectID)
	}
	for _, a := range named {
		if !slices.Contains(complete, a) {
			complete = append(complete, a)
		}
	}
	return complete, refused
}

// divideAudiences tells the granted audiences from the others. The project id is
// everybody's.
func divideAudiences(asked []v1alpha1.Audience, allowed Allowance, projectID string) (granted, refused []string) {
	for _, a := range asked {
		if string(a) == projectID || allowed.audiences.match(string(a)) {
			granted = append(granted, string(a))
		} else {
			refused = append(refused, string(a))
		}
	}
	return granted, refused
}

// secretMetadata takes the labels and annotations that the issuer lets through, and tells
// of the others.
func (e *Effective) secretMetadata(secret *v1alpha1.SecretSpec, allowed *v1alpha1.SecretMetadataAllowance) *Violation {
	if secret == nil || secret.Template == nil || secret.Template.Metadata == nil {
		return nil
	}
	asked := secret.Template.Metadata
	if allowed == nil {
		e.SecretMetadata = *asked
		return nil
	}
	var labels, annotations []string
	e.SecretMetadata.Labels, labels = let(asked.Labels, allowed.Labels)
	e.SecretMetadata.Annotations, annotations = let(asked.Annotations, allowed.Annotations)
	if len(labels)+len(annotations) == 0 {
		return nil
	}
	return &Violation{v1alpha1.ReasonNotGranted, fmt.Sprintf(
		"the issuer doesn't let clients put %s on their Secrets: the Secret comes without; leave them out of spec.secret.template.metadata, or ask who runs the issuer (spec.secretMetadata)",
		enumerate(slices.Concat(labels, annotations)))}
}

// let divides metadata by its keys into what is let through and the keys of the rest.
func let[V any](asked map[string]V, allowed patterns) (granted map[string]V, refused []string) {
	for key, value := range asked {
		if !allowed.match(key) {
			refused = append(refused, key)
			continue
		}
		if granted == nil {
			granted = map[string]V{}
		}
		granted[key] = value
	}
	slices.Sort(refused)
	return granted, refused
}

// publicKeys reads a client's keys. One that can't be used makes all of them unusable:
// which assertions count mustn't depend on what was meant.
func publicKeys(set *v1alpha1.PublicKeySet) (jws.KeySet, *Violation) {
	if set == nil {
		return jws.KeySet{}, nil
	}
	encoded, err := json.Marshal(set)
	if err != nil {
		return jws.KeySet{}, &Violation{v1alpha1.ReasonInvalidPublicKeys, "spec.publicKeys can't be read: " + err.Error()}
	}
	keys, err := jws.ParsePublicKeys(encoded)
	if err != nil {
		return jws.KeySet{}, &Violation{v1alpha1.ReasonInvalidPublicKeys, "spec.publicKeys is not used: " + err.Error()}
	}
	return keys, nil
}

// ambiguous returns the scopes with a second colon: of Stytch's SDKs some divide a
// scope at the first and some at the last.
func ambiguous(scopes []string) []string {
	var found []string
	for _, s := range scopes {
		if strings.Count(s, ":") > 1 {
			found = append(found, s)
		}
	}
	return found
}

// metadataSize is the size of trusted metadata as compact JSON. The API server
// stores the values compact.
func metadataSize(metadata map[string]apiextensionsv1.JSON) int {
	size := len("{}")
	for key, value := range metadata {
		quoted, _ := json.Marshal(key) // a string always encodes
		size += len(quoted) + len(":") + len(value.Raw) + len(",")
	}
	if len(metadata) > 0 {
		size-- // the last has no comma
	}
	return size
}

// Precedes orders issuers that claim one URL or project id: the older wins, and
// of two made in one second the one whose name sorts first.
func Precedes(a, b *v1alpha1.ClusterM2MIssuer) bool {
	if !a.CreationTimestamp.Equal(&b.CreationTimestamp) {
		return a.CreationTimestamp.Before(&b.CreationTimestamp)
	}
	return a.Name < b.Name
}

// Rival returns the issuer that an issuer has to give way to, or nil.
func Rival(issuer *v1alpha1.ClusterM2MIssuer, all []v1alpha1.ClusterM2MIssuer) *v1alpha1.ClusterM2MIssuer {
	for i := range all {
		other := &all[i]
		if other.Name != issuer.Name && claimOne(&other.Spec, &issuer.Spec) && Precedes(other, issuer) {
			return other
		}
	}
	return nil
}

// claimOne tells whether requests or verifiers would confuse two issuers.
func claimOne(a, b *v1alpha1.ClusterM2MIssuerSpec) bool {
	return a.URL == b.URL || a.ProjectID == b.ProjectID || IssuerClaim(a) == IssuerClaim(b)
}
