package registry

import (
	"crypto/rand"
	"fmt"
	"log/slog"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/credential"
	"github.com/m2m-operator/m2m-operator/internal/journal"
	"github.com/m2m-operator/m2m-operator/internal/keyring"
	"github.com/m2m-operator/m2m-operator/internal/token"
)

// world is what an API server would hold.
type world struct {
	pepper *credential.Pepper
	keys   map[string][]byte
	issuer *v1alpha1.ClusterM2MIssuer
}

func newWorld(t testing.TB) *world {
	t.Helper()
	pepper, err := credential.NewPepper(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := keyring.Generate(rand.Reader, keyring.ES256, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	keys, err := keyring.Ring{Keys: []keyring.Key{key}}.Data()
	if err != nil {
		t.Fatal(err)
	}
	return &world{pepper, keys, &v1alpha1.ClusterM2MIssuer{
		ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.DefaultIssuer, UID: "issuer", Generation: 1},
		Spec: v1alpha1.ClusterM2MIssuerSpec{URL: "https://auth.example.com", ProjectID: "project", Grants: []v1alpha1.Grant{{
			Namespaces: v1alpha1.NamespaceSelection{Names: []string{"default"}}, Scopes: []string{"*"}, Audiences: []v1alpha1.Audience{"*"}, MetadataKeys: []string{"*"},
		}}},
	}}
}

const testSecret = "S3cr3tS3cr3tS3cr3tS3cr3tS3cr3tS3cr3tS3cr3t1"

// client is a client as the controller leaves it.
func (w *world) client(n int) *v1alpha1.M2MClient {
	c := &v1alpha1.M2MClient{ObjectMeta: metav1.ObjectMeta{
		Namespace: "default", Name: fmt.Sprintf("c%d", n), UID: types.UID(fmt.Sprintf("uid-%d", n)),
	}}
	c.Spec.Scopes = []string{"read:settings", "write:settings"}
	id := fmt.Sprintf("m2m-client-test-%d", n)
	credentials := []credential.Credential{{
		Version: credential.Version{Number: 1, LastFour: "3t1"}, Role: credential.RoleCurrent,
		Hash: w.pepper.Hash(id, testSecret), CreatedAt: time.Unix(1, 0),
	}}
	record := credential.Record{ClientID: id, Credentials: credentials}
	record.Seal = w.pepper.SealRecord(string(c.UID), record)
	journal.Write(&c.Status, record)
	return c
}

func (w *world) pepperSecret() *corev1.Secret { return &corev1.Secret{Data: w.pepper.Data()} }
func (w *world) keysSecret() *corev1.Secret   { return &corev1.Secret{Data: w.keys} }

func newTestIndex() *Index { return NewIndex(slog.New(slog.DiscardHandler)) }

// load gives an index all that there is.
func (w *world) load(x *Index, clients ...*v1alpha1.M2MClient) {
	x.SetNamespaces(map[string]map[string]string{"default": nil})
	x.SetPepper(w.pepperSecret())
	x.SetKeys(w.issuer.Name, w.keysSecret())
	x.SetIssuer(w.issuer)
	for _, c := range clients {
		x.SetClient(c)
	}
}

// authenticates asks as a token request does.
func authenticates(x *Index, clientID string) error {
	issuer, ok := x.Issuer("project")
	if !ok {
		return fmt.Errorf("no issuer")
	}
	_, err := token.NewAuthority(NewDirectory(x, nil, nil, 0), rand.Reader).Authorize(time.Now(), issuer, &token.Request{
		GrantType: "client_credentials", ClientID: clientID, ClientSecret: testSecret,
	})
	return err
}

// Whatever order the watches bring things in, and however often, the outcome is one.
func TestOrderOfEventsDoesNotMatter(t *testing.T) {
	w := newWorld(t)
	c := w.client(1)
	rapid.Check(t, func(t *rapid.T) {
		x := newTestIndex()
		events := map[string]func(){
			"spaces": func() { x.SetNamespaces(map[string]map[string]string{"default": nil}) },
			"pepper": func() { x.SetPepper(w.pepperSecret()) },
			"keys":   func() { x.SetKeys(w.issuer.Name, w.keysSecret()) },
			"issuer": func() { x.SetIssuer(w.issuer) },
			"client": func() { x.SetClient(c) },
			"lose":   func() { x.SetPepper(nil) },
			"unkey":  func() { x.SetKeys(w.issuer.Name, nil) },
			"gone":   func() { x.RemoveIssuer(w.issuer.Name) },
			"delete": func() { x.RemoveClient(c.UID) },
		}
		has := map[string]bool{}
		undoes := map[string]string{"lose": "pepper", "unkey": "keys", "gone": "issuer", "delete": "client"}
		names := []string{"spaces", "pepper", "keys", "issuer", "client", "lose", "unkey", "gone", "delete"}
		for _, event := range rapid.SliceOf(rapid.SampledFrom(names)).Draw(t, "events") {
			events[event]()
			if undone, ok := undoes[event]; ok {
				has[undone] = false
			} else {
				has[event] = true
			}
		}
		_, known := x.Issuer("project")
		if known != has["issuer"] {
			t.Fatalf("with %v: issuer known %v", has, known)
		}
		want := has["spaces"] && has["pepper"] && has["keys"] && has["issuer"] && has["client"]
		if err := authenticates(x, c.Status.ClientID); (err == nil) != want {
			t.Fatalf("with %v: %v", has, err)
		}
		if ready := x.Ready() == nil; ready != (has["pepper"] && has["keys"] && has["issuer"]) {
			t.Fatalf("with %v: ready %v", has, ready)
		}
	})
}

func TestClientChanges(t *testing.T) {
	w := newWorld(t)
	for _, test := range []struct {
		name   string
		change func(*v1alpha1.M2MClient)
		serves bool
	}{
		{"nothing", func(*v1alpha1.M2MClient) {}, true},
		{"inactive", func(c *v1alpha1.M2MClient) { c.Spec.State = v1alpha1.ClientInactive }, false},
		{"deleting", func(c *v1alpha1.M2MClient) { now := metav1.Now(); c.DeletionTimestamp = &now }, false},
		{"forged hash", func(c *v1alpha1.M2MClient) { c.Status.Credentials[0].Role = "Previous" }, false},
		{"forged id", func(c *v1alpha1.M2MClient) { c.Status.ClientID = "other" }, false},
		{"another's status", func(c *v1alpha1.M2MClient) { c.Status = w.client(2).Status }, false},
		{"seal gone", func(c *v1alpha1.M2MClient) { c.Status.Seal = "" }, false},
		{"unreadable", func(c *v1alpha1.M2MClient) { c.Status.Credentials[0].Version = "x" }, false},
		{"other issuer", func(c *v1alpha1.M2MClient) { c.Spec.IssuerRef = &v1alpha1.IssuerReference{Name: "other"} }, false},
	} {
		x := newTestIndex()
		c := w.client(1)
		id := c.Status.ClientID
		w.load(x, c)
		changed := w.client(1)
		test.change(changed)
		x.SetClient(changed)
		if err := authenticates(x, id); (err == nil) != test.serves {
			t.Errorf("%s: %v", test.name, err)
		}
		x.SetClient(w.client(1))
		if err := authenticates(x, id); err != nil {
			t.Errorf("%s, and back: %v", test.name, err)
		}
	}
}

// After a watch was lost, a list says who is still there.
func TestRelist(t *testing.T) {
	w := newWorld(t)
	x := newTestIndex()
	gone, kept := w.client(1), w.client(2)
	w.load(x, gone, kept)
	s := &sink{resource: "m2mclients", to: &clients{x}}
	if err := s.Replace([]any{w.client(2), w.client(3)}, "7"); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]bool{gone.Status.ClientID: false, kept.Status.ClientID: true, w.client(3).Status.ClientID: true} {
		if err := authenticates(x, id); (err == nil) != want {
			t.Errorf("%s: %v", id, err)
		}
	}
	if !s.synced.Load() || x.Clients() != 2 {
		t.Errorf("synced %v, %d clients", s.synced.Load(), x.Clients())
	}
}

// A Secret or an issuer that was made anew under its name isn't forgotten with the old one.
func TestRelistAfterRecreation(t *testing.T) {
	w := newWorld(t)
	x := newTestIndex()
	w.load(x)
	secrets := &sink{resource: "secrets", to: secretsInto(x)}
	old, anew := w.pepperSecret(), w.pepperSecret()
	old.Name, old.UID, anew.Name, anew.UID = v1alpha1.PepperSecret, "old", v1alpha1.PepperSecret, "new"
	if err := secrets.Add(old); err != nil {
		t.Fatal(err)
	}
	if err := secrets.Replace([]any{anew}, "7"); err != nil {
		t.Fatal(err)
	}
	if x.Pepper() == nil {
		t.Error("the new pepper was forgotten with the old one")
	}
	if err := secrets.Replace(nil, "8"); err != nil {
		t.Fatal(err)
	}
	if x.Pepper() != nil {
		t.Error("a pepper that is gone is still used")
	}
}

func TestOlderIssuerWins(t *testing.T) {
	w := newWorld(t)
	x := newTestIndex()
	w.load(x)
	rival := w.issuer.DeepCopy()
	rival.Name, rival.UID = "a-rival", "rival"
	rival.CreationTimestamp = metav1.Now()
	x.SetKeys(rival.Name, w.keysSecret())
	x.SetIssuer(rival)
	if issuer, ok := x.Issuer("project"); !ok || issuer.Name != w.issuer.Name {
		t.Errorf("the project id finds %v", issuer)
	}
	x.RemoveIssuer(w.issuer.Name)
	if issuer, ok := x.Issuer("project"); !ok || issuer.Name != rival.Name {
		t.Errorf("after the older is gone the project id finds %v", issuer)
	}
}

// One watch event costs the same however many clients there are.
func BenchmarkSetClient(b *testing.B) {
	for _, number := range []int{1, 1_000, 100_000} {
		b.Run(fmt.Sprint(number), func(b *testing.B) {
			w := newWorld(b)
			x := newTestIndex()
			w.load(x)
			for n := range number {
				x.SetClient(w.client(n))
			}
			c := w.client(0)
			for b.Loop() {
				x.SetClient(c)
			}
		})
	}
}
