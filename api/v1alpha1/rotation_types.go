package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

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
