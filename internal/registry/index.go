package registry

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"unique"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/credential"
	"github.com/m2m-operator/m2m-operator/internal/journal"
	"github.com/m2m-operator/m2m-operator/internal/keyring"
	"github.com/m2m-operator/m2m-operator/internal/policy"
	"github.com/m2m-operator/m2m-operator/internal/token"
	"github.com/m2m-operator/m2m-operator/internal/usage"
)

// Index holds what is known of clients, issuers and keys. Watches change it, one
// event at a time; token requests look things up meanwhile. An event about a client
// costs the same however many there are; one about an issuer or the pepper visits
// all clients, and is rare.
type Index struct {
	log *slog.Logger

	issuers atomic.Pointer[token.Issuers]
	pepper  atomic.Pointer[credential.Pepper]

	// lookup guards clients, and is held for a single access to a map.
	lookup  sync.RWMutex
	clients map[string]map[string]served // by issuer and client id

	// events guards what follows: what the watches said last.
	events  sync.Mutex
	objects map[types.UID]object
	issuing map[string]*issuing
}

// served is a client that can be looked up.
type served struct {
	client *token.Client
	uid    types.UID
}

// object is a client's resource. There may be very many, and the garbage collector
// visits each pointer at every round: so what isn't needed for a token, but would be
// to prepare the client anew, is kept as text.
type object struct {
	resource []byte        // a resource, as JSON
	issuer   string        // where client is indexed
	client   *token.Client // nil: it isn't served
}

// resource is what a client's resource says, as far as tokens go, and where it is.
type resource struct {
	place
	UID    types.UID
	Spec   v1alpha1.M2MClientSpec
	Status v1alpha1.M2MClientStatus
}

// place is where a client's resource is.
type place struct{ Namespace, Name string }

// issuing is what is known of one issuer. Either part may come first.
type issuing struct {
	resource *v1alpha1.ClusterM2MIssuer
	keys     keyring.Ring
	token    *token.Issuer // nil while there is no resource
}

// NewIndex returns an empty index, which authenticates nobody.
func NewIndex(log *slog.Logger) *Index {
	x := &Index{
		log:     log,
		clients: map[string]map[string]served{},
		objects: map[types.UID]object{},
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
	s, ok := x.clients[issuer.Name][clientID]
	return s.client, ok
}

// standing tells what is known of a client whose secrets were used; ref is the UID
// that it had, if that is known.
func (x *Index) standing(c usage.Client, ref string) usage.Standing {
	x.lookup.RLock()
	s, ok := x.clients[c.Issuer][c.ID]
	x.lookup.RUnlock()
	if ok {
		return usage.Standing{Ref: string(s.uid), Served: true, Replacing: s.client.Replacing()}
	}
	x.events.Lock()
	defer x.events.Unlock()
	_, exists := x.objects[types.UID(ref)]
	// While it can't be believed what a client's secrets are, one may be a replaced one.
	return usage.Standing{Ref: ref, Replacing: exists, Gone: ref != "" && !exists}
}

// place finds a client's resource.
func (x *Index) place(uid types.UID) (p place, ok bool) {
	x.events.Lock()
	encoded := x.objects[uid].resource
	x.events.Unlock()
	return p, json.Unmarshal(encoded, &p) == nil
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
		if i.token != nil && i.token.Available() {
			return nil
		}
	}
	return errors.New("no issuer has a usable signing key")
}

// Clients returns how many clients can be looked up.
func (x *Index) Clients() int {
	x.lookup.RLock()
	defer x.lookup.RUnlock()
	number := 0
	for _, of := range x.clients {
		number += len(of)
	}
	return number
}

// SetClient takes a client as it is now.
func (x *Index) SetClient(c *v1alpha1.M2MClient) {
	r := resource{place{c.Namespace, c.Name}, c.UID, c.Spec, c.Status}
	encoded, err := json.Marshal(r)
	if err == nil {
		x.events.Lock()
		defer x.events.Unlock()
		if c.DeletionTimestamp.IsZero() {
			err = x.index(&r, encoded)
		} else {
			x.remove(c.UID)
		}
	}
	if err != nil {
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
	x.unindex(x.objects[uid])
	delete(x.objects, uid)
}

// index puts a client where token requests find it, if its record can be believed.
func (x *Index) index(r *resource, encoded []byte) error {
	issuer := policy.IssuerName(&r.Spec)
	client, err := x.client(r, issuer)
	was := x.objects[r.UID]
	if was.client != nil && (client == nil || was.issuer != issuer || was.client.ID() != client.ID()) {
		x.unindex(was)
	}
	x.objects[r.UID] = object{encoded, unique.Make(issuer).Value(), client}
	if client == nil {
		return err
	}
	x.lookup.Lock()
	defer x.lookup.Unlock()
	if x.clients[issuer] == nil {
		x.clients[issuer] = map[string]served{}
	}
	uid := r.UID
	if before := x.clients[issuer][client.ID()]; before.uid == uid {
		uid = before.uid // and not another copy
	}
	delete(x.clients[issuer], client.ID()) // the key shares its memory with the client
	x.clients[issuer][client.ID()] = served{client, uid}
	return nil
}

func (x *Index) unindex(o object) {
	if o.client == nil {
		return
	}
	x.lookup.Lock()
	defer x.lookup.Unlock()
	delete(x.clients[o.issuer], o.client.ID())
}

// client prepares what token requests need. No client and no error: the controller
// hasn't come to it, or its issuer isn't there.
func (x *Index) client(r *resource, issuer string) (*token.Client, error) {
	pepper, issuing := x.pepper.Load(), x.issuing[issuer]
	if pepper == nil || issuing == nil || issuing.resource == nil || r.Status.Seal == "" {
		return nil, nil
	}
	record := journal.Read(&r.Status)
	if pepper.CheckRecord(string(r.UID), record) != credential.SealValid {
		return nil, errors.New("the seal of its status doesn't hold, so somebody else wrote it: the controller puts it right")
	}
	effective := policy.Resolve(&r.Spec, &issuing.resource.Spec)
	config := token.ClientConfig{
		ID:        record.ClientID,
		Active:    effective.Active,
		Scopes:    effective.Scopes,
		Lifetime:  effective.Lifetime,
		Audiences: effective.Audiences,
	}
	for _, c := range record.Credentials {
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
	x.reshape(name)
}

// RemoveIssuer forgets an issuer. Its keys may outlive it.
func (x *Index) RemoveIssuer(name string) {
	x.events.Lock()
	defer x.events.Unlock()
	x.known(name).resource = nil
	x.reshape(name)
}

// reshape prepares an issuer anew whose resource changed, and its clients, whose
// tokens that shapes. Keys shape no client.
func (x *Index) reshape(name string) {
	x.reissue(name)
	x.reindex(func(issuer string) bool { return issuer == name })
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

// reissue prepares an issuer anew.
func (x *Index) reissue(name string) {
	i := x.issuing[name]
	i.token = nil
	if i.resource != nil {
		i.token = x.newIssuer(i)
	}
	if i.resource == nil && len(i.keys.Keys) == 0 {
		delete(x.issuing, name)
	}
	x.publish()
}

// newIssuer prepares an issuer; one that can't sign is still known, and says so to
// who asks for a token.
func (x *Index) newIssuer(i *issuing) *token.Issuer {
	spec := &i.resource.Spec
	config := token.IssuerConfig{
		Name:      i.resource.Name,
		URL:       spec.URL,
		ProjectID: spec.ProjectID,
		Live:      spec.Environment != v1alpha1.EnvironmentTest,
		Profile:   token.Profile(policy.Profile(spec)),
		Keys:      i.keys,
	}
	issuer, err := token.NewIssuer(rand.Reader, config)
	if err == nil {
		return issuer
	}
	x.log.Warn("An issuer signs no tokens for now", "issuer", config.Name, "reason", err.Error())
	issuer, err = token.NewUnavailableIssuer(config)
	if err != nil {
		return nil // the error was logged: it is the same
	}
	return issuer
}

// publish shows token requests the issuers, and of those that claim one URL or
// project id only the older.
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
		if !of(o.issuer) {
			continue
		}
		var r resource
		err := json.Unmarshal(o.resource, &r)
		r.UID = uid // shares its memory with the key
		if err == nil {
			err = x.index(&r, o.resource)
		}
		if err != nil {
			refused++
		}
	}
	if refused > 0 {
		x.log.Warn("Clients are not served", "number", refused, "reason", "the seals of their statuses don't hold")
	}
}
