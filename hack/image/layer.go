package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/pem"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// user is who the image's programs run as: the number that distroless images use.
const user = "65532:65532"

// file is a file of an image; its path has no leading slash.
type file struct {
	path     string
	mode     int64
	contents []byte
}

// accounts give the user's number a name, for programs that ask for it.
func accounts() []file {
	return []file{
		{"etc/passwd", 0o644, []byte("nonroot:x:65532:65532:nonroot:/:/sbin/nologin\n")},
		{"etc/group", 0o644, []byte("nonroot:x:65532:\n")},
	}
}

// certificateAuthorities is where Go, and most else, looks for the roots it trusts. They are
// Mozilla's, at the version that go.mod names, as those of the build machine are its own affair.
// In a file rather than in the binaries an administrator can mount others over them. Roots that
// Mozilla trusts with conditions are left out: a file can't say the conditions.
func certificateAuthorities() file {
	var roots bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint == nil {
			_ = pem.Encode(&roots, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}) // a buffer takes it
		}
	}
	return file{"etc/ssl/certs/ca-certificates.crt", 0o644, roots.Bytes()}
}

// newLayer packs files in order of their paths. All belong to root, so that the program can't
// write them, and are as old as the commit.
func newLayer(files []file, created time.Time) (v1.Layer, error) {
	var packed bytes.Buffer
	compressor := gzip.NewWriter(&packed) // the best level takes four times as long for 0.3 %
	if err := writeFiles(compressor, files, created); err != nil {
		return nil, err
	}
	if err := compressor.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(packed.Bytes())), nil
	}, tarball.WithMediaType(types.OCILayer))
}

func writeFiles(w io.Writer, files []file, created time.Time) error {
	files = slices.Clone(files)
	slices.SortFunc(files, func(a, b file) int { return strings.Compare(a.path, b.path) })
	archive := tar.NewWriter(w)
	var folders []string
	for i, f := range files {
		if i > 0 && files[i-1].path == f.path {
			return fmt.Errorf("two files are called /%s: rename one", f.path)
		}
		for _, folder := range parents(f.path) {
			if slices.Contains(folders, folder) {
				continue
			}
			folders = append(folders, folder)
			header := tar.Header{Typeflag: tar.TypeDir, Name: folder + "/", Mode: 0o755, ModTime: created, Format: tar.FormatUSTAR}
			if err := archive.WriteHeader(&header); err != nil {
				return err
			}
		}
		if err := writeFile(archive, f, created); err != nil {
			return err
		}
	}
	return archive.Close()
}

func writeFile(archive *tar.Writer, f file, created time.Time) error {
	header := tar.Header{
		Typeflag: tar.TypeReg, Name: f.path, Size: int64(len(f.contents)),
		Mode: f.mode, ModTime: created, Format: tar.FormatUSTAR,
	}
	if err := archive.WriteHeader(&header); err != nil {
		return err
	}
	_, err := archive.Write(f.contents)
	return err
}

// parents are the folders that a file is in, the outermost first.
func parents(name string) []string {
	var folders []string
	for folder := path.Dir(name); folder != "."; folder = path.Dir(folder) {
		folders = append(folders, folder)
	}
	slices.Reverse(folders)
	return folders
}
