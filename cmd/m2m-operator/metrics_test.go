package main

import (
	"crypto/tls"
	"errors"
	"path/filepath"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// values gathers metrics that have no labels of their own.
func values(t *testing.T, collectors ...prometheus.Collector) map[string]float64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(collectors...)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]float64{}
	for _, f := range families {
		all[f.GetName()] = f.Metric[0].Gauge.GetValue()
	}
	return all
}

// The certificate's end is that of the one which callers are shown.
func TestCertificateExpiry(t *testing.T) {
	const name = "m2m_serving_certificate_not_after_timestamp_seconds"
	e := &certificateExpiry{}
	if got, ok := values(t, e)[name]; ok {
		t.Errorf("without TLS: %g", got)
	}
	dir := t.TempDir()
	o := listen{certFile: filepath.Join(dir, "tls.crt"), keyFile: filepath.Join(dir, "tls.key")}
	writeCertificate(t, o, 1)
	pair, err := tls.LoadX509KeyPair(o.certFile, o.keyFile)
	if err != nil {
		t.Fatal(err)
	}
	want := float64(pair.Leaf.NotAfter.Unix())
	unparsed := pair
	unparsed.Leaf = nil
	for _, shown := range []*tls.Certificate{&pair, &unparsed} {
		e.of(&tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return shown, nil }})
		if got := values(t, e)[name]; got != want {
			t.Errorf("%f, not %f", got, want)
		}
	}
	e.of(&tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, errors.New("none yet") }})
	if got, ok := values(t, e)[name]; ok {
		t.Errorf("without a certificate: %g", got)
	}
}

func TestReadiness(t *testing.T) {
	var problem error
	c := newReadiness(func() error { return problem })
	if values(t, c)["m2m_ready"] != 1 {
		t.Error("ready")
	}
	problem = errors.New("no pepper")
	if values(t, c)["m2m_ready"] != 0 {
		t.Error("not ready")
	}
}
