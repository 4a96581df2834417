package main

import (
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// machines are the architectures that images are made for, by Go's names.
var machines = map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}

// program is a static executable.
type program struct {
	name     string
	contents []byte
	platform v1.Platform
}

func (p program) sha256() string {
	sum := sha256.Sum256(p.contents)
	return hex.EncodeToString(sum[:])
}

// file puts the program into the root folder of an image.
func (p program) file() file { return file{path: p.name, mode: 0o755, contents: p.contents} }

// readProgram refuses what couldn't run in an image that holds nothing else.
func readProgram(path string) (program, error) {
	contents, err := os.ReadFile(path)
	if err != nil {
		return program{}, err
	}
	architecture, err := staticArchitecture(contents)
	if err != nil {
		return program{}, fmt.Errorf("%s: %w", path, err)
	}
	return program{
		name:     filepath.Base(path),
		contents: contents,
		platform: v1.Platform{OS: "linux", Architecture: architecture},
	}, nil
}

func staticArchitecture(contents []byte) (string, error) {
	executable, err := elf.NewFile(bytes.NewReader(contents))
	if err != nil {
		return "", fmt.Errorf("it is not a Linux executable (set GOOS=linux): %w", err)
	}
	for _, segment := range executable.Progs {
		if segment.Type == elf.PT_INTERP {
			return "", fmt.Errorf("it is linked dynamically: build it with CGO_ENABLED=0")
		}
	}
	for architecture, machine := range machines {
		if executable.Machine == machine {
			return architecture, nil
		}
	}
	return "", fmt.Errorf("%v is neither amd64 nor arm64", executable.Machine)
}
