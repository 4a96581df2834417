package main

import (
	"fmt"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// wrap makes an image of static binaries, for one platform, and returns its digest.
func wrap(name, output string, binaries []string) (v1.Hash, error) {
	var files []file
	var first program
	for i, path := range binaries {
		p, err := readProgram(path)
		if err != nil {
			return v1.Hash{}, err
		}
		if i == 0 {
			first = p
		}
		if !p.platform.Equals(first.platform) {
			return v1.Hash{}, fmt.Errorf("%s is for %s, %s is for %s: an image of this kind has one platform",
				binaries[0], first.platform, path, p.platform)
		}
		files = append(files, p.file())
	}
	epoch := time.Unix(0, 0).UTC()
	image, err := newImage(first.platform, files, epoch, v1.Config{User: user, Entrypoint: []string{"/" + first.name}})
	if err != nil {
		return v1.Hash{}, err
	}
	if err := reportSize(first.platform, image, files); err != nil {
		return v1.Hash{}, err
	}
	if err := writeArchive(output, name, epoch, image); err != nil {
		return v1.Hash{}, err
	}
	return image.Digest()
}
