package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// The programs of the image, by the names that they have in cmd and in the image.
const (
	operatorName = "m2m-operator"
	pluginName   = "kubectl-m2m"
)

// compile builds the programs for a platform into a folder. What the machine's own
// settings of Go could change is set here.
func (r *recipe) compile(ctx context.Context, p v1.Platform, dir string) error {
	started := time.Now()
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false",
		"-ldflags", "-s -w -X main.version="+r.version,
		"-o", dir+string(filepath.Separator), "./cmd/"+operatorName, "./cmd/"+pluginName)
	cmd.Dir = r.root
	cmd.Env = append(os.Environ(),
		"CGO_ENABLED=0", "GOOS="+p.OS, "GOARCH="+p.Architecture, "GOAMD64=v1", "GOARM64=v8.0",
		"GOFIPS140="+r.fips, "GOFLAGS=-mod=readonly", "GOWORK=off", "PWD="+r.root)
	if r.cache != "" {
		cmd.Env = append(cmd.Env, "GOCACHE="+r.cache)
	}
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("building the programs for %s: %w", p, err)
	}
	progress("%s: compiled in %v", p, time.Since(started).Round(time.Millisecond))
	return nil
}

// programs returns the programs for a platform: built, or those that were handed in.
func (r *recipe) programs(ctx context.Context, p v1.Platform) ([]program, error) {
	dir := filepath.Join(r.binaries, p.OS, p.Architecture)
	if r.binaries == "" {
		scratch, err := os.MkdirTemp("", "m2m-image-")
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(scratch)
		if err := r.compile(ctx, p, scratch); err != nil {
			return nil, err
		}
		dir = scratch
	}
	var programs []program
	for _, name := range []string{operatorName, pluginName} {
		found, err := readProgram(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		if !found.platform.Equals(p) {
			return nil, fmt.Errorf("%s was built for %s, not for %s", filepath.Join(dir, name), found.platform, p)
		}
		programs = append(programs, found)
	}
	return programs, nil
}
