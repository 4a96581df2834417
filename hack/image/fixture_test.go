package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
)

// standIn writes a module with programs of the operator's names that are quickly built.
func standIn(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	const text = "package main\n\nvar version = \"dev\"\n\nfunc main() { println(version) }\n"
	for path, contents := range map[string]string{
		"go.mod":                   "module example.com/stand-in\n\ngo 1.26.0\n",
		"cmd/m2m-operator/main.go": text,
		"cmd/kubectl-m2m/main.go":  text,
		"bin/left-over":            "not source",
		"other/go.mod":             "module example.com/other\n",
	} {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(contents), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// standInRecipe is complete but for what a test wants to change.
func standInRecipe(t *testing.T, platforms ...string) recipe {
	t.Helper()
	out := t.TempDir()
	return recipe{
		root: standIn(t), name: "m2m-operator:v1", platforms: platforms, version: "v1.2.3", fips: "off",
		revision: "0123abcd", created: time.Unix(1_800_000_000, 0).UTC(),
		output: filepath.Join(out, "image.oci.tar"), materials: filepath.Join(out, "image.cdx.json"),
	}
}

// built builds a recipe and returns what a reader of the archive finds.
func built(t *testing.T, r recipe) archive {
	t.Helper()
	digest, err := r.build(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	found, err := readArchive(r.output, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if read, err := found.named.Digest(); err != nil || read != digest {
		t.Fatalf("the archive has %v (%v), the build made %v", read, err, digest)
	}
	return found
}

// topDescriptors are the descriptors of an archive's own index.
func topDescriptors(t *testing.T, path string) []v1.Descriptor {
	t.Helper()
	packed, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer packed.Close()
	folder := t.TempDir()
	if err := unpackArchive(packed, folder); err != nil {
		t.Fatal(err)
	}
	index, err := layout.ImageIndexFromPath(folder)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	return manifest.Manifests
}
