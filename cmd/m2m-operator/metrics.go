package main

import (
	"crypto/fips140"
	"crypto/tls"
	"crypto/x509"
	"runtime"
	"strconv"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// newBuildInfo says what runs.
func newBuildInfo() prometheus.Collector {
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "m2m_build_info",
		Help: "1; the labels say which version runs, what it was built with, and whether its cryptography is in FIPS 140-3 mode.",
		ConstLabels: prometheus.Labels{
			"version": version, "go_version": runtime.Version(), "fips": strconv.FormatBool(fips140.Enabled()),
		},
	})
	info.Set(1)
	return info
}

// newReadiness says what /readyz says.
func newReadiness(ready func() error) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "m2m_ready",
		Help: "1 while the replica is ready, as /readyz says.",
	}, func() float64 {
		if ready() != nil {
			return 0
		}
		return 1
	})
}

// servedCertificate tells when the certificate ends that this process shows to callers.
var servedCertificate certificateExpiry

// certificateExpiry asks for the certificate whenever metrics are read, so that it tells of
// the one that callers are shown. Without TLS it tells nothing.
type certificateExpiry struct{ config atomic.Pointer[tls.Config] }

var notAfterMetric = prometheus.NewDesc("m2m_serving_certificate_not_after_timestamp_seconds",
	"When the serving certificate ends.", nil, nil)

// of names whose certificate it is; nil: plain HTTP is spoken.
func (e *certificateExpiry) of(config *tls.Config) { e.config.Store(config) }

// Describe implements [prometheus.Collector].
func (e *certificateExpiry) Describe(to chan<- *prometheus.Desc) { to <- notAfterMetric }

// Collect implements [prometheus.Collector].
func (e *certificateExpiry) Collect(to chan<- prometheus.Metric) {
	config := e.config.Load()
	if config == nil || config.GetCertificate == nil {
		return
	}
	shown, err := config.GetCertificate(&tls.ClientHelloInfo{})
	if err != nil || shown == nil || len(shown.Certificate) == 0 {
		return
	}
	leaf := shown.Leaf
	if leaf == nil {
		if leaf, err = x509.ParseCertificate(shown.Certificate[0]); err != nil {
			return
		}
	}
	to <- prometheus.MustNewConstMetric(notAfterMetric, prometheus.GaugeValue, float64(leaf.NotAfter.Unix()))
}
