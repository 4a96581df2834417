package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/m2m-operator/m2m-operator/internal/credential"
)

// A server with a certificate speaks TLS, takes a new certificate when the files
// change, and ends when it is told to.
func TestServeTLS(t *testing.T) {
	dir := t.TempDir()
	o := listen{certFile: filepath.Join(dir, "tls.crt"), keyFile: filepath.Join(dir, "tls.key")}
	writeCertificate(t, o, 1)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}

	ctx, stop := context.WithCancel(t.Context())
	config, err := o.certificates(ctx, func() *credential.Pepper { return nil })
	if err != nil {
		t.Fatal(err)
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") })
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, "token", address, handler, config, time.Second) }()

	waitSerial(t, address, 1)
	writeCertificate(t, o, 2)
	waitSerial(t, address, 2)
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// waitSerial waits until the server shows the certificate with a serial number.
func waitSerial(t *testing.T, address string, want int64) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // the serial number tells
	}}
	for range 3000 {
		response, err := client.Get("https://" + address)
		if err == nil {
			_ = response.Body.Close()
			if response.TLS.PeerCertificates[0].SerialNumber.Int64() == want {
				return
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("no certificate %d", want)
}

func writeCertificate(t *testing.T, o listen, serial int64) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"}}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{
		o.keyFile:  {Type: "PRIVATE KEY", Bytes: private},
		o.certFile: {Type: "CERTIFICATE", Bytes: certificate},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// A wrong command line is an error that names the flag.
func TestWrongFlags(t *testing.T) {
	for says, args := range map[string][]string{
		"--tls-cert-file and --tls-key-file go together": {"server", "--tls-cert-file", "x"},
		"--usage-tick must be":                           {"server", "--usage-tick", "1h"},
		"--usage-interval must be":                       {"server", "--usage-interval", "0s"},
		"--log-level":                                    {"server", "--log-level", "loud"},
		"--default-issuer-url":                           {"controller", "--default-issuer-url", "auth.example.com"},
		"--default-issuer-environment":                   {"controller", "--default-issuer-environment", "Staging"},
		"--default-issuer-grants":                        {"controller", "--default-issuer-grants", "some"},
		"unknown command":                                {"serve"},
		"unknown flag":                                   {"server", "--port", "80"},
	} {
		command := newCommand()
		command.SetArgs(args)
		command.SetOut(io.Discard)
		if err := command.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v: %v; want %q", args, err, says)
		}
	}
}
