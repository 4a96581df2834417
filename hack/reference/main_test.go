package main

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

const root = "../.."

// The pages are what the CRDs and samples make of them now.
func TestPagesAreUpToDate(t *testing.T) {
	for _, p := range pages {
		want, err := p.text(root)
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(root, "docs", "reference", p.file))
		if err != nil || string(got) != want {
			t.Errorf("docs/reference/%s is out of date (%v): run `make manifests`", p.file, err)
		}
	}
}

// Nothing that a user may write, and nothing that they may be told, is left out.
func TestPagesAreComplete(t *testing.T) {
	for _, p := range pages {
		text, err := p.text(root)
		if err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(filepath.Join(root, "config", "crd", "bases", p.crd))
		if err != nil {
			t.Fatal(err)
		}
		crd := &apiextensionsv1.CustomResourceDefinition{}
		if err := yaml.Unmarshal(content, crd); err != nil {
			t.Fatal(err)
		}
		schema := *crd.Spec.Versions[0].Schema.OpenAPIV3Schema
		for _, part := range []string{"spec", "status"} {
			checkShown(t, text, part, schema.Properties[part])
		}
	}
}

func checkShown(t *testing.T, page, path string, schema apiextensionsv1.JSONSchemaProps) {
	t.Helper()
	for _, rule := range schema.XValidations {
		if !strings.Contains(page, strings.ReplaceAll(rule.Message, "|", `\|`)) {
			t.Errorf("%s: the page doesn't say %q", path, rule.Message)
		}
	}
	inner, suffix, ok := nested(schema)
	if !ok {
		return
	}
	path += suffix
	_, section, found := strings.Cut(page, "## "+path+"\n")
	if !found {
		t.Errorf("there is no section %s", path)
		return
	}
	section, _, _ = strings.Cut(section, "\n##")
	for _, name := range slices.Sorted(maps.Keys(inner.Properties)) {
		if !strings.Contains(section, "\n| `"+name+"` | ") {
			t.Errorf("the table of %s has no %s", path, name)
		}
		checkShown(t, page, path+"."+name, inner.Properties[name])
	}
}

// A cell stays one, whatever a description contains.
func TestRow(t *testing.T) {
	if got, want := row("a|b", "c\nd\n\ne"), `| a\|b | c d<br>e |`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
