package verify

import (
	"context"
	"sync"
	"time"
)

// DenyList tells which tokens are refused although they have not expired.
type DenyList interface {
	// Denies decides over a token that is valid otherwise, by its client and when it was
	// issued, or by its digest. It is asked in each request; an error refuses the token.
	Denies(ctx context.Context, c *Claims) (bool, error)
}

// MemoryDenyList is a deny list of this process. Its zero value denies nothing, and it
// may be shared.
type MemoryDenyList struct {
	mu      sync.RWMutex
	clients map[string]time.Time   // tokens issued before are denied
	tokens  map[[32]byte]time.Time // until they expire
}

// DenyClient denies a client's tokens that were issued before an instant, as
// `spec.token.notBefore` of an M2MClient does. An earlier instant than the last is ignored.
func (l *MemoryDenyList) DenyClient(clientID string, issuedBefore time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.clients == nil {
		l.clients = map[string]time.Time{}
	}
	if issuedBefore.After(l.clients[clientID]) {
		l.clients[clientID] = issuedBefore
	}
}

// DenyToken denies one token by [Claims].Digest, as `status.revokedTokens` of an
// M2MClient does. It is forgotten by [MemoryDenyList.Forget] after it has expired.
func (l *MemoryDenyList) DenyToken(digest [32]byte, expiresAt time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.tokens == nil {
		l.tokens = map[[32]byte]time.Time{}
	}
	l.tokens[digest] = expiresAt
}

// Forget drops what no token can match any more: tokens that expired before an instant,
// and clients whose tokens were to be issued before it. Call it now and then with the
// time, less the longest lifetime of a token and [MaxLeeway].
func (l *MemoryDenyList) Forget(before time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, issuedBefore := range l.clients {
		if issuedBefore.Before(before) {
			delete(l.clients, id)
		}
	}
	for digest, expiresAt := range l.tokens {
		if expiresAt.Before(before) {
			delete(l.tokens, digest)
		}
	}
}

// Denies implements [DenyList]. It never fails.
func (l *MemoryDenyList) Denies(_ context.Context, c *Claims) (bool, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if issuedBefore, ok := l.clients[c.ClientID]; ok && c.IssuedAt.Before(issuedBefore) {
		return true, nil
	}
	_, denied := l.tokens[c.Digest]
	return denied, nil
}
