// Program reference writes docs/reference from the CRDs as they are shipped: each kind's
// fields with their bounds, rules and descriptions, and the samples as examples.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

// page is a page of the reference.
type page struct {
	crd      string   // in config/crd/bases
	guide    string   // the page of docs that explains the kind
	examples []string // in config/samples
	file     string   // in docs/reference
}

var pages = []page{
	{
		crd: "m2m-operator.dev_m2mclients.yaml", guide: "m2mclient.md", file: "m2mclient.md",
		examples: []string{"m2mclient.yaml", "m2mclient-full.yaml", "m2mclient-rotation.yaml", "m2mclient-workload.yaml"},
	},
	{
		crd: "m2m-operator.dev_clusterm2missuers.yaml", guide: "clusterm2missuer.md", file: "clusterm2missuer.md",
		examples: []string{"clusterm2missuer.yaml"},
	},
}

func main() {
	root := "."
	if len(os.Args) > 1 {
		root = os.Args[1]
	}
	for _, p := range pages {
		if err := p.write(root); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

func (p page) write(root string) error {
	text, err := p.text(root)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(root, "docs", "reference", p.file), []byte(text), 0o644)
}

func (p page) text(root string) (string, error) {
	crd := &apiextensionsv1.CustomResourceDefinition{}
	content, err := os.ReadFile(filepath.Join(root, "config", "crd", "bases", p.crd))
	if err != nil {
		return "", err
	}
	if err := yaml.UnmarshalStrict(content, crd); err != nil {
		return "", fmt.Errorf("%s: %w", p.crd, err)
	}
	var examples []example
	for _, name := range p.examples {
		content, err := os.ReadFile(filepath.Join(root, "config", "samples", name))
		if err != nil {
			return "", err
		}
		examples = append(examples, newExample(name, string(content)))
	}
	return render(crd, p.guide, examples), nil
}
