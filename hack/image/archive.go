package main

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/distribution/reference"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
)

// Annotations that name an image in an OCI layout: the specification's, which holds the tag, and
// containerd's, which holds the whole name.
const (
	tagAnnotation  = "org.opencontainers.image.ref.name"
	nameAnnotation = "io.containerd.image.name"
)

// canonicalName is a name as the kubelet and containerd write it out, with registry and tag.
func canonicalName(name string) (reference.NamedTagged, error) {
	named, err := reference.ParseDockerRef(name)
	if err != nil {
		return nil, fmt.Errorf("--name: %q: %w", name, err)
	}
	tagged, ok := named.(reference.NamedTagged)
	if !ok {
		return nil, fmt.Errorf("--name: %q has a digest: give it a tag instead", name)
	}
	return tagged, nil
}

// artifact is what a layout holds: an image, an index of images, or a referrer.
type artifact interface {
	Digest() (v1.Hash, error)
}

// writeArchive writes an OCI layout as a tar: first what has the name, then what refers to it.
// The file is there as a whole or not at all.
func writeArchive(output, name string, created time.Time, named artifact, referrers ...v1.Image) error {
	canonical, err := canonicalName(name)
	if err != nil {
		return err
	}
	scratch, err := os.MkdirTemp("", "m2m-image-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	folder, err := layout.Write(scratch, empty.Index)
	if err != nil {
		return err
	}
	annotations := layout.WithAnnotations(map[string]string{
		tagAnnotation:  canonical.Tag(),
		nameAnnotation: canonical.String(),
	})
	switch named := named.(type) {
	case v1.ImageIndex:
		err = folder.AppendIndex(named, annotations)
	case v1.Image:
		err = folder.AppendImage(named, annotations)
	}
	for _, referrer := range referrers {
		err = errors.Join(err, folder.AppendImage(referrer))
	}
	if err != nil {
		return err
	}
	if _, err := openLayout(scratch); err != nil {
		return fmt.Errorf("the image is broken: %w", err)
	}
	return writeAtOnce(output, func(w io.Writer) error { return packFolder(w, scratch, created) })
}

func writeAtOnce(output string, write func(io.Writer) error) error {
	if err := os.MkdirAll(filepath.Dir(output), 0o755); err != nil {
		return err
	}
	unfinished, err := os.CreateTemp(filepath.Dir(output), "."+filepath.Base(output)+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(unfinished.Name())
	defer unfinished.Close()
	if err := errors.Join(write(unfinished), unfinished.Chmod(0o644), unfinished.Close()); err != nil {
		return fmt.Errorf("writing %s: %w", output, err)
	}
	return os.Rename(unfinished.Name(), output)
}

// packFolder packs in the order of names, which is WalkDir's, so that equal folders are equal tars.
func packFolder(w io.Writer, folder string, created time.Time) error {
	archive := tar.NewWriter(w)
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == folder {
			return err
		}
		name, err := filepath.Rel(folder, path)
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		if entry.IsDir() {
			return archive.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755, ModTime: created, Format: tar.FormatUSTAR})
		}
		contents, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return writeFile(archive, file{name, 0o644, contents}, created)
	})
	if err != nil {
		return err
	}
	return archive.Close()
}

// What an archive may hold, for one that came from elsewhere.
const (
	maxArchiveEntries = 1000
	maxArchiveBytes   = 4 << 30
)

var layoutPath = regexp.MustCompile(`^(oci-layout|index\.json|blobs/sha256/[0-9a-f]{64})$`)

// unpackArchive unpacks an OCI layout into an empty folder, and nothing else.
func unpackArchive(r io.Reader, folder string) error {
	if err := os.MkdirAll(filepath.Join(folder, "blobs", "sha256"), 0o755); err != nil {
		return err
	}
	archive := tar.NewReader(&io.LimitedReader{R: r, N: maxArchiveBytes})
	for range maxArchiveEntries {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("it is no tar: %w", err)
		}
		if header.Typeflag == tar.TypeDir {
			continue
		}
		name := strings.TrimPrefix(header.Name, "./")
		if header.Typeflag != tar.TypeReg || !layoutPath.MatchString(name) {
			return fmt.Errorf("it is no OCI layout: it has %q", header.Name)
		}
		if err := unpackFile(archive, filepath.Join(folder, filepath.FromSlash(name))); err != nil {
			return err
		}
	}
	return fmt.Errorf("it has more than %d files", maxArchiveEntries)
}

func unpackFile(r io.Reader, path string) error {
	created, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer created.Close()
	if _, err := io.Copy(created, r); err != nil {
		return err
	}
	return created.Close()
}
