package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ClusterM2MIssuer signs the tokens of the clients that name it: what Stytch calls
// a project. Its signing keys are in a Secret of the operator's namespace, and rotate
// by themselves. Its grants say which namespaces may hold which scopes, audiences and
// metadata. The operator makes the issuer `default` once, when it is installed; that
// one grants everything to every namespace.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=m2missuer,categories=m2m-operator
// +kubebuilder:printcolumn:name="URL",type=string,JSONPath=`.spec.url`
// +kubebuilder:printcolumn:name="Project ID",type=string,JSONPath=`.spec.projectID`
// +kubebuilder:printcolumn:name="Clients",type=integer,JSONPath=`.status.clients`
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

	// status is what the issuer is. Only the operator writes it. Until it has, the
	// observedGeneration is -1: kstatus takes an object without a status for ready.
	// +optional
	// +kubebuilder:default:={"observedGeneration":-1}
	Status ClusterM2MIssuerStatus `json:"status,omitzero"`
}

// ClusterM2MIssuerSpec is what an issuer should be.
//
// +kubebuilder:validation:XValidation:rule="(has(self.environment) ? self.environment : 'Live') == (has(oldSelf.environment) ? oldSelf.environment : 'Live')",message="spec.environment can't be changed, because it shows in the ids of existing clients: create another issuer instead"
// +kubebuilder:validation:XValidation:rule="(has(self.token) && has(self.token.profile) ? self.token.profile : 'Stytch') == (has(oldSelf.token) && has(oldSelf.token.profile) ? oldSelf.token.profile : 'Stytch')",message="spec.token.profile can't be changed, because services verify tokens of this profile: create another issuer instead"
// +kubebuilder:validation:XValidation:rule="(has(self.signing) && has(self.signing.algorithm) ? self.signing.algorithm : 'ES256') == (has(oldSelf.signing) && has(oldSelf.signing.algorithm) ? oldSelf.signing.algorithm : 'ES256')",message="spec.signing.algorithm can't be changed, because services verify tokens of this algorithm: create another issuer instead"
// +kubebuilder:validation:XValidation:rule="(has(self.token) && has(self.token.issuer) ? self.token.issuer : self.url) == (has(oldSelf.token) && has(oldSelf.token.issuer) ? oldSelf.token.issuer : oldSelf.url)",message="spec.token.issuer can't be changed, because verifiers name it: create another issuer instead"
// +kubebuilder:validation:XValidation:rule="(has(self.token) && has(self.token.profile) ? self.token.profile : 'Stytch') != 'Stytch' || !self.url.matches('^https?://[^/]+/')",message="with the Stytch profile spec.url has no path: write only scheme and host, such as https://auth.example.com, or set token.profile to RFC9068"
type ClusterM2MIssuerSpec struct {
	// url of the issuer: the `iss` claim of its tokens, unless token.issuer is another,
	// and what its endpoints' URLs begin with. https, or http on the loopback interface; no query, fragment or
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

	// grants say what clients may hold. A client holds what it asks for, as far as one
	// of the grants to its namespace has it; the rest is named in its conditions.
	// Without grants clients hold no scopes, no audiences of their own and no metadata.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	Grants []Grant `json:"grants,omitempty"`

	// managementAPI opens the management API (Stytch's M2M API) of this issuer to
	// holders of a project secret. Without it only callers with a Kubernetes token can
	// use the API, and none can create clients.
	// +optional
	ManagementAPI *ManagementAPISpec `json:"managementAPI,omitempty"`

	// introspection says who may introspect tokens.
	// +optional
	Introspection *IntrospectionSpec `json:"introspection,omitempty"`

	// secretMetadata says which labels and annotations clients may put on their Secrets
	// (spec.secret.template of an M2MClient). Other controllers obey some: without this
	// all are let through.
	// +optional
	SecretMetadata *SecretMetadataAllowance `json:"secretMetadata,omitempty"`
}

// IntrospectionSpec says who may introspect tokens (RFC 7662).
type IntrospectionSpec struct {
	// callers who see a token that isn't their own: SharedAudience, also where it is
	// absent, are those who could get a token for one of its audiences; with the Stytch
	// profile these are all clients. Audience are those alone whose client id is one of its
	// audiences.
	// +optional
	// +kubebuilder:validation:XValidation:rule="self in ['SharedAudience', 'Audience']",message="introspection.callers must be SharedAudience or Audience"
	// +kubebuilder:validation:MaxLength=16
	Callers IntrospectionCallers `json:"callers,omitempty"`
}

// IntrospectionCallers are who sees tokens that aren't their own.
type IntrospectionCallers string

const (
	// CallersSharedAudience could get a token for one of the token's audiences.
	CallersSharedAudience IntrospectionCallers = "SharedAudience"
	// CallersAudience are what the token is for: their client id is one of its audiences.
	CallersAudience IntrospectionCallers = "Audience"
)

// SecretMetadataAllowance says what clients may put on their Secrets. What isn't listed
// is left out, and the client says so.
type SecretMetadataAllowance struct {
	// labels that may be set: each a key, or a beginning and `*`, such as `example.com/*`;
	// `*` alone is all, and an empty list none.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=100
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=317
	Labels []string `json:"labels,omitempty"`

	// annotations that may be set, in the same way.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=100
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=317
	Annotations []string `json:"annotations,omitempty"`
}

// ManagementAPISpec says where clients live that the management API makes.
type ManagementAPISpec struct {
	// namespace of the M2MClients that the API makes. Holders of a project secret may do
	// with these as they like; with others what RBAC lets the user
	// m2m-operator.dev:project:PROJECT_ID do. Give each issuer a namespace of its own.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",message="managementAPI.namespace must be the name of a namespace"
	Namespace string `json:"namespace"`
}

// Grant says what the clients of some namespaces may hold.
type Grant struct {
	// namespaces that the grant is for.
	// +required
	Namespaces NamespaceSelection `json:"namespaces"`

	// scopes that may be held: each a scope, or a beginning and `*`, such as `orders:*`;
	// `*` alone is all.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=100
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=128
	// +kubebuilder:validation:XValidation:rule="self.all(s, s.matches('^[!#-\\\\[\\\\]-~]+$'))",message="a granted scope is made of printable ASCII characters without space, double quote and backslash, with * at the end for all that begin so: write one list item for each"
	Scopes []string `json:"scopes,omitempty"`

	// audiences that may be named: each an audience, or a beginning and `*`; `*` alone
	// is all.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=100
	Audiences []Audience `json:"audiences,omitempty"`

	// metadataKeys are the top-level keys of trustedMetadata that count: each a key, or a
	// beginning and `*`; `*` alone is all.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=100
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=256
	MetadataKeys []string `json:"metadataKeys,omitempty"`

	// chosenClientIDs says whether clients may choose their ids (spec.clientID of an
	// M2MClient, or an import).
	// +optional
	ChosenClientIDs bool `json:"chosenClientIDs,omitempty"`

	// reservedClientIDs says whether ids may be chosen that look as if the operator had
	// made them, such as `m2m-client-live-` and a UUID: those of Stytch do. Who may choose
	// them can take the id of a client that was deleted, so grant it for a migration, to
	// namespaces that you trust. It counts only beside chosenClientIDs.
	// +optional
	ReservedClientIDs bool `json:"reservedClientIDs,omitempty"`
}

// NamespaceSelection selects namespaces: those of either field.
//
// +kubebuilder:validation:XValidation:rule="has(self.names) || has(self.selector)",message="a grant needs namespaces.names, with * for all, or namespaces.selector"
type NamespaceSelection struct {
	// names of namespaces; `*` stands for all.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=100
	// +kubebuilder:validation:items:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self.all(n, n == '*' || n.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$'))",message="namespaces.names must be names of namespaces, or * for all"
	Names []string `json:"names,omitempty"`

	// selector selects namespaces by their labels; an empty one selects all. Who may
	// change a namespace's labels can take what is granted by them.
	// +optional
	Selector *metav1.LabelSelector `json:"selector,omitempty"`
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

	// rotation says when a signing key is replaced.
	// +optional
	Rotation *KeyRotationSpec `json:"rotation,omitempty"`

	// revoke lists ids (kid) of signing keys that must not be trusted any more: leaked
	// ones. They are no longer published, sign nothing, and tokens that they signed are
	// not active. The next key signs at once.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=64
	Revoke []string `json:"revoke,omitempty"`
}

// KeyRotationSpec says when a signing key is replaced. A key is published two hours
// before it signs, and until the last token that it signed has expired.
type KeyRotationSpec struct {
	// interval is how long a key signs; 2160h where it is absent, at least 4h.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,5}h)?([0-9]{1,5}m)?([0-9]{1,6}s)?$') && size(self) > 1 && duration(self) >= duration('4h') && duration(self) <= duration('87600h')",message="signing.rotation.interval is written in hours, minutes and seconds, such as 2160h for 90 days, and lies between 4h and 87600h"
	Interval *metav1.Duration `json:"interval,omitempty"`

	// trigger is any text; a new one replaces the signing key as soon as the next one
	// has been published for two hours. What stands here when the first key is made is
	// only noted. The annotation m2m-operator.dev/rotate does the same.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	Trigger string `json:"trigger,omitempty"`
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

	// issuer is the `iss` claim, where it isn't the URL: for example
	// `stytch.com/PROJECT_ID`, which the SDKs of Stytch also take. The documents that
	// describe the issuer name its URL all the same. It can't be changed.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:XValidation:rule="self.matches('^[!#-\\\\[\\\\]-~]+$')",message="token.issuer is made of printable ASCII characters without space, double quote and backslash"
	Issuer string `json:"issuer,omitempty"`

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

	// customClaims is a template of further claims, a JSON object such as
	// `{"tier": {{ client.trusted_metadata.billing_tier }}, "user": {{ request.user_id }}}`.
	// In place of a value an expression may stand: client.trusted_metadata and a key of
	// the client's granted metadata, client.client_id, client.namespace, or request. and
	// the name of a further parameter of the token request, which is the caller's own
	// word. What is missing or null leaves its claim out.
	// +optional
	// +kubebuilder:validation:MinLength=2
	// +kubebuilder:validation:MaxLength=4096
	CustomClaims string `json:"customClaims,omitempty"`

	// quota bounds the tokens that a client is given; none where it is absent. Refused
	// requests don't count. Each replica of the server counts by itself.
	// +optional
	Quota *TokenQuota `json:"quota,omitempty"`
}

// TokenQuota is a number of tokens in a time.
type TokenQuota struct {
	// tokens that each client may be given in the time.
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	Tokens int32 `json:"tokens"`

	// per is the time, such as 1m or 1h.
	// +required
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,4}h)?([0-9]{1,5}m)?([0-9]{1,6}s)?$') && size(self) > 1 && duration(self) >= duration('1s') && duration(self) <= duration('24h')",message="token.quota.per is written in hours, minutes and seconds, such as 1m or 1h, and lies between 1s and 24h"
	Per metav1.Duration `json:"per"`
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

	// introspectionURL is where services ask whether a token is still active (RFC 7662).
	// +optional
	// +kubebuilder:validation:MaxLength=2048
	IntrospectionURL string `json:"introspectionURL,omitempty"`

	// revocationURL is where clients revoke their tokens (RFC 7009).
	// +optional
	// +kubebuilder:validation:MaxLength=2048
	RevocationURL string `json:"revocationURL,omitempty"`

	// clients is how many M2MClients name the issuer, as counted at most once a minute.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Clients *int32 `json:"clients,omitempty"`

	// keys are the signing keys.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
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

	// state is Next before the key signs, Active while it does, and Retired while tokens
	// that it signed may be valid.
	// +required
	// +kubebuilder:validation:Enum=Next;Active;Retired
	State SigningKeyState `json:"state"`

	// publishedAt is since when verifiers can have the key.
	// +required
	PublishedAt metav1.Time `json:"publishedAt"`

	// activeFrom is when the key begins to sign, or began to.
	// +required
	ActiveFrom metav1.Time `json:"activeFrom"`

	// retiredAt is when another key took over; absent before.
	// +optional
	RetiredAt *metav1.Time `json:"retiredAt,omitempty"`

	// publishedUntil is when the key is no longer published, because all tokens that it
	// signed have expired; absent before it is retired.
	// +optional
	PublishedUntil *metav1.Time `json:"publishedUntil,omitempty"`
}

// SigningKeyState is where a signing key is in its life.
type SigningKeyState string

const (
	// SigningKeyNext will sign.
	SigningKeyNext SigningKeyState = "Next"
	// SigningKeyActive signs.
	SigningKeyActive SigningKeyState = "Active"
	// SigningKeyRetired verifies what it has signed.
	SigningKeyRetired SigningKeyState = "Retired"
)

// ClusterM2MIssuerList is a list of issuers.
//
// +kubebuilder:object:root=true
type ClusterM2MIssuerList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []ClusterM2MIssuer `json:"items"`
}
