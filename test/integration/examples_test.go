package integration

import (
	"bytes"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/test/controlplane"
	"github.com/m2m-operator/m2m-operator/test/eventually"
)

// The services in examples/, built as they are, work against the real servers: one gets
// a token with its mounted credential, the other verifies it by itself.
func TestExamples(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-C", "../../examples", "-o", dir, "./orders", "./billing")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	c := shared.readyClient(t, func(c *v1alpha1.M2MClient) { c.Spec.Scopes = []string{"read:orders"} })
	poor := shared.readyClient(t, func(c *v1alpha1.M2MClient) { c.Spec.Scopes = []string{"read:invoices"} })
	secret := shared.secret(t, c)
	shared.waitAccepted(t, secret)
	// The issuer's host is none here: what it would resolve to are the replicas.
	at := func(s server, u []byte) string {
		return s.URL + strings.TrimPrefix(string(u), string(secret.Data["issuer"]))
	}
	address, err := controlplane.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	orders := exec.CommandContext(t.Context(), filepath.Join(dir, "orders"), "-addr", address,
		"-issuer", string(secret.Data["issuer"]), "-jwks-url", at(shared.servers()[0], secret.Data["jwks_url"]),
		"-audience", projectOf(string(secret.Data["token_url"])))
	orders.Stderr = &log
	if err := orders.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = orders.Process.Kill(); _ = orders.Wait() })
	eventually.Right(t, func() string {
		response, err := http.Get("http://" + address + "/healthz")
		if err != nil {
			return err.Error()
		}
		_ = response.Body.Close()
		return ""
	})
	call := func(c *v1alpha1.M2MClient) (string, error) {
		mounted := t.TempDir()
		for key, value := range shared.secret(t, c).Data {
			if key == "token_url" {
				value = []byte(at(shared.servers()[1], value))
			}
			if err := os.WriteFile(filepath.Join(mounted, key), value, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		out, err := exec.CommandContext(t.Context(), filepath.Join(dir, "billing"), "-credential-dir", mounted, "-target", "http://"+address+"/orders").CombinedOutput()
		return string(out), err
	}
	if out, err := call(c); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	shared.waitAccepted(t, shared.secret(t, poor))
	if out, err := call(poor); err == nil || !strings.Contains(out, "403") {
		t.Errorf("without the scope: %v: %s", err, out)
	}
}

// projectOf is the project id in a token URL.
func projectOf(tokenURL string) string {
	_, rest, _ := strings.Cut(tokenURL, "/v1/public/")
	id, _, _ := strings.Cut(rest, "/")
	return id
}
