package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"debug/elf"
	"encoding/binary"
	"encoding/pem"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestPlatforms(t *testing.T) {
	for _, c := range []struct {
		name   string
		given  []string
		wanted string
	}{
		{"in order, each once", []string{"linux/arm64", "linux/amd64", "linux/arm64"}, "[linux/amd64 linux/arm64]"},
		{"one", []string{"linux/arm64"}, "[linux/arm64]"},
		{"none", nil, "error"},
		{"another system", []string{"windows/amd64"}, "error"},
		{"another architecture", []string{"linux/s390x"}, "error"},
		{"no architecture", []string{"linux"}, "error"},
		{"more than an architecture", []string{"linux/arm64/v8"}, "error"},
	} {
		t.Run(c.name, func(t *testing.T) {
			platforms, err := parsePlatforms(c.given)
			var names []string
			for _, p := range platforms {
				names = append(names, p.String())
			}
			got := "[" + strings.Join(names, " ") + "]"
			if err != nil {
				got = "error"
			}
			if got != c.wanted {
				t.Errorf("%s (%v), wanted %s", got, err, c.wanted)
			}
		})
	}
}

func TestCanonicalName(t *testing.T) {
	for given, wanted := range map[string]string{
		"m2m-operator:v1":                       "/library/m2m-operator:v1",
		"m2m-operator":                          "/library/m2m-operator:latest",
		"team/m2m-operator:v1":                  "/team/m2m-operator:v1",
		"registry.example:5000/m2m/image:2":     "registry.example:5000/m2m/image:2",
		"M2M:v1":                                "",
		"":                                      "",
		"m2m:v1:v2":                             "",
		"m2m@sha256:" + strings.Repeat("0", 64): "",
	} {
		name, err := canonicalName(given)
		if wanted == "" {
			if err == nil {
				t.Errorf("%q became %q", given, name)
			}
		} else if err != nil || !strings.HasSuffix(name.String(), wanted) {
			t.Errorf("%q became %v, %v", given, name, err)
		}
	}
}

func TestDate(t *testing.T) {
	r := recipe{root: t.TempDir()} // no git there
	t.Setenv("GIT_CEILING_DIRECTORIES", r.root)
	t.Setenv("SOURCE_DATE_EPOCH", "")
	if err := r.date(t.Context()); err != nil || r.created.Unix() != 0 || r.version != "dev" || r.revision != "" {
		t.Errorf("without git: %v, version %q, revision %q, %v", r.created, r.version, r.revision, err)
	}
	t.Setenv("SOURCE_DATE_EPOCH", "1800000000")
	if err := r.date(t.Context()); err != nil || r.created.Format(time.RFC3339) != "2027-01-15T08:00:00Z" {
		t.Errorf("as told: %v, %v", r.created, err)
	}
	for _, wrong := range []string{"yesterday", "-1", "1.5"} {
		t.Setenv("SOURCE_DATE_EPOCH", wrong)
		if err := r.date(t.Context()); err == nil {
			t.Errorf("SOURCE_DATE_EPOCH=%s was taken", wrong)
		}
	}
}

func TestCompleteWantsTheSource(t *testing.T) {
	r := recipe{root: t.TempDir(), name: "m2m-operator:v1", platforms: []string{"linux/amd64"}}
	if err := r.complete(t.Context()); err == nil || !strings.Contains(err.Error(), "--root") {
		t.Errorf("complete() = %v", err)
	}
	r.root = standIn(t)
	if err := r.complete(t.Context()); err != nil || r.output != filepath.Join(r.root, "bin", "m2m-operator.oci.tar") ||
		r.materials != filepath.Join(r.root, "bin", "m2m-operator.cdx.json") {
		t.Errorf("complete() = %v; %s, %s", err, r.output, r.materials)
	}
}

func TestCommands(t *testing.T) {
	for name, args := range map[string][]string{
		"no place to push to":   {"push"},
		"a short name":          {"push", "--to", "m2m-operator:v1"},
		"nothing to wrap":       {"wrap", "--name", "x", "--output", "y"},
		"a wrap without a name": {"wrap", "--output", "y", "main.go"},
		"no source":             {"build", "--root", os.TempDir()},
		"an unknown command":    {"bake"},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := newCommand()
			cmd.SetArgs(args)
			cmd.SetOut(io.Discard)
			if err := cmd.ExecuteContext(context.Background()); err == nil {
				t.Error("it was taken")
			}
		})
	}
}

func TestCertificateAuthorities(t *testing.T) {
	rest := certificateAuthorities().contents
	var count int
	for len(rest) > 0 {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			t.Fatalf("%d bytes are no PEM", len(rest))
		}
		if certificate, err := x509.ParseCertificate(block.Bytes); err != nil || !certificate.IsCA {
			t.Errorf("%v", err)
		}
		count++
	}
	if count < 100 {
		t.Errorf("%d roots: Mozilla has more", count)
	}
}

func TestStaticArchitecture(t *testing.T) {
	for _, c := range []struct {
		name     string
		contents []byte
		wanted   string
	}{
		{"static, amd64", executable(elf.EM_X86_64, elf.PT_LOAD), "amd64"},
		{"static, arm64", executable(elf.EM_AARCH64, elf.PT_LOAD), "arm64"},
		{"dynamic", executable(elf.EM_X86_64, elf.PT_INTERP), ""},
		{"another machine", executable(elf.EM_RISCV, elf.PT_LOAD), ""},
		{"a script", []byte("#!/bin/sh\n"), ""},
		{"empty", nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := staticArchitecture(c.contents)
			if got != c.wanted || (err == nil) != (c.wanted != "") {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}

// executable is the least that says of itself what it is.
func executable(machine elf.Machine, segment elf.ProgType) []byte {
	const headerSize, segmentSize = 64, 56
	header := elf.Header64{
		Ident: [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:  uint16(elf.ET_EXEC), Machine: uint16(machine), Version: uint32(elf.EV_CURRENT),
		Phoff: headerSize, Ehsize: headerSize, Phentsize: segmentSize, Phnum: 1,
	}
	var contents bytes.Buffer
	_ = binary.Write(&contents, binary.LittleEndian, header)
	_ = binary.Write(&contents, binary.LittleEndian, elf.Prog64{Type: uint32(segment)})
	return contents.Bytes()
}
