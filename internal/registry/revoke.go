package registry

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/token"
)

const (
	// revocationManager owns the list of revoked tokens, which no apply of ours touches.
	revocationManager = "m2m-operator-revocation"
	// maxRevoked bounds a client's list, as its schema does.
	maxRevoked = 64
	// attempts is how often a revocation is written that others' writes get in the way of.
	attempts = 8
)

// Revoker writes into clients' statuses which tokens they revoked. Every server sees
// that by its watch.
type Revoker struct {
	index   *Index
	clients rest.Interface

	mu   sync.Mutex
	busy map[types.UID]chan struct{} // clients that are being written; closed when done
}

// NewRevoker makes the revoker of a server.
func NewRevoker(config *rest.Config, index *Index) (*Revoker, error) {
	own, err := restClient(config, v1alpha1.SchemeGroupVersion, "/apis", v1alpha1.AddToScheme)
	if err != nil {
		return nil, err
	}
	return &Revoker{index: index, clients: own, busy: map[types.UID]chan struct{}{}}, nil
}

// Revoke returns when a revocation is durable. A [token.Error] tells the client that it
// has revoked too many.
func (r *Revoker) Revoke(ctx context.Context, issuer, clientID string, digest [sha256.Size]byte, expires time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	uid, at, ok := r.index.locate(issuer, clientID)
	if !ok {
		return fmt.Errorf("client %q is gone", clientID)
	}
	done, err := r.begin(ctx, uid)
	if err != nil {
		return err
	}
	defer done()
	revoked := v1alpha1.RevokedToken{Digest: base64.RawURLEncoding.EncodeToString(digest[:]), ExpiresAt: metav1.NewTime(expires)}
	for range attempts {
		if err = r.write(ctx, at, uid, revoked); !apierrors.IsConflict(err) {
			return err
		}
	}
	return err
}

// begin waits for its turn: revocations of one client's tokens would only be in each
// other's way.
func (r *Revoker) begin(ctx context.Context, uid types.UID) (done func(), err error) {
	for {
		r.mu.Lock()
		other, busy := r.busy[uid]
		if !busy {
			mine := make(chan struct{})
			r.busy[uid] = mine
			r.mu.Unlock()
			return func() { r.end(uid, mine) }, nil
		}
		r.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for other revocations of the client: %w", ctx.Err())
		}
	}
}

func (r *Revoker) end(uid types.UID, mine chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.busy, uid)
	close(mine)
}

// write adds to the list as it is now, and drops what has expired.
func (r *Revoker) write(ctx context.Context, at place, uid types.UID, revoked v1alpha1.RevokedToken) error {
	now := &v1alpha1.M2MClient{}
	err := r.clients.Get().Namespace(at.Namespace).Resource("m2mclients").Name(at.Name).Do(ctx).Into(now)
	if err != nil {
		return fmt.Errorf("reading the client of a revoked token: %w", err)
	}
	if now.UID != uid {
		return fmt.Errorf("the client of a revoked token was deleted and made again: %s/%s", at.Namespace, at.Name)
	}
	tokens := slices.DeleteFunc(now.Status.RevokedTokens, func(t v1alpha1.RevokedToken) bool {
		return t.Digest == revoked.Digest || t.ExpiresAt.Before(&metav1.Time{Time: time.Now()})
	})
	if len(tokens) >= maxRevoked {
		return token.ErrTooManyRevoked
	}
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": uid, "resourceVersion": now.ResourceVersion},
		"status":   map[string]any{"revokedTokens": append(tokens, revoked)},
	})
	if err != nil {
		return fmt.Errorf("encoding a revocation: %w", err)
	}
	err = r.clients.Patch(types.MergePatchType).Namespace(at.Namespace).Resource("m2mclients").Name(at.Name).
		SubResource("status").Param("fieldManager", revocationManager).Body(patch).Do(ctx).Error()
	if err != nil {
		return fmt.Errorf("writing a revocation: %w", err)
	}
	return nil
}
