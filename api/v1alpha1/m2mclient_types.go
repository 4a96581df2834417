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
type M2MClient struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what the client should be. All of it is optional: an empty spec gives
	// a client of the issuer `default` that holds no scopes.
	// +optional
	// +nullable
	Spec M2MClientSpec `json:"spec,omitzero"`

	// status is what the client is. Only the operator writes it.
	// +optional
	Status M2MClientStatus `json:"status,omitzero"`
}

// M2MClientSpec is what a client should be.
//
// +kubebuilder:validation:XValidation:rule="(has(self.issuerRef) && has(self.issuerRef.name) ? self.issuerRef.name : 'default') == (has(oldSelf.issuerRef) && has(oldSelf.issuerRef.name) ? oldSelf.issuerRef.name : 'default')",message="spec.issuerRef can't be changed, because the client's id and its tokens belong to the issuer: create another M2MClient instead"
// +kubebuilder:validation:XValidation:rule="has(self.clientID) == has(oldSelf.clientID) && (!has(self.clientID) || self.clientID == oldSelf.clientID)",message="spec.clientID can't be set, changed or removed later, because services know the client by it: create another M2MClient instead"
type M2MClientSpec struct {
	// issuerRef names the issuer that signs the client's tokens; the issuer
	// `default` where it is absent. It can't be changed.
	// +optional
	IssuerRef *IssuerReference `json:"issuerRef,omitempty"`

	// displayName is a short name for people (`client_name` in Stytch's API).
	// +optional
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:XValidation:rule="!self.matches('[\\\\x00-\\\\x1F\\\\x7F]')",message="displayName must be one line without control characters"
	DisplayName string `json:"displayName,omitempty"`

	// description says what the client is for (`client_description` in Stytch's API).
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:XValidation:rule="!self.matches('[\\\\x00-\\\\x08\\\\x0B\\\\x0C\\\\x0E-\\\\x1F\\\\x7F]')",message="description must not contain control characters other than tabs and line ends"
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
	// that nobody else has. The issuer must let this namespace choose
	// (spec.chosenClientIDs). It can't be changed.
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

// SecretSpec says how a credential is delivered.
type SecretSpec struct {
	// name of the Secret; the name of the M2MClient where it is absent. When it is
	// changed the secret stays, and the Secret of the old name is kept, up to date,
	// for the overlap: running pods mount it.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')",message="secret.name must be a DNS subdomain: lower case letters, digits, '-' and '.', starting and ending with a letter or digit"
	Name string `json:"name,omitempty"`

	// deletionPolicy says what becomes of the Secret when the M2MClient is deleted.
	// Delete, also where it is absent, removes it; Retain leaves it, no longer valid.
	// +optional
	// +kubebuilder:validation:XValidation:rule="self in ['Delete', 'Retain']",message="deletionPolicy must be Delete or Retain"
	// +kubebuilder:validation:MaxLength=16
	DeletionPolicy DeletionPolicy `json:"deletionPolicy,omitempty"`

	// importFrom adopts a credential that exists, as the client's first. Later it has
	// no effect.
	// +optional
	ImportFrom *ImportSpec `json:"importFrom,omitempty"`

	// template shapes the Secret. Changing it never makes a new credential.
	// +optional
	Template *SecretTemplate `json:"template,omitempty"`
}

// ImportSpec names a credential to adopt.
type ImportSpec struct {
	// name of a Secret of the same namespace with the label
	// `m2m-operator.dev/adopt: <name of the M2MClient>`. It may be the client's own
	// Secret, which is then taken over.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')",message="importFrom.name must be the name of a Secret: lower case letters, digits, '-' and '.', starting and ending with a letter or digit"
	Name string `json:"name"`

	// clientIDKey is the key of the client id in that Secret; `client_id` where it is absent.
	// +optional
	ClientIDKey SecretKey `json:"clientIDKey,omitempty"`

	// clientSecretKey is the key of the client secret in that Secret; `client_secret`
	// where it is absent.
	// +optional
	ClientSecretKey SecretKey `json:"clientSecretKey,omitempty"`
}

// DeletionPolicy says what becomes of a Secret when its client is deleted.
type DeletionPolicy string

const (
	// DeletionDelete removes the Secret with its client.
	DeletionDelete DeletionPolicy = "Delete"
	// DeletionRetain leaves the Secret, unowned.
	DeletionRetain DeletionPolicy = "Retain"
)

// SecretTemplate shapes a Secret.
//
// +kubebuilder:validation:XValidation:rule="!has(self.data) || !self.data.exists(k, k == (has(self.keys) && has(self.keys.clientID) ? self.keys.clientID : 'client_id') || k == (has(self.keys) && has(self.keys.clientSecret) ? self.keys.clientSecret : 'client_secret') || k == (has(self.keys) && has(self.keys.nextClientSecret) ? self.keys.nextClientSecret : 'next_client_secret') || k == (has(self.keys) && has(self.keys.tokenURL) ? self.keys.tokenURL : 'token_url') || k == (has(self.keys) && has(self.keys.issuer) ? self.keys.issuer : 'issuer') || k == (has(self.keys) && has(self.keys.jwksURL) ? self.keys.jwksURL : 'jwks_url') || k == (has(self.keys) && has(self.keys.scopes) ? self.keys.scopes : 'scopes'))",message="a key of template.data is also the key of a standard value: rename one of them in template.keys or template.data"
type SecretTemplate struct {
	// metadata is added to the Secret. Nothing else is copied to it from the M2MClient.
	// +optional
	Metadata *SecretMetadata `json:"metadata,omitempty"`

	// keys renames the Secret's standard keys.
	// +optional
	Keys *SecretKeys `json:"keys,omitempty"`

	// data adds composed values, for example a `.env` or a JSON file. In a value,
	// {{ client_id }}, {{ client_secret }}, {{ token_url }}, {{ issuer }},
	// {{ jwks_url }} and {{ scopes }} stand for the client's own; nothing else may
	// stand between double braces.
	// +optional
	// +mapType=atomic
	// +kubebuilder:validation:MaxProperties=16
	// +kubebuilder:validation:XValidation:rule="self.all(k, k.size() <= 253 && k.matches('^[-._a-zA-Z0-9]+$'))",message="a key of template.data must be 1 to 253 letters, digits, '-', '_' or '.'"
	// +kubebuilder:validation:XValidation:rule="self.all(k, self[k].size() <= 4096)",message="a value of template.data has at most 4096 characters"
	// +kubebuilder:validation:XValidation:rule="self.all(k, self[k].size() > 4096 || self[k].findAll('[{][{]').size() == self[k].findAll('[{][{] *(client_id|client_secret|token_url|issuer|jwks_url|scopes) *[}][}]').size())",message="in template.data only {{ client_id }}, {{ client_secret }}, {{ token_url }}, {{ issuer }}, {{ jwks_url }} and {{ scopes }} may stand between double braces"
	Data map[string]ComposedValue `json:"data,omitempty"`
}

// ComposedValue is text with placeholders.
//
// +kubebuilder:validation:MaxLength=4096
type ComposedValue string

// SecretMetadata is what a template adds to a Secret's metadata.
type SecretMetadata struct {
	// labels of the Secret.
	// +optional
	// +mapType=atomic
	// +kubebuilder:validation:MaxProperties=32
	// +kubebuilder:validation:XValidation:rule="self.all(k, k.size() <= 316 && k.matches('^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$'))",message="a key of template.metadata.labels must be a label key, such as team or example.com/team"
	// +kubebuilder:validation:XValidation:rule="self.all(k, !k.startsWith('m2m-operator.dev/') && k != 'app.kubernetes.io/managed-by')",message="labels under m2m-operator.dev/ and app.kubernetes.io/managed-by are the operator's own: choose another key"
	Labels map[string]LabelValue `json:"labels,omitempty"`

	// annotations of the Secret.
	// +optional
	// +mapType=atomic
	// +kubebuilder:validation:MaxProperties=32
	// +kubebuilder:validation:XValidation:rule="self.all(k, k.size() <= 316 && k.matches('^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$'))",message="a key of template.metadata.annotations must be an annotation key, such as note or example.com/note"
	// +kubebuilder:validation:XValidation:rule="self.all(k, !k.startsWith('m2m-operator.dev/'))",message="annotations under m2m-operator.dev/ are the operator's own: choose another key"
	Annotations map[string]AnnotationValue `json:"annotations,omitempty"`
}

// LabelValue is the value of a label.
//
// +kubebuilder:validation:MaxLength=63
// +kubebuilder:validation:Pattern=`^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$`
type LabelValue string

// AnnotationValue is the value of an annotation.
//
// +kubebuilder:validation:MaxLength=4096
type AnnotationValue string

// SecretKeys renames the standard keys of a Secret, for programs that expect
// others. Each key must be different.
//
// +kubebuilder:validation:XValidation:rule="[has(self.clientID) ? self.clientID : 'client_id', has(self.clientSecret) ? self.clientSecret : 'client_secret', has(self.nextClientSecret) ? self.nextClientSecret : 'next_client_secret', has(self.tokenURL) ? self.tokenURL : 'token_url', has(self.issuer) ? self.issuer : 'issuer', has(self.jwksURL) ? self.jwksURL : 'jwks_url', has(self.scopes) ? self.scopes : 'scopes'].all(k, [has(self.clientID) ? self.clientID : 'client_id', has(self.clientSecret) ? self.clientSecret : 'client_secret', has(self.nextClientSecret) ? self.nextClientSecret : 'next_client_secret', has(self.tokenURL) ? self.tokenURL : 'token_url', has(self.issuer) ? self.issuer : 'issuer', has(self.jwksURL) ? self.jwksURL : 'jwks_url', has(self.scopes) ? self.scopes : 'scopes'].exists_one(l, l == k))",message="two values have the same key in template.keys: give each its own key"
type SecretKeys struct {
	// clientID is the key of the client id; `client_id` where it is absent.
	// +optional
	ClientID SecretKey `json:"clientID,omitempty"`
	// clientSecret is the key of the client secret; `client_secret` where it is absent.
	// +optional
	ClientSecret SecretKey `json:"clientSecret,omitempty"`
	// nextClientSecret is the key of the secret that a staged rotation delivers beside
	// the current one; `next_client_secret` where it is absent.
	// +optional
	NextClientSecret SecretKey `json:"nextClientSecret,omitempty"`
	// tokenURL is the key of the token endpoint's URL; `token_url` where it is absent.
	// +optional
	TokenURL SecretKey `json:"tokenURL,omitempty"`
	// issuer is the key of the issuer's URL; `issuer` where it is absent.
	// +optional
	Issuer SecretKey `json:"issuer,omitempty"`
	// jwksURL is the key of the URL of the issuer's public keys; `jwks_url` where it is absent.
	// +optional
	JWKSURL SecretKey `json:"jwksURL,omitempty"`
	// scopes is the key of the client's scopes, separated by spaces; `scopes` where it is absent.
	// +optional
	Scopes SecretKey `json:"scopes,omitempty"`
}

// SecretKey is a key of a Secret's data.
//
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=253
// +kubebuilder:validation:XValidation:rule="self.matches('^[-._a-zA-Z0-9]+$')",message="a key of a Secret is made of letters, digits, '-', '_' and '.'"
type SecretKey string

// TokenSpec says what a client's tokens are like.
type TokenSpec struct {
	// lifetime of the client's tokens, such as 30m or 1h; the issuer's where it is
	// absent. It must lie within the issuer's bounds.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,4}h)?([0-9]{1,5}m)?([0-9]{1,6}s)?$') && size(self) > 1 && duration(self) >= duration('1m') && duration(self) <= duration('168h')",message="a token lifetime is written in hours, minutes and seconds, such as 30m or 1h30m, and lies between 1m and 168h"
	Lifetime *metav1.Duration `json:"lifetime,omitempty"`

	// audiences are the services that the client's tokens are for (the `aud` claim);
	// the issuer's where it is absent. With the Stytch profile the project id is
	// always among them.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=20
	// +kubebuilder:validation:XValidation:rule="self.all(a, self.exists_one(b, b == a))",message="an audience is listed twice: list each audience once"
	Audiences []Audience `json:"audiences,omitempty"`
}

// RotationSpec says when a client's secret is replaced, and what becomes of the one before.
//
// +kubebuilder:validation:XValidation:rule="!has(self.interval) || duration(self.interval) >= duration(has(self.overlap) ? self.overlap : '24h')",message="rotation.interval must be at least the overlap (24h where it is absent), or secrets would pile up: lengthen the interval or shorten rotation.overlap"
type RotationSpec struct {
	// interval is how long a secret is used before the next replaces it, such as
	// 2160h for 90 days. It is shortened by up to a tenth, by chance, so that clients
	// of one age don't rotate at one time. Without it the secret is replaced only on demand.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,5}h)?([0-9]{1,5}m)?([0-9]{1,6}s)?$') && size(self) > 1 && duration(self) <= duration('87600h')",message="a rotation interval is written in hours, minutes and seconds, such as 2160h for 90 days, and is at most 87600h"
	Interval *metav1.Duration `json:"interval,omitempty"`

	// overlap is how long a secret stays valid after the one that replaces it is
	// delivered; 24h where it is absent, at least 3m. Five minutes are added, because
	// clocks differ.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,4}h)?([0-9]{1,5}m)?([0-9]{1,6}s)?$') && size(self) > 1 && duration(self) <= duration('8760h')",message="an overlap is written in hours, minutes and seconds, such as 24h, and is at most 8760h"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^([0-9]{1,4}h)?([0-9]{1,5}m)?([0-9]{1,6}s)?$') || size(self) < 2 || duration(self) >= duration('3m')",message="an overlap under 3m would break running pods: a kubelet brings a new secret into a mounted volume up to 1m30s (its sync period) and 1m (its cache) after the Secret changes; choose 3m or more"
	Overlap *metav1.Duration `json:"overlap,omitempty"`

	// trigger is any text; a new one replaces the secret now. What stands here when
	// the client is made is only noted. The annotation m2m-operator.dev/rotate does
	// the same, for tools that must not change the spec.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	Trigger string `json:"trigger,omitempty"`

	// mode is Automatic, also where it is absent: a new secret replaces the current one
	// by itself. With Staged it is delivered beside the current one, as
	// next_client_secret, and both are valid until staged says what to do.
	// +optional
	// +kubebuilder:validation:XValidation:rule="self in ['Automatic', 'Staged']",message="rotation.mode must be Automatic or Staged"
	// +kubebuilder:validation:MaxLength=16
	Mode RotationMode `json:"mode,omitempty"`

	// staged ends a staged rotation.
	// +optional
	Staged *StagedAction `json:"staged,omitempty"`

	// revoke lists versions of the secret, such as 3-x8Fa, that must not be valid any
	// more: leaked ones. For the current one a new one is delivered.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	Revoke []SecretVersion `json:"revoke,omitempty"`

	// retireWhenUnused keeps a replaced secret valid past the overlap while it is still
	// used: environment variables and subPath mounts never see a new one. With an
	// interval it is on where it is absent.
	// +optional
	RetireWhenUnused *RetireWhenUnused `json:"retireWhenUnused,omitempty"`

	// restart lists workloads of the same namespace that can't reload a changed
	// Secret: after each rotation their pods are replaced, at the pace that they say
	// themselves. It must be enabled in the installation.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	Restart []Workload `json:"restart,omitempty"`
}

// RotationMode says whether a new secret replaces the current one by itself.
type RotationMode string

const (
	// RotationAutomatic rotations need nobody.
	RotationAutomatic RotationMode = "Automatic"
	// RotationStaged rotations wait to be promoted or cancelled.
	RotationStaged RotationMode = "Staged"
)

// SecretVersion names a version of a client's secret: its number and last four characters.
//
// +kubebuilder:validation:MaxLength=16
// +kubebuilder:validation:XValidation:rule="self.matches('^[1-9][0-9]{0,8}-[^ ]{0,4}$')",message="a version is a number, a dash and the secret's last four characters, such as 3-x8Fa, as status.credentials lists them"
type SecretVersion string

// StagedAction ends a staged rotation. For another version than the one that is
// staged it does nothing, so it can stay in the manifest.
type StagedAction struct {
	// version of the secret that is staged, as status.credentials lists it.
	// +required
	Version SecretVersion `json:"version"`

	// action is Promote, which makes that version the current one, or Cancel, which drops it.
	// +required
	// +kubebuilder:validation:XValidation:rule="self in ['Promote', 'Cancel']",message="staged.action must be Promote or Cancel"
	// +kubebuilder:validation:MaxLength=16
	Action StagedActionType `json:"action"`
}

// StagedActionType is what to do with a staged secret.
type StagedActionType string

const (
	// StagedPromote makes the staged secret the current one.
	StagedPromote StagedActionType = "Promote"
	// StagedCancel drops the staged secret.
	StagedCancel StagedActionType = "Cancel"
)

// RetireWhenUnused keeps a replaced secret valid past the overlap while it is used.
type RetireWhenUnused struct {
	// for is how long nobody must have used it; 24h where it is absent, and never less
	// than twice the lifetime of the client's tokens, because callers keep tokens. 0s
	// retires a secret at the end of the overlap, used or not.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,4}h)?([0-9]{1,5}m)?([0-9]{1,6}s)?$') && size(self) > 1 && duration(self) <= duration('720h')",message="retireWhenUnused.for is written in hours, minutes and seconds, such as 24h, and is at most 720h"
	For *metav1.Duration `json:"for,omitempty"`

	// deadline ends a replaced secret, used or not: so long after it was replaced. The
	// interval where it is absent, or 2160h without one.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,5}h)?([0-9]{1,5}m)?([0-9]{1,6}s)?$') && size(self) > 1 && duration(self) <= duration('87600h')",message="retireWhenUnused.deadline is written in hours, minutes and seconds, such as 2160h, and is at most 87600h"
	Deadline *metav1.Duration `json:"deadline,omitempty"`
}

// Workload names a workload whose pods are replaced after a rotation.
type Workload struct {
	// kind is Deployment, StatefulSet or DaemonSet.
	// +required
	// +kubebuilder:validation:XValidation:rule="self in ['Deployment', 'StatefulSet', 'DaemonSet']",message="restart.kind must be Deployment, StatefulSet or DaemonSet"
	// +kubebuilder:validation:MaxLength=16
	Kind string `json:"kind"`

	// name of the workload.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')",message="restart.name must be the name of a workload: lower case letters, digits, '-' and '.'"
	Name string `json:"name"`
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

	// clientID is the client's OAuth client_id. It is never used again for another client.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	ClientID string `json:"clientID,omitempty"`

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

	// seal is a MAC over the object's UID, the client id, the credentials and the state
	// of their rotation. Token servers ignore a status whose seal doesn't hold.
	// +optional
	// +kubebuilder:validation:MaxLength=128
	Seal string `json:"seal,omitempty"`

	// usage says when versions of the secret were last used, the latest use first. The
	// token servers write it, at most once an hour while a replaced secret is valid and
	// else once a day. It makes no version valid.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	Usage []VersionUsage `json:"usage,omitempty"`
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

// VersionUsage says when a version of a secret was last used.
type VersionUsage struct {
	// version of the secret.
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

	// deletionPolicy is what becomes of the Secret when the client is deleted.
	// +optional
	DeletionPolicy DeletionPolicy `json:"deletionPolicy,omitempty"`

	// overlap is how long a secret stays valid after it was replaced.
	// +optional
	Overlap *metav1.Duration `json:"overlap,omitempty"`

	// retireWhenUnused is how a secret ends that is used past the overlap; absent: it
	// ends with the overlap.
	// +optional
	RetireWhenUnused *RetireWhenUnused `json:"retireWhenUnused,omitempty"`
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
