package main

import (
	"reflect"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
)

// objectOf reads JSON as the API server sends it.
func objectOf(t testing.TB, text string) *unstructured.Unstructured {
	t.Helper()
	u := &unstructured.Unstructured{}
	if err := json.Unmarshal([]byte(text), &u.Object); err != nil {
		t.Fatal(err)
	}
	return u
}

func clientOf(t testing.TB, text string) *v1alpha1.M2MClient {
	t.Helper()
	c, err := typedClient(objectOf(t, text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const (
	meStarts  = `{"manager": "kubectl-m2m", "operation": "Apply", "fieldsType": "FieldsV1", "fieldsV1": `
	gitStarts = `{"manager": "argocd-controller", "operation": "Apply", "fieldsType": "FieldsV1", "fieldsV1": `
)

func TestConfiguration(t *testing.T) {
	inactive := []change{set("Inactive", "spec", "state")}
	for name, test := range map[string]struct {
		spec, managers string
		changes        []change
		want           string // of spec; "": nothing is applied
	}{
		"only what changes": {
			`{"scopes": ["a"]}`, gitStarts + `{"f:spec": {"f:scopes": {}}}}`,
			inactive, `{"state": "Inactive"}`,
		},
		"an equal value is not co-owned": {
			`{"state": "Inactive"}`, gitStarts + `{"f:spec": {"f:state": {}}}}`,
			inactive, "",
		},
		"what is owned stays, maps and lists as a whole": {
			`{"scopes": ["a", "b"], "trustedMetadata": {"owner": {"team": "x"}, "n": 12345678901234567}, "displayName": "Git's"}`,
			meStarts + `{"f:spec": {"f:scopes": {}, "f:trustedMetadata": {}}}},` + gitStarts + `{"f:spec": {"f:displayName": {}}}}`,
			inactive, `{"scopes": ["a", "b"], "trustedMetadata": {"owner": {"team": "x"}, "n": 12345678901234567}, "state": "Inactive"}`,
		},
		"what another took over does not come back": {
			`{"state": "Active", "displayName": "x"}`,
			meStarts + `{"f:spec": {"f:displayName": {}}}},` + gitStarts + `{"f:spec": {"f:state": {}}}}`,
			[]change{set("y", "spec", "description")}, `{"displayName": "x", "description": "y"}`,
		},
		"what was applied empty and is another's now is not taken": {
			`{"scopes": ["a"]}`, meStarts + `{"f:spec": {}}},` + gitStarts + `{"f:spec": {"f:scopes": {}}}}`,
			inactive, `{"state": "Inactive"}`,
		},
		"what was owned and is gone": {
			`{}`, meStarts + `{"f:spec": {"f:displayName": {}}}}`,
			inactive, `{"state": "Inactive"}`,
		},
		"only entries of Apply count": {
			`{"displayName": "x"}`, `{"manager": "kubectl-m2m", "operation": "Update", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:displayName": {}}}}`,
			inactive, `{"state": "Inactive"}`,
		},
		"given up": {
			`{"state": "Inactive", "displayName": "x"}`, meStarts + `{"f:spec": {"f:state": {}, "f:displayName": {}}}}`,
			[]change{giveUp("spec", "state")}, `{"displayName": "x"}`,
		},
		"given up last, with no empty spec left": {
			`{"state": "Inactive"}`, meStarts + `{"f:spec": {"f:state": {}}}}`,
			[]change{giveUp("spec", "state")}, `null`,
		},
		"given up what isn't owned": {
			`{"state": "Inactive"}`, gitStarts + `{"f:spec": {"f:state": {}}}}`,
			[]change{giveUp("spec", "state")}, "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			live := objectOf(t, `{"apiVersion": "m2m-operator.dev/v1alpha1", "kind": "M2MClient", "metadata": {"name": "billing", "namespace": "shop",
				"uid": "u", "resourceVersion": "7", "generation": 2, "managedFields": [`+test.managers+`]}, "spec": `+test.spec+`, "status": {"clientID": "x"}}`)
			before := live.DeepCopy()
			config, err := configuration(live, test.changes)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(live, before) {
				t.Error("the live object was changed")
			}
			if test.want == "" {
				if config != nil {
					t.Errorf("applies %v", config.Object)
				}
				return
			}
			want := objectOf(t, `{"apiVersion": "m2m-operator.dev/v1alpha1", "kind": "M2MClient", "metadata": {"name": "billing", "namespace": "shop",
				"uid": "u", "resourceVersion": "7"}, "spec": `+test.want+`}`)
			if want.Object["spec"] == nil {
				delete(want.Object, "spec")
			}
			if config == nil || !reflect.DeepEqual(config.Object, want.Object) {
				t.Errorf("applies %v; want %v", config, want.Object)
			}
		})
	}
}

// What can't be kept must not be removed in silence.
func TestConfigurationOfListItems(t *testing.T) {
	live := objectOf(t, `{"metadata": {"name": "billing", "finalizers": ["example.com/x"], "managedFields": [`+meStarts+`{"f:metadata": {"f:finalizers": {"v:\"example.com/x\"": {}}}}}]}}`)
	if _, err := configuration(live, []change{set("Inactive", "spec", "state")}); err == nil || !strings.Contains(err.Error(), "metadata.finalizers") {
		t.Error(err)
	}
}

func TestOwnersConflict(t *testing.T) {
	key := client.ObjectKey{Namespace: "shop", Name: "billing"}
	cause := func(manager, field string) metav1.StatusCause {
		return metav1.StatusCause{Type: metav1.CauseTypeFieldManagerConflict, Message: "conflict with " + manager, Field: field}
	}
	for manager, says := range map[string]string{
		`"argocd-controller"`: `spec.state of M2MClient shop/billing belongs to the field manager "argocd-controller": change it there (in Git), or pass --force-conflicts to take it over until the next sync`,
		`"kubectl-edit" using m2m-operator.dev/v1alpha1 at 2026-11-23T08:00:00Z`: `belongs to the field manager "kubectl-edit": somebody set it by hand; pass --force-conflicts`,
		`"m2m-operator-api"`:       `through the management API`,
		`"a \"b\" \u001b[31m red"`: `the field manager "a \"b\" \x1b[31m red"`,
	} {
		err := ownersConflict(apierrors.NewApplyConflict([]metav1.StatusCause{cause(manager, ".spec.state")}, "Apply failed"), key)
		if !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "\x1b") {
			t.Errorf("%s: %v", manager, err)
		}
	}
	two := ownersConflict(apierrors.NewApplyConflict([]metav1.StatusCause{cause(`"a"`, ".spec.state"), cause(`"b"`, ".spec.token.notBefore")}, ""), key)
	if strings.Count(two.Error(), "belongs to the field manager") != 2 {
		t.Error(two)
	}
	// A conflict of versions is tried again, and must stay one.
	version := apierrors.NewConflict(v1alpha1.SchemeGroupVersion.WithResource("m2mclients").GroupResource(), "billing", nil)
	if !apierrors.IsConflict(ownersConflict(version, key)) || apierrors.IsConflict(two) {
		t.Error("conflicts of versions and of owners are taken for each other")
	}
}

func TestStateChanges(t *testing.T) {
	for name, test := range map[string]struct {
		state, managers string
		to              v1alpha1.ClientState
		want            []change
	}{
		"active by default":           {`{}`, ``, v1alpha1.ClientActive, nil},
		"inactive already":            {`{"state": "Inactive"}`, ``, v1alpha1.ClientInactive, nil},
		"off":                         {`{}`, ``, v1alpha1.ClientInactive, []change{set("Inactive", "spec", "state")}},
		"what was ours alone is left": {`{"state": "Inactive"}`, meStarts + `{"f:spec": {"f:state": {}}}}`, v1alpha1.ClientActive, []change{giveUp("spec", "state")}},
		"Git's":                       {`{"state": "Inactive"}`, gitStarts + `{"f:spec": {"f:state": {}}}}`, v1alpha1.ClientActive, []change{set("Active", "spec", "state")}},
		"Git's and ours":              {`{"state": "Inactive"}`, meStarts + `{"f:spec": {"f:state": {}}}},` + gitStarts + `{"f:spec": {"f:state": {}}}}`, v1alpha1.ClientActive, []change{set("Active", "spec", "state")}},
	} {
		c := clientOf(t, `{"metadata": {"managedFields": [`+test.managers+`]}, "spec": `+test.state+`}`)
		if got := stateChanges(c, test.to); !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: %v; want %v", name, got, test.want)
		}
	}
}

func TestMakers(t *testing.T) {
	for entries, want := range map[string]int{
		gitStarts + `{"f:spec": {"f:state": {}}}}`:                                                                                 1,
		gitStarts + `{"f:metadata": {"f:labels": {"f:a": {}}}}}`:                                                                   1,
		meStarts + `{"f:spec": {"f:state": {}}}}`:                                                                                  0,
		`{"manager": "kubectl-edit", "operation": "Update", "fieldsV1": {"f:spec": {"f:state": {}}}}`:                              0,
		`{"manager": "m2m-operator-api", "operation": "Apply", "fieldsV1": {"f:spec": {"f:state": {}}}}`:                           0,
		`{"manager": "a-pipeline", "operation": "Update", "fieldsV1": {"f:spec": {}}}`:                                             1,
		`{"manager": "annotator", "operation": "Update", "fieldsV1": {"f:metadata": {"f:annotations": {"f:a": {}}}}}`:              0,
		`{"manager": "m2m-operator", "operation": "Apply", "subresource": "status", "fieldsV1": {"f:status": {"f:clientID": {}}}}`: 0,
	} {
		c := clientOf(t, `{"metadata": {"managedFields": [`+entries+`]}}`)
		if got := makers(c.ManagedFields); len(got) != want {
			t.Errorf("%s: %v", entries, got)
		}
	}
}
