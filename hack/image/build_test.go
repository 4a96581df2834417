package main

import (
	"archive/tar"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

func TestTwoBuildsAreTheSame(t *testing.T) {
	r := standInRecipe(t, "linux/amd64", "linux/arm64")
	first, err := r.check(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	second := r
	second.root = standIn(t)
	if digest, err := second.build(t.Context()); err != nil || digest != first {
		t.Errorf("another folder gives %v (%v), not %v", digest, err, first)
	}
	other := r
	other.version = "v1.2.4"
	if digest, err := other.build(t.Context()); err != nil || digest == first {
		t.Errorf("another version gives the same %v (%v)", digest, err)
	}
}

func TestCheckFindsDifferences(t *testing.T) {
	dir := t.TempDir()
	one, other := filepath.Join(dir, "1"), filepath.Join(dir, "2")
	for path, contents := range map[string]string{one: "same", other: "sane"} {
		if err := os.WriteFile(path, []byte(contents), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := same(one, other); !errors.Is(err, errDifferent) {
		t.Errorf("same() = %v", err)
	}
	if err := same(one, one); err != nil {
		t.Errorf("same() of one file = %v", err)
	}
}

func TestSourceIsCopiedWithoutItsNeighbours(t *testing.T) {
	to := filepath.Join(t.TempDir(), "copy")
	if err := copySource(standIn(t), to); err != nil {
		t.Fatal(err)
	}
	for path, wanted := range map[string]bool{"go.mod": true, "cmd/kubectl-m2m/main.go": true, "bin": false, "other": false} {
		if _, err := os.Stat(filepath.Join(to, path)); (err == nil) != wanted {
			t.Errorf("%s: %v, wanted %v", path, err, wanted)
		}
	}
}

func TestImage(t *testing.T) {
	r := standInRecipe(t, "linux/arm64", "linux/amd64")
	found := built(t, r)
	index, ok := found.named.(v1.ImageIndex)
	if !ok {
		t.Fatalf("the archive names a %T", found.named)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if manifest.MediaType != types.OCIImageIndex || manifest.Annotations["org.opencontainers.image.version"] != "v1.2.3" {
		t.Errorf("index: %s, %v", manifest.MediaType, manifest.Annotations)
	}
	var platforms []string
	for _, descriptor := range manifest.Manifests {
		platforms = append(platforms, descriptor.Platform.String())
		image, err := index.Image(descriptor.Digest)
		if err != nil {
			t.Fatal(err)
		}
		checkConfig(t, image, *descriptor.Platform)
		checkFiles(t, image, r)
	}
	if !slices.Equal(platforms, []string{"linux/amd64", "linux/arm64"}) {
		t.Errorf("platforms: %v", platforms)
	}
}

func checkConfig(t *testing.T, image v1.Image, p v1.Platform) {
	t.Helper()
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.OS != p.OS || config.Architecture != p.Architecture {
		t.Errorf("config is for %s/%s, the index says %s", config.OS, config.Architecture, p)
	}
	if config.Config.User != "65532:65532" || !slices.Equal(config.Config.Entrypoint, []string{"/m2m-operator"}) || len(config.Config.Volumes) > 0 {
		t.Errorf("config: %+v", config.Config)
	}
	if got := config.Created.Unix(); got != 1_800_000_000 {
		t.Errorf("created = %d", got)
	}
	for _, label := range []string{"title", "description", "version", "revision", "licenses", "created"} {
		if config.Config.Labels["org.opencontainers.image."+label] == "" {
			t.Errorf("no label %s", label)
		}
	}
}

// checkFiles looks into the layer, and runs the operator if it is for this machine.
func checkFiles(t *testing.T, image v1.Image, r recipe) {
	t.Helper()
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	layers, err := image.Layers()
	if err != nil || len(layers) != 1 {
		t.Fatalf("%d layers, %v", len(layers), err)
	}
	contents := map[string][]byte{}
	unpacked, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer unpacked.Close()
	var paths []string
	for archive := tar.NewReader(unpacked); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, header.Name)
		if header.Uid != 0 || header.Gid != 0 || header.Uname != "" || header.Mode&0o022 != 0 || !header.ModTime.Equal(r.created) {
			t.Errorf("%s: %d:%d %q mode %o of %v", header.Name, header.Uid, header.Gid, header.Uname, header.Mode, header.ModTime)
		}
		if contents[header.Name], err = io.ReadAll(archive); err != nil {
			t.Fatal(err)
		}
	}
	wanted := []string{"etc/", "etc/group", "etc/passwd", "etc/ssl/", "etc/ssl/certs/", "etc/ssl/certs/ca-certificates.crt", "kubectl-m2m", "m2m-operator"}
	if !slices.Equal(paths, wanted) {
		t.Errorf("the layer has %v", paths)
	}
	if runtime.GOOS == "linux" && config.Architecture == runtime.GOARCH {
		checkRuns(t, contents["m2m-operator"], r.version)
	}
}

func checkRuns(t *testing.T, operator []byte, version string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "m2m-operator")
	if err := os.WriteFile(path, operator, 0o755); err != nil {
		t.Fatal(err)
	}
	if output, err := exec.CommandContext(t.Context(), path).CombinedOutput(); err != nil || strings.TrimSpace(string(output)) != version {
		t.Errorf("the program says %q, %v", output, err)
	}
}

func TestArchiveNamesItsImage(t *testing.T) {
	r := standInRecipe(t, runtimePlatform())
	found := built(t, r)
	top := topDescriptors(t, r.output)
	if len(top) != 2 {
		t.Fatalf("the archive has %d artifacts", len(top))
	}
	name := top[0].Annotations[nameAnnotation]
	// The kubelet asks for a short name with a default registry and folder before it.
	if !strings.HasSuffix(name, "/library/m2m-operator:v1") || top[0].Annotations[tagAnnotation] != "v1" {
		t.Errorf("annotations: %v", top[0].Annotations)
	}
	if len(top[1].Annotations) > 0 || top[1].ArtifactType != string(materialsType) {
		t.Errorf("the bill of materials: %+v", top[1])
	}
	manifest, err := found.referrers[0].Manifest()
	if err != nil {
		t.Fatal(err)
	}
	if manifest.Subject == nil || manifest.Subject.Digest != top[0].Digest || manifest.Subject.MediaType != types.OCIImageIndex {
		t.Errorf("it refers to %+v, the image is %v", manifest.Subject, top[0].Digest)
	}
}

func TestBinariesCanBeHandedIn(t *testing.T) {
	r := standInRecipe(t, "linux/amd64")
	r.binaries = t.TempDir()
	p := v1.Platform{OS: "linux", Architecture: "amd64"}
	if err := r.compile(t.Context(), p, filepath.Join(r.binaries, "linux", "amd64")); err != nil {
		t.Fatal(err)
	}
	r.root = t.TempDir() // nothing to build there
	given, err := r.build(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r.root, r.binaries = standIn(t), ""
	if compiled, err := r.build(t.Context()); err != nil || given != compiled {
		t.Errorf("handed in: %v; built: %v, %v", given, compiled, err)
	}
	r.platforms, r.binaries = []string{"linux/arm64"}, t.TempDir()
	other := filepath.Join(r.binaries, "linux", "arm64")
	if err := r.compile(t.Context(), p, other); err != nil {
		t.Fatal(err)
	}
	if _, err := r.build(t.Context()); err == nil || !strings.Contains(err.Error(), "was built for linux/amd64") {
		t.Errorf("binaries for another machine: %v", err)
	}
}

func TestWrap(t *testing.T) {
	r := standInRecipe(t, "linux/amd64")
	dir := t.TempDir()
	if err := r.compile(t.Context(), v1.Platform{OS: "linux", Architecture: "amd64"}, dir); err != nil {
		t.Fatal(err)
	}
	output := filepath.Join(dir, "wrapped.tar")
	binaries := []string{filepath.Join(dir, "m2m-operator"), filepath.Join(dir, "kubectl-m2m")}
	digest, err := wrap("example/service:1", output, "", binaries)
	if err != nil {
		t.Fatal(err)
	}
	top := topDescriptors(t, output)
	if len(top) != 1 || top[0].Digest != digest || !strings.HasSuffix(top[0].Annotations[nameAnnotation], "/example/service:1") {
		t.Errorf("%+v", top)
	}
	found, err := readArchive(output, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	config, err := found.named.(v1.Image).ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.Architecture != "amd64" || !slices.Equal(config.Config.Entrypoint, []string{"/m2m-operator"}) || config.Config.User != user {
		t.Errorf("%+v", config)
	}
	tree := filepath.Join(dir, "tree")
	if err := errors.Join(os.MkdirAll(filepath.Join(tree, "usr"), 0o755), os.Symlink(binaries[0], filepath.Join(tree, "usr", "linked"))); err != nil {
		t.Fatal(err)
	}
	files, err := readTree(tree)
	if err != nil || len(files) != 1 || files[0].path != "usr/linked" || files[0].mode != 0o755 || len(files[0].contents) == 0 {
		t.Errorf("a folder with a link: %v, %v", files, err)
	}
	for _, refused := range [][]string{{binaries[0], binaries[0]}, {"main.go"}, {filepath.Join(dir, "missing")}} {
		if _, err := wrap("example/service:1", output, "", refused); err == nil {
			t.Errorf("wrapped %v", refused)
		}
	}
}

func runtimePlatform() string {
	if _, known := machines[runtime.GOARCH]; known {
		return "linux/" + runtime.GOARCH
	}
	return "linux/amd64"
}

func TestProgramSum(t *testing.T) {
	sum, err := hex.DecodeString(program{contents: []byte("abc")}.sha256())
	if err != nil || len(sum) != 32 || sum[0] != 0xba || sum[31] != 0xad { // FIPS 180-2, appendix B.1
		t.Errorf("%x, %v", sum, err)
	}
}
