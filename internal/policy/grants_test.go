package policy

import (
	"maps"
	"slices"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
)

func TestPatterns(t *testing.T) {
	for _, test := range []struct {
		patterns string
		word     string
		want     bool
	}{
		{"orders:read", "orders:read", true},
		{"orders:read", "orders:rea", false},
		{"orders:read", "orders:reads", false},
		{"orders:read", "orders:*", false},
		{"orders:*", "orders:read", true},
		{"orders:*", "orders:*", true},
		{"orders:*", "orders:", true},
		{"orders:*", "orders", false},
		{"orders:*", "Orders:read", false},
		{"orders:*", "*", false},
		{"*:read", "orders:read", false},
		{"*:read", "*:read", true},
		{"*", "anything", true},
		{"a b*", "bc", true},
		{"", "a", false},
	} {
		if got := patterns(strings.Fields(test.patterns)).match(test.word); got != test.want {
			t.Errorf("%q matches %q: %t", test.patterns, test.word, got)
		}
	}
}

func TestSelection(t *testing.T) {
	payments := Namespace{"payments", map[string]string{"team": "money", "stage": "prod"}}
	in := func(key string, operator metav1.LabelSelectorOperator, values ...string) *metav1.LabelSelector {
		return &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: key, Operator: operator, Values: values}}}
	}
	for name, test := range map[string]struct {
		selection v1alpha1.NamespaceSelection
		want      bool
	}{
		"nothing":                {v1alpha1.NamespaceSelection{}, false},
		"its name":               {v1alpha1.NamespaceSelection{Names: []string{"other", "payments"}}, true},
		"part of its name":       {v1alpha1.NamespaceSelection{Names: []string{"payment", "payments-eu"}}, false},
		"all":                    {v1alpha1.NamespaceSelection{Names: []string{"*"}}, true},
		"a label":                {v1alpha1.NamespaceSelection{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"team": "money"}}}, true},
		"another label":          {v1alpha1.NamespaceSelection{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"team": "sales"}}}, false},
		"two labels":             {v1alpha1.NamespaceSelection{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"team": "money", "stage": "test"}}}, false},
		"an empty selector":      {v1alpha1.NamespaceSelection{Selector: &metav1.LabelSelector{}}, true},
		"an expression":          {v1alpha1.NamespaceSelection{Selector: in("stage", "In", "prod", "test")}, true},
		"a negation":             {v1alpha1.NamespaceSelection{Selector: in("stage", "NotIn", "prod")}, false},
		"an invalid expression":  {v1alpha1.NamespaceSelection{Selector: in("stage", "Near", "prod")}, false},
		"its name or a selector": {v1alpha1.NamespaceSelection{Names: []string{"payments"}, Selector: in("stage", "Exists", "wrong")}, true},
	} {
		issuer := &v1alpha1.ClusterM2MIssuerSpec{Grants: []v1alpha1.Grant{{Namespaces: test.selection, Scopes: []string{"*"}}}}
		if got := Allow(issuer, payments).scopes.match("a"); got != test.want {
			t.Errorf("%s: %t", name, got)
		}
	}
	if CheckGrants(&v1alpha1.ClusterM2MIssuerSpec{Grants: []v1alpha1.Grant{{Namespaces: v1alpha1.NamespaceSelection{Selector: in("stage", "Near", "prod")}}}}) == nil {
		t.Error("an invalid selector is no error")
	}
}

// What isn't granted is named, and isn't held.
func TestNotGranted(t *testing.T) {
	issuer := &v1alpha1.ClusterM2MIssuerSpec{ProjectID: "p", Grants: []v1alpha1.Grant{
		{Namespaces: v1alpha1.NamespaceSelection{Names: []string{"a"}}, Scopes: []string{"orders:*"}, Audiences: []v1alpha1.Audience{"orders"}},
		{Namespaces: v1alpha1.NamespaceSelection{Names: []string{"a", "b"}}, MetadataKeys: []string{"tier"}, ChosenClientIDs: true},
	}}
	client := &v1alpha1.M2MClientSpec{
		Scopes: []string{"orders:read", "admin:all"}, Token: &v1alpha1.TokenSpec{Audiences: []v1alpha1.Audience{"orders", "bank"}},
		TrustedMetadata: map[string]apiextensionsv1.JSON{"tier": {Raw: []byte("1")}, "role": {Raw: []byte("2")}},
	}
	for namespace, want := range map[string]struct{ scopes, audiences, keys, refused string }{
		"a": {"orders:read", "p orders", "tier", `"admin:all" "bank" "role"`},
		"b": {"", "p", "tier", `"orders:read" "admin:all" "orders" "bank" "role"`},
		"c": {"", "p", "", `"orders:read" "admin:all" "orders" "bank" "tier" "role"`},
	} {
		allowed := Allow(issuer, Namespace{Name: namespace})
		e := Resolve(client, issuer, allowed)
		keys := strings.Join(slices.Sorted(maps.Keys(e.Metadata)), " ")
		if got := strings.Join(e.Scopes, " "); got != want.scopes || strings.Join(e.Audiences, " ") != want.audiences || keys != want.keys {
			t.Errorf("%s holds scopes %q, audiences %q, keys %q", namespace, got, e.Audiences, keys)
		}
		if len(e.Violations) != 1 || e.Violations[0].Reason != v1alpha1.ReasonNotGranted {
			t.Fatalf("%s: %+v", namespace, e.Violations)
		}
		for word := range strings.FieldsSeq(want.refused) {
			if !strings.Contains(e.Violations[0].Message, word) {
				t.Errorf("%s: %s isn't named in %q", namespace, word, e.Violations[0].Message)
			}
		}
		if allowed.ChosenClientIDs != (namespace != "c") {
			t.Errorf("%s may choose ids: %t", namespace, allowed.ChosenClientIDs)
		}
	}
}

// A tenant never holds what no grant to its namespace has, and always what one has.
func TestEffectiveIsAskedAndGranted(t *testing.T) {
	word := rapid.StringMatching(`[ab]{1,2}(:[ab*]{1,2})?`)
	pattern := rapid.OneOf(word, rapid.StringMatching(`[ab]{0,2}:?[*]`))
	namespaces := rapid.SliceOfN(rapid.SampledFrom([]string{"x", "y", "*"}), 1, 2)
	rapid.Check(t, func(t *rapid.T) {
		issuer := &v1alpha1.ClusterM2MIssuerSpec{ProjectID: "p"}
		for range rapid.IntRange(0, 4).Draw(t, "grants") {
			issuer.Grants = append(issuer.Grants, v1alpha1.Grant{
				Namespaces: v1alpha1.NamespaceSelection{Names: namespaces.Draw(t, "namespaces")},
				Scopes:     rapid.SliceOf(pattern).Draw(t, "granted"),
			})
		}
		client := &v1alpha1.M2MClientSpec{Scopes: rapid.SliceOfDistinct(word, rapid.ID).Draw(t, "asked")}
		held := Resolve(client, issuer, Allow(issuer, Namespace{Name: "x"})).Scopes
		for _, scope := range client.Scopes {
			granted := false
			for _, g := range issuer.Grants {
				for _, p := range g.Scopes {
					to := slices.Contains(g.Namespaces.Names, "x") || slices.Contains(g.Namespaces.Names, "*")
					granted = granted || to && (p == scope || strings.HasSuffix(p, "*") && strings.HasPrefix(scope, p[:len(p)-1]))
				}
			}
			if granted != slices.Contains(held, scope) {
				t.Fatalf("%q is granted: %t, held: %q", scope, granted, held)
			}
		}
		for _, scope := range held {
			if !slices.Contains(client.Scopes, scope) {
				t.Fatalf("%q is held and wasn't asked for", scope)
			}
		}
	})
}

func TestUnrestricted(t *testing.T) {
	all := func() v1alpha1.Grant {
		return v1alpha1.Grant{
			Namespaces: v1alpha1.NamespaceSelection{Names: []string{"*"}},
			Scopes:     []string{"*"}, Audiences: []v1alpha1.Audience{"*"}, MetadataKeys: []string{"*"}, ChosenClientIDs: true,
		}
	}
	for name, test := range map[string]struct {
		change func(*v1alpha1.Grant)
		want   bool
	}{
		"all":              {func(*v1alpha1.Grant) {}, true},
		"any labels":       {func(g *v1alpha1.Grant) { g.Namespaces = v1alpha1.NamespaceSelection{Selector: &metav1.LabelSelector{}} }, true},
		"one namespace":    {func(g *v1alpha1.Grant) { g.Namespaces.Names = []string{"a"} }, false},
		"some scopes":      {func(g *v1alpha1.Grant) { g.Scopes = []string{"a:*"} }, false},
		"some audiences":   {func(g *v1alpha1.Grant) { g.Audiences = nil }, false},
		"no metadata":      {func(g *v1alpha1.Grant) { g.MetadataKeys = nil }, false},
		"no ids of choice": {func(g *v1alpha1.Grant) { g.ChosenClientIDs = false }, false},
	} {
		g := all()
		test.change(&g)
		if got := Unrestricted(&v1alpha1.ClusterM2MIssuerSpec{Grants: []v1alpha1.Grant{g}}); got != test.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

func TestAmbiguousScopes(t *testing.T) {
	client := &v1alpha1.M2MClientSpec{Scopes: []string{"a", "a:b", "a:b:c"}}
	for profile, want := range map[v1alpha1.TokenProfile]int{v1alpha1.ProfileStytch: 1, v1alpha1.ProfileRFC9068: 0} {
		issuer := &v1alpha1.ClusterM2MIssuerSpec{ProjectID: "p", Token: &v1alpha1.IssuerTokenSpec{Profile: profile}}
		if got := Resolve(client, issuer, Allowance{scopes: patterns{"*"}}).Ambiguous; len(got) != want {
			t.Errorf("%s: %q", profile, got)
		}
	}
}

// Other controllers obey labels and annotations of Secrets: an issuer says which clients
// may set.
func TestSecretMetadata(t *testing.T) {
	asked := &v1alpha1.SecretSpec{Template: &v1alpha1.SecretTemplate{Metadata: &v1alpha1.SecretMetadata{
		Labels:      map[string]v1alpha1.LabelValue{"team": "a", "argocd.argoproj.io/secret-type": "cluster"},
		Annotations: map[string]v1alpha1.AnnotationValue{"example.com/note": "n", "reflector.v1.k8s.emberstack.com/reflection-allowed": "true"},
	}}}
	for name, test := range map[string]struct {
		allowed             *v1alpha1.SecretMetadataAllowance
		labels, annotations int
		refused             []string
	}{
		"nothing said":  {nil, 2, 2, nil},
		"nothing":       {&v1alpha1.SecretMetadataAllowance{}, 0, 0, []string{`"argocd`, `"team"`, `"example.com/note"`, `"reflector`}},
		"all":           {&v1alpha1.SecretMetadataAllowance{Labels: []string{"*"}, Annotations: []string{"*"}}, 2, 2, nil},
		"some":          {&v1alpha1.SecretMetadataAllowance{Labels: []string{"team"}, Annotations: []string{"example.com/*"}}, 1, 1, []string{`"argocd`, `"reflector`}},
		"not by halves": {&v1alpha1.SecretMetadataAllowance{Labels: []string{"tea"}, Annotations: []string{"*"}}, 0, 2, []string{`"argocd`, `"team"`}},
	} {
		e := Resolve(&v1alpha1.M2MClientSpec{Secret: asked}, &v1alpha1.ClusterM2MIssuerSpec{ProjectID: "p", SecretMetadata: test.allowed}, Allowance{})
		if len(e.SecretMetadata.Labels) != test.labels || len(e.SecretMetadata.Annotations) != test.annotations {
			t.Errorf("%s: %v", name, e.SecretMetadata)
		}
		if len(e.Violations) != min(len(test.refused), 1) {
			t.Errorf("%s: %v", name, e.Violations)
			continue
		}
		for _, key := range test.refused {
			if v := e.Violations[0]; v.Reason != v1alpha1.ReasonNotGranted || !strings.Contains(v.Message, key) {
				t.Errorf("%s: %v doesn't name %s", name, v, key)
			}
		}
	}
}
