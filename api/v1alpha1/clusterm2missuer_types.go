package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ClusterM2MIssuer signs the tokens of the clients that name it: what Stytch calls
// a project. Its signing key is a Secret in the operator's namespace. The operator
// makes the issuer `default` once, when it is installed; it serves every namespace.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=m2missuer,categories=m2m-operator
// +kubebuilder:printcolumn:name="URL",type=string,JSONPath=`.spec.url`
// +kubebuilder:printcolumn:name="Project ID",type=string,JSONPath=`.spec.projectID`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 63",message="metadata.name must be at most 63 characters: choose a shorter name"
type ClusterM2MIssuer struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what the issuer should be.
	// +required
	Spec ClusterM2MIssuerSpec `json:"spec"`

	// status is what the issuer is. Only the operator writes it.
	// +optional
	Status ClusterM2MIssuerStatus `json:"status,omitzero"`
}

// ClusterM2MIssuerSpec is what an issuer should be.
//
// +kubebuilder:validation:XValidation:rule="(has(self.environment) ? self.environment : 'Live') == (has(oldSelf.environment) ? oldSelf.environment : 'Live')",message="spec.environment can't be changed, because it shows in the ids of existing clients: create another issuer instead"
// +kubebuilder:validation:XValidation:rule="(has(self.token) && has(self.token.profile) ? self.token.profile : 'Stytch') == (has(oldSelf.token) && has(oldSelf.token.profile) ? oldSelf.token.profile : 'Stytch')",message="spec.token.profile can't be changed, because services verify tokens of this profile: create another issuer instead"
// +kubebuilder:validation:XValidation:rule="(has(self.signing) && has(self.signing.algorithm) ? self.signing.algorithm : 'ES256') == (has(oldSelf.signing) && has(oldSelf.signing.algorithm) ? oldSelf.signing.algorithm : 'ES256')",message="spec.signing.algorithm can't be changed, because services verify tokens of this algorithm: create another issuer instead"
// +kubebuilder:validation:XValidation:rule="(has(self.token) && has(self.token.profile) ? self.token.profile : 'Stytch') != 'Stytch' || !self.url.matches('^https?://[^/]+/')",message="with the Stytch profile spec.url has no path: write only scheme and host, such as https://auth.example.com, or set token.profile to RFC9068"
type ClusterM2MIssuerSpec struct {
	// url of the issuer: the `iss` claim of its tokens, and what its endpoints' URLs
	// begin with. https, or http on the loopback interface; no query, fragment or
	// trailing slash (RFC 8414 section 2); no path with the Stytch profile. It can't
	// be changed.
	// +required
	// +kubebuilder:validation:MinLength=8
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:XValidation:rule="self.matches('^https://') || self.matches('^http://(127[.][0-9]+[.][0-9]+[.][0-9]+|localhost|\\\\[::1\\\\])(:[0-9]+)?(/|$)')",message="url must begin with https:// (http:// is for loopback addresses only)"
	// +kubebuilder:validation:XValidation:rule="self.matches('^https?://([a-z0-9]([-a-z0-9.]*[a-z0-9])?|\\\\[[0-9a-f:.]+\\\\])(:[0-9]{1,5})?(/[-A-Za-z0-9._~]+)*$')",message="url must be scheme, lower case host, optional port and optional path, without user, query, fragment or trailing slash, such as https://auth.example.com"
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="url can't be changed, because tokens and verifiers name it: create another issuer instead"
	URL string `json:"url"`

	// projectID names the issuer in the paths of its endpoints and in the `aud`
	// claim of its tokens, such as `project-live-4b6f...`. It can't be changed.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:XValidation:rule="self.matches('^[A-Za-z0-9][-A-Za-z0-9_]*$')",message="projectID must be letters, digits, '-' and '_', starting with a letter or digit"
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="projectID can't be changed, because tokens and token URLs name it: create another issuer instead"
	ProjectID string `json:"projectID"`

	// environment shows in the ids of clients: Live, also where it is absent, or
	// Test. It can't be changed.
	// +optional
	// +kubebuilder:validation:XValidation:rule="self in ['Live', 'Test']",message="environment must be Live or Test"
	// +kubebuilder:validation:MaxLength=16
	Environment Environment `json:"environment,omitempty"`

	// signing says how tokens are signed.
	// +optional
	Signing *SigningSpec `json:"signing,omitempty"`

	// token says what tokens are like.
	// +optional
	Token *IssuerTokenSpec `json:"token,omitempty"`

	// chosenClientIDs says who may choose client ids (spec.clientID of an M2MClient, or
	// an import). Nobody where it is absent.
	// +optional
	ChosenClientIDs *ChosenClientIDs `json:"chosenClientIDs,omitempty"`
}

// ChosenClientIDs says who may choose client ids.
type ChosenClientIDs struct {
	// namespaces whose M2MClients may choose their ids; `*` stands for all.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self.all(n, n == '*' || n.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$'))",message="chosenClientIDs.namespaces must be names of namespaces, or * for all"
	Namespaces []string `json:"namespaces,omitempty"`
}

// Environment is what an issuer is for.
type Environment string

const (
	// EnvironmentLive is for production.
	EnvironmentLive Environment = "Live"
	// EnvironmentTest is for all else.
	EnvironmentTest Environment = "Test"
)

// SigningSpec says how tokens are signed.
type SigningSpec struct {
	// algorithm of the signatures (RFC 7518 section 3.1): ES256, also where it is
	// absent, ES384, RS256, RS384, PS256 or EdDSA. Stytch's Python SDK takes RS256
	// only. It can't be changed.
	// +optional
	// +kubebuilder:validation:XValidation:rule="self in ['ES256', 'ES384', 'RS256', 'RS384', 'PS256', 'EdDSA']",message="algorithm must be one of ES256, ES384, RS256, RS384, PS256, EdDSA"
	// +kubebuilder:validation:MaxLength=16
	Algorithm string `json:"algorithm,omitempty"`
}

// IssuerTokenSpec says what an issuer's tokens are like.
//
// +kubebuilder:validation:XValidation:rule="duration(has(self.minLifetime) ? self.minLifetime : '1m') <= duration(has(self.lifetime) ? self.lifetime : '1h') && duration(has(self.lifetime) ? self.lifetime : '1h') <= duration(has(self.maxLifetime) ? self.maxLifetime : '24h')",message="the token lifetimes must be in order, minLifetime <= lifetime <= maxLifetime (where absent they are 1m, 1h and 24h): set the others too"
type IssuerTokenSpec struct {
	// profile is the form of the tokens. Stytch, also where it is absent, gives what
	// the SDKs of Stytch verify; RFC9068 gives JWT access tokens of RFC 9068. It
	// can't be changed.
	// +optional
	// +kubebuilder:validation:XValidation:rule="self in ['Stytch', 'RFC9068']",message="profile must be Stytch or RFC9068"
	// +kubebuilder:validation:MaxLength=16
	Profile TokenProfile `json:"profile,omitempty"`

	// lifetime of tokens of clients that don't set their own; 1h where it is absent.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,4}h)?([0-9]{1,5}m)?([0-9]{1,6}s)?$') && size(self) > 1 && duration(self) >= duration('1m') && duration(self) <= duration('168h')",message="a token lifetime is written in hours, minutes and seconds, such as 30m or 1h30m, and lies between 1m and 168h"
	Lifetime *metav1.Duration `json:"lifetime,omitempty"`

	// minLifetime is the shortest lifetime that a client may set; 1m where it is absent.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,4}h)?([0-9]{1,5}m)?([0-9]{1,6}s)?$') && size(self) > 1 && duration(self) >= duration('1m') && duration(self) <= duration('168h')",message="a token lifetime is written in hours, minutes and seconds, such as 30m or 1h30m, and lies between 1m and 168h"
	MinLifetime *metav1.Duration `json:"minLifetime,omitempty"`

	// maxLifetime is the longest lifetime that a client may set; 24h where it is absent.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,4}h)?([0-9]{1,5}m)?([0-9]{1,6}s)?$') && size(self) > 1 && duration(self) >= duration('1m') && duration(self) <= duration('168h')",message="a token lifetime is written in hours, minutes and seconds, such as 30m or 1h30m, and lies between 1m and 168h"
	MaxLifetime *metav1.Duration `json:"maxLifetime,omitempty"`

	// audiences are the services that tokens are for, of clients that don't name
	// their own (the `aud` claim). With the Stytch profile the project id is always
	// among them; with RFC9068 it stands in where nothing else is named.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=20
	// +kubebuilder:validation:XValidation:rule="self.all(a, self.exists_one(b, b == a))",message="an audience is listed twice: list each audience once"
	Audiences []Audience `json:"audiences,omitempty"`
}

// TokenProfile is a form of tokens.
type TokenProfile string

const (
	// ProfileStytch is what the SDKs of Stytch verify.
	ProfileStytch TokenProfile = "Stytch"
	// ProfileRFC9068 is the JWT profile for access tokens.
	ProfileRFC9068 TokenProfile = "RFC9068"
)

// Audience names a service in the `aud` claim, often its URL.
//
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=256
// +kubebuilder:validation:XValidation:rule="self.matches('^[!#-\\\\[\\\\]-~]+$')",message="an audience is made of printable ASCII characters without space, double quote and backslash"
type Audience string

// ClusterM2MIssuerStatus is what an issuer is.
type ClusterM2MIssuerStatus struct {
	// observedGeneration is the generation of the spec that this status is about.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// conditions of the issuer. Ready is True when its tokens can be signed and verified.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// tokenURL is where clients get their tokens.
	// +optional
	// +kubebuilder:validation:MaxLength=2048
	TokenURL string `json:"tokenURL,omitempty"`

	// jwksURL is where verifiers get the public keys.
	// +optional
	// +kubebuilder:validation:MaxLength=2048
	JWKSURL string `json:"jwksURL,omitempty"`

	// keys are the signing keys.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	Keys []SigningKeyStatus `json:"keys,omitempty"`
}

// SigningKeyStatus is the public face of a signing key.
type SigningKeyStatus struct {
	// kid is the key's id: its RFC 7638 thumbprint.
	// +required
	// +kubebuilder:validation:MaxLength=64
	KeyID string `json:"kid"`

	// algorithm that the key signs with.
	// +required
	// +kubebuilder:validation:MaxLength=16
	Algorithm string `json:"algorithm"`

	// activeFrom is when the key began to sign.
	// +required
	ActiveFrom metav1.Time `json:"activeFrom"`
}

// ClusterM2MIssuerList is a list of issuers.
//
// +kubebuilder:object:root=true
type ClusterM2MIssuerList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []ClusterM2MIssuer `json:"items"`
}
