package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// recipe says what image to build from what. Two builds of equal recipes, with the same
// version of Go, are the same bytes.
type recipe struct {
	root      string
	name      string
	platforms []string
	version   string
	fips      string
	output    string
	materials string
	binaries  string

	revision string    // of the source; empty where it is not what a commit says
	created  time.Time // of the commit, never of the build
	cache    string    // the build cache; empty: the user's
}

// complete fills in what the flags left out, from git where the source has it.
func (r *recipe) complete(ctx context.Context) (err error) {
	if r.root, err = filepath.Abs(r.root); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(r.root, "cmd", operatorName)); err != nil {
		return fmt.Errorf("%s is not the operator's source (set --root): %w", r.root, err)
	}
	if _, err := canonicalName(r.name); err != nil {
		return err
	}
	if _, err := parsePlatforms(r.platforms); err != nil {
		return err
	}
	if r.output == "" {
		r.output = filepath.Join(r.root, "bin", "m2m-operator.oci.tar")
	}
	if r.materials == "" {
		r.materials = strings.TrimSuffix(r.output, ".oci.tar") + ".cdx.json"
	}
	return r.date(ctx)
}

// date asks git what the source is and when it was written. A source that comes without
// git gets the beginning of 1970.
func (r *recipe) date(ctx context.Context) error {
	// The default abbreviation grows with the repository, and differs between clones.
	described := gitSays(ctx, r.root, "describe", "--tags", "--always", "--dirty", "--abbrev=12")
	if r.version == "" {
		r.version = "dev"
		if described != "" {
			r.version = described
		}
	}
	if !strings.HasSuffix(described, "-dirty") {
		r.revision = gitSays(ctx, r.root, "rev-parse", "HEAD")
	}
	seconds := os.Getenv("SOURCE_DATE_EPOCH")
	if seconds == "" {
		seconds = gitSays(ctx, r.root, "log", "-1", "--format=%ct")
	}
	if seconds == "" {
		seconds = "0"
	}
	created, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil || created < 0 {
		return fmt.Errorf("SOURCE_DATE_EPOCH: %q is not a number of seconds since 1970", seconds)
	}
	r.created = time.Unix(created, 0).UTC()
	return nil
}

// gitSays is empty if git doesn't know, or isn't there.
func gitSays(ctx context.Context, dir string, args ...string) string {
	output, err := exec.CommandContext(ctx, "git", append([]string{"-C", dir}, args...)...).Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(output))
}

// parsePlatforms puts the platforms in order.
func parsePlatforms(names []string) ([]v1.Platform, error) {
	if len(names) == 0 {
		return nil, errors.New("--platform: none is given")
	}
	names = slices.Clone(names)
	slices.Sort(names)
	var platforms []v1.Platform
	for _, name := range slices.Compact(names) {
		system, architecture, _ := strings.Cut(name, "/")
		if _, known := machines[architecture]; system != "linux" || !known {
			return nil, fmt.Errorf("--platform: %q is not linux/amd64 or linux/arm64", name)
		}
		platforms = append(platforms, v1.Platform{OS: system, Architecture: architecture})
	}
	return platforms, nil
}
