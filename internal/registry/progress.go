package registry

import (
	"context"
	"strconv"
	"sync"
)

// progress is how far a watch has come. Versions of one cluster are numbers that grow (KEP
// 5504), unless it is restored from a snapshot: then a new list says so.
type progress struct {
	mu      sync.Mutex
	version uint64
	moved   chan struct{} // closed at the next step; nil: nobody waits
}

// reach notes the version that a watch has come to. A version that is no number can't be
// waited for.
func (p *progress) reach(text string) {
	version, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.version = version
	if p.moved != nil {
		close(p.moved)
		p.moved = nil
	}
}

// await waits until a version is reached; false: the context ended before.
func (p *progress) await(ctx context.Context, version uint64) bool {
	for {
		moved := p.step(version)
		if moved == nil {
			return true
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return false
		}
	}
}

// step returns what is closed when the watch moves on; nil: it has come far enough.
func (p *progress) step(version uint64) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.version >= version {
		return nil
	}
	if p.moved == nil {
		p.moved = make(chan struct{})
	}
	return p.moved
}
