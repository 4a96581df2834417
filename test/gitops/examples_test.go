package gitops

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// The examples for Flux have only fields that Flux has.
func TestFluxExamples(t *testing.T) {
	t.Parallel()
	source, operator, clients := &sourcev1.GitRepository{}, &kustomizev1.Kustomization{}, &kustomizev1.Kustomization{}
	readExample(t, "flux/source.yaml", source)
	readExample(t, "flux/operator.yaml", operator)
	readExample(t, "flux/clients.yaml", clients)
	for _, k := range []*kustomizev1.Kustomization{operator, clients} {
		if k.Spec.SourceRef.Name != source.Name || k.Spec.SourceRef.Kind != source.Kind || !k.Spec.Prune || !k.Spec.Wait {
			t.Errorf("%s: %+v", k.Name, k.Spec)
		}
		checkFolder(t, k.Spec.Path)
	}
	if len(clients.Spec.DependsOn) != 1 || clients.Spec.DependsOn[0].Name != operator.Name {
		t.Errorf("the clients don't wait for the operator: %v", clients.Spec.DependsOn)
	}
	checkKindsStay(t, operator.Spec.Patches, "kustomize.toolkit.fluxcd.io/prune", "disabled")
}

// application is what the examples for Argo CD use of an Application.
type application struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		Project string `json:"project"`
		Source  struct {
			RepoURL        string `json:"repoURL"`
			TargetRevision string `json:"targetRevision"`
			Path           string `json:"path"`
			Kustomize      struct {
				Patches any `json:"patches"`
			} `json:"kustomize"`
		} `json:"source"`
		Destination struct {
			Server string `json:"server"`
		} `json:"destination"`
		SyncPolicy struct {
			Automated struct {
				Prune    bool `json:"prune"`
				SelfHeal bool `json:"selfHeal"`
			} `json:"automated"`
			SyncOptions []string `json:"syncOptions"`
			Retry       any      `json:"retry"`
		} `json:"syncPolicy"`
	} `json:"spec"`
}

func TestArgoExamples(t *testing.T) {
	t.Parallel()
	operator, clients := &application{}, &application{}
	readExample(t, "argocd/operator.yaml", operator)
	readExample(t, "argocd/clients.yaml", clients)
	for _, a := range []*application{operator, clients} {
		if a.Kind != "Application" || !a.Spec.SyncPolicy.Automated.Prune || !slices.Contains(a.Spec.SyncPolicy.SyncOptions, "ServerSideApply=true") {
			t.Errorf("%s: %+v", a.Name, a.Spec)
		}
		checkFolder(t, a.Spec.Source.Path)
	}
	checkKindsStay(t, operator.Spec.Source.Kustomize.Patches, "argocd.argoproj.io/sync-options", "Prune=false,Delete=false")
}

func checkFolder(t *testing.T, path string) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(root, path, "kustomization.yaml")); err != nil {
		t.Error(err)
	}
}

// checkKindsStay: with an example's patches each CRD has the annotation that keeps it.
func checkKindsStay(t *testing.T, patches any, annotation, value string) {
	t.Helper()
	dir := t.TempDir()
	base, err := filepath.Rel(dir, filepath.Join(root, "config", "crd"))
	if err != nil {
		t.Fatal(err)
	}
	overlay, err := yaml.Marshal(map[string]any{"resources": []string{base}, "patches": patches})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "kustomization.yaml"), overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	built := shared.kubectl(t, "", "kustomize", dir)
	kinds := strings.Count(built, "kind: CustomResourceDefinition\n")
	if kept := strings.Count(built, fmt.Sprintf("    %s: %s\n", annotation, value)); kinds == 0 || kept != kinds {
		t.Errorf("%d of %d kinds stay", kept, kinds)
	}
}

// readExample reads an example strictly: a field that the kind doesn't have is a mistake.
func readExample(t *testing.T, file string, into any) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, "config", "gitops", file))
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalStrict(content, into); err != nil {
		t.Errorf("%s: %v", file, err)
	}
}
