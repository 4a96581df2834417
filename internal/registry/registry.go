// Package registry feeds the token servers: it watches clients, issuers and keys,
// and keeps what a token request needs in an index that is read without a lock on
// anything slow. A watch event costs the same however many clients there are.
package registry

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/credential"
	"github.com/m2m-operator/m2m-operator/internal/journal"
	"github.com/m2m-operator/m2m-operator/internal/policy"
	"github.com/m2m-operator/m2m-operator/internal/token"
)

// Index holds what is known of clients, issuers and keys. Events come from
// watches, one at a time for each kind; token requests look things up meanwhile.
type Index struct {
	log *slog.Logger
	now func() time.Time

	// events serialises what changes the index.
	events  sync.Mutex
	objects map[types.UID]*object // every client seen, also those not believed
	specs   map[string]*v1alpha1.ClusterM2MIssuer
	keys    map[string]*corev1.Secret // by the issuer's name
	pepper  atomic.Pointer[credential.Pepper]
	issuers atomic.Pointer[issuers]

	// mu guards clients, and is held for a map access only.
	mu      sync.RWMutex
	clients map[clientKey]*token.Client
}
