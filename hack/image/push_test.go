package main

import (
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// startRegistry returns the address of a registry in this process.
func startRegistry(t *testing.T, options ...registry.Option) string {
	t.Helper()
	t.Setenv("DOCKER_CONFIG", t.TempDir()) // not the credentials of whoever tests
	server := httptest.NewServer(registry.New(append(options, registry.Logger(log.New(io.Discard, "", 0)))...))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

func TestPush(t *testing.T) {
	r := standInRecipe(t, "linux/amd64", "linux/arm64")
	built(t, r)
	materials, err := os.ReadFile(r.materials)
	if err != nil {
		t.Fatal(err)
	}
	for support, title := range map[bool]string{true: "a registry that lists referrers", false: "one that doesn't"} {
		t.Run(title, func(t *testing.T) {
			to := startRegistry(t, registry.WithReferrersSupport(support)) + "/team/m2m-operator:v1"
			digest, err := push(t.Context(), r.output, to)
			if err != nil {
				t.Fatal(err)
			}
			target, err := name.NewTag(to)
			if err != nil {
				t.Fatal(err)
			}
			index, err := remote.Index(target)
			if err != nil {
				t.Fatal(err)
			}
			if err := validate.Index(index); err != nil {
				t.Error(err)
			}
			if pulled, err := index.Digest(); err != nil || pulled != digest {
				t.Errorf("pushed %v, pulled %v, %v", digest, pulled, err)
			}
			if got := pulledMaterials(t, target.Digest(digest.String())); got != string(materials) {
				t.Errorf("the bill of materials that was pulled has %d bytes, the file %d", len(got), len(materials))
			}
		})
	}
}

// pulledMaterials is the one document that refers to an image.
func pulledMaterials(t *testing.T, image name.Digest) string {
	t.Helper()
	referrers, err := remote.Referrers(image)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := referrers.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(manifest.Manifests) != 1 {
		t.Fatalf("referrers: %+v", manifest.Manifests)
	}
	document, err := remote.Image(image.Digest(manifest.Manifests[0].Digest.String()))
	if err != nil {
		t.Fatal(err)
	}
	// Not in the list: this registry puts the type of the config there.
	if described, err := document.Manifest(); err != nil || described.ArtifactType != string(materialsType) {
		t.Errorf("it is %+v, %v", described, err)
	}
	layers, err := document.Layers()
	if err != nil || len(layers) != 1 {
		t.Fatalf("%d layers, %v", len(layers), err)
	}
	contents, err := layers[0].Compressed()
	if err != nil {
		t.Fatal(err)
	}
	defer contents.Close()
	text, err := io.ReadAll(contents)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestPushOfAWrappedImage(t *testing.T) {
	r := standInRecipe(t, "linux/arm64")
	dir := t.TempDir()
	if err := r.compile(t.Context(), v1.Platform{OS: "linux", Architecture: "arm64"}, dir); err != nil {
		t.Fatal(err)
	}
	output := filepath.Join(dir, "wrapped.tar")
	if _, err := wrap("service:1", output, "", []string{filepath.Join(dir, "kubectl-m2m")}); err != nil {
		t.Fatal(err)
	}
	to := startRegistry(t) + "/service:1"
	digest, err := push(t.Context(), output, to)
	if err != nil {
		t.Fatal(err)
	}
	target, err := name.NewTag(to)
	if err != nil {
		t.Fatal(err)
	}
	if pulled, err := remote.Head(target); err != nil || pulled.Digest != digest || pulled.MediaType != types.OCIManifestSchema1 {
		t.Errorf("pulled %+v, %v", pulled, err)
	}
}
