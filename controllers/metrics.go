package controllers

import (
	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
)

var (
	secretsInUse = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "m2m_previous_secrets_in_use",
		Help: "Clients with a replaced secret that outlives its overlap, because it may still be used.",
	})
	pepperKeyUses = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "m2m_pepper_key_uses",
		Help: "Hashes and seals of clients and Secrets that name a pepper key. One that is not active is dropped when none does.",
	}, []string{"key", "active"})
)

func init() { metrics.Registry.MustRegister(secretsInUse, pepperKeyUses) }

func (r *ClientReconciler) noteInUse(key client.ObjectKey, inUse bool) {
	if inUse {
		r.inUse.set(key, true)
	} else {
		r.inUse.forget(key)
	}
	secretsInUse.Set(float64(r.inUse.size()))
}
