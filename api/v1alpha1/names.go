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
	// ConditionPreviousSecretInUse is True while a replaced secret is kept past its
	// overlap because it may still be used; absent otherwise.
	ConditionPreviousSecretInUse = "PreviousSecretInUse"
	// ConditionUnrestricted is True on an issuer that grants everything to every
	// namespace; absent otherwise.
	ConditionUnrestricted = "Unrestricted"
	// ConditionAmbiguousScopes is True while a client holds scopes that verifiers read
	// differently; absent otherwise.
	ConditionAmbiguousScopes = "AmbiguousScopes"
)

// Reasons of an M2MClient's conditions.
const (
	// ReasonIssued: the credential is delivered and valid.
	ReasonIssued = "Issued"
	// ReasonInactive: as asked, the client gets no tokens.
	ReasonInactive = "Inactive"
	// ReasonStaged: the next secret is delivered beside the current one, and waits to be promoted.
	ReasonStaged = "Staged"
	// ReasonRotating: a new secret is valid, and will replace the current one in a moment.
	ReasonRotating = "Rotating"
	// ReasonRevoked: the current secret was revoked, and no other could be delivered yet.
	ReasonRevoked = "Revoked"
	// ReasonRestartForbidden: the installation may not restart workloads, or a workload
	// doesn't allow it.
	ReasonRestartForbidden = "RestartForbidden"
	// ReasonRestartWaits: a workload of spec.rotation.restart was restarted a moment ago.
	ReasonRestartWaits = "RestartWaits"
	// ReasonRestartFailed: a workload of spec.rotation.restart could not be restarted.
	ReasonRestartFailed = "RestartFailed"
	// ReasonImportWaiting: the Secret to import isn't there, or lacks the adopt label.
	ReasonImportWaiting = "ImportWaiting"
	// ReasonImportRefused: what the Secret to import holds can't be a credential.
	ReasonImportRefused = "ImportRefused"
	// ReasonClientIDNotPermitted: the issuer doesn't let the namespace choose client ids.
	ReasonClientIDNotPermitted = "ClientIDNotPermitted"
	// ReasonClientIDTaken: another client, or a project, has the client id, or had it
	// until lately.
	ReasonClientIDTaken = "ClientIDTaken"
	// ReasonClientIDInUse: another client of the namespace has the client id.
	ReasonClientIDInUse = "ClientIDInUse"
	// ReasonClientIDReserved: the client id has a form that only the operator gives.
	ReasonClientIDReserved = "ClientIDReserved"
	// ReasonIssuerNotFound: the manifest names an issuer that doesn't exist.
	ReasonIssuerNotFound = "IssuerNotFound"
	// ReasonIssuerNotReady: the issuer exists, and can't sign yet.
	ReasonIssuerNotReady = "IssuerNotReady"
	// ReasonSecretConflict: the Secret's name is taken.
	ReasonSecretConflict = "SecretConflict"
	// ReasonReservedName: the client is in the operator's own namespace, or it or its Secret
	// has a name of the operator's form.
	ReasonReservedName = "ReservedName"
	// ReasonSecretForbidden: the API server refused the Secret, by a quota or a policy.
	ReasonSecretForbidden = "SecretForbidden"
	// ReasonMetadataTooLarge: trustedMetadata is over 4 KiB and never put into a token.
	ReasonMetadataTooLarge = "MetadataTooLarge"
	// ReasonNotGranted: the manifest asks for what the issuer doesn't grant to the namespace.
	ReasonNotGranted = "NotGranted"
	// ReasonClaimsTooLarge: what the issuer's template makes of the client's metadata is
	// too large, and never put into a token.
	ReasonClaimsTooLarge = "ClaimsTooLarge"
	// ReasonNoCredential: nothing says how the client authenticates.
	ReasonNoCredential = "NoCredential"
	// ReasonInvalidPublicKeys: one of publicKeys can't verify signatures.
	ReasonInvalidPublicKeys = "InvalidPublicKeys"
	// ReasonLifetimeOutOfBounds: token.lifetime is outside the issuer's bounds.
	ReasonLifetimeOutOfBounds = "LifetimeOutOfBounds"
	// ReasonInvalidTemplate: the Secret can't be composed as its template says.
	ReasonInvalidTemplate = "InvalidTemplate"
	// ReasonSecretLostAgain: the Secret is deleted or overwritten again and again, and the
	// next secret waits, longer each time.
	ReasonSecretLostAgain = "SecretLostAgain"
	// ReasonRenameWaits: the Secret keeps its name, because as many former ones are kept
	// as may be.
	ReasonRenameWaits = "RenameWaits"
	// ReasonTooManyVersions: as many secrets are valid as may be; the next must wait.
	ReasonTooManyVersions = "TooManyVersions"
	// ReasonCredentialAltered: the annotation of a client that the management API made is
	// not what the API wrote last.
	ReasonCredentialAltered = "CredentialAltered"
	// ReasonPepperLost: the keys that check the client's secret aren't there.
	ReasonPepperLost = "PepperLost"
)

// Reasons of the condition PreviousSecretInUse.
const (
	// ReasonInUse: a replaced secret was used lately.
	ReasonInUse = "InUse"
	// ReasonUnreported: not all token servers have said whether a replaced secret was used.
	ReasonUnreported = "Unreported"
)

// Reasons of a ClusterM2MIssuer's conditions; ReasonPepperLost is one too.
const (
	// ReasonSigning: tokens can be signed and verified.
	ReasonSigning = "Signing"
	// ReasonConflict: an older issuer has the same URL, project id or `iss` claim.
	ReasonConflict = "Conflict"
	// ReasonSigningKeyLost: the Secret with the signing keys is gone, and clients have credentials.
	ReasonSigningKeyLost = "SigningKeyLost"
	// ReasonSigningKeyCorrupt: the Secret with the signing keys can't be read.
	ReasonSigningKeyCorrupt = "SigningKeyCorrupt"
	// ReasonInvalidGrants: a selector of a grant can't be read, and selects nothing.
	ReasonInvalidGrants = "InvalidGrants"
	// ReasonInvalidClaims: the template of custom claims can't be used.
	ReasonInvalidClaims = "InvalidClaims"
)

// Reasons of the condition Unrestricted.
const (
	// ReasonAllGranted: every namespace may hold everything.
	ReasonAllGranted = "AllGranted"
)

// Reasons of the condition AmbiguousScopes.
const (
	// ReasonSecondColon: a scope has two colons, and verifiers disagree which one divides it.
	ReasonSecondColon = "SecondColon"
)

// Labels and annotations.
const (
	// LabelClient names, on a Secret, the M2MClient whose credential it holds.
	LabelClient = "m2m-operator.dev/client"
	// LabelManagedBy is the recommended label of Kubernetes for what manages an object.
	LabelManagedBy = "app.kubernetes.io/managed-by"
	// ManagedBy is the operator's value of LabelManagedBy.
	ManagedBy = "m2m-operator"
	// AnnotationAllowRestart names, on a workload, the M2MClients that may have it
	// restarted, separated by commas; `*` is all of the namespace.
	AnnotationAllowRestart = "m2m-operator.dev/allow-restart"
	// AnnotationRestartedAt is, on a workload, when the operator restarted it last.
	AnnotationRestartedAt = "m2m-operator.dev/restarted-at"
	// AnnotationClientUID is, on a Secret, the UID of its M2MClient.
	AnnotationClientUID = "m2m-operator.dev/client-uid"
	// AnnotationClientID is, on a Secret, the OAuth client_id.
	AnnotationClientID = "m2m-operator.dev/client-id"
	// AnnotationVersion is, on a Secret, the version of the secret that it delivers.
	AnnotationVersion = "m2m-operator.dev/version"
	// AnnotationSeal is, on a Secret, the MAC that binds its secret to its client.
	AnnotationSeal = "m2m-operator.dev/seal"
	// AnnotationNextVersion is, on a Secret, the version of the staged secret that it
	// delivers beside the current one.
	AnnotationNextVersion = "m2m-operator.dev/next-version"
	// AnnotationNextSeal is, on a Secret, the MAC that binds its staged secret to its client.
	AnnotationNextSeal = "m2m-operator.dev/next-seal"
	// AnnotationKeepUntil is, on a Secret whose name its client no longer uses, when it is deleted.
	AnnotationKeepUntil = "m2m-operator.dev/keep-until"
	// LabelRole is, on a Lease, the role of the process that renews it.
	LabelRole = "m2m-operator.dev/role"
	// RoleServer is a token server's value of LabelRole.
	RoleServer = "server"
	// AnnotationReportedUntil is, on a token server's Lease, up to when every use of a
	// secret that may be retired stands in a status.
	AnnotationReportedUntil = "m2m-operator.dev/reported-until"
	// AnnotationStoppedAt is, on the Lease of a token server that has stopped with uses
	// unreported, when it stopped.
	AnnotationStoppedAt = "m2m-operator.dev/stopped-at"
	// LabelAdopt is, on a Secret, the name of the M2MClient that may take it over or
	// import from it.
	LabelAdopt = "m2m-operator.dev/adopt"
	// AnnotationRotate is, on an M2MClient, any text: a new one replaces the secret
	// now. On the pepper's Secret, a new one replaces the pepper's active key; on
	// AuthoritySecret, a new one makes another authority.
	AnnotationRotate = "m2m-operator.dev/rotate"
	// AnnotationPause is, on an M2MClient, "true" while nothing may be written to it.
	AnnotationPause = "m2m-operator.dev/pause"
)

// Of the management API.
const (
	// AnnotationCredential is, on an M2MClient that the management API made, what its
	// secrets are checked with, sealed. The controller copies it into the status.
	AnnotationCredential = "m2m-operator.dev/credential"
	// ManagementAPI is the field manager of what the management API writes, and its value
	// of LabelManagedBy.
	ManagementAPI = "m2m-operator-api"
	// ProjectSecretType is the type of Secrets that hold what a project secret of the
	// management API is checked with. They are in the operator's namespace.
	ProjectSecretType = "m2m-operator.dev/project-secret"
	// LabelIssuer names, on such a Secret, the ClusterM2MIssuer whose project it is for.
	LabelIssuer = "m2m-operator.dev/issuer"
	// ProjectSecretHashKey is the key of its digest: the SHA-256 of the project secret, as
	// 64 hexadecimal digits.
	ProjectSecretHashKey = "sha256"
	// AnnotationLastFour is, on such a Secret, the last four characters of the project
	// secret, by which people recognise it.
	AnnotationLastFour = "m2m-operator.dev/last-four"
	// ProjectUserPrefix and a project id are the Kubernetes user that holders of its
	// secrets are to RBAC, and ProjectGroup the group of all of them.
	ProjectUserPrefix = "m2m-operator.dev:project:"
	ProjectGroup      = "m2m-operator.dev:projects"
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

// Certificates of the operator's own servers, in its namespace.
const (
	// AuthoritySecret holds the authorities (CAs) that sign serving certificates, under
	// AuthorityKey. Only the controller reads it.
	AuthoritySecret = "m2m-operator-ca"
	AuthorityKey    = "authorities.json"
	// AuthorityConfigMap has what verifiers trust, in PEM, under AuthorityBundleKey.
	AuthorityConfigMap = "m2m-operator-ca"
	AuthorityBundleKey = "ca.crt"
	// ServingSecret and APIServingSecret hold the certificates of the token servers and of
	// the management API, as Secrets of type kubernetes.io/tls with AuthorityBundleKey.
	ServingSecret    = "m2m-operator-tls"
	APIServingSecret = "m2m-operator-api-tls"
	// AnnotationRotatedFor is, on AuthoritySecret, the text of AnnotationRotate that needs
	// no other authority any more.
	AnnotationRotatedFor = "m2m-operator.dev/rotated-for"
	// AnnotationAuthority names, on a client's Secret, the bundle that it has as ca.crt, and
	// AnnotationAuthoritySince on ServingSecret when its own last changed.
	AnnotationAuthority      = "m2m-operator.dev/authority"
	AnnotationAuthoritySince = "m2m-operator.dev/authority-since"
)
