// Package faults stops the controller before and after each of its writes, makes
// writes conflict, shows it a past that is over, lets two of them lead, and moves
// their clocks. Whatever happens, a fresh controller goes on from what is there.
package faults

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/controllers"
	"github.com/m2m-operator/m2m-operator/internal/credential"
	"github.com/m2m-operator/m2m-operator/internal/journal"
	"github.com/m2m-operator/m2m-operator/test/controlplane"
	"github.com/m2m-operator/m2m-operator/test/eventually"
)

const operatorNamespace = "m2m-system"

// propagation is short here: nobody but the tests' own checks relies on it.
const propagation = 30 * time.Millisecond

var errFault = errors.New("fault injected")

// fixture is a control plane, an administrator, and the controller's own access.
type fixture struct {
	client.WithWatch
	cluster    *controlplane.Cluster
	controller *rest.Config
	seen       deliveries
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	ctrl.SetLogger(logr.Discard())
	cluster, err := controlplane.Start(t.Context(), controlplane.Options{Install: []string{"config/crd", "config/rbac", "config/restart"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Stop)
	admin, err := cluster.Client()
	if err != nil {
		t.Fatal(err)
	}
	config, err := cluster.ServiceAccountConfig(t.Context(), operatorNamespace, "m2m-operator-controller")
	if err != nil {
		t.Fatal(err)
	}
	x := &fixture{WithWatch: admin, cluster: cluster, controller: config}
	x.seen.watch(t, admin)
	return x
}

// deliveries are the client secrets that pods may have seen, by client, in order.
type deliveries struct {
	mu sync.Mutex
	by map[string][]string
}

func (d *deliveries) watch(t *testing.T, admin client.WithWatch) {
	t.Helper()
	d.by = map[string][]string{}
	w, err := admin.Watch(t.Context(), &corev1.SecretList{}, client.InNamespace("default"))
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for event := range w.ResultChan() {
			if s, ok := event.Object.(*corev1.Secret); ok && s.Annotations[v1alpha1.AnnotationClientUID] != "" {
				d.add(s.Labels[v1alpha1.LabelClient], string(s.Data["client_secret"]))
			}
		}
	}()
	t.Cleanup(w.Stop)
}

func (d *deliveries) add(name, secret string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !slices.Contains(d.by[name], secret) {
		d.by[name] = append(d.by[name], secret)
	}
}

func (d *deliveries) of(c *v1alpha1.M2MClient) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.by[c.Name])
}

// fault strikes at one write of a controller's life.
type fault struct {
	mu       sync.Mutex
	kind     faultKind
	left     int // writes until it strikes
	struck   func()
	conflict func(client.Object) // changes an object behind the controller's back
	check    func(what string, o client.Object)
	reads    func(key client.ObjectKey, o client.Object) (bool, error) // nil: from the cache
	writes   []string
}

type faultKind int

const (
	stopBefore faultKind = iota // the write doesn't reach the API server, and no other does
	stopAfter                   // it does, and nobody hears of it
	conflict                    // somebody else writes the object first
)

// none is a fault that never strikes.
func none() *fault { return &fault{left: 1 << 30} }

func (f *fault) hasStruck() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.left <= 0
}

// write lets a write through or strikes.
func (f *fault) write(what string, o client.Object, do func() error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.left--
	f.writes = append(f.writes, what+" "+o.GetName())
	if f.left == 0 && f.kind != conflict {
		defer f.struck()
	}
	switch {
	case f.left == 0 && f.kind == conflict:
		f.conflict(o)
	case f.left == 0 && f.kind == stopAfter:
		return errors.Join(do(), errFault)
	case f.left <= 0 && f.kind != conflict:
		return errFault
	}
	if f.check != nil {
		f.check(what, o)
	}
	return do()
}

func (f *fault) wrap(c client.WithWatch) client.Client {
	return interceptor.NewClient(c, interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			if f.reads != nil {
				if known, err := f.reads(key, o); known {
					return err
				}
			}
			return c.Get(ctx, key, o, opts...)
		},
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			if strings.HasSuffix(fmt.Sprintf("%T", o), "Review") {
				return c.Create(ctx, o, opts...) // a question
			}
			return f.write(fmt.Sprintf("create %T", o), o, func() error { return c.Create(ctx, o, opts...) })
		},
		Update: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.UpdateOption) error {
			return f.write(fmt.Sprintf("update %T", o), o, func() error { return c.Update(ctx, o, opts...) })
		},
		Delete: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
			return f.write(fmt.Sprintf("delete %T", o), o, func() error { return c.Delete(ctx, o, opts...) })
		},
		Patch: func(ctx context.Context, c client.WithWatch, o client.Object, patch client.Patch, opts ...client.PatchOption) error {
			return f.write(fmt.Sprintf("patch %T", o), o, func() error { return c.Patch(ctx, o, patch, opts...) })
		},
		SubResourceUpdate: func(ctx context.Context, c client.Client, subresource string, o client.Object, opts ...client.SubResourceUpdateOption) error {
			return f.write("update "+subresource, o, func() error { return c.SubResource(subresource).Update(ctx, o, opts...) })
		},
	})
}

var servingNames = controllers.ServingNames(operatorNamespace, "cluster.local", []string{"auth.example.com"})

// life is one life of a controller.
type life struct {
	*fault
	now          func() time.Time // nil: the system's clock
	certificates bool             // it makes the serving certificates, too
}

// run runs a controller until it is stopped or its fault strikes.
func (x *fixture) run(t *testing.T, l life) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	l.struck = cancel
	skip := true
	mgr, err := controllers.NewManager(ctx, x.controller, controllers.Options{
		Namespace:    operatorNamespace,
		Default:      controllers.DefaultIssuer{URL: "https://auth.example.com", Environment: v1alpha1.EnvironmentTest},
		Workers:      4,
		Propagation:  propagation,
		RotationRate: 1000,
		OpsAddress:   "0",
		// Its writes would be counted among those of a flow.
		OwnCertificates: l.certificates,
		ServingNames:    servingNames,
		Now:             l.now,
		Adjust: func(o *ctrl.Options) {
			o.Controller.SkipNameValidation = &skip
			o.NewClient = func(config *rest.Config, options client.Options) (client.Client, error) {
				c, err := client.NewWithWatch(config, options)
				if err != nil {
					return nil, err
				}
				return l.wrap(c), nil
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- mgr.Start(ctx) }()
	return sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// pepper reads the keys that credentials are checked with.
func (x *fixture) pepper(t *testing.T) *credential.Pepper {
	t.Helper()
	pepper, err := x.readPepper(t)
	if err != nil {
		t.Fatal(err)
	}
	return pepper
}

func (x *fixture) readPepper(t *testing.T) (*credential.Pepper, error) {
	secret := &corev1.Secret{}
	if err := x.Get(t.Context(), client.ObjectKey{Namespace: operatorNamespace, Name: v1alpha1.PepperSecret}, secret); err != nil {
		return nil, err
	}
	return credential.ParsePepper(secret.Data)
}

// watchdog checks each write of a controller, before it is made: a working secret is
// only replaced by one that is valid, what the Secret delivers stays valid, and Ready
// is said of a Secret that authenticates.
func (x *fixture) watchdog(t *testing.T, lost bool, revoked string) func(string, client.Object) {
	return func(what string, o client.Object) {
		pepper, err := x.readPepper(t)
		if err != nil {
			return // it is being made
		}
		switch o := o.(type) {
		case *corev1.Secret:
			if what == "update *v1.Secret" && o.Labels[v1alpha1.LabelClient] != "" && !lost && revoked == "" {
				x.checkDelivery(t, pepper, o)
			}
		case *v1alpha1.M2MClient:
			x.checkStatus(t, pepper, o, lost, revoked)
		}
	}
}

func (x *fixture) checkDelivery(t *testing.T, pepper *credential.Pepper, s *corev1.Secret) {
	c, live := &v1alpha1.M2MClient{}, &corev1.Secret{}
	if err := x.Get(t.Context(), client.ObjectKeyFromObject(s), live); err != nil || refused(s, live) {
		return
	}
	if err := x.Get(t.Context(), client.ObjectKey{Namespace: s.Namespace, Name: s.Labels[v1alpha1.LabelClient]}, c); err != nil {
		t.Error(err)
		return
	}
	if record := journal.Read(&c.Status); record.Seal != "" && !authenticates(pepper, c, record, string(s.Data["client_secret"])) {
		t.Errorf("Secret %s delivers a secret that is not valid yet", s.Name)
	}
}

func (x *fixture) checkStatus(t *testing.T, pepper *credential.Pepper, applied *v1alpha1.M2MClient, lost bool, revoked string) {
	secret, live := &corev1.Secret{}, &v1alpha1.M2MClient{}
	key := client.ObjectKeyFromObject(applied)
	if err := x.Get(t.Context(), key, live); err != nil || refused(applied, live) {
		return
	}
	record := journal.Read(&applied.Status)
	name := applied.Status.SecretName
	if name == "" || x.Get(t.Context(), client.ObjectKey{Namespace: key.Namespace, Name: name}, secret) != nil {
		return
	}
	delivered := string(secret.Data["client_secret"])
	works := authenticates(pepper, applied, record, delivered)
	if was := journal.Read(&live.Status); !works && !lost && delivered != revoked && authenticates(pepper, live, was, delivered) {
		t.Errorf("a status of %s ends the secret that its Secret delivers", key.Name)
	}
	if meta.IsStatusConditionTrue(applied.Status.Conditions, v1alpha1.ConditionReady) && !works {
		t.Errorf("%s is said to be Ready, and what its Secret delivers doesn't authenticate", key.Name)
	}
}

// refused tells whether the API server will refuse a write: it is of another object, or
// fenced by a version that isn't the object's any more, as of a leader that is behind.
func refused(written, live client.Object) bool {
	version := written.GetResourceVersion()
	return written.GetUID() != live.GetUID() || version != "" && version != live.GetResourceVersion()
}

// authenticates tells whether a token server would take a secret.
func authenticates(p *credential.Pepper, c *v1alpha1.M2MClient, r credential.Record, secret string) bool {
	if p.CheckRecord(string(c.UID), r) != credential.SealValid {
		return false
	}
	digests := p.Digests(r.ClientID, secret)
	return slices.ContainsFunc(r.Credentials, func(c credential.Credential) bool {
		return digests.Matches(&c.Hash) && c.Live(time.Now())
	})
}

// ready tells why a client isn't Ready as its manifest is now.
func (x *fixture) ready(t *testing.T, c *v1alpha1.M2MClient) error {
	if err := x.Get(t.Context(), client.ObjectKeyFromObject(c), c); err != nil {
		return err
	}
	if !meta.IsStatusConditionTrue(c.Status.Conditions, v1alpha1.ConditionReady) || c.Status.ObservedGeneration != c.Generation {
		return fmt.Errorf("%s is not ready: %+v", c.Name, c.Status.Conditions)
	}
	return nil
}

// roles are the roles of a client's versions, such as "CP".
func roles(r credential.Record) string {
	out := ""
	for _, c := range r.Credentials {
		out += string(c.Role[0])
	}
	return out
}

// secretsOf are the Secrets that were made for a client.
func (x *fixture) secretsOf(t *testing.T, c *v1alpha1.M2MClient) map[string]*corev1.Secret {
	t.Helper()
	all := &corev1.SecretList{}
	if err := x.List(t.Context(), all, client.InNamespace(c.Namespace), client.MatchingLabels{v1alpha1.LabelClient: c.Name}); err != nil {
		t.Fatal(err)
	}
	secrets := map[string]*corev1.Secret{}
	for i := range all.Items {
		secrets[all.Items[i].Name] = &all.Items[i]
	}
	return secrets
}

func (x *fixture) secretOf(t *testing.T, c *v1alpha1.M2MClient) *corev1.Secret {
	t.Helper()
	secret := &corev1.Secret{}
	if err := x.Get(t.Context(), client.ObjectKey{Namespace: c.Namespace, Name: c.Status.SecretName}, secret); err != nil {
		t.Fatal(err)
	}
	return secret
}

// change changes a client, against whatever else does.
func (x *fixture) change(t *testing.T, c *v1alpha1.M2MClient, how func(*v1alpha1.M2MClient)) {
	t.Helper()
	eventually.Succeeds(t, func() error {
		if err := x.Get(t.Context(), client.ObjectKeyFromObject(c), c); err != nil {
			return err
		}
		how(c)
		return x.Update(t.Context(), c)
	})
}

// touch changes an object in a way that means nothing, so that a write that follows
// an earlier read conflicts.
func (x *fixture) touch(t *testing.T) func(client.Object) {
	return func(o client.Object) {
		now := o.DeepCopyObject().(client.Object)
		if err := x.Get(t.Context(), client.ObjectKeyFromObject(o), now); err != nil {
			return // it is about to be created
		}
		touched := fmt.Sprintf(`{"metadata":{"annotations":{"example.com/touched":%q}}}`, time.Now().Format(time.RFC3339Nano))
		if err := x.Patch(t.Context(), now, client.RawPatch(types.MergePatchType, []byte(touched))); err != nil {
			t.Error(err)
		}
	}
}

func newClient(name string) *v1alpha1.M2MClient {
	return &v1alpha1.M2MClient{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
}

func rotation(c *v1alpha1.M2MClient) *v1alpha1.RotationSpec {
	if c.Spec.Rotation == nil {
		c.Spec.Rotation = &v1alpha1.RotationSpec{}
	}
	return c.Spec.Rotation
}
