package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/m2m-operator/m2m-operator/test/markdown"
)

// The examples of the reference are applied, and the operator makes of them what they ask.
func TestReferenceExamples(t *testing.T) {
	for _, page := range []string{"docs/reference/clusterm2missuer.md", "docs/reference/m2mclient.md"} {
		examples := markdown.Fences(read(t, page), "yaml")
		if len(examples) == 0 {
			t.Errorf("%s has no examples", page)
		}
		for _, example := range examples {
			kubectl(t, example.Text, "apply", "--server-side", "--validate=strict", "-f", "-")
			kubectl(t, example.Text, "wait", "-f", "-", "--for=condition=Ready", "--timeout=1m")
			kubectl(t, example.Text, "delete", "-f", "-")
		}
	}
}

// foreign are kinds that this cluster doesn't have: those who do check them.
var foreign = []string{"security.istio.io/", "external-secrets.io/", "argoproj.io/", "kustomize.toolkit.fluxcd.io/", "cert-manager.io/", "monitoring.coreos.com/"}

// Each manifest in the documents is accepted as it stands.
func TestManifests(t *testing.T) {
	kubectl(t, "", "create", "serviceaccount", "shipping") // a pod's own
	for _, document := range documents(t) {
		for _, b := range markdown.Fences(read(t, document), "yaml") {
			for manifest := range strings.SplitSeq(b.Text, "\n---\n") {
				var object struct{ APIVersion, Kind string }
				if err := yaml.Unmarshal([]byte(manifest), &object); err != nil {
					t.Errorf("%s: %v\n%s", document, err, manifest)
				}
				// A part of a manifest, or of a program's configuration, is no manifest.
				if object.Kind == "" || strings.HasPrefix(object.APIVersion, "kustomize.config.k8s.io/") || isForeign(object.APIVersion) {
					continue
				}
				kubectl(t, manifest, "apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict", "-f", "-")
			}
		}
	}
}

func isForeign(apiVersion string) bool {
	for _, group := range foreign {
		if strings.HasPrefix(apiVersion, group) {
			return true
		}
	}
	return false
}

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
)

// Each link to a page of the repository leads to it, and to the heading that it names.
func TestLinks(t *testing.T) {
	for _, document := range documents(t) {
		text := markdown.WithoutFences(read(t, document))
		for _, match := range link.FindAllStringSubmatch(text, -1) {
			if strings.Contains(match[1], "://") {
				continue
			}
			target, anchor, _ := strings.Cut(match[1], "#")
			path := document
			if target != "" {
				path = filepath.Join(filepath.Dir(document), target)
			}
			if _, err := os.Stat(filepath.Join(root, path)); err != nil {
				t.Errorf("%s links to %s, which isn't there", document, match[1])
				continue
			}
			if anchor != "" && !hasHeading(read(t, path), anchor) {
				t.Errorf("%s links to %s, which has no such heading", document, match[1])
			}
		}
	}
}

// notInAnchors is what anchors leave out of a heading.
var notInAnchors = regexp.MustCompile(`[^\w\- ]`)

func hasHeading(text, anchor string) bool {
	for _, match := range heading.FindAllStringSubmatch(markdown.WithoutFences(text), -1) {
		if strings.ReplaceAll(notInAnchors.ReplaceAllString(strings.ToLower(match[1]), ""), " ", "-") == anchor {
			return true
		}
	}
	return false
}
