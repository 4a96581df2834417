package install

import (
	"fmt"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/test/eventually"
)

// What the policies of the server and the api role say when they refuse.
const (
	saysUsage    = "writes status.usage and status.revokedTokens of an M2MClient"
	saysMade     = "makes clients without a Secret"
	saysChanged  = "changes only displayName, description, scopes, trustedMetadata and state"
	saysNotThere = "has no clients in the operator's namespace"
)

// Of a status the servers write what they report, and nothing else, field by field.
func TestServerWritesOnlyItsStatus(t *testing.T) {
	c := installed(t)
	server := c.as(t, "server")
	m := &v1alpha1.M2MClient{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "reported"}}
	if err := c.Create(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	m.Status = v1alpha1.M2MClientStatus{
		ObservedGeneration: 1, ClientID: "m2m-client-live-1", Seal: "v1.seal", SecretName: "reported", GrantedScopes: []string{"read:cards"},
		Conditions:  []metav1.Condition{{Type: "Ready", Status: metav1.ConditionFalse, Reason: "Rotating", LastTransitionTime: metav1.Now()}},
		Credentials: []v1alpha1.CredentialStatus{{Version: "1-abcd", LastFour: "abcd", Role: "Current", Hash: "x", CreatedAt: metav1.Now()}},
	}
	if err := c.Status().Update(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	patch := func(kind types.PatchType, body string) error {
		return server.Status().Patch(t.Context(), m.DeepCopy(), client.RawPatch(kind, []byte(body)), client.DryRunAll)
	}
	eventually.Right(t, func() string { // the API server hears of the policy a moment later
		if err := patch(types.MergePatchType, `{"status":{"seal":""}}`); !apierrors.IsForbidden(err) {
			return "the policy doesn't count yet"
		}
		return ""
	})
	const digest = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	for status, says := range map[string]string{
		`{"usage":[{"version":"1-abcd","lastUsedAt":"2026-11-27T10:00:00Z"}]}`:                   "",
		`{"revokedTokens":[{"digest":"` + digest + `","expiresAt":"2026-11-27T10:00:00Z"}]}`:     "",
		`{"usage":null,"revokedTokens":[]}`:                                                      "",
		`{"usage":[{"version":"1-abcd","lastUsedAt":"2026-11-27T10:00:00Z"}],"clientID":"mine"}`: saysUsage,
		`{"tokensNotBefore":"2036-01-01T00:00:00Z"}`:                                             saysUsage,
		`{"clientIDSince":"2036-01-01T00:00:00Z"}`:                                               saysUsage,
		`{"seal":null}`:                    saysUsage,
		`{"credentials":[]}`:               saysUsage,
		`{"conditions":[]}`:                saysUsage,
		`{"secretName":"another"}`:         saysUsage,
		`{"grantedScopes":["admin"]}`:      saysUsage,
		`{"observedGeneration":9}`:         saysUsage,
		`{"lastVersionNumber":9}`:          saysUsage,
		`{"effective":{"state":"Active"}}`: saysUsage,
	} {
		t.Run(status, func(t *testing.T) {
			expect(t, patch(types.MergePatchType, `{"status":`+status+`}`), says)
		})
	}
	t.Run("as it writes usage", func(t *testing.T) {
		body := fmt.Sprintf(`{"apiVersion":"m2m-operator.dev/v1alpha1","kind":"M2MClient","metadata":{"name":"reported","namespace":"default","uid":%q},"status":{"usage":[{"version":"1-abcd","lastUsedAt":"2026-11-27T10:00:00Z"}]}}`, m.UID)
		err := server.Status().Patch(t.Context(), m.DeepCopy(), client.RawPatch(types.ApplyPatchType, []byte(body)), client.FieldOwner("m2m-operator-server"), client.ForceOwnership, client.DryRunAll)
		expect(t, err, "")
	})
	t.Run("others write what they like", func(t *testing.T) {
		if err := c.Status().Patch(t.Context(), m.DeepCopy(), client.RawPatch(types.MergePatchType, []byte(`{"status":{"seal":"other"}}`)), client.DryRunAll); err != nil {
			t.Error(err)
		}
	})
}

// The api role makes and changes clients as its calls do, and can give nobody a Secret, a
// key, or another way to authenticate.
func TestAPIWritesOnlyItsFields(t *testing.T) {
	c := installed(t)
	api := c.as(t, "api")
	made := func(change func(*v1alpha1.M2MClient)) *v1alpha1.M2MClient {
		m := &v1alpha1.M2MClient{ObjectMeta: metav1.ObjectMeta{
			Namespace: "m2m-api", Name: "m2m-client-live-1",
			Labels:      map[string]string{v1alpha1.LabelManagedBy: v1alpha1.ManagementAPI},
			Annotations: map[string]string{v1alpha1.AnnotationCredential: "{}"},
		}}
		m.Spec.Secret = &v1alpha1.SecretSpec{Delivery: v1alpha1.DeliveryNone}
		m.Spec.Scopes, m.Spec.DisplayName = []string{"read:cards"}, "Cards"
		if change != nil {
			change(m)
		}
		return m
	}
	eventually.Right(t, func() string {
		err := api.Create(t.Context(), made(func(m *v1alpha1.M2MClient) { m.Spec.Secret = nil }), client.DryRunAll)
		if !apierrors.IsForbidden(err) {
			return fmt.Sprintf("the policy doesn't count yet: %v", err)
		}
		return ""
	})
	accounts := []v1alpha1.WorkloadIdentity{{ServiceAccountName: "mine"}}
	for name, test := range map[string]struct {
		change func(*v1alpha1.M2MClient)
		says   string
	}{
		"as it is": {nil, ""},
		"of an issuer, with an id": {func(m *v1alpha1.M2MClient) {
			m.Spec.IssuerRef, m.Spec.ClientID = &v1alpha1.IssuerReference{Name: "other"}, "mine"
		}, ""},
		"in another namespace":        {func(m *v1alpha1.M2MClient) { m.Namespace = "default" }, ""},                  // an issuer may name it
		"in the operator's namespace": {func(m *v1alpha1.M2MClient) { m.Namespace = operatorNamespace }, "namespace"}, // two policies refuse it
		"in kube-system":              {func(m *v1alpha1.M2MClient) { m.Namespace = "kube-system" }, saysNotThere},
		"with a Secret":               {func(m *v1alpha1.M2MClient) { m.Spec.Secret = &v1alpha1.SecretSpec{Name: "x"} }, saysMade},
		"for a ServiceAccount":        {func(m *v1alpha1.M2MClient) { m.Spec.WorkloadIdentities = accounts }, saysMade},
		"with a lifetime":             {func(m *v1alpha1.M2MClient) { m.Spec.Token = &v1alpha1.TokenSpec{Audiences: []v1alpha1.Audience{"x"}} }, saysMade},
		"with another annotation":     {func(m *v1alpha1.M2MClient) { m.Annotations["example.com/x"] = "y" }, saysMade},
		"with another label":          {func(m *v1alpha1.M2MClient) { m.Labels["example.com/x"] = "y" }, saysMade},
		"with a finalizer":            {func(m *v1alpha1.M2MClient) { m.Finalizers = []string{"example.com/x"} }, saysMade},
	} {
		t.Run("create "+name, func(t *testing.T) {
			expect(t, api.Create(t.Context(), made(test.change), client.DryRunAll), test.says)
		})
	}
	others := &v1alpha1.M2MClient{ObjectMeta: metav1.ObjectMeta{Namespace: "m2m-api", Name: "a-manifest", Annotations: map[string]string{"team": "a"}}}
	others.Spec.Secret = &v1alpha1.SecretSpec{Name: "billing"}
	own := made(nil)
	for _, m := range []*v1alpha1.M2MClient{own, others} {
		if err := c.Create(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	for body, says := range map[string]string{
		`{"spec":{"scopes":["write:cards"],"displayName":"C","description":"d","state":"Inactive"}}`:                         "",
		`{"spec":{"trustedMetadata":{"tier":{"a":[1]}}}}`:                                                                    "",
		`{"metadata":{"annotations":{"m2m-operator.dev/credential":"{1}"}}}`:                                                 "",
		`{"spec":{"workloadIdentities":[{"serviceAccountName":"mine"}]}}`:                                                    saysChanged,
		`{"spec":{"publicKeys":{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}}}`: saysChanged,
		`{"spec":{"token":{"audiences":["bank"]}}}`:                                                                          saysChanged,
		`{"metadata":{"annotations":{"m2m-operator.dev/rotate":"now"}}}`:                                                     saysChanged,
		`{"metadata":{"annotations":{"m2m-operator.dev/pause":"true"}}}`:                                                     saysChanged,
		`{"metadata":{"labels":{"team":"b"}}}`:                                                                               saysChanged,
		`{"metadata":{"finalizers":["example.com/x"]}}`:                                                                      saysChanged,
	} {
		for _, m := range []*v1alpha1.M2MClient{own, others} {
			t.Run("update "+m.Name+" "+body, func(t *testing.T) {
				err := api.Patch(t.Context(), m.DeepCopy(), client.RawPatch(types.MergePatchType, []byte(body)), client.DryRunAll)
				expect(t, err, says)
			})
		}
	}
	t.Run("a manifest's Secret", func(t *testing.T) {
		for _, body := range []string{
			`{"spec":{"secret":{"name":"another"}}}`, `{"spec":{"rotation":{"trigger":"now"}}}`,
			`{"metadata":{"annotations":{"team":null}}}`, `{"spec":{"secret":{"template":{"data":{"a":"b"}}}}}`,
		} {
			err := api.Patch(t.Context(), others.DeepCopy(), client.RawPatch(types.MergePatchType, []byte(body)), client.DryRunAll)
			if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), saysChanged) {
				t.Errorf("%s: %v", body, err)
			}
		}
	})
	if err := api.Delete(t.Context(), own.DeepCopy(), client.DryRunAll); err != nil {
		t.Error(err)
	}
	if err := c.Patch(t.Context(), others, client.RawPatch(types.MergePatchType, []byte(`{"spec":{"token":{"audiences":["bank"]}}}`)), client.DryRunAll); err != nil {
		t.Errorf("others change what they like: %v", err)
	}
}
