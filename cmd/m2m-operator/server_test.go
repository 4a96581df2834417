package main

import (
	"crypto/x509"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A limit or a target that is none is an error that names the flag, before anything is begun.
func TestWrongServerFlags(t *testing.T) {
	for says, args := range map[string][]string{
		"--failure-limit: a rate is":                   {"--failure-limit", "20"},
		"plain HTTP would show secrets":                {"--bind-address", ":8080"},
		"--tls-secret and --tls-cert-file exclude":     {"--tls-secret", "a", "--tls-cert-file", "b", "--tls-key-file", "c"},
		"--trusted-proxies: \"everybody\" is":          {"--trusted-proxies", "10.0.0.0/8,everybody"},
		"--management-api-url must be a URL":           {"--management-api-url", "api:8443"},
		"--management-api-url must be https":           {"--management-api-url", "http://m2m-api.m2m-system.svc"},
		"--management-api-url must be https, because ": {"--management-api-url", "http://127.0.0.1.example.com"},
	} {
		command := newCommand()
		command.SetArgs(append([]string{"server"}, args...))
		command.SetOut(io.Discard)
		if err := command.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v: %v; want %q", args, err, says)
		}
	}
	command := newCommand()
	command.SetArgs([]string{"api", "--failure-limit", "20"})
	command.SetOut(io.Discard)
	if err := command.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), "--failure-limit: a rate is") {
		t.Error(err)
	}
	for _, good := range []string{"", "https://m2m-api.m2m-system.svc:8443", "http://localhost:8081", "http://127.0.0.1:8081", "http://[::1]:8081"} {
		if _, err := parseManagementURL(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
}

// The management API's certificate is checked with what the file holds now.
func TestManagementTransport(t *testing.T) {
	api := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }))
	defer api.Close()
	file := filepath.Join(t.TempDir(), "ca.crt")
	authorities := func() (*x509.CertPool, error) { return readAuthorities(file) }
	if _, err := authorities(); err == nil {
		t.Error("a file that isn't there is taken")
	}
	write := func(certificate *x509.Certificate) {
		t.Helper()
		block := &pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw}
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	o := serverOptions{listen: listen{certFile: filepath.Join(filepath.Dir(file), "tls.crt"), keyFile: filepath.Join(filepath.Dir(file), "tls.key")}}
	writeCertificate(t, o.listen, 1)
	stranger, err := os.ReadFile(o.certFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, stranger, 0o600); err != nil {
		t.Fatal(err)
	}
	transport := newManagementTransport(authorities)
	get := func() error {
		response, err := (&http.Client{Transport: transport}).Get(api.URL)
		if err != nil {
			return err
		}
		return response.Body.Close()
	}
	if err := get(); err == nil {
		t.Error("a stranger's certificate is taken")
	}
	write(api.Certificate())
	if err := get(); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(file, []byte("no PEM"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := authorities(); err == nil {
		t.Error("a file without certificates is taken")
	}
}
