//go:build e2e && linux

// Package e2e installs the operator on a real node, as it is shipped, and lets pods use
// it while things go wrong.
package e2e

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/m2m-operator/m2m-operator/test/controlplane"
	"github.com/m2m-operator/m2m-operator/test/node"
)

func TestMain(m *testing.M) { os.Exit(node.Enter(makeImages, m.Run)) }

// The operator's image, and what an upgrade brings: the same with another version.
const (
	image     = "m2m-operator:latest"
	nextImage = "m2m-operator:next"
	version   = "e2e"
	next      = "e2e-next"
)

// imageFolder is where the files of all images are, in the repository.
const imageFolder = "bin/e2e"

// makeImages makes the images of all programs. It runs outside of the node, which has no
// network.
func makeImages() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	root, err := controlplane.RepositoryRoot()
	if err != nil {
		return err
	}
	b := builder{ctx: ctx, root: root, out: filepath.Join(root, imageFolder)}
	if err := os.RemoveAll(b.out); err != nil {
		return err
	}
	began := time.Now()
	fmt.Println("Making the images")
	err = errors.Join(
		b.program("hack/image", "image", "."),
		b.program("hack/image", "pause", "./pause"),
		b.program(".", "caller", "./test/e2e/caller"),
		b.program("examples", "orders", "./orders"),
		b.program("examples", "billing", "./billing"),
	)
	if err != nil {
		return err
	}
	err = errors.Join(
		b.curl(),
		b.operator(image, version),
		b.operator(nextImage, next),
		b.wrap("pause", node.PauseImage),
		b.wrap("caller", "caller:e2e"),
		b.wrap("orders", "orders:e2e"),
		b.wrap("billing", "billing:e2e"),
	)
	if err == nil {
		fmt.Printf("%5.1f s  the images: made\n", time.Since(began).Seconds())
	}
	return err
}

type builder struct {
	ctx       context.Context
	root, out string
}

func (b builder) program(module, name, pkg string) error {
	return b.run(filepath.Join(b.root, module), "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(b.out, name), pkg)
}

func (b builder) operator(name, version string) error {
	file := filepath.Join(b.out, "operator-"+version)
	return b.run(b.root, filepath.Join(b.out, "image"), "build", "--name", name, "--version", version,
		"--platform", "linux/"+runtime.GOARCH, "--output", file+".tar", "--sbom", file+".json")
}

func (b builder) wrap(program, name string) error {
	return b.run(b.root, filepath.Join(b.out, "image"), "wrap", "--name", name,
		"--output", filepath.Join(b.out, program+".tar"), filepath.Join(b.out, program))
}

// curlImage is the quick start's. It can't be pulled here.
const curlImage = "curlimages/curl:8.17.0"

// library is a line of ldd with a library's path.
var library = regexp.MustCompile(`(?m)(/\S+) \(0x`)

// curl makes an image of this machine's curl and shell, under the name of the one that the
// quick start has.
func (b builder) curl() error {
	tree := filepath.Join(b.out, "curl")
	for _, name := range []string{"sh", "cat", "curl"} {
		path, err := exec.LookPath(name)
		if err != nil {
			return err
		}
		libraries, err := exec.CommandContext(b.ctx, "ldd", path).Output()
		if err != nil {
			return fmt.Errorf("ldd %s: %w", path, err)
		}
		if err := place(tree, name, path); err != nil {
			return err
		}
		for _, match := range library.FindAllStringSubmatch(string(libraries), -1) {
			if err := place(tree, match[1], match[1]); err != nil {
				return err
			}
		}
	}
	return b.run(b.root, filepath.Join(b.out, "image"), "wrap", "--name", curlImage, "--tree", tree,
		"--output", filepath.Join(b.out, "curl.tar"), filepath.Join(b.out, "pause"))
}

// place links to a file from its place in a tree.
func place(tree, at, file string) error {
	err := os.MkdirAll(filepath.Join(tree, filepath.Dir(at)), 0o755)
	if err == nil {
		err = os.Symlink(file, filepath.Join(tree, at))
	}
	if errors.Is(err, fs.ErrExist) {
		return nil // another program's library, too
	}
	return err
}

func (b builder) run(dir, command string, args ...string) error {
	cmd := exec.CommandContext(b.ctx, command, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", cmd, err, out)
	}
	return nil
}
