package controlplane

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
)

// Apply installs folders of the repository exactly as they are shipped, such as
// "config/crd", and waits until the kinds among them are served.
func (c *Cluster) Apply(ctx context.Context, folders ...string) error {
	if len(folders) == 0 {
		return nil
	}
	root, err := RepositoryRoot()
	if err != nil {
		return err
	}
	var crds []string
	for _, folder := range folders {
		applied, err := c.kubectl(ctx, "apply", "--server-side", "-o", "name", "-k", filepath.Join(root, folder))
		if err != nil {
			return err
		}
		for name := range strings.FieldsSeq(applied) {
			if strings.HasPrefix(name, "customresourcedefinition.") {
				crds = append(crds, name)
			}
		}
	}
	if len(crds) == 0 {
		return nil
	}
	_, err = c.kubectl(ctx, append([]string{"wait", "--for=condition=Established", "--timeout=1m"}, crds...)...)
	return err
}

func (c *Cluster) kubectl(ctx context.Context, args ...string) (string, error) {
	cmd := c.Kubectl(ctx, args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	stdout, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("kubectl %s: %w\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return string(stdout), nil
}
