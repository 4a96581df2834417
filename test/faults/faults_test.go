// Package faults stops the controller before and after each of its writes, and
// lets a fresh one go on from what is there.
package faults

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/controllers"
	"github.com/m2m-operator/m2m-operator/internal/credential"
	"github.com/m2m-operator/m2m-operator/internal/journal"
	"github.com/m2m-operator/m2m-operator/test/controlplane"
)

const operatorNamespace = "m2m-system"

var errFault = errors.New("fault injected")

// fault strikes at one write of a controller's life, and all that follow it.
type fault struct {
	mu     sync.Mutex
	left   int  // writes until it strikes
	after  bool // the write that it strikes at still reaches the API server
	stale  bool // the cache never has a client's Secret
	struck func()
	writes []string
}

func (f *fault) hasStruck() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.left <= 0
}

// write lets a write through or strikes.
func (f *fault) write(what string, do func() error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.left--
	f.writes = append(f.writes, what)
	switch {
	case f.left > 0:
		return do()
	case f.left == 0:
		defer f.struck()
		if f.after {
			return errors.Join(do(), errFault)
		}
	}
	return errFault
}

func (f *fault) wrap(c client.WithWatch) client.Client {
	return interceptor.NewClient(c, interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			if _, ok := o.(*corev1.Secret); ok && f.stale && key.Namespace != operatorNamespace {
				return apierrors.NewNotFound(corev1.Resource("secrets"), key.Name)
			}
			return c.Get(ctx, key, o, opts...)
		},
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			return f.write(fmt.Sprintf("create %T", o), func() error { return c.Create(ctx, o, opts...) })
		},
		Update: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.UpdateOption) error {
			return f.write(fmt.Sprintf("update %T", o), func() error { return c.Update(ctx, o, opts...) })
		},
		SubResourceApply: func(ctx context.Context, c client.Client, subresource string, o runtime.ApplyConfiguration, opts ...client.SubResourceApplyOption) error {
			return f.write(fmt.Sprintf("apply %T %s", o, subresource), func() error { return c.SubResource(subresource).Apply(ctx, o, opts...) })
		},
	})
}

// fixture is a control plane, an administrator, and the controller's own access.
type fixture struct {
	client.Client
	controller *rest.Config
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	ctrl.SetLogger(logr.Discard())
	cluster, err := controlplane.Start(t.Context(), controlplane.Options{Install: []string{"config/crd", "config/rbac"}})
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
	return &fixture{admin, config}
}

// run runs a controller until the context ends or the fault strikes.
func (x *fixture) run(t *testing.T, f *fault) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	f.struck = cancel
	skip := true
	mgr, err := controllers.NewManager(ctx, x.controller, controllers.Options{
		Namespace:      operatorNamespace,
		Default:        controllers.DefaultIssuer{URL: "https://auth.example.com", Environment: v1alpha1.EnvironmentTest},
		Workers:        1,
		MetricsAddress: "0",
		ProbeAddress:   "0",
		Adjust: func(o *ctrl.Options) {
			o.Controller.SkipNameValidation = &skip
			o.NewClient = func(config *rest.Config, options client.Options) (client.Client, error) {
				c, err := client.NewWithWatch(config, options)
				if err != nil {
					return nil, err
				}
				return f.wrap(c), nil
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- mgr.Start(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// reset takes an installation back to before its first start.
func (x *fixture) reset(t *testing.T) {
	t.Helper()
	for _, kind := range []client.Object{&v1alpha1.M2MClient{}, &corev1.Secret{}} {
		for _, namespace := range []string{"default", operatorNamespace} {
			if err := x.DeleteAllOf(t.Context(), kind, client.InNamespace(namespace)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := x.DeleteAllOf(t.Context(), &v1alpha1.ClusterM2MIssuer{}); err != nil {
		t.Fatal(err)
	}
}

// flow is something that a controller brings to an end, whatever happens to it.
type flow struct {
	name     string
	writes   int // that it takes without a fault
	settled  bool
	begin    func(*testing.T, *fixture, *v1alpha1.M2MClient)
	versions string
}

var flows = []flow{
	// Seven where the client is looked at before its issuer is ready.
	{name: "installation and first credential", writes: 7, versions: "1C"},
	{name: "lost Secret", writes: 2, settled: true, versions: "2C 1P", begin: func(t *testing.T, x *fixture, c *v1alpha1.M2MClient) {
		if err := x.Delete(t.Context(), secretOf(t, x, c)); err != nil {
			t.Fatal(err)
		}
	}},
	{name: "edited secret", writes: 2, settled: true, versions: "2C 1P", begin: func(t *testing.T, x *fixture, c *v1alpha1.M2MClient) {
		s := secretOf(t, x, c)
		s.Data["client_secret"] = []byte("edited")
		if err := x.Update(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}},
	{name: "lost status", writes: 1, settled: true, versions: "1C", begin: func(t *testing.T, x *fixture, c *v1alpha1.M2MClient) {
		c.Status = v1alpha1.M2MClientStatus{}
		if err := x.Status().Update(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}},
	{name: "changed manifest", writes: 2, settled: true, versions: "1C", begin: func(t *testing.T, x *fixture, c *v1alpha1.M2MClient) {
		c.Spec.Scopes = []string{"read:other"}
		if err := x.Update(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}},
}

func TestEveryWrite(t *testing.T) {
	x := newFixture(t)
	for _, flow := range flows {
		for n := 1; n <= flow.writes+1; n++ {
			for _, after := range []bool{false, true} {
				when := map[bool]string{false: "before", true: "after"}[after]
				t.Run(fmt.Sprintf("%s/%s write %d", flow.name, when, n), func(t *testing.T) {
					x.check(t, flow, &fault{left: n, after: after})
				})
			}
		}
	}
}

// A NotFound that isn't true replaces nobody's secret.
func TestStaleCache(t *testing.T) {
	x := newFixture(t)
	c := &v1alpha1.M2MClient{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "billing"}}
	if err := x.Create(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	stop := x.run(t, &fault{left: 1 << 30, stale: true})
	defer stop()
	eventually(t, func() error { return x.ready(t, c) })
	valid := []string{string(secretOf(t, x, c).Data["client_secret"])}
	flow := flow{versions: "1C"}
	for _, scopes := range [][]string{{"read:other"}, {"read:other", "write:other"}} {
		c.Spec.Scopes = scopes
		if err := x.Update(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		eventually(t, func() error { return x.settled(t, c, flow, valid) })
	}
	// Nor does one that meets a lost status: the Secret that stands in the way is read.
	c.Status = v1alpha1.M2MClientStatus{}
	if err := x.Status().Update(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error { return x.settled(t, c, flow, valid) })
}

// check runs a flow into a fault, and then a fresh controller to the end.
func (x *fixture) check(t *testing.T, flow flow, f *fault) {
	x.reset(t)
	c := &v1alpha1.M2MClient{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "billing"}}
	if err := x.Create(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	var valid []string // secrets that pods may hold
	if flow.settled {
		stop := x.run(t, &fault{left: 1 << 30})
		eventually(t, func() error { return x.ready(t, c) })
		stop()
		valid = append(valid, string(secretOf(t, x, c).Data["client_secret"]))
		flow.begin(t, x, c)
	}
	generation := c.Generation

	stop := x.run(t, f)
	eventually(t, func() error {
		if f.hasStruck() {
			return nil
		}
		return x.settled(t, c, flow, valid)
	})
	stop()
	if !f.hasStruck() && len(f.writes) > flow.writes {
		t.Errorf("without a fault the flow takes %d writes, not %d: %s", len(f.writes), flow.writes, strings.Join(f.writes, ", "))
	}

	rest := &fault{left: 1 << 30}
	stop = x.run(t, rest)
	defer stop()
	eventually(t, func() error { return x.settled(t, c, flow, valid) })
	if c.Generation != generation {
		t.Error("the controller changed the spec")
	}
}

// ready reads the client, and tells why it isn't ready.
func (x *fixture) ready(t *testing.T, c *v1alpha1.M2MClient) error {
	if err := x.Get(t.Context(), client.ObjectKeyFromObject(c), c); err != nil {
		return err
	}
	if !meta.IsStatusConditionTrue(c.Status.Conditions, v1alpha1.ConditionReady) || c.Status.ObservedGeneration != c.Generation {
		return fmt.Errorf("not ready: %+v", c.Status.Conditions)
	}
	return nil
}

// settled tells why the client isn't what its manifest says yet: what its Secret
// holds authenticates, what pods may hold does too, and nothing is left over.
func (x *fixture) settled(t *testing.T, c *v1alpha1.M2MClient, flow flow, valid []string) error {
	if err := x.ready(t, c); err != nil {
		return err
	}
	pepper := &corev1.Secret{}
	if err := x.Get(t.Context(), client.ObjectKey{Namespace: operatorNamespace, Name: v1alpha1.PepperSecret}, pepper); err != nil {
		return err
	}
	keys, err := credential.ParsePepper(pepper.Data)
	if err != nil {
		return err
	}
	record := journal.Read(&c.Status)
	if keys.CheckRecord(string(c.UID), record) != credential.SealValid {
		return errors.New("Ready, and the seal doesn't hold")
	}
	if got := versions(record); got != flow.versions {
		return fmt.Errorf("versions %q, want %q", got, flow.versions)
	}
	secrets := &corev1.SecretList{}
	if err := x.List(t.Context(), secrets, client.InNamespace(c.Namespace)); err != nil {
		return err
	}
	if len(secrets.Items) != 1 {
		return fmt.Errorf("%d Secrets", len(secrets.Items))
	}
	for _, secret := range append(valid, string(secrets.Items[0].Data["client_secret"])) {
		if !authenticates(keys, record, secret) {
			return errors.New("a secret that pods may hold doesn't authenticate")
		}
	}
	if got, want := string(secrets.Items[0].Data["scopes"]), strings.Join(c.Spec.Scopes, " "); got != want {
		return fmt.Errorf("the Secret says scopes %q, not %q", got, want)
	}
	return nil
}

func authenticates(p *credential.Pepper, r credential.Record, secret string) bool {
	digests := p.Digests(r.ClientID, secret)
	for _, c := range r.Credentials {
		if digests.Matches(&c.Hash) && c.Live(time.Now()) {
			return true
		}
	}
	return false
}

func versions(r credential.Record) string {
	var out []string
	for _, c := range r.Credentials {
		out = append(out, fmt.Sprintf("%d%c", c.Version.Number, c.Role[0]))
	}
	return strings.Join(out, " ")
}

func secretOf(t *testing.T, x *fixture, c *v1alpha1.M2MClient) *corev1.Secret {
	t.Helper()
	s := &corev1.Secret{}
	if err := x.Get(t.Context(), client.ObjectKey{Namespace: c.Namespace, Name: c.Name}, s); err != nil {
		t.Fatal(err)
	}
	return s
}

func eventually(t *testing.T, check func() error) {
	t.Helper()
	var err error
	for start := time.Now(); time.Since(start) < 20*time.Second; time.Sleep(10 * time.Millisecond) {
		if err = check(); err == nil {
			return
		}
	}
	t.Fatal(err)
}
