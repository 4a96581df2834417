package controllers

import (
	"sync"

	"sigs.k8s.io/controller-runtime/pkg/client"
)

// memory is what only this process knows of clients. One client is reconciled by one
// worker at a time, so what is got and set again for it is not lost between.
type memory[T any] struct {
	mu sync.Mutex
	of map[client.ObjectKey]T
}

func (m *memory[T]) get(key client.ObjectKey) (T, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	known, ok := m.of[key]
	return known, ok
}

func (m *memory[T]) set(key client.ObjectKey, known T) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.of == nil {
		m.of = map[client.ObjectKey]T{}
	}
	m.of[key] = known
}

func (m *memory[T]) forget(key client.ObjectKey) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.of, key)
}

// each shows all that is known, while nobody changes it.
func (m *memory[T]) each(show func(client.ObjectKey, T)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for key, known := range m.of {
		show(key, known)
	}
}
