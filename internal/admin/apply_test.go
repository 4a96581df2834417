package admin

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	ac "github.com/m2m-operator/m2m-operator/api/v1alpha1/applyconfiguration/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/managementapi"
)

// ownedBy is a client whose fields have owners.
func ownedBy(entries ...metav1.ManagedFieldsEntry) *v1alpha1.M2MClient {
	o := &v1alpha1.M2MClient{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "billing", ManagedFields: entries}}
	o.Spec = v1alpha1.M2MClientSpec{
		DisplayName: "Billing", Scopes: []string{"a", "b"},
		TrustedMetadata: map[string]apiextensionsv1.JSON{"tier": {Raw: []byte(`{"a":1,"b":[2]}`)}},
	}
	return o
}

func entry(manager, subresource, fields string) metav1.ManagedFieldsEntry {
	return metav1.ManagedFieldsEntry{Manager: manager, Subresource: subresource, FieldsType: "FieldsV1", FieldsV1: metav1.NewFieldsV1(fields)}
}

// Who else manages a client is who owns a part of its spec.
func TestOthers(t *testing.T) {
	o := ownedBy(
		entry(v1alpha1.ManagementAPI, "", `{"f:spec":{"f:displayName":{}}}`),
		entry("m2m-operator", "status", `{"f:status":{"f:seal":{}}}`),
		entry("kubectl-annotate", "", `{"f:metadata":{"f:annotations":{"f:m2m-operator.dev/rotate":{}}}}`),
		entry("flux", "", `{"f:spec":{"f:scopes":{}}}`),
	)
	if got := others(o); !slices.Equal(got, []string{"flux"}) {
		t.Error(got)
	}
	if got := others(o, "displayName"); got != nil {
		t.Error(got)
	}
}

// A change is applied with the fields that change, and no others.
func TestApplyChanges(t *testing.T) {
	ours := `{"f:spec":{"f:displayName":{},"f:scopes":{},"f:trustedMetadata":{}}}`
	text := func(s string) *string { return &s }
	none, other, yes := []string{}, []string{"c"}, true
	for name, test := range map[string]struct {
		owners []metav1.ManagedFieldsEntry
		change managementapi.Change
		want   string // of the spec; "unchanged", or the beginning of a problem
	}{
		"nothing":                         {nil, managementapi.Change{}, "unchanged"},
		"equal values":                    {nil, managementapi.Change{Name: text("Billing"), Active: &yes, Scopes: &[]string{"a", "b"}, TrustedMetadata: map[string]json.RawMessage{"tier": []byte(`{ "b":[2], "a":1}`)}}, "unchanged"},
		"removing a key that isn't there": {nil, managementapi.Change{TrustedMetadata: map[string]json.RawMessage{"team": []byte("null")}}, "unchanged"},
		"another's, to be tried":          {nil, managementapi.Change{Scopes: &other}, `{"scopes":["c"]}`},
		"another's, to be removed":        {[]metav1.ManagedFieldsEntry{entry("argocd", "", ours)}, managementapi.Change{Scopes: &none}, `spec.scopes of M2MClient billing in namespace shop belongs to "argocd"`},
		"a key more":                      {nil, managementapi.Change{TrustedMetadata: map[string]json.RawMessage{"team": []byte(`"x"`)}}, `{"trustedMetadata":{"team":"x","tier":{"a":1,"b":[2]}}}`},
		"a state":                         {nil, managementapi.Change{Active: new(bool)}, `{"state":"Inactive"}`},
	} {
		o := ownedBy(test.owners...)
		apply := ac.M2MClient("billing", "shop")
		got := ""
		err := (&Service{cluster: open(t)}).edit(managementapi.Caller{Issuer: "default"}, o, apply, test.change)
		problem, refused := errors.AsType[*managementapi.Problem](err)
		switch {
		case errors.Is(err, errUnchanged):
			got = "unchanged"
		case refused:
			got = problem.Message
		case err != nil:
			t.Fatal(name, err)
		default:
			spec, err := json.Marshal(apply.Spec)
			if err != nil {
				t.Fatal(err)
			}
			got = string(spec)
		}
		if !strings.HasPrefix(got, test.want) {
			t.Errorf("%s: %s, not %s", name, got, test.want)
		}
	}
}

// The API server's refusals become answers that say what happened, and nothing else does.
func TestRefused(t *testing.T) {
	resource := v1alpha1.SchemeGroupVersion.WithResource("m2mclients").GroupResource()
	for name, test := range map[string]struct {
		err    error
		status int
	}{
		"invalid":        {apierrors.NewInvalid(v1alpha1.SchemeGroupVersion.WithKind("M2MClient").GroupKind(), "billing", nil), http.StatusBadRequest},
		"forbidden":      {apierrors.NewForbidden(resource, "billing", errors.New("exceeded quota")), http.StatusForbidden},
		"too many":       {apierrors.NewTooManyRequests("later", 3), http.StatusTooManyRequests},
		"timeout":        {apierrors.NewTimeoutError("later", 1), http.StatusServiceUnavailable},
		"internal":       {apierrors.NewInternalError(errors.New("etcd")), http.StatusServiceUnavailable},
		"unreachable":    {errors.New("connection refused"), http.StatusServiceUnavailable},
		"something else": {apierrors.NewMethodNotSupported(resource, "apply"), 0},
	} {
		problem, ok := errors.AsType[*managementapi.Problem](refused("making a client", test.err))
		if ok != (test.status != 0) || ok && problem.Status != test.status {
			t.Errorf("%s: %v", name, problem)
		}
	}
	conflict := apierrors.NewApplyConflict([]metav1.StatusCause{{
		Type: metav1.CauseTypeFieldManagerConflict, Field: ".spec.scopes", Message: `conflict with "argocd"`,
	}}, "conflict")
	if p := owned(conflict); p == nil || p.Status != http.StatusConflict || !strings.Contains(p.Message, `spec.scopes belongs to the field manager "argocd"`) {
		t.Error(p)
	}
	if p := owned(apierrors.NewConflict(resource, "billing", errors.New("the object has been modified"))); p != nil {
		t.Error("a conflict of versions is one of owners:", p)
	}
}
