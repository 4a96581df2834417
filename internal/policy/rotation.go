package policy

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
)

// What holds where a client's rotation leaves a choice open.
const (
	DefaultOverlap   = 24 * time.Hour
	DefaultRetireFor = 24 * time.Hour
	DefaultDeadline  = 90 * 24 * time.Hour
)

// Rotation is how a client's secret is replaced, defaults filled in.
type Rotation struct {
	Staged          bool
	Promote, Cancel string // the version that a staged rotation is to promote, or to drop
	Revoke          []string
	Interval        time.Duration // 0: none
	Overlap         time.Duration
	RetireFor       time.Duration // 0: a replaced secret ends with the overlap
	Deadline        time.Duration
}

// ResolveRotation computes how a client's secret is replaced. tokenLifetime is the
// effective lifetime of its tokens.
func ResolveRotation(client *v1alpha1.M2MClientSpec, tokenLifetime time.Duration) Rotation {
	spec := client.Rotation
	if spec == nil {
		spec = &v1alpha1.RotationSpec{}
	}
	r := Rotation{
		Staged:   spec.Mode == v1alpha1.RotationStaged,
		Interval: orElse(spec.Interval, 0),
		Overlap:  orElse(spec.Overlap, DefaultOverlap),
	}
	for _, version := range spec.Revoke {
		r.Revoke = append(r.Revoke, string(version))
	}
	if s := spec.Staged; s != nil && s.Action == v1alpha1.StagedPromote {
		r.Promote = string(s.Version)
	} else if s != nil && s.Action == v1alpha1.StagedCancel {
		r.Cancel = string(s.Version)
	}
	r.RetireFor, r.Deadline = retirement(spec, r.Interval, tokenLifetime)
	return r
}

// retirement says how a secret ends that is still used at the end of its overlap.
// Callers keep tokens, so only two lifetimes without a use mean something.
func retirement(spec *v1alpha1.RotationSpec, interval, tokenLifetime time.Duration) (unused, deadline time.Duration) {
	retire := spec.RetireWhenUnused
	switch {
	case retire == nil && interval == 0:
		return 0, 0
	case retire == nil:
		retire = &v1alpha1.RetireWhenUnused{}
	}
	unused = orElse(retire.For, DefaultRetireFor)
	if unused == 0 {
		return 0, 0
	}
	deadline = DefaultDeadline
	if interval > 0 {
		deadline = interval
	}
	return max(unused, 2*tokenLifetime), orElse(retire.Deadline, deadline)
}

func orElse(d *metav1.Duration, fallback time.Duration) time.Duration {
	if d == nil {
		return fallback
	}
	return d.Duration
}
