package v1alpha1

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

	// delivery is Secret where it is absent: the operator makes a secret and puts it
	// into the Secret. With None it makes no secret and writes no Secret: the client
	// authenticates by workloadIdentities or publicKeys. It can't be changed.
	// +optional
	// +kubebuilder:validation:XValidation:rule="self in ['Secret', 'None']",message="secret.delivery must be Secret or None"
	// +kubebuilder:validation:MaxLength=16
	Delivery SecretDelivery `json:"delivery,omitempty"`

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

// SecretDelivery says whether a client has a secret.
type SecretDelivery string

const (
	// DeliverySecret puts the client's secret into a Secret.
	DeliverySecret SecretDelivery = "Secret"
	// DeliveryNone makes no secret.
	DeliveryNone SecretDelivery = "None"
)

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
// +kubebuilder:validation:XValidation:rule="[has(self.clientID) ? self.clientID : 'client_id', has(self.clientSecret) ? self.clientSecret : 'client_secret', has(self.nextClientSecret) ? self.nextClientSecret : 'next_client_secret', has(self.tokenURL) ? self.tokenURL : 'token_url', has(self.issuer) ? self.issuer : 'issuer', has(self.jwksURL) ? self.jwksURL : 'jwks_url', has(self.scopes) ? self.scopes : 'scopes', has(self.caCertificate) ? self.caCertificate : 'ca.crt'].all(k, [has(self.clientID) ? self.clientID : 'client_id', has(self.clientSecret) ? self.clientSecret : 'client_secret', has(self.nextClientSecret) ? self.nextClientSecret : 'next_client_secret', has(self.tokenURL) ? self.tokenURL : 'token_url', has(self.issuer) ? self.issuer : 'issuer', has(self.jwksURL) ? self.jwksURL : 'jwks_url', has(self.scopes) ? self.scopes : 'scopes', has(self.caCertificate) ? self.caCertificate : 'ca.crt'].exists_one(l, l == k))",message="two values have the same key in template.keys: give each its own key"
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
	// caCertificate is the key of the certificates (PEM) that the token endpoint is trusted
	// by; `ca.crt` where it is absent. It is there if the issuer's URL is at a name of the
	// operator's own serving certificate.
	// +optional
	CACertificate SecretKey `json:"caCertificate,omitempty"`
}

// SecretKey is a key of a Secret's data.
//
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=253
// +kubebuilder:validation:XValidation:rule="self.matches('^[-._a-zA-Z0-9]+$')",message="a key of a Secret is made of letters, digits, '-', '_' and '.'"
type SecretKey string
