package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// build makes the image and its bill of materials, and returns the digest of its index.
func (r *recipe) build(ctx context.Context) (v1.Hash, error) {
	started := time.Now()
	platforms, err := parsePlatforms(r.platforms)
	if err != nil {
		return v1.Hash{}, err
	}
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	index = mutate.Annotations(index, r.labels()).(v1.ImageIndex)
	var all []program
	for _, p := range platforms {
		programs, err := r.programs(ctx, p)
		if err != nil {
			return v1.Hash{}, err
		}
		image, err := r.image(p, programs)
		if err != nil {
			return v1.Hash{}, fmt.Errorf("the image for %s: %w", p, err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{Platform: &p}})
		all = append(all, programs...)
	}
	digest, err := r.write(index, all)
	if err != nil {
		return v1.Hash{}, err
	}
	progress("%s: made in %v", r.output, time.Since(started).Round(time.Millisecond))
	return digest, nil
}

// write writes the image with its bill of materials, and that beside it once more for those who
// have the file only.
func (r *recipe) write(index v1.ImageIndex, programs []program) (v1.Hash, error) {
	materials, err := r.billOfMaterials(programs)
	if err != nil {
		return v1.Hash{}, fmt.Errorf("the bill of materials: %w", err)
	}
	referrer, err := attach(materials, index)
	if err != nil {
		return v1.Hash{}, err
	}
	if err := writeArchive(r.output, r.name, r.created, index, referrer); err != nil {
		return v1.Hash{}, err
	}
	if err := os.MkdirAll(filepath.Dir(r.materials), 0o755); err != nil {
		return v1.Hash{}, err
	}
	if err := os.WriteFile(r.materials, materials, 0o644); err != nil {
		return v1.Hash{}, err
	}
	return index.Digest()
}

// image makes the image for one platform.
func (r *recipe) image(p v1.Platform, programs []program) (v1.Image, error) {
	files := append(accounts(), certificateAuthorities())
	for _, program := range programs {
		files = append(files, program.file())
	}
	image, err := newImage(p, files, r.created, v1.Config{
		User:       user,
		Entrypoint: []string{"/" + operatorName},
		Labels:     r.labels(),
	})
	if err != nil {
		return nil, err
	}
	return image, reportSize(p, image, files)
}

// labels describe the image, by the names of the OCI image specification. They don't say where
// the source is, as forks have theirs elsewhere.
func (r *recipe) labels() map[string]string {
	labels := map[string]string{
		"org.opencontainers.image.title":       "m2m-operator",
		"org.opencontainers.image.description": "Machine-to-machine authentication that lives in a Kubernetes cluster",
		"org.opencontainers.image.licenses":    "Apache-2.0",
		"org.opencontainers.image.version":     r.version,
		"org.opencontainers.image.created":     r.created.Format(time.RFC3339),
	}
	if r.revision != "" {
		labels["org.opencontainers.image.revision"] = r.revision
	}
	return labels
}

// newImage makes an image of one layer.
func newImage(p v1.Platform, files []file, created time.Time, config v1.Config) (v1.Image, error) {
	layer, err := newLayer(files, created)
	if err != nil {
		return nil, err
	}
	config.Env = []string{"PATH=/"} // `kubectl exec` finds the programs by their names
	config.WorkingDir = "/"
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	image, err = mutate.ConfigFile(image, &v1.ConfigFile{
		OS:           p.OS,
		Architecture: p.Architecture,
		Created:      v1.Time{Time: created},
		Config:       config,
		RootFS:       v1.RootFS{Type: "layers"},
	})
	if err != nil {
		return nil, err
	}
	image, err = mutate.Append(image, mutate.Addendum{
		Layer:   layer,
		History: v1.History{Created: v1.Time{Time: created}, CreatedBy: "hack/image"},
	})
	if err != nil {
		return nil, err
	}
	annotations := maps.Clone(config.Labels)
	return mutate.Annotations(image, annotations).(v1.Image), nil
}

// reportSize says how much is pulled, and how much lies on a node's disk.
func reportSize(p v1.Platform, image v1.Image, files []file) error {
	layers, err := image.Layers()
	if err != nil {
		return err
	}
	var packed, unpacked int64
	for _, layer := range layers {
		size, err := layer.Size()
		if err != nil {
			return err
		}
		packed += size
	}
	for _, f := range files {
		unpacked += int64(len(f.contents))
	}
	progress("%s: %.1f MB to pull, %.1f MB unpacked", p, float64(packed)/1e6, float64(unpacked)/1e6)
	return nil
}
