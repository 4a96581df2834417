package ownership

import (
	"errors"
	"slices"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func entry(manager, fields string) metav1.ManagedFieldsEntry {
	return metav1.ManagedFieldsEntry{Manager: manager, FieldsType: "FieldsV1", FieldsV1: metav1.NewFieldsV1(fields)}
}

// Who owns a field is who owns it or something in it.
func TestManagers(t *testing.T) {
	entries := []metav1.ManagedFieldsEntry{
		entry("flux", `{"f:spec":{"f:scopes":{}}}`),
		entry("argocd", `{"f:spec":{"f:scopes":{},"f:trustedMetadata":{}}}`),
		entry("argocd", `{"f:spec":{"f:rotation":{"f:interval":{}}}}`),
		entry("kubectl-annotate", `{"f:metadata":{"f:annotations":{"f:spec":{}}}}`),
		{Manager: "nobody"},
	}
	for _, test := range []struct{ path, want []string }{
		{nil, []string{"argocd", "flux", "kubectl-annotate"}},
		{[]string{"spec"}, []string{"argocd", "flux"}},
		{[]string{"spec", "scopes"}, []string{"argocd", "flux"}},
		{[]string{"spec", "trustedMetadata"}, []string{"argocd"}},
		{[]string{"spec", "rotation"}, []string{"argocd"}},
		{[]string{"spec", "state"}, nil},
	} {
		if got := Managers(entries, test.path...); !slices.Equal(got, test.want) {
			t.Errorf("%v: %v, not %v", test.path, got, test.want)
		}
	}
	if got := Managers([]metav1.ManagedFieldsEntry{entry("strange", `{"f:spec":`)}, "spec"); !slices.Equal(got, []string{"strange"}) {
		t.Errorf("fields that can't be read: %v", got)
	}
}

// Only conflicts of field managers are.
func TestConflicts(t *testing.T) {
	cause := func(message, field string) metav1.StatusCause {
		return metav1.StatusCause{Type: metav1.CauseTypeFieldManagerConflict, Message: message, Field: field}
	}
	got := Conflicts(apierrors.NewApplyConflict([]metav1.StatusCause{
		cause(`conflict with "argocd"`, ".spec.scopes"),
		cause(`conflict with "a \"b\"" using m2m-operator.dev/v1alpha1`, ".spec.state"),
		{Type: metav1.CauseTypeFieldValueInvalid, Message: "invalid", Field: "spec"},
	}, "Apply failed"))
	if want := []Conflict{{"spec.scopes", "argocd"}, {"spec.state", `a "b"`}}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	for _, err := range []error{
		nil, errors.New("conflict with argocd"),
		apierrors.NewConflict(schema.GroupResource{}, "billing", errors.New("the object has been modified")),
	} {
		if got := Conflicts(err); got != nil {
			t.Errorf("%v: %q", err, got)
		}
	}
}
