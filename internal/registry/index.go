package registry

import (
	"crypto/rand"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/credential"
	"github.com/m2m-operator/m2m-operator/internal/journal"
	"github.com/m2m-operator/m2m-operator/internal/keyring"
	"github.com/m2m-operator/m2m-operator/internal/policy"
	"github.com/m2m-operator/m2m-operator/internal/token"
)

// Index holds what is known of clients, issuers and keys. Watches change it, one
// event at a time; token requests look things up meanwhile. An event about a client
// costs the same however many there are; one about an issuer or the pepper visits
// all clients, and is rare.
type Index struct {
	log *slog.Logger

	issuers atomic.Pointer[token.Issuers]
	pepper  atomic.Pointer[credential.Pepper]

	// lookup guards clients, and is held for a single access to the map.
	lookup  sync.RWMutex
	clients map[clientKey]*token.Client

	// events guards what follows: what the watches said last.
	events  sync.Mutex
	objects map[types.UID]*object
	issuing map[string]*issuing
}

// clientKey finds a client: ids are unique within an issuer.
type clientKey struct{ issuer, clientID string }

// object is what a client's resource says, as far as tokens go.
type object struct {
	spec    v1alpha1.M2MClientSpec
	record  credential.Record
	indexed clientKey // where it stands in clients; zero: it doesn't
}

// issuing is what is known of one issuer. Either part may come first.
type issuing struct {
	resource *v1alpha1.ClusterM2MIssuer
	keys     keyring.Ring
	token    *token.Issuer // nil while it can't sign
}

// NewIndex returns an empty index, which authenticates nobody.
func NewIndex(log *slog.Logger) *Index {
	x := &Index{
		log:     log,
		clients: map[clientKey]*token.Client{},
		objects: map[types.UID]*object{},
		issuing: map[string]*issuing{},
	}
	x.issuers.Store(token.NewIssuers())
	return x
}

// Issuer finds an issuer by its project id.
func (x *Index) Issuer(projectID string) (*token.Issuer, bool) {
	return x.issuers.Load().Issuer(projectID)
}

// IssuerAt finds an issuer by the host and path of its URL.
func (x *Index) IssuerAt(host, path string) (*token.Issuer, bool) {
	return x.issuers.Load().IssuerAt(host, path)
}

// Client finds an issuer's client.
func (x *Index) Client(issuer *token.Issuer, clientID string) (*token.Client, bool) {
	x.lookup.RLock()
	defer x.lookup.RUnlock()
	c, ok := x.clients[clientKey{issuer.Name, clientID}]
	return c, ok
}

// Pepper returns the keys of the clients' hashes; nil: there are none.
func (x *Index) Pepper() *credential.Pepper { return x.pepper.Load() }

// Ready tells why no token can be given to anybody; nil: tokens can.
func (x *Index) Ready() error {
	x.events.Lock()
	defer x.events.Unlock()
	if x.pepper.Load() == nil {
		return errors.New("the pepper isn't there or is damaged")
	}
	for _, i := range x.issuing {
		if i.token != nil {
			return nil
		}
	}
	return errors.New("no issuer has a usable signing key")
}

// Clients returns how many clients can be looked up.
func (x *Index) Clients() int {
	x.lookup.RLock()
	defer x.lookup.RUnlock()
	return len(x.clients)
}

// SetClient takes a client as it is now.
func (x *Index) SetClient(c *v1alpha1.M2MClient) {
	x.events.Lock()
	defer x.events.Unlock()
	o := x.objects[c.UID]
	if o == nil {
		o = &object{}
		x.objects[c.UID] = o
	}
	if !c.DeletionTimestamp.IsZero() {
		x.unindex(o)
		return
	}
	o.spec, o.record = c.Spec, journal.Read(&c.Status)
	if err := x.index(c.UID, o); err != nil {
		x.log.Warn("A client is not served", "namespace", c.Namespace, "name", c.Name, "reason", err.Error())
	}
}

// RemoveClient forgets a client.
func (x *Index) RemoveClient(uid types.UID) {
	x.events.Lock()
	defer x.events.Unlock()
	x.remove(uid)
}

// KeepClients forgets all clients but those of a new list.
func (x *Index) KeepClients(listed map[types.UID]bool) {
	x.events.Lock()
	defer x.events.Unlock()
	for uid := range x.objects {
		if !listed[uid] {
			x.remove(uid)
		}
	}
}

func (x *Index) remove(uid types.UID) {
	if o := x.objects[uid]; o != nil {
		x.unindex(o)
		delete(x.objects, uid)
	}
}

// index puts a client where token requests find it, if its record can be believed.
func (x *Index) index(uid types.UID, o *object) error {
	key := clientKey{policy.IssuerName(&o.spec), o.record.ClientID}
	client, err := x.client(uid, key, o)
	if client == nil || key != o.indexed {
		x.unindex(o)
	}
	if client == nil {
		return err
	}
	x.lookup.Lock()
	defer x.lookup.Unlock()
	x.clients[key], o.indexed = client, key
	return nil
}

func (x *Index) unindex(o *object) {
	if o.indexed == (clientKey{}) {
		return
	}
	x.lookup.Lock()
	defer x.lookup.Unlock()
	delete(x.clients, o.indexed)
	o.indexed = clientKey{}
}

// client prepares what token requests need. No client and no error: the controller
// hasn't come to it, or its issuer isn't there.
func (x *Index) client(uid types.UID, key clientKey, o *object) (*token.Client, error) {
	pepper, issuing := x.pepper.Load(), x.issuing[key.issuer]
	if pepper == nil || issuing == nil || issuing.resource == nil || o.record.Seal == "" {
		return nil, nil
	}
	if pepper.CheckRecord(string(uid), o.record) != credential.SealValid {
		return nil, errors.New("the seal of its status doesn't hold, so somebody else wrote it: the controller puts it right")
	}
	effective := policy.Resolve(&o.spec, &issuing.resource.Spec)
	config := token.ClientConfig{
		ID:        o.record.ClientID,
		Active:    effective.Active,
		Scopes:    effective.Scopes,
		Lifetime:  effective.Lifetime,
		Audiences: effective.Audiences,
	}
	for _, c := range o.record.Credentials {
		config.Credentials = append(config.Credentials, token.Credential{Version: c.Version.String(), Hash: c.Hash, NotAfter: c.NotAfter})
	}
	return token.NewClient(config)
}

// SetPepper takes the Secret that holds the pepper; nil: it is gone.
func (x *Index) SetPepper(secret *corev1.Secret) {
	var pepper *credential.Pepper
	if secret != nil {
		var err error
		if pepper, err = credential.ParsePepper(secret.Data); err != nil {
			x.log.Error("The pepper can't be used: nobody is given tokens", "secret", secret.Name, "reason", err.Error())
		}
	}
	x.events.Lock()
	defer x.events.Unlock()
	x.pepper.Store(pepper)
	x.reindex(func(string) bool { return true })
}

// SetIssuer takes an issuer as it is now.
func (x *Index) SetIssuer(resource *v1alpha1.ClusterM2MIssuer) {
	x.events.Lock()
	defer x.events.Unlock()
	name := resource.Name
	known := x.known(name)
	switch {
	case !resource.DeletionTimestamp.IsZero():
		known.resource = nil
	case known.resource != nil && known.resource.UID == resource.UID && known.resource.Generation == resource.Generation:
		return // a new status: nothing that tokens depend on
	default:
		known.resource = resource
	}
	x.reissue(name)
}

// RemoveIssuer forgets an issuer. Its keys may outlive it.
func (x *Index) RemoveIssuer(name string) {
	x.events.Lock()
	defer x.events.Unlock()
	x.known(name).resource = nil
	x.reissue(name)
}

// SetKeys takes the Secret that holds an issuer's signing keys; nil: it is gone.
func (x *Index) SetKeys(issuer string, secret *corev1.Secret) {
	var ring keyring.Ring
	if secret != nil {
		var err error
		if ring, err = keyring.Parse(secret.Data); err != nil {
			x.log.Error("Signing keys can't be used: the issuer signs no tokens", "issuer", issuer, "secret", secret.Name, "reason", err.Error())
		}
	}
	x.events.Lock()
	defer x.events.Unlock()
	x.known(issuer).keys = ring
	x.reissue(issuer)
}

func (x *Index) known(issuer string) *issuing {
	if x.issuing[issuer] == nil {
		x.issuing[issuer] = &issuing{}
	}
	return x.issuing[issuer]
}

// reissue prepares an issuer anew, and its clients, whose tokens it shapes.
func (x *Index) reissue(name string) {
	i := x.issuing[name]
	i.token = nil
	if i.resource != nil && len(i.keys.Keys) > 0 {
		var err error
		if i.token, err = newIssuer(i); err != nil {
			x.log.Error("An issuer signs no tokens", "issuer", name, "reason", err.Error())
		}
	}
	if i.resource == nil && len(i.keys.Keys) == 0 {
		delete(x.issuing, name)
	}
	x.publish()
	x.reindex(func(issuer string) bool { return issuer == name })
}

func newIssuer(i *issuing) (*token.Issuer, error) {
	spec := &i.resource.Spec
	return token.NewIssuer(rand.Reader, token.IssuerConfig{
		Name:      i.resource.Name,
		URL:       spec.URL,
		ProjectID: spec.ProjectID,
		Live:      spec.Environment != v1alpha1.EnvironmentTest,
		Profile:   token.Profile(policy.Profile(spec)),
		Keys:      i.keys,
	})
}

// publish shows token requests the issuers that can sign, and of those that claim
// one URL or project id only the older.
func (x *Index) publish() {
	var resources []v1alpha1.ClusterM2MIssuer
	for _, i := range x.issuing {
		if i.resource != nil {
			resources = append(resources, *i.resource)
		}
	}
	var shown []*token.Issuer
	for _, i := range x.issuing {
		if i.token != nil && policy.Rival(i.resource, resources) == nil {
			shown = append(shown, i.token)
		}
	}
	x.issuers.Store(token.NewIssuers(shown...))
}

// reindex prepares anew the clients of some issuers.
func (x *Index) reindex(of func(issuer string) bool) {
	refused := 0
	for uid, o := range x.objects {
		if of(policy.IssuerName(&o.spec)) && x.index(uid, o) != nil {
			refused++
		}
	}
	if refused > 0 {
		x.log.Warn("Clients are not served", "number", refused, "reason", "the seals of their statuses don't hold")
	}
}
