package registry

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"hash/maphash"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unique"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/claims"
	"github.com/m2m-operator/m2m-operator/internal/credential"
	"github.com/m2m-operator/m2m-operator/internal/journal"
	"github.com/m2m-operator/m2m-operator/internal/keyring"
	"github.com/m2m-operator/m2m-operator/internal/policy"
	"github.com/m2m-operator/m2m-operator/internal/token"
	"github.com/m2m-operator/m2m-operator/internal/usage"
)

// Index holds what is known of clients, issuers, keys, namespaces and ServiceAccounts.
// Watches change it, one event at a time; token requests look things up meanwhile. An
// event about a client costs the same however many there are; one about an issuer, a
// namespace's labels or the pepper visits all clients, and is rare.
type Index struct {
	log *slog.Logger

	issuers atomic.Pointer[token.Issuers]
	pepper  atomic.Pointer[credential.Pepper]

	// lookup guards what follows, and is held for a single access to a map.
	lookup    sync.RWMutex
	clients   map[string]map[string]served // by issuer and client id
	accounts  map[token.Account]types.UID
	workloads map[workload][]*token.Client

	// decoys are some clients, by a hash of their ids. The secret of a client that nobody
	// is gets compared with one of theirs: what is in no processor's cache takes as long then.
	decoys [decoys]atomic.Pointer[token.Client]
	seed   maphash.Seed

	// events guards what follows: what the watches said last.
	events     sync.Mutex
	objects    map[types.UID]object
	issuing    map[string]*issuing
	namespaces map[string]map[string]string // labels by name; nil: they aren't known yet
}

// decoys is how many clients stand in for those that don't exist: more than caches hold.
const decoys = 1 << 13

func (x *Index) decoy(clientID string) *atomic.Pointer[token.Client] {
	return &x.decoys[maphash.String(x.seed, clientID)%decoys]
}

// workload is a ServiceAccount at an issuer.
type workload struct {
	issuer  string
	account token.Account
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
	resource  []byte        // a resource, as JSON
	namespace string        // of the resource
	issuer    string        // where client is indexed
	client    *token.Client // nil: it isn't served
	accounts  []string      // ServiceAccounts that authenticate as the client
}

// resource is what a client's resource says, as far as tokens go, and where it is.
type resource struct {
	place
	UID     types.UID
	Created metav1.Time
	Spec    v1alpha1.M2MClientSpec
	Status  v1alpha1.M2MClientStatus
}

// place is where a client's resource is.
type place struct{ Namespace, Name string }

// issuing is what is known of one issuer. Either part may come first.
type issuing struct {
	resource *v1alpha1.ClusterM2MIssuer
	keys     keyring.Ring
	token    *token.Issuer    // nil while there is no resource
	claims   *claims.Template // nil: none, or one that can't be used
}

// NewIndex returns an empty index, which authenticates nobody.
func NewIndex(log *slog.Logger) *Index {
	x := &Index{
		log:       log,
		clients:   map[string]map[string]served{},
		accounts:  map[token.Account]types.UID{},
		workloads: map[workload][]*token.Client{},
		objects:   map[types.UID]object{},
		issuing:   map[string]*issuing{},
		seed:      maphash.MakeSeed(),
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

// Client finds an issuer's client. Where there is none it returns one that stands in.
func (x *Index) Client(issuer *token.Issuer, clientID string) (*token.Client, bool) {
	standIn := x.decoy(clientID).Load()
	x.lookup.RLock()
	defer x.lookup.RUnlock()
	if s, ok := x.clients[issuer.Name][clientID]; ok {
		return s.client, true
	}
	return standIn, false
}

// ClientsOf returns the issuer's clients that a ServiceAccount authenticates as.
func (x *Index) ClientsOf(issuer *token.Issuer, account token.Account) []*token.Client {
	x.lookup.RLock()
	defer x.lookup.RUnlock()
	return x.workloads[workload{issuer.Name, account}]
}

// AccountUID returns the UID of a ServiceAccount that exists; empty: none does.
func (x *Index) AccountUID(account token.Account) string {
	x.lookup.RLock()
	defer x.lookup.RUnlock()
	return string(x.accounts[account])
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

// locate finds the resource of a client that is served.
func (x *Index) locate(issuer, clientID string) (types.UID, place, bool) {
	x.lookup.RLock()
	s, ok := x.clients[issuer][clientID]
	x.lookup.RUnlock()
	if !ok {
		return "", place{}, false
	}
	at, ok := x.place(s.uid)
	return s.uid, at, ok
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
	r := resource{place{c.Namespace, c.Name}, c.UID, c.CreationTimestamp, c.Spec, c.Status}
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

// index puts a client where token requests find it, if its record can be believed.
func (x *Index) index(r *resource, encoded []byte) error {
	issuer := policy.IssuerName(&r.Spec)
	client, err := x.client(r, issuer)
	o := object{resource: encoded, namespace: unique.Make(r.Namespace).Value(), issuer: unique.Make(issuer).Value(), client: client}
	if client != nil {
		for _, w := range r.Spec.WorkloadIdentities {
			o.accounts = append(o.accounts, w.ServiceAccountName)
		}
	}
	x.lookup.Lock()
	uid := r.UID
	if client != nil && x.clients[issuer][client.ID()].uid == uid {
		uid = x.clients[issuer][client.ID()].uid // and not another copy
	}
	x.hide(uid, x.objects[uid])
	x.show(uid, o)
	x.lookup.Unlock()
	x.objects[r.UID] = o
	return err
}

func (x *Index) remove(uid types.UID) {
	x.lookup.Lock()
	x.hide(uid, x.objects[uid])
	x.lookup.Unlock()
	delete(x.objects, uid)
}

// show and hide are one step for requests where one follows the other: a client that
// changes is never missing.
func (x *Index) show(uid types.UID, o object) {
	if o.client == nil {
		return
	}
	if x.clients[o.issuer] == nil {
		x.clients[o.issuer] = map[string]served{}
	}
	// The key shares its memory with the client.
	delete(x.clients[o.issuer], o.client.ID())
	x.clients[o.issuer][o.client.ID()] = served{o.client, uid}
	x.decoy(o.client.ID()).Store(o.client)
	for _, at := range o.workloads() {
		x.workloads[at] = append(slices.Clip(x.workloads[at]), o.client) // requests may be reading it
	}
}

func (x *Index) hide(uid types.UID, o object) {
	if o.client == nil {
		return
	}
	if x.clients[o.issuer][o.client.ID()].uid == uid {
		delete(x.clients[o.issuer], o.client.ID())
	}
	x.decoy(o.client.ID()).CompareAndSwap(o.client, nil)
	for _, at := range o.workloads() {
		others := slices.DeleteFunc(slices.Clone(x.workloads[at]), func(c *token.Client) bool { return c == o.client })
		if len(others) == 0 {
			delete(x.workloads, at)
		} else {
			x.workloads[at] = others
		}
	}
}

// workloads are where requests of ServiceAccounts find the client.
func (o *object) workloads() []workload {
	var all []workload
	for _, name := range o.accounts {
		all = append(all, workload{o.issuer, token.Account{Namespace: o.namespace, Name: name}})
	}
	return all
}

// client prepares what token requests need. No client and no error: the controller
// hasn't come to it, or its issuer isn't there.
func (x *Index) client(r *resource, issuer string) (*token.Client, error) {
	pepper, issuing := x.pepper.Load(), x.issuing[issuer]
	if pepper == nil || issuing == nil || issuing.resource == nil || x.namespaces == nil || r.Status.Seal == "" {
		return nil, nil
	}
	record := journal.Read(&r.Status)
	if pepper.CheckRecord(string(r.UID), record) != credential.SealValid {
		return nil, errors.New("the seal of its status doesn't hold, so somebody else wrote it: the controller puts it right")
	}
	spec := &issuing.resource.Spec
	effective := policy.Resolve(&r.Spec, spec, policy.Allow(spec, policy.Namespace{Name: r.Namespace, Labels: x.namespaces[r.Namespace]}))
	config := token.ClientConfig{
		ID:         record.ClientID,
		Active:     effective.Active,
		Scopes:     effective.Scopes,
		Lifetime:   effective.Lifetime,
		Audiences:  effective.Audiences,
		PublicKeys: effective.PublicKeys,
		NotBefore:  notBefore(r, &record),
		Revoked:    revoked(&r.Status),
	}
	// What is too large is left out, and the client's conditions say so.
	config.Claims, _ = effective.Claims(issuing.claims, record.ClientID, r.Namespace)
	for _, c := range record.Credentials {
		config.Credentials = append(config.Credentials, token.Credential{Version: c.Version.String(), Hash: c.Hash, NotAfter: c.NotAfter})
	}
	return token.NewClient(config)
}

// remade is how soon after a client was made tokens count as its own: clocks differ.
// Only a chosen id is ever used again by another client, and then it is sealed since when.
const remade = time.Minute

// notBefore is when tokens must have been issued to be the client's and active. Of an id
// that was chosen nobody else's tokens count: what a server gives whose clock is behind
// isn't active for that long.
func notBefore(r *resource, recorded *credential.Record) time.Time {
	since := r.Created.Add(-remade)
	if recorded.Since.After(since) {
		since = recorded.Since
	}
	if recorded.NotBefore.After(since) {
		since = recorded.NotBefore
	}
	if t := r.Spec.Token; t != nil && t.NotBefore != nil && t.NotBefore.After(since) {
		since = t.NotBefore.Time
	}
	return since
}

// revoked are the digests of a client's revoked tokens.
func revoked(s *v1alpha1.M2MClientStatus) [][sha256.Size]byte {
	var digests [][sha256.Size]byte
	for i := range s.RevokedTokens {
		if digest, err := base64.RawURLEncoding.DecodeString(s.RevokedTokens[i].Digest); err == nil && len(digest) == sha256.Size {
			digests = append(digests, [sha256.Size]byte(digest))
		}
	}
	return digests
}

// SetNamespace takes the labels of a namespace, which grants go by.
func (x *Index) SetNamespace(name string, labels map[string]string) {
	x.events.Lock()
	defer x.events.Unlock()
	if was, known := x.namespaces[name]; known && maps.Equal(was, labels) {
		return
	}
	x.namespaces[name] = labels
	x.reindex(func(o *object) bool { return o.namespace == name })
}

// RemoveNamespace forgets a namespace. Its clients go by themselves.
func (x *Index) RemoveNamespace(name string) {
	x.events.Lock()
	defer x.events.Unlock()
	delete(x.namespaces, name)
}

// SetNamespaces takes all namespaces at once: their labels by name.
func (x *Index) SetNamespaces(labels map[string]map[string]string) {
	x.events.Lock()
	defer x.events.Unlock()
	was := x.namespaces
	x.namespaces = labels
	x.reindex(func(o *object) bool { return was == nil || !maps.Equal(was[o.namespace], labels[o.namespace]) })
}

// SetAccount takes a ServiceAccount as it is now.
func (x *Index) SetAccount(account token.Account, uid types.UID) {
	x.lookup.Lock()
	defer x.lookup.Unlock()
	x.accounts[account] = uid
}

// RemoveAccount forgets a ServiceAccount, unless another has its name already.
func (x *Index) RemoveAccount(account token.Account, uid types.UID) {
	x.lookup.Lock()
	defer x.lookup.Unlock()
	if x.accounts[account] == uid {
		delete(x.accounts, account)
	}
}

// KeepAccounts forgets all ServiceAccounts but those of a new list.
func (x *Index) KeepAccounts(listed map[types.UID]bool) {
	x.lookup.Lock()
	defer x.lookup.Unlock()
	maps.DeleteFunc(x.accounts, func(_ token.Account, uid types.UID) bool { return !listed[uid] })
}

// usable tells whether keys may be read from a Secret: not from one that is gone, or
// that was made for an M2MClient, whose author decides what it holds.
func (x *Index) usable(secret *corev1.Secret) bool {
	if secret != nil && v1alpha1.IsMarked(secret) {
		x.log.Error("A Secret that was made for an M2MClient is not used as the operator's own: delete it", "secret", secret.Name)
		return false
	}
	return secret != nil
}

// SetPepper takes the Secret that holds the pepper; nil: it is gone.
func (x *Index) SetPepper(secret *corev1.Secret) {
	var pepper *credential.Pepper
	if x.usable(secret) {
		var err error
		if pepper, err = credential.ParsePepper(secret.Data); err != nil {
			x.log.Error("The pepper can't be used: nobody is given tokens", "secret", secret.Name, "reason", err.Error())
		}
	}
	x.events.Lock()
	defer x.events.Unlock()
	x.pepper.Store(pepper)
	x.reindex(func(*object) bool { return true })
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
	x.reindex(func(o *object) bool { return o.issuer == name })
}

// SetKeys takes the Secret that holds an issuer's signing keys; nil: it is gone.
func (x *Index) SetKeys(issuer string, secret *corev1.Secret) {
	var ring keyring.Ring
	if x.usable(secret) {
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
	i.token, i.claims = nil, nil
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
		Claim:     policy.IssuerClaim(spec),
		ProjectID: spec.ProjectID,
		Live:      spec.Environment != v1alpha1.EnvironmentTest,
		Profile:   token.Profile(policy.Profile(spec)),
		Keys:      i.keys,
	}
	config.AudienceIntrospects = spec.Introspection != nil && spec.Introspection.Callers == v1alpha1.CallersAudience
	if spec.Signing != nil {
		config.Keys = config.Keys.Without(spec.Signing.Revoke)
	}
	if spec.Token != nil && spec.Token.Quota != nil {
		config.Quota = token.Quota{Tokens: int(spec.Token.Quota.Tokens), Per: spec.Token.Quota.Per.Duration}
	}
	if spec.Token != nil && spec.Token.CustomClaims != "" {
		var err error
		if i.claims, err = claims.Parse(spec.Token.CustomClaims); err != nil {
			config.Halted = true // tokens without these claims could mean more than with them
			x.log.Warn("An issuer gives no tokens, because its custom claims can't be used", "issuer", config.Name, "reason", err.Error())
		}
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

// reindex prepares anew some clients.
func (x *Index) reindex(concerned func(*object) bool) {
	refused := 0
	for uid, o := range x.objects {
		if !concerned(&o) {
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
