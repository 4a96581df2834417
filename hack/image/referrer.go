package main

import (
	"bytes"
	"encoding/json"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// materialsType is the media type of a CycloneDX bill of materials in JSON.
const materialsType types.MediaType = "application/vnd.cyclonedx+json"

// emptyConfig is what an artifact has that is no image (OCI image specification 1.1).
const emptyConfig types.MediaType = "application/vnd.oci.empty.v1+json"

// attach makes an artifact of a document that refers to an image, so that who has the image's
// digest finds the document in the registry.
func attach(document []byte, image partial.Describable) (v1.Image, error) {
	subject, err := partial.Descriptor(image)
	if err != nil {
		return nil, err
	}
	config := []byte("{}")
	configHash, configSize, err := v1.SHA256(bytes.NewReader(config))
	if err != nil {
		return nil, err
	}
	layer := static.NewLayer(document, materialsType)
	layerHash, err := layer.Digest()
	if err != nil {
		return nil, err
	}
	manifest, err := json.Marshal(v1.Manifest{
		SchemaVersion: 2,
		MediaType:     types.OCIManifestSchema1,
		ArtifactType:  string(materialsType),
		Config:        v1.Descriptor{MediaType: emptyConfig, Digest: configHash, Size: configSize},
		Layers:        []v1.Descriptor{{MediaType: materialsType, Digest: layerHash, Size: int64(len(document))}},
		Subject:       &v1.Descriptor{MediaType: subject.MediaType, Digest: subject.Digest, Size: subject.Size},
	})
	if err != nil {
		return nil, err
	}
	return partial.CompressedToImage(&referrer{manifest: manifest, config: config, layer: layer, layerHash: layerHash})
}

// referrer is an artifact with one layer, by its bytes.
type referrer struct {
	manifest, config []byte
	layer            v1.Layer
	layerHash        v1.Hash
}

func (r *referrer) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }
func (r *referrer) RawManifest() ([]byte, error)        { return r.manifest, nil }
func (r *referrer) RawConfigFile() ([]byte, error)      { return r.config, nil }

func (r *referrer) LayerByDigest(digest v1.Hash) (partial.CompressedLayer, error) {
	if digest != r.layerHash {
		return nil, fmt.Errorf("no layer %s", digest)
	}
	return r.layer, nil
}
