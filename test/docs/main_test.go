// Package docs runs what the documents say: commands on a real control plane with the
// operator running, manifests against the real API server, programs through the compiler.
package docs

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/m2m-operator/m2m-operator/test/controlplane"
	"github.com/m2m-operator/m2m-operator/test/installation"
)

var (
	// operator is what the documents are about, installed from config/default.
	operator *installation.Installation
	// root is where the repository begins, programs where built ones are.
	root, programs string
)

func TestMain(m *testing.M) { installation.Main(m, start) }

func start(ctx context.Context, dir string) (stop func() error, err error) {
	if root, err = controlplane.RepositoryRoot(); err != nil {
		return nil, err
	}
	programs = filepath.Join(dir, "bin")
	if err := os.Mkdir(programs, 0o700); err != nil {
		return nil, err
	}
	build := exec.CommandContext(ctx, "go", "build", "-C", root, "-o", programs+"/", "./cmd/m2m-operator", "./cmd/kubectl-m2m")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building the programs: %w\n%s", err, out)
	}
	operator, err = installation.Start(ctx, installation.Options{
		Dir: filepath.Join(dir, "installation"), Binary: filepath.Join(programs, "m2m-operator"),
		Servers: 1, ControllerManager: true, Install: []string{"config/default"},
	})
	if err != nil {
		return nil, err
	}
	return operator.Stop, nil
}

func read(t *testing.T, document string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, document))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// documents are all pages for users.
func documents(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, pattern := range []string{"README.md", "docs/*.md", "docs/reference/*.md"} {
		files, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			all = append(all, strings.TrimPrefix(file, root+"/"))
		}
	}
	return all
}

// kubectl runs kubectl in the repository, with an input.
func kubectl(t *testing.T, input string, args ...string) string {
	t.Helper()
	cmd := operator.Cluster.Kubectl(t.Context(), args...)
	cmd.Dir = root
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("kubectl %s: %v\n%s\n%s", strings.Join(args, " "), err, out, input)
	}
	return string(out)
}
