package v1alpha1

import (
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// M2MClient is a machine that authenticates to others. The operator gives it a
// client_id and a client_secret in a Secret of the same namespace; a pod that
// mounts the Secret exchanges them at the token endpoint for a short-lived JWT
// (OAuth 2.0 client credentials, RFC 6749 section 4.4).
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=m2m,categories=m2m-operator
// +kubebuilder:printcolumn:name="Client ID",type=string,JSONPath=`.status.clientID`
// +kubebuilder:printcolumn:name="Issuer",type=string,JSONPath=`.status.effective.issuerName`
// +kubebuilder:printcolumn:name="State",type=string,JSONPath=`.status.effective.state`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Secret",type=string,JSONPath=`.status.secretName`
// +kubebuilder:printcolumn:name="Rotates",type=string,priority=1,JSONPath=`.status.nextRotationTime`
// +kubebuilder:printcolumn:name="Last Used",type=date,priority=1,JSONPath=`.status.usage[0].lastUsedAt`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 63",message="metadata.name must be at most 63 characters, because a label of the Secret carries it: choose a shorter name"
// +kubebuilder:validation:XValidation:rule="(has(self.spec) && has(self.spec.issuerRef) && has(self.spec.issuerRef.name) ? self.spec.issuerRef.name : 'default') == (has(oldSelf.spec) && has(oldSelf.spec.issuerRef) && has(oldSelf.spec.issuerRef.name) ? oldSelf.spec.issuerRef.name : 'default')",message="spec.issuerRef can't be changed, because the client's id and its tokens belong to the issuer: create another M2MClient instead"
// +kubebuilder:validation:XValidation:rule="(has(self.spec) && has(self.spec.secret) && has(self.spec.secret.delivery) ? self.spec.secret.delivery : 'Secret') == (has(oldSelf.spec) && has(oldSelf.spec.secret) && has(oldSelf.spec.secret.delivery) ? oldSelf.spec.secret.delivery : 'Secret')",message="spec.secret.delivery can't be changed: create another M2MClient instead"
// +kubebuilder:validation:XValidation:rule="(has(self.spec) && has(self.spec.clientID)) == (has(oldSelf.spec) && has(oldSelf.spec.clientID)) && (!has(self.spec) || !has(self.spec.clientID) || self.spec.clientID == oldSelf.spec.clientID)",message="spec.clientID can't be set, changed or removed later, because services know the client by it: create another M2MClient instead"
type M2MClient struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what the client should be. All of it is optional: an empty spec gives
	// a client of the issuer `default` that holds no scopes.
	// +optional
	// +nullable
	Spec M2MClientSpec `json:"spec,omitzero"`

	// status is what the client is. Only the operator writes it. Until it has, the
	// observedGeneration is -1: kstatus takes an object without a status for ready.
	// +optional
	// +kubebuilder:default:={"observedGeneration":-1}
	Status M2MClientStatus `json:"status,omitzero"`
}

// M2MClientSpec is what a client should be. What can't be changed is a rule of the
// M2MClient: the spec may be null, and a rule on it wouldn't see that.
//
// +kubebuilder:validation:XValidation:rule="!has(self.secret) || !has(self.secret.delivery) || self.secret.delivery != 'None' || !(has(self.rotation) || has(self.secret.name) || has(self.secret.importFrom) || has(self.secret.template) || has(self.secret.deletionPolicy))",message="with secret.delivery None there is no secret: leave out the rest of spec.secret, and spec.rotation"
type M2MClientSpec struct {
	// issuerRef names the issuer that signs the client's tokens; the issuer
	// `default` where it is absent. It can't be changed.
	// +optional
	IssuerRef *IssuerReference `json:"issuerRef,omitempty"`

	// displayName is a short name for people (`client_name` in Stytch's API).
	// +optional
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:XValidation:rule="!self.matches('[\\\\x00-\\\\x1F\\\\x7F-\\\\x9F]')",message="displayName must be one line without control characters"
	DisplayName string `json:"displayName,omitempty"`

	// description says what the client is for (`client_description` in Stytch's API).
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:XValidation:rule="!self.matches('[\\\\x00-\\\\x08\\\\x0B\\\\x0C\\\\x0E-\\\\x1F\\\\x7F-\\\\x9F]')",message="description must not contain control characters other than tabs and line ends"
	Description string `json:"description,omitempty"`

	// scopes are what the client may do, for example `read:invoices`. A token
	// request without a scope gets all of them. A scope is 1 to 128 printable ASCII
	// characters without space, `"` and `\` (RFC 6749 section 3.3).
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=100
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=128
	// +kubebuilder:validation:XValidation:rule="self.all(s, s.matches('^[!#-\\\\[\\\\]-~]+$'))",message="a scope is made of printable ASCII characters without space, double quote and backslash (RFC 6749 section 3.3), such as read:invoices: write one list item for each scope"
	// +kubebuilder:validation:XValidation:rule="self.all(s, self.exists_one(t, t == s))",message="a scope is listed twice: list each scope once"
	Scopes []string `json:"scopes,omitempty"`

	// trustedMetadata is data about the client that its owner vouches for, any JSON:
	// at most 20 top-level keys and 4 KiB.
	// +optional
	// +mapType=atomic
	// +kubebuilder:validation:MaxProperties=20
	TrustedMetadata map[string]apiextensionsv1.JSON `json:"trustedMetadata,omitempty"`

	// state is Active where it is absent. An Inactive client keeps its credential,
	// and is refused at every replica of the token endpoint as soon as its watch says so.
	// +optional
	// +kubebuilder:validation:XValidation:rule="self in ['Active', 'Inactive']",message="state must be Active or Inactive"
	// +kubebuilder:validation:MaxLength=16
	State ClientState `json:"state,omitempty"`

	// clientID is the OAuth client_id, where it isn't left to the operator to make one
	// that nobody else has. The issuer must let this namespace choose (spec.grants). Ids
	// of the form that the operator makes need a grant with reservedClientIDs, too. It
	// can't be changed.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:XValidation:rule="self.matches('^[A-Za-z0-9]([-A-Za-z0-9._~]*[A-Za-z0-9])?$')",message="clientID must be letters, digits, '-', '.', '_' and '~', starting and ending with a letter or digit"
	ClientID string `json:"clientID,omitempty"`

	// secret says how the credential is delivered.
	// +optional
	Secret *SecretSpec `json:"secret,omitempty"`

	// rotation says when the client's secret is replaced, and what becomes of the one before.
	// +optional
	Rotation *RotationSpec `json:"rotation,omitempty"`

	// token says what the client's tokens are like.
	// +optional
	Token *TokenSpec `json:"token,omitempty"`

	// workloadIdentities are ServiceAccounts of the same namespace whose pods get the
	// client's tokens without any secret: a pod presents a projected token of its
	// account, made for the issuer's URL alone, as client_assertion (RFC 7523).
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:XValidation:rule="self.all(a, self.exists_one(b, b.serviceAccountName == a.serviceAccountName))",message="a ServiceAccount is listed twice in workloadIdentities: list each once"
	WorkloadIdentities []WorkloadIdentity `json:"workloadIdentities,omitempty"`

	// publicKeys are keys whose private halves the client signs its assertions with
	// (private_key_jwt, RFC 7523), as a JSON Web Key Set.
	// +optional
	PublicKeys *PublicKeySet `json:"publicKeys,omitempty"`
}

// WorkloadIdentity names a ServiceAccount that authenticates as a client.
type WorkloadIdentity struct {
	// serviceAccountName is the name of a ServiceAccount in the client's namespace.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')",message="workloadIdentities.serviceAccountName must be the name of a ServiceAccount: lower case letters, digits, '-' and '.'"
	ServiceAccountName string `json:"serviceAccountName"`
}

// PublicKeySet is a JSON Web Key Set of public keys (RFC 7517 section 5).
type PublicKeySet struct {
	// keys of the set. Each is EC (P-256, P-384), RSA of 2048 bits or more, or OKP
	// (Ed25519), and only its public members are kept.
	// +required
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=10
	// +kubebuilder:validation:XValidation:rule="self.all(a, !has(a.kid) || self.exists_one(b, has(b.kid) && b.kid == a.kid))",message="two of publicKeys.keys have one kid: give each its own"
	Keys []PublicKey `json:"keys"`
}

// PublicKey is a JSON Web Key (RFC 7517 section 4, RFC 7518 section 6, RFC 8037).
type PublicKey struct {
	// kty is the key type: EC, RSA or OKP.
	// +required
	// +kubebuilder:validation:XValidation:rule="self in ['EC', 'RSA', 'OKP']",message="kty must be EC, RSA or OKP"
	// +kubebuilder:validation:MaxLength=8
	KeyType string `json:"kty"`

	// kid is the key's id, which assertions name; needed where there are several keys.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	KeyID string `json:"kid,omitempty"`

	// use is sig, or absent.
	// +optional
	// +kubebuilder:validation:XValidation:rule="self == 'sig'",message="use must be sig: the key verifies signatures"
	// +kubebuilder:validation:MaxLength=8
	Use string `json:"use,omitempty"`

	// alg is the only algorithm that the key is used with; where it is absent, those of
	// its type: ES256 or ES384 by the curve; RS256, RS384 or PS256; EdDSA.
	// +optional
	// +kubebuilder:validation:XValidation:rule="self in ['ES256', 'ES384', 'RS256', 'RS384', 'PS256', 'EdDSA']",message="alg must be one of ES256, ES384, RS256, RS384, PS256, EdDSA"
	// +kubebuilder:validation:MaxLength=16
	Algorithm string `json:"alg,omitempty"`

	// crv is the curve of an EC or OKP key: P-256, P-384 or Ed25519.
	// +optional
	// +kubebuilder:validation:XValidation:rule="self in ['P-256', 'P-384', 'Ed25519']",message="crv must be P-256, P-384 or Ed25519"
	// +kubebuilder:validation:MaxLength=16
	Curve string `json:"crv,omitempty"`

	// x is the x coordinate of an EC key, or an Ed25519 key, in base64url.
	// +optional
	// +kubebuilder:validation:MaxLength=128
	X string `json:"x,omitempty"`

	// y is the y coordinate of an EC key, in base64url.
	// +optional
	// +kubebuilder:validation:MaxLength=128
	Y string `json:"y,omitempty"`

	// n is the modulus of an RSA key, in base64url.
	// +optional
	// +kubebuilder:validation:MaxLength=1400
	N string `json:"n,omitempty"`

	// e is the exponent of an RSA key, in base64url.
	// +optional
	// +kubebuilder:validation:MaxLength=16
	E string `json:"e,omitempty"`
}

// IssuerReference names an issuer.
type IssuerReference struct {
	// kind of the issuer: ClusterM2MIssuer, also where it is absent.
	// +optional
	// +kubebuilder:validation:XValidation:rule="self == 'ClusterM2MIssuer'",message="issuerRef.kind must be ClusterM2MIssuer: leave it out"
	// +kubebuilder:validation:MaxLength=64
	Kind string `json:"kind,omitempty"`

	// name of the issuer; `default` where it is absent.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')",message="issuerRef.name must be the name of a ClusterM2MIssuer: lower case letters, digits, '-' and '.'"
	Name string `json:"name,omitempty"`
}

// ClientState says whether a client may get tokens.
type ClientState string

const (
	// ClientActive clients get tokens.
	ClientActive ClientState = "Active"
	// ClientInactive clients are refused, and keep their credential.
	ClientInactive ClientState = "Inactive"
)

// TokenSpec says what a client's tokens are like.
type TokenSpec struct {
	// lifetime of the client's tokens, such as 30m or 1h; the issuer's where it is
	// absent. It must lie within the issuer's bounds.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,4}h)?([0-9]{1,5}m)?([0-9]{1,6}s)?$') && size(self) > 1 && duration(self) >= duration('1m') && duration(self) <= duration('168h')",message="a token lifetime is written in hours, minutes and seconds, such as 30m or 1h30m, and lies between 1m and 168h"
	Lifetime *metav1.Duration `json:"lifetime,omitempty"`

	// audiences are the services that the client's tokens are for (the `aud` claim), of
	// those that the issuer grants to the namespace; the issuer's own where it is
	// absent. With the Stytch profile the project id is always among them; with RFC9068
	// a token request can choose some of them (`resource`, RFC 8707).
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=20
	// +kubebuilder:validation:XValidation:rule="self.all(a, self.exists_one(b, b == a))",message="an audience is listed twice: list each audience once"
	Audiences []Audience `json:"audiences,omitempty"`

	// notBefore cuts off all tokens that were issued before this time: introspection
	// says that they are not active. A cut-off that has come stays, also if this is
	// removed or set to an earlier time.
	// +optional
	NotBefore *metav1.Time `json:"notBefore,omitempty"`
}

// M2MClientStatus is what a client is.
type M2MClientStatus struct {
	// observedGeneration is the generation of the spec that this status is about.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// conditions of the client. Ready is True when the client is what its manifest
	// says. Stalled is True while it waits for a person, Reconciling while it waits
	// for something that comes by itself.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// effective is what holds where the manifest leaves a choice to defaults.
	// +optional
	Effective *EffectiveClient `json:"effective,omitempty"`

	// clientID is the client's OAuth client_id. One that the operator made is never used
	// again for another client; one that was chosen or imported may be.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	ClientID string `json:"clientID,omitempty"`

	// clientIDSince is when the client got its client id, where the operator didn't make
	// it for this client: tokens that were issued before are another's, and not active.
	// +optional
	ClientIDSince *metav1.Time `json:"clientIDSince,omitempty"`

	// issuer is the `iss` claim of the client's tokens.
	// +optional
	// +kubebuilder:validation:MaxLength=2048
	Issuer string `json:"issuer,omitempty"`

	// tokenURL is where the client gets its tokens.
	// +optional
	// +kubebuilder:validation:MaxLength=2048
	TokenURL string `json:"tokenURL,omitempty"`

	// secretName is the Secret that holds the credential.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	SecretName string `json:"secretName,omitempty"`

	// formerSecrets are the Secrets under names that spec.secret.name had before. Running
	// pods mount them, so they get each new credential, too, until their time is over. While
	// there are three, another change of the name waits.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=16
	FormerSecrets []FormerSecret `json:"formerSecrets,omitempty"`

	// clientSecretLastFour are the last four characters of the current client_secret.
	// +optional
	// +kubebuilder:validation:MaxLength=4
	ClientSecretLastFour string `json:"clientSecretLastFour,omitempty"`

	// nextClientSecretLastFour are the last four characters of the next_client_secret,
	// while a rotation is under way.
	// +optional
	// +kubebuilder:validation:MaxLength=4
	NextClientSecretLastFour string `json:"nextClientSecretLastFour,omitempty"`

	// lastRotationTime is when the current client_secret replaced another.
	// +optional
	LastRotationTime *metav1.Time `json:"lastRotationTime,omitempty"`

	// nextRotationTime is when the secret is replaced next, by the interval.
	// +optional
	NextRotationTime *metav1.Time `json:"nextRotationTime,omitempty"`

	// lastCancelTime is when a staged rotation was cancelled last: the interval counts
	// from there.
	// +optional
	LastCancelTime *metav1.Time `json:"lastCancelTime,omitempty"`

	// observedTriggers are the triggers that need no rotation any more.
	// +optional
	ObservedTriggers *RotationTriggers `json:"observedTriggers,omitempty"`

	// lastVersionNumber is the highest number that a version of the secret ever had.
	// +optional
	// +kubebuilder:validation:Minimum=0
	LastVersionNumber int64 `json:"lastVersionNumber,omitempty"`

	// credentialSequence says which state of the annotation m2m-operator.dev/credential
	// the secrets of a client come from that the management API made.
	// +optional
	// +kubebuilder:validation:Minimum=0
	CredentialSequence int64 `json:"credentialSequence,omitempty"`

	// restartedFor is the version of the secret for which spec.rotation.restart was
	// carried out.
	// +optional
	// +kubebuilder:validation:MaxLength=32
	RestartedFor string `json:"restartedFor,omitempty"`

	// grantedScopes are the scopes that the client's tokens may carry.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=100
	// +kubebuilder:validation:items:MaxLength=128
	GrantedScopes []string `json:"grantedScopes,omitempty"`

	// credentials are the valid versions of the client's secret, the newest first.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=8
	Credentials []CredentialStatus `json:"credentials,omitempty"`

	// tokensNotBefore is the latest of the cut-offs that spec.token.notBefore ever set:
	// tokens that were issued before are not active.
	// +optional
	TokensNotBefore *metav1.Time `json:"tokensNotBefore,omitempty"`

	// seal is a MAC over the object's UID, the client id and since when it is the client's,
	// the credentials, the state of their rotation and tokensNotBefore. Token servers ignore a status whose seal doesn't hold.
	// +optional
	// +kubebuilder:validation:MaxLength=128
	Seal string `json:"seal,omitempty"`

	// usage says when versions of the secret, and other ways to authenticate, were last
	// used, the latest use first. The
	// token servers write it, at most once an hour while a replaced secret is valid and
	// else once a day. It makes no version valid.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	Usage []VersionUsage `json:"usage,omitempty"`

	// revokedTokens are tokens that the client revoked (RFC 7009) and that have not
	// expired. The token servers write it.
	// +optional
	// +listType=map
	// +listMapKey=digest
	// +kubebuilder:validation:MaxItems=64
	RevokedTokens []RevokedToken `json:"revokedTokens,omitempty"`
}

// FormerSecret is a Secret under a name that the client doesn't use any more.
type FormerSecret struct {
	// name of the Secret.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`

	// keepUntil is when the Secret is deleted. Until then no other client gets its name.
	// +required
	KeepUntil metav1.Time `json:"keepUntil"`
}

// RevokedToken is a token that isn't active any more.
type RevokedToken struct {
	// digest is SHA-256 over the token's signing input (header and claims as they are
	// sent), in base64url.
	// +required
	// +kubebuilder:validation:MinLength=43
	// +kubebuilder:validation:MaxLength=43
	Digest string `json:"digest"`

	// expiresAt is when the token expires, and needs no mention any more.
	// +required
	ExpiresAt metav1.Time `json:"expiresAt"`
}

// RotationTriggers are what asks for a rotation on demand.
type RotationTriggers struct {
	// spec is the last text of spec.rotation.trigger.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	Spec string `json:"spec,omitempty"`

	// annotation is the last text of the annotation m2m-operator.dev/rotate.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	Annotation string `json:"annotation,omitempty"`
}

// VersionUsage says when a version of a secret, or another way to authenticate, was
// last used.
type VersionUsage struct {
	// version of the secret, or service_account or private_key_jwt.
	// +required
	// +kubebuilder:validation:MaxLength=32
	Version string `json:"version"`

	// lastUsedAt is when it last got a token, as far as it was reported.
	// +required
	LastUsedAt metav1.Time `json:"lastUsedAt"`
}

// EffectiveClient is what holds where a manifest leaves a choice to defaults.
type EffectiveClient struct {
	// issuerName is the name of the ClusterM2MIssuer.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	IssuerName string `json:"issuerName,omitempty"`

	// state is whether the client may get tokens.
	// +optional
	State ClientState `json:"state,omitempty"`

	// tokenLifetime is how long the client's tokens are valid.
	// +optional
	TokenLifetime *metav1.Duration `json:"tokenLifetime,omitempty"`

	// audiences are the `aud` claim of the client's tokens.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=256
	Audiences []string `json:"audiences,omitempty"`

	// delivery is whether the client has a secret.
	// +optional
	Delivery SecretDelivery `json:"delivery,omitempty"`

	// deletionPolicy is what becomes of the Secret when the client is deleted; absent
	// where it has none.
	// +optional
	DeletionPolicy DeletionPolicy `json:"deletionPolicy,omitempty"`

	// overlap is how long a secret stays valid after it was replaced.
	// +optional
	Overlap *metav1.Duration `json:"overlap,omitempty"`

	// retireWhenUnused is how a secret ends that is used past the overlap; absent: it
	// ends with the overlap.
	// +optional
	RetireWhenUnused *RetireWhenUnused `json:"retireWhenUnused,omitempty"`

	// serviceAccounts are those of the namespace that authenticate as the client.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MaxLength=253
	ServiceAccounts []string `json:"serviceAccounts,omitempty"`

	// publicKeys are the thumbprints (RFC 7638) of the keys that the client signs
	// assertions with.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=10
	// +kubebuilder:validation:items:MaxLength=64
	PublicKeys []string `json:"publicKeys,omitempty"`
}

// CredentialStatus is one valid version of a client's secret.
type CredentialStatus struct {
	// version is a number that only grows, and the secret's last four characters.
	// +required
	// +kubebuilder:validation:MaxLength=32
	Version string `json:"version"`

	// role is Current for the version that the Secret delivers, Next for one that will
	// replace it and is valid already, and Previous for one that was replaced and is
	// still valid.
	// +required
	// +kubebuilder:validation:Enum=Current;Next;Previous
	Role string `json:"role"`

	// hash is a keyed hash of the client id and the secret.
	// +required
	// +kubebuilder:validation:MaxLength=128
	Hash string `json:"hash"`

	// lastFour are the secret's last four characters.
	// +optional
	// +kubebuilder:validation:MaxLength=4
	LastFour string `json:"lastFour,omitempty"`

	// createdAt is when this version was made.
	// +required
	CreatedAt metav1.Time `json:"createdAt"`

	// retireAfter is when the overlap of a replaced version ends: from then on it goes
	// as soon as it is unused. Absent where it ends at notAfter, used or not.
	// +optional
	RetireAfter *metav1.Time `json:"retireAfter,omitempty"`

	// notAfter is when this version stops being valid, at the latest; absent for the
	// current and the next one.
	// +optional
	NotAfter *metav1.Time `json:"notAfter,omitempty"`
}

// M2MClientList is a list of clients.
//
// +kubebuilder:object:root=true
type M2MClientList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []M2MClient `json:"items"`
}
