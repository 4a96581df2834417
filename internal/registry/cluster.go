package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"

	"github.com/m2m-operator/m2m-operator/internal/jws"
	"github.com/m2m-operator/m2m-operator/internal/token"
)

// +kubebuilder:rbac:urls=/.well-known/openid-configuration;/openid/v1/jwks,verbs=get

// The API server's own documents about its ServiceAccount tokens. Its discovery document
// may name another address for the keys, which pods needn't reach.
const (
	clusterMetadata = "/.well-known/openid-configuration"
	clusterKeys     = "/openid/v1/jwks"
)

const (
	// clusterRefresh is how often the cluster's keys are fetched.
	clusterRefresh = 5 * time.Minute
	// clusterFloor is the least time between two fetches, whatever asks for them.
	clusterFloor = 10 * time.Second
	// maxClusterDocument bounds a document in bytes.
	maxClusterDocument = 1 << 20
)

// Cluster keeps the issuer and the public keys of the cluster's ServiceAccount tokens.
type Cluster struct {
	client rest.Interface
	log    *slog.Logger
	known  atomic.Pointer[token.Cluster] // nil: not fetched yet
	asked  chan struct{}
}

// NewCluster prepares to fetch the cluster's keys.
func NewCluster(config *rest.Config, log *slog.Logger) (*Cluster, error) {
	client, err := restClient(config, corev1.SchemeGroupVersion, "/api", clientgoscheme.AddToScheme)
	if err != nil {
		return nil, err
	}
	return &Cluster{client: client, log: log, asked: make(chan struct{}, 1)}, nil
}

// ServiceAccountKeys are the issuer and the public keys of ServiceAccount tokens; an empty
// issuer: they were not fetched yet.
func (c *Cluster) ServiceAccountKeys() (issuer string, keys jws.KeySet) {
	if known := c.known.Load(); known != nil {
		return known.Issuer, known.Keys
	}
	return "", jws.KeySet{}
}

// Ask makes a fetch come sooner. It waits for nothing.
func (c *Cluster) Ask() {
	select {
	case c.asked <- struct{}{}:
	default:
	}
}

// Run fetches the keys until the context ends. What was fetched last stays in use while
// the API server is away.
func (c *Cluster) Run(ctx context.Context) {
	for {
		known, err := c.fetch(ctx)
		wait := clusterRefresh
		switch {
		case err == nil:
			c.known.Store(known)
		case ctx.Err() == nil:
			c.log.Warn("The keys of ServiceAccount tokens can't be fetched: pods may fail to authenticate with theirs", "reason", err.Error())
			wait = clusterFloor
		}
		if !sleep(ctx, clusterFloor) {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-c.asked:
		case <-time.After(wait - clusterFloor):
		}
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

func (c *Cluster) fetch(ctx context.Context) (*token.Cluster, error) {
	document, err := c.get(ctx, clusterMetadata)
	if err != nil {
		return nil, err
	}
	var metadata struct {
		Issuer string `json:"issuer"`
	}
	if err := json.Unmarshal(document, &metadata); err != nil || metadata.Issuer == "" {
		return nil, errors.New(clusterMetadata + " names no issuer")
	}
	if document, err = c.get(ctx, clusterKeys); err != nil {
		return nil, err
	}
	keys, err := jws.ParseKeySet(document)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", clusterKeys, err)
	}
	return &token.Cluster{Issuer: metadata.Issuer, Keys: keys}, nil
}

func (c *Cluster) get(ctx context.Context, path string) ([]byte, error) {
	document, err := c.client.Get().AbsPath(path).Timeout(requestTimeout).DoRaw(ctx)
	if err != nil {
		return nil, fmt.Errorf("fetching %s: %w", path, err)
	}
	if len(document) > maxClusterDocument {
		return nil, fmt.Errorf("%s has more than %d bytes", path, maxClusterDocument)
	}
	return document, nil
}
