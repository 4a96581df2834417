package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
)

func TestNamesFor(t *testing.T) {
	for name, test := range map[string]struct {
		clients []stytchClient
		want    []string
	}{
		"plain":   {[]stytchClient{{ID: "1", Name: "Billing Service (EU)"}, {ID: "2", Name: "billing--service"}}, []string{"billing-service-eu", "billing-service"}},
		"empty":   {[]stytchClient{{ID: "1"}, {ID: "2", Name: "---"}, {ID: "3", Name: "日本"}}, []string{"client-6b86b273", "client-d4735e3a", "client-4e074085"}},
		"same":    {[]stytchClient{{ID: "1", Name: "a"}, {ID: "2", Name: "A!"}}, []string{"a-6b86b273", "a-d4735e3a"}},
		"a trap":  {[]stytchClient{{ID: "1", Name: "a"}, {ID: "2", Name: "A"}, {ID: "3", Name: "a-6b86b273"}}, []string{"a-6b86b273ff34fce19d6b804eff5a3f57", "a-d4735e3a", "a-6b86b273-4e074085"}},
		"long":    {[]stytchClient{{ID: "1", Name: strings.Repeat("x", 62) + " y"}, {ID: "2", Name: strings.Repeat("z", 80)}}, []string{strings.Repeat("x", 62), strings.Repeat("z", 63)}},
		"too odd": {[]stytchClient{{ID: "1", Name: "a\x00b\n../c"}}, []string{"a-b-c"}},
	} {
		if got := namesFor(test.clients); !slices.Equal(got, test.want) {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}

func FuzzNamesFor(f *testing.F) {
	f.Add("Billing", "billing", "billing-6b86b273")
	f.Add("", "-", strings.Repeat("a-", 60))
	f.Add("client", "", "K") // the sign of the kelvin becomes a k in lower case
	f.Fuzz(func(t *testing.T, a, b, c string) {
		clients := []stytchClient{{ID: "1", Name: a}, {ID: "2", Name: b}, {ID: "3", Name: c}, {ID: "4", Name: a}}
		names := namesFor(clients)
		for n, name := range names {
			if problems := validation.IsDNS1123Label(name); problems != nil {
				t.Errorf("%q became %q: %v", clients[n].Name, name, problems)
			}
			if slices.Contains(names[:n], name) {
				t.Errorf("%q twice", name)
			}
		}
		slices.Reverse(clients)
		again := namesFor(clients)
		slices.Reverse(again)
		if !slices.Equal(again, names) {
			t.Errorf("%q in another order are %q", names, again)
		}
	})
}

// What an M2MClient can't have is left out and named, and the rest is kept.
func TestCompose(t *testing.T) {
	many := func(n int) (all []string) {
		for i := range n {
			all = append(all, fmt.Sprintf("s%d", i))
		}
		return all
	}
	keys := func(n int, value string) map[string]json.RawMessage {
		all := map[string]json.RawMessage{}
		for i := range n {
			all[fmt.Sprintf("k%02d", i)] = json.RawMessage(value)
		}
		return all
	}
	for name, test := range map[string]struct {
		client   stytchClient
		options  manifestOptions
		want     func(v1alpha1.M2MClientSpec) bool
		problems string // parts of them, in their order
	}{
		"all good": {
			stytchClient{ID: "id-1", Name: "N", Description: "two\nlines", Status: "active", Scopes: []string{"a:b"}, Metadata: keys(20, `{"a":[1,null]}`)},
			manifestOptions{issuer: "eu", keepIDs: true, namespace: "shop"},
			func(s v1alpha1.M2MClientSpec) bool {
				return s.DisplayName == "N" && s.Description == "two\nlines" && len(s.Scopes) == 1 && len(s.TrustedMetadata) == 20 &&
					s.State == "" && s.ClientID == "id-1" && s.IssuerRef.Name == "eu"
			}, "",
		},
		"too long": {
			stytchClient{Name: strings.Repeat("n", 257), Description: strings.Repeat("d", 1025)}, manifestOptions{},
			func(s v1alpha1.M2MClientSpec) bool { return s.DisplayName == "" && s.Description == "" },
			"client_name has more|client_description has more",
		},
		"as long as may be": {
			stytchClient{Name: strings.Repeat("ä", 256), Description: strings.Repeat("ä", 1024)}, manifestOptions{},
			func(s v1alpha1.M2MClientSpec) bool { return s.DisplayName != "" && s.Description != "" }, "",
		},
		"control characters": {
			stytchClient{Name: "a\nb", Description: "a\x00b"}, manifestOptions{},
			func(s v1alpha1.M2MClientSpec) bool { return s.DisplayName == "" && s.Description == "" },
			"client_name has control|client_description has control",
		},
		"scopes": {
			stytchClient{Scopes: []string{"a b", "read:a:b", "x", "x", "", strings.Repeat("s", 129), "é"}}, manifestOptions{},
			func(s v1alpha1.M2MClientSpec) bool { return slices.Equal(s.Scopes, []string{"read:a:b", "x"}) },
			`"a b"|two colons|""|sss|"é"`,
		},
		"many scopes": {
			stytchClient{Scopes: many(101)}, manifestOptions{},
			func(s v1alpha1.M2MClientSpec) bool { return len(s.Scopes) == 100 }, `"s100" is one more than 100`,
		},
		"many keys": {
			stytchClient{Metadata: keys(21, "1")}, manifestOptions{},
			func(s v1alpha1.M2MClientSpec) bool { return s.TrustedMetadata == nil }, "21 keys",
		},
		"4096 bytes of metadata": {
			stytchClient{Metadata: keys(1, `"`+strings.Repeat("x", 4096-10)+`"`)}, manifestOptions{},
			func(s v1alpha1.M2MClientSpec) bool { return len(s.TrustedMetadata) == 1 }, "",
		},
		"4097 bytes": {
			stytchClient{Metadata: keys(1, `"`+strings.Repeat("x", 4096-9)+`"`)}, manifestOptions{},
			func(s v1alpha1.M2MClientSpec) bool { return s.TrustedMetadata == nil }, "4096 bytes",
		},
		"values that YAML or Kubernetes can't keep": {
			stytchClient{Metadata: map[string]json.RawMessage{"a": json.RawMessage("1e999"), "b": json.RawMessage("null"), "c": json.RawMessage(`"yes"`)}}, manifestOptions{},
			func(s v1alpha1.M2MClientSpec) bool {
				return len(s.TrustedMetadata) == 1 && string(s.TrustedMetadata["c"].Raw) == `"yes"`
			}, `"a" can't be kept|"b" is null`,
		},
		"a status of the future": {
			stytchClient{Status: "suspended"}, manifestOptions{},
			func(s v1alpha1.M2MClientSpec) bool { return s.State == v1alpha1.ClientInactive }, `"suspended"`,
		},
		"an id that can't be chosen": {
			stytchClient{ID: "a b"}, manifestOptions{keepIDs: true},
			func(s v1alpha1.M2MClientSpec) bool { return s.ClientID == "" }, `"a b" can't be chosen`,
		},
		"an id that is YAML": {
			stytchClient{ID: "x\nspec: {state: Inactive}\u0085spec: 1\u2028#"}, manifestOptions{fromSecrets: true},
			func(s v1alpha1.M2MClientSpec) bool {
				return s.State == "" && s.Secret.ImportFrom.Name == "the-name-stytch"
			}, "",
		},
	} {
		m := manifest{name: "the-name", from: test.client}
		m.compose(test.options)
		c := &v1alpha1.M2MClient{}
		if err := yaml.UnmarshalStrict(m.text, c); err != nil {
			t.Errorf("%s: %v\n%s", name, err, m.text)
			continue
		}
		if !test.want(c.Spec) || c.Name != "the-name" || c.Namespace != test.options.namespace {
			t.Errorf("%s:\n%s", name, m.text)
		}
		rest := strings.Join(m.problems, "\n")
		for part := range strings.SplitSeq(test.problems, "|") {
			_, after, ok := strings.Cut(rest, part)
			if !ok || test.problems == "" && rest != "" {
				t.Errorf("%s: no %q in %q", name, part, m.problems)
			}
			rest = after
		}
	}
}

func TestShellQuote(t *testing.T) {
	for text, want := range map[string]string{
		"m2m-client-1": "m2m-client-1", "a b": "'a b'", "$(x)": "'$(x)'", "a'b": `'a'\''b'`, "": "''", "a\nb": "'a b'",
	} {
		if got := shellQuote(text); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}
