package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// check builds the image here and from a copy of the source in another folder, and fails unless
// both are the same, byte for byte. Go's build cache is shared by folders, so that only a cold
// build compiles anything for the second time.
func (r *recipe) check(ctx context.Context, cold bool) (digest v1.Hash, err error) {
	scratch, err := os.MkdirTemp("", "m2m-image-")
	if err != nil {
		return v1.Hash{}, err
	}
	defer func() {
		if !errors.Is(err, errDifferent) {
			_ = os.RemoveAll(scratch)
		}
	}()
	here, elsewhere := *r, *r
	here.output, here.materials = filepath.Join(scratch, "1.oci.tar"), filepath.Join(scratch, "1.cdx.json")
	elsewhere.output, elsewhere.materials = filepath.Join(scratch, "2.oci.tar"), filepath.Join(scratch, "2.cdx.json")
	elsewhere.root = filepath.Join(scratch, "source")
	if cold {
		elsewhere.cache = filepath.Join(scratch, "cache")
	}
	if err := copySource(r.root, elsewhere.root); err != nil {
		return v1.Hash{}, err
	}
	if digest, err = here.build(ctx); err != nil {
		return v1.Hash{}, err
	}
	if _, err := elsewhere.build(ctx); err != nil {
		return v1.Hash{}, fmt.Errorf("in %s: %w", elsewhere.root, err)
	}
	return digest, errors.Join(same(here.output, elsewhere.output), same(here.materials, elsewhere.materials))
}

var errDifferent = errors.New("the builds are different")

func same(one, other string) error {
	a, err := os.ReadFile(one)
	if err != nil {
		return err
	}
	b, err := os.ReadFile(other)
	if err != nil {
		return err
	}
	if !bytes.Equal(a, b) {
		return fmt.Errorf("%w: compare %s and %s", errDifferent, one, other)
	}
	return nil
}

// copySource copies the operator's module: neither what is built nor the modules beside it, nor git,
// as what it says is in the recipe already.
func copySource(from, to string) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if isOfAnother(path, name) {
				return filepath.SkipDir
			}
			return os.MkdirAll(filepath.Join(to, name), 0o755)
		}
		if !entry.Type().IsRegular() {
			return nil
		}
		contents, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, name), contents, 0o644)
	})
}

func isOfAnother(path, name string) bool {
	switch name {
	case ".":
		return false
	case ".git", "bin", "dist":
		return true
	}
	_, err := os.Stat(filepath.Join(path, "go.mod"))
	return err == nil
}
