package controllers

import (
	"sync"

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

// clientSet is a set of clients whose size is shown.
type clientSet struct {
	mu sync.Mutex
	of map[client.ObjectKey]bool
}

func (s *clientSet) set(key client.ObjectKey, in bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if in && s.of == nil {
		s.of = map[client.ObjectKey]bool{}
	}
	if in {
		s.of[key] = true
	} else {
		delete(s.of, key)
	}
	secretsInUse.Set(float64(len(s.of)))
}
