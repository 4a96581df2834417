package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// packed is a tar with entries of these headers, each with the contents "x".
func packed(headers ...tar.Header) []byte {
	var contents bytes.Buffer
	archive := tar.NewWriter(&contents)
	for _, header := range headers {
		if header.Typeflag == tar.TypeReg {
			header.Size = 1
		}
		_ = archive.WriteHeader(&header)
		if header.Typeflag == tar.TypeReg {
			_, _ = archive.Write([]byte("x"))
		}
	}
	_ = archive.Close()
	return contents.Bytes()
}

func regular(name string) tar.Header {
	return tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644}
}

func TestUnpackArchive(t *testing.T) {
	blob := "blobs/sha256/" + strings.Repeat("ab", 32)
	var many []tar.Header
	for i := range maxArchiveEntries + 1 {
		many = append(many, regular(fmt.Sprintf("blobs/sha256/%064x", i)))
	}
	for _, c := range []struct {
		name     string
		contents []byte
		wanted   string // part of the error
	}{
		{"a layout", packed(tar.Header{Typeflag: tar.TypeDir, Name: "blobs/"}, regular(blob), regular("./index.json"), regular("oci-layout")), ""},
		{"a path that leads out", packed(regular("../index.json")), "no OCI layout"},
		{"an absolute path", packed(regular("/index.json")), "no OCI layout"},
		{"another file", packed(regular("manifest.json")), "no OCI layout"},
		{"a name that begins well", packed(regular(blob + "/x")), "no OCI layout"},
		{"a link", packed(tar.Header{Typeflag: tar.TypeSymlink, Name: "index.json", Linkname: "/etc/passwd"}), "no OCI layout"},
		{"a file twice", packed(regular(blob), regular(blob)), "exists"},
		{"no tar", bytes.Repeat([]byte("x"), 1024), "no tar"},
		{"a tar that ends early", packed(regular(blob))[:512], "EOF"},
		{"too many files", packed(many...), "more than"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := unpackArchive(bytes.NewReader(c.contents), t.TempDir())
			if (err == nil) != (c.wanted == "") || err != nil && !strings.Contains(err.Error(), c.wanted) {
				t.Errorf("unpackArchive() = %v, wanted %q", err, c.wanted)
			}
		})
	}
}

// Whatever the tar says, files appear in the folder only.
func FuzzUnpackArchive(f *testing.F) {
	f.Add(packed(regular("index.json"), regular("oci-layout"), regular("blobs/sha256/"+strings.Repeat("0", 64))))
	f.Add(packed(regular("../outside"), tar.Header{Typeflag: tar.TypeLink, Name: "index.json", Linkname: "../outside"}))
	f.Fuzz(func(t *testing.T, contents []byte) {
		around := t.TempDir()
		folder := filepath.Join(around, "folder")
		if err := os.Mkdir(folder, 0o755); err != nil {
			t.Fatal(err)
		}
		_ = unpackArchive(bytes.NewReader(contents), folder)
		if entries, err := os.ReadDir(around); err != nil || len(entries) != 1 {
			t.Fatalf("there is %v beside the folder (%v)", entries, err)
		}
		entries, err := os.ReadDir(folder)
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range entries {
			if name := entry.Name(); name != "blobs" && name != "index.json" && name != "oci-layout" {
				t.Errorf("there is %q in the folder", name)
			}
		}
	})
}

func TestReadArchiveChecksDigests(t *testing.T) {
	r := standInRecipe(t, runtimePlatform())
	built(t, r)
	contents, err := os.ReadFile(r.output)
	if err != nil {
		t.Fatal(err)
	}
	// A byte in the middle is one of the layer, which is by far the largest.
	contents[len(contents)/2] ^= 1
	if err := os.WriteFile(r.output, contents, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := readArchive(r.output, t.TempDir()); err == nil {
		t.Error("an archive with a wrong byte was taken")
	}
}

func TestArchiveIsWrittenAsAWhole(t *testing.T) {
	dir := t.TempDir()
	output := filepath.Join(dir, "new", "image.tar")
	fail := func(w io.Writer) error {
		_, _ = w.Write([]byte("half"))
		return io.ErrShortWrite
	}
	if err := writeAtOnce(output, fail); err == nil {
		t.Error("no error")
	}
	if entries, err := os.ReadDir(filepath.Dir(output)); err != nil || len(entries) != 0 {
		t.Errorf("it left %v, %v", entries, err)
	}
}

func TestLayerDoesNotDependOnTheOrderOfFiles(t *testing.T) {
	files := []file{{"b", 0o644, []byte("1")}, {"a/b/c", 0o644, []byte("2")}, {"a/d", 0o755, []byte("3")}}
	created := time.Unix(1, 0)
	var one, other bytes.Buffer
	if err := writeFiles(&one, files, created); err != nil {
		t.Fatal(err)
	}
	if err := writeFiles(&other, []file{files[2], files[0], files[1]}, created); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(one.Bytes(), other.Bytes()) {
		t.Error("it does")
	}
	if err := writeFiles(io.Discard, append(files, files[0]), created); err == nil {
		t.Error("two files of one name were taken")
	}
}
