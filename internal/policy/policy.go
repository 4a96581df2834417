// Package policy says what a client effectively holds: what its manifest asks for,
// within what its issuer allows. The controller and the token servers compute it
// by the same pure function, so that a condition and a token never disagree.
package policy

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
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
	Active    bool
	Scopes    []string
	Lifetime  time.Duration
	Audiences []string   // the complete `aud` claim
	Violation *Violation // the first one; nil: the client is what its manifest says
}

// Resolve computes what a client of an issuer holds.
func Resolve(client *v1alpha1.M2MClientSpec, issuer *v1alpha1.ClusterM2MIssuerSpec) Effective {
	e := Effective{
		Active:    client.State != v1alpha1.ClientInactive,
		Scopes:    client.Scopes,
		Audiences: Audiences(client.Token, issuer),
	}
	e.Lifetime, e.Violation = lifetime(client.Token, issuer.Token)
	if size := metadataSize(client.TrustedMetadata); size > MaxMetadataBytes {
		e.Violation = &Violation{v1alpha1.ReasonMetadataTooLarge, fmt.Sprintf(
			"spec.trustedMetadata has %d bytes of compact JSON, more than %d, and is not used: make it smaller", size, MaxMetadataBytes)}
	}
	return e
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

// Audiences returns the complete `aud` claim of a client's tokens: its own
// audiences, or the issuer's. The project id comes first with the Stytch profile,
// and stands in where nothing else is named with the other.
func Audiences(client *v1alpha1.TokenSpec, issuer *v1alpha1.ClusterM2MIssuerSpec) []string {
	var named []v1alpha1.Audience
	if issuer.Token != nil {
		named = issuer.Token.Audiences
	}
	if client != nil && len(client.Audiences) > 0 {
		named = client.Audiences
	}
	var audiences []string
	if len(named) == 0 || Profile(issuer) == v1alpha1.ProfileStytch {
		audiences = append(audiences, issuer.ProjectID)
	}
	for _, a := range named {
		if !slices.Contains(audiences, string(a)) {
			audiences = append(audiences, string(a))
		}
	}
	return audiences
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
		claims := other.Spec.URL == issuer.Spec.URL || other.Spec.ProjectID == issuer.Spec.ProjectID
		if other.Name != issuer.Name && claims && Precedes(other, issuer) {
			return other
		}
	}
	return nil
}
