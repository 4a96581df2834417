package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// push sends an image to a registry, then what refers to it, and returns the image's digest.
func push(ctx context.Context, input, to string) (v1.Hash, error) {
	target, err := name.NewTag(to, name.StrictValidation)
	if err != nil {
		return v1.Hash{}, fmt.Errorf("--to: name registry, repository and tag, REGISTRY/REPOSITORY:TAG: %w", err)
	}
	folder, err := os.MkdirTemp("", "m2m-image-")
	if err != nil {
		return v1.Hash{}, err
	}
	defer os.RemoveAll(folder)
	contents, err := readArchive(input, folder)
	if err != nil {
		return v1.Hash{}, fmt.Errorf("%s: %w", input, err)
	}
	options := []remote.Option{
		remote.WithContext(ctx),
		remote.WithAuthFromKeychain(authn.DefaultKeychain),
		remote.WithUserAgent("m2m-operator-image"),
	}
	progress("pushing %s to %s", input, target)
	if err := contents.send(target, options); err != nil {
		return v1.Hash{}, fmt.Errorf("pushing to %s: %w", target, err)
	}
	return contents.named.Digest()
}

// archive is what a layout of ours holds.
type archive struct {
	named     artifact // v1.ImageIndex or v1.Image
	referrers []v1.Image
}

// readArchive unpacks a layout and opens it.
func readArchive(input, folder string) (archive, error) {
	packed, err := os.Open(input)
	if err != nil {
		return archive{}, err
	}
	defer packed.Close()
	if err := unpackArchive(packed, folder); err != nil {
		return archive{}, err
	}
	return openLayout(folder)
}

// openLayout checks the image of a layout by all its digests.
func openLayout(folder string) (archive, error) {
	index, err := layout.ImageIndexFromPath(folder)
	if err != nil {
		return archive{}, err
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return archive{}, err
	}
	var found archive
	for _, descriptor := range manifest.Manifests {
		if err := found.add(index, descriptor); err != nil {
			return archive{}, err
		}
	}
	if found.named == nil {
		return archive{}, fmt.Errorf("no image in it has a name (annotation %s)", nameAnnotation)
	}
	return found, nil
}

func (a *archive) add(index v1.ImageIndex, descriptor v1.Descriptor) error {
	switch isNamed := descriptor.Annotations[nameAnnotation] != ""; {
	case isNamed && a.named != nil:
		return errors.New("it has more than one image with a name")
	case isNamed && descriptor.MediaType.IsIndex():
		images, err := index.ImageIndex(descriptor.Digest)
		if err != nil {
			return err
		}
		a.named = images
		return validate.Index(images)
	case isNamed:
		image, err := index.Image(descriptor.Digest)
		if err != nil {
			return err
		}
		a.named = image
		return validate.Image(image)
	default:
		image, err := index.Image(descriptor.Digest)
		if err != nil {
			return err
		}
		a.referrers = append(a.referrers, image)
		return nil
	}
}

func (a archive) send(target name.Tag, options []remote.Option) error {
	var err error
	switch named := a.named.(type) {
	case v1.ImageIndex:
		err = remote.WriteIndex(target, named, options...)
	case v1.Image:
		err = remote.Write(target, named, options...)
	}
	if err != nil {
		return err
	}
	for _, referrer := range a.referrers {
		descriptor, err := partial.Descriptor(referrer)
		if err != nil {
			return err
		}
		if err := remote.Write(target.Digest(descriptor.Digest.String()), referrer, options...); err != nil {
			return fmt.Errorf("what refers to the image: %w", err)
		}
	}
	return nil
}
