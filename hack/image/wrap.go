package main

import (
	"fmt"
	"io/fs"
	"os"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// wrap makes an image of static binaries, for one platform, and of all that is in the folder
// tree, if any, and returns its digest.
func wrap(name, output, tree string, binaries []string) (v1.Hash, error) {
	files, err := readTree(tree)
	if err != nil {
		return v1.Hash{}, err
	}
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

// readTree reads the files below a folder. Links are read through: an image gets what they lead to.
func readTree(folder string) (files []file, err error) {
	if folder == "" {
		return nil, nil
	}
	tree := os.DirFS(folder)
	err = fs.WalkDir(tree, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := fs.Stat(tree, path)
		if err != nil {
			return err
		}
		contents, err := fs.ReadFile(tree, path)
		files = append(files, file{path: path, mode: int64(info.Mode().Perm()), contents: contents})
		return err
	})
	return files, err
}
