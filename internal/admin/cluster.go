// Package admin is what the calls of the management API do in the cluster: who may
// call, what becomes of M2MClients, and when a change holds.
package admin

import (
	"cmp"
	"encoding/hex"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"crypto/sha256"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/catalogue"
	"github.com/m2m-operator/m2m-operator/internal/credential"
	"github.com/m2m-operator/m2m-operator/internal/journal"
	"github.com/m2m-operator/m2m-operator/internal/policy"
	"github.com/m2m-operator/m2m-operator/internal/registry"
)

// Cluster is what the management API knows of the cluster. Watches keep it up to date.
type Cluster struct {
	log       *slog.Logger
	catalogue *catalogue.Catalogue
	pepper    atomic.Pointer[credential.Pepper]

	mu         sync.RWMutex
	removed    map[string]uint64 // by namespace: the latest resourceVersion of a client that is gone
	issuers    map[types.UID]*v1alpha1.ClusterM2MIssuer
	namespaces map[types.UID]namespace
	secrets    map[types.UID]projectSecret
	pepperUID  types.UID
}

// namespace is what grants go by.
type namespace struct {
	name   string
	labels map[string]string
}

// projectSecret is what one project secret is checked with.
type projectSecret struct {
	name   string // of the Secret
	issuer string
	digest [sha256.Size]byte
}

// NewCluster returns a cluster of which nothing is known.
func NewCluster(log *slog.Logger) *Cluster {
	c := &Cluster{
		log:        log,
		removed:    map[string]uint64{},
		issuers:    map[types.UID]*v1alpha1.ClusterM2MIssuer{},
		namespaces: map[types.UID]namespace{},
		secrets:    map[types.UID]projectSecret{},
	}
	c.catalogue = catalogue.New(c.identify)
	return c
}

// Receivers take what the watches bring.
func (c *Cluster) Receivers() registry.Receivers {
	return registry.Receivers{
		Clients: receiver{
			set:    func(o metav1.Object) { c.catalogue.Set(o.(*v1alpha1.M2MClient)) },
			remove: c.removeClient,
			keep:   c.catalogue.Keep,
		},
		Issuers: receiver{
			set:    func(o metav1.Object) { put(c, c.issuers, o.GetUID(), o.(*v1alpha1.ClusterM2MIssuer)) },
			remove: func(o metav1.Object) { remove(c, c.issuers, o.GetUID()) },
			keep:   func(listed map[types.UID]bool) { keep(c, c.issuers, listed) },
		},
		Namespaces: receiver{
			set: func(o metav1.Object) {
				put(c, c.namespaces, o.GetUID(), namespace{o.GetName(), o.GetLabels()})
			},
			remove: func(o metav1.Object) { remove(c, c.namespaces, o.GetUID()) },
			keep:   func(listed map[types.UID]bool) { keep(c, c.namespaces, listed) },
		},
		Secrets: receiver{set: c.setSecret, remove: func(o metav1.Object) { c.removeSecret(o.GetUID()) }, keep: c.keepSecrets},
	}
}

// receiver is a [registry.Receiver] of three functions.
type receiver struct {
	set, remove func(o metav1.Object)
	keep        func(listed map[types.UID]bool)
}

func (r receiver) Set(o metav1.Object)            { r.set(o) }
func (r receiver) Remove(o metav1.Object)         { r.remove(o) }
func (r receiver) Keep(listed map[types.UID]bool) { r.keep(listed) }

func put[V any](c *Cluster, m map[types.UID]V, uid types.UID, v V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m[uid] = v
}

func remove[V any](c *Cluster, m map[types.UID]V, uid types.UID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(m, uid)
}

func keep[V any](c *Cluster, m map[types.UID]V, listed map[types.UID]bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(m, func(uid types.UID, _ V) bool { return !listed[uid] })
}

// identify returns the id of a client whose record the operator wrote.
func (c *Cluster) identify(o *v1alpha1.M2MClient) string {
	pepper := c.pepper.Load()
	if pepper == nil || o.Status.Seal == "" {
		return ""
	}
	record := journal.Read(&o.Status)
	if pepper.CheckRecord(string(o.UID), record) != credential.SealValid {
		return ""
	}
	return record.ClientID
}

// removeClient notes how far the watch is before anybody is told.
func (c *Cluster) removeClient(o metav1.Object) {
	c.mu.Lock()
	c.removed[o.GetNamespace()] = max(c.removed[o.GetNamespace()], version(o))
	c.mu.Unlock()
	c.catalogue.Remove(o.GetUID())
}

// removedIn is the latest resourceVersion of a client of a namespace that is gone.
func (c *Cluster) removedIn(namespace string) uint64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.removed[namespace]
}

// version is an object's resourceVersion, which only grows (KEP-5504).
func version(o metav1.Object) uint64 {
	v, err := strconv.ParseUint(o.GetResourceVersion(), 10, 64)
	if err != nil {
		return 0
	}
	return v
}

// setSecret takes the pepper and project secrets, and passes by what else the
// operator's namespace holds.
func (c *Cluster) setSecret(o metav1.Object) {
	secret := o.(*corev1.Secret)
	switch {
	case v1alpha1.IsMarked(secret):
		// What a client's author can fill is neither the pepper nor a project secret.
		if secret.Name == v1alpha1.PepperSecret {
			c.log.Error("The pepper is not used: its Secret was made for an M2MClient", "secret", secret.Name)
			c.setPepper(nil, secret.UID)
		}
		remove(c, c.secrets, secret.UID)
	case secret.Name == v1alpha1.PepperSecret:
		pepper, err := credential.ParsePepper(secret.Data)
		if err != nil {
			c.log.Error("The pepper can't be used: no client can be found or changed", "secret", secret.Name, "reason", err.Error())
		}
		c.setPepper(pepper, secret.UID)
	case secret.Type == v1alpha1.ProjectSecretType:
		p := projectSecret{name: secret.Name, issuer: secret.Labels[v1alpha1.LabelIssuer]}
		digest, err := hex.DecodeString(string(secret.Data[v1alpha1.ProjectSecretHashKey]))
		if err != nil || len(digest) != sha256.Size || p.issuer == "" || !secret.DeletionTimestamp.IsZero() {
			c.log.Warn("A project secret is not used: its Secret isn't one that kubectl m2m project-secret makes", "secret", secret.Name)
			remove(c, c.secrets, secret.UID)
			return
		}
		p.digest = [sha256.Size]byte(digest)
		put(c, c.secrets, secret.UID, p)
	}
}

func (c *Cluster) setPepper(pepper *credential.Pepper, uid types.UID) {
	c.mu.Lock()
	c.pepperUID = uid
	c.mu.Unlock()
	c.pepper.Store(pepper)
	c.catalogue.Reidentify()
}

func (c *Cluster) removeSecret(uid types.UID) {
	c.mu.RLock()
	pepper := uid == c.pepperUID
	c.mu.RUnlock()
	if pepper {
		c.setPepper(nil, "")
	}
	remove(c, c.secrets, uid)
}

func (c *Cluster) keepSecrets(listed map[types.UID]bool) {
	c.mu.RLock()
	pepper := c.pepperUID
	c.mu.RUnlock()
	if pepper != "" && !listed[pepper] {
		c.removeSecret(pepper)
	}
	keep(c, c.secrets, listed)
}

// Pepper returns the keys of hashes and seals; nil: there are none.
func (c *Cluster) Pepper() *credential.Pepper { return c.pepper.Load() }

// issuer finds the issuer that holds; of two that want the same, the elder.
func (c *Cluster) issuer(wanted func(*v1alpha1.ClusterM2MIssuer) bool) *v1alpha1.ClusterM2MIssuer {
	c.mu.RLock()
	defer c.mu.RUnlock()
	var found *v1alpha1.ClusterM2MIssuer
	for _, i := range c.issuers {
		if i.DeletionTimestamp.IsZero() && wanted(i) && (found == nil || elder(i, found)) {
			found = i
		}
	}
	return found
}

func elder(a, b *v1alpha1.ClusterM2MIssuer) bool {
	return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.UID, b.UID)) < 0
}

// projectSecrets are what the secrets of an issuer's project are checked with.
func (c *Cluster) projectSecrets(issuer string) []projectSecret {
	c.mu.RLock()
	defer c.mu.RUnlock()
	var all []projectSecret
	for _, s := range c.secrets {
		if s.issuer == issuer {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b projectSecret) int { return cmp.Compare(a.name, b.name) })
	return all
}

// allowed is what an issuer grants to a namespace.
func (c *Cluster) allowed(issuer *v1alpha1.ClusterM2MIssuer, name string) policy.Allowance {
	c.mu.RLock()
	defer c.mu.RUnlock()
	for _, n := range c.namespaces {
		if n.name == name {
			return policy.Allow(&issuer.Spec, policy.Namespace{Name: name, Labels: n.labels})
		}
	}
	return policy.Allow(&issuer.Spec, policy.Namespace{Name: name})
}
