package v1alpha1

// Condition types, as kstatus reads them.
const (
	// ConditionReady is True when the object is what its manifest says.
	ConditionReady = "Ready"
	// ConditionStalled is True while the object waits for a person; absent otherwise.
	ConditionStalled = "Stalled"
	// ConditionReconciling is True while the object waits for something that comes
	// by itself; absent otherwise.
	ConditionReconciling = "Reconciling"
)

// Reasons of an M2MClient's conditions.
const (
	// ReasonIssued: the credential is delivered and valid.
	ReasonIssued = "Issued"
	// ReasonInactive: as asked, the client gets no tokens.
	ReasonInactive = "Inactive"
	// ReasonIssuerNotFound: the manifest names an issuer that doesn't exist.
	ReasonIssuerNotFound = "IssuerNotFound"
	// ReasonIssuerNotReady: the issuer exists, and can't sign yet.
	ReasonIssuerNotReady = "IssuerNotReady"
	// ReasonSecretConflict: the Secret's name is taken.
	ReasonSecretConflict = "SecretConflict"
	// ReasonNamespaceTerminating: no Secret can be made in a namespace that is being deleted.
	ReasonNamespaceTerminating = "NamespaceTerminating"
	// ReasonSecretForbidden: the API server refused the Secret, by a quota or a policy.
	ReasonSecretForbidden = "SecretForbidden"
	// ReasonMetadataTooLarge: trustedMetadata is over 4 KiB and never put into a token.
	ReasonMetadataTooLarge = "MetadataTooLarge"
	// ReasonLifetimeOutOfBounds: token.lifetime is outside the issuer's bounds.
	ReasonLifetimeOutOfBounds = "LifetimeOutOfBounds"
	// ReasonInvalidTemplate: the Secret can't be composed as its template says.
	ReasonInvalidTemplate = "InvalidTemplate"
	// ReasonTooManyVersions: as many secrets are valid as may be; the next must wait.
	ReasonTooManyVersions = "TooManyVersions"
	// ReasonPepperLost: the keys that check the client's secret aren't there.
	ReasonPepperLost = "PepperLost"
)

// Reasons of a ClusterM2MIssuer's conditions; ReasonPepperLost is one too.
const (
	// ReasonSigning: tokens can be signed and verified.
	ReasonSigning = "Signing"
	// ReasonConflict: an older issuer has the same URL or project id.
	ReasonConflict = "Conflict"
	// ReasonSigningKeyLost: the Secret with the signing keys is gone, and clients have credentials.
	ReasonSigningKeyLost = "SigningKeyLost"
	// ReasonSigningKeyCorrupt: the Secret with the signing keys can't be read.
	ReasonSigningKeyCorrupt = "SigningKeyCorrupt"
)

// Labels and annotations.
const (
	// LabelClient names, on a Secret, the M2MClient whose credential it holds.
	LabelClient = "m2m-operator.dev/client"
	// LabelManagedBy is the recommended label of Kubernetes for what manages an object.
	LabelManagedBy = "app.kubernetes.io/managed-by"
	// ManagedBy is the operator's value of LabelManagedBy.
	ManagedBy = "m2m-operator"
	// AnnotationClientUID is, on a Secret, the UID of its M2MClient.
	AnnotationClientUID = "m2m-operator.dev/client-uid"
	// AnnotationClientID is, on a Secret, the OAuth client_id.
	AnnotationClientID = "m2m-operator.dev/client-id"
	// AnnotationVersion is, on a Secret, the version of the secret that it delivers.
	AnnotationVersion = "m2m-operator.dev/version"
	// AnnotationSeal is, on a Secret, the MAC that binds its secret to its client.
	AnnotationSeal = "m2m-operator.dev/seal"
)

// DefaultIssuer is the issuer of clients that name none.
const DefaultIssuer = "default"

// Secrets of the operator's namespace, made by the controller and read by the servers.
const (
	// PepperSecret holds the keys that every credential and seal is checked with.
	PepperSecret = "m2m-operator-pepper"
	// SigningKeysSecretPrefix and the name of an issuer name the Secret that holds its signing keys.
	SigningKeysSecretPrefix = "m2m-operator-keys-"
)
