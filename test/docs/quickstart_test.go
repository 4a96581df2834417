package docs

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/m2m-operator/m2m-operator/test/markdown"
)

const quickstart = "docs/quickstart.md"

// The commands of the quick start do, one after the other, what it says. Those that need a
// node are run by test/e2e.
func TestQuickstart(t *testing.T) {
	dir := workspace(t)
	var ran, left int
	for _, b := range markdown.Fences(read(t, quickstart), "sh") {
		switch b.Info {
		case "sh run":
			shell(t, dir, b.Text)
			ran++
		case "sh node":
			left++
		}
	}
	if ran < 8 || left == 0 {
		t.Errorf("%d blocks were run, %d need a node: does the page still mark them?", ran, left)
	}
}

// workspace is a folder that looks like the repository after `make dist`.
func workspace(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Symlink(filepath.Join(root, "config"), filepath.Join(dir, "config")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "dist"), 0o700); err != nil {
		t.Fatal(err)
	}
	install := kubectl(t, "", "kustomize", "config/default")
	if err := os.WriteFile(filepath.Join(dir, "dist", "install.yaml"), []byte(install), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// shell runs a block as a reader would, who stops at the first error.
func shell(t *testing.T, dir, script string) {
	t.Helper()
	kubectl := operator.Cluster.Kubectl(t.Context())
	cmd := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", script)
	cmd.Dir = dir
	cmd.Env = slices.Concat(kubectl.Env, []string{
		"PATH=" + strings.Join([]string{filepath.Dir(kubectl.Path), programs, os.Getenv("PATH")}, ":"),
		"M2M=" + operator.Servers[0].URL, // in place of the port-forward
	})
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, script, out)
	}
	t.Logf("%s%s", script, out)
}

// The service of the quick start compiles, in a module of its own.
func TestQuickstartService(t *testing.T) {
	programs := markdown.Fences(read(t, quickstart), "go")
	if len(programs) != 1 {
		t.Fatalf("the page has %d programs", len(programs))
	}
	dir := t.TempDir()
	mod := strings.Replace(read(t, "examples/go.mod"), "=> ../verify", "=> "+filepath.Join(root, "verify"), 1)
	for file, content := range map[string]string{"main.go": programs[0].Text, "go.mod": mod, "go.sum": read(t, "examples/go.sum")} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.CommandContext(t.Context(), "go", "vet", "-C", dir, ".").CombinedOutput(); err != nil {
		t.Error(fmt.Errorf("%w\n%s", err, out))
	}
}
