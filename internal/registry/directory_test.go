package registry

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/token"
)

// A broken watch makes what is known stale, and in the end useless.
func TestFreshness(t *testing.T) {
	now := time.Now()
	for _, test := range []struct {
		name string
		age  time.Duration
		cut  bool
		want token.Freshness
	}{
		{"whole", time.Minute, false, token.Fresh},
		{"cut just now", 0, true, token.Stale},
		{"silent", 3 * time.Minute, false, token.Stale},
		{"cut for long", 59 * time.Minute, true, token.Stale},
		{"cut for too long", 61 * time.Minute, true, token.Expired},
		{"silent for too long", 61 * time.Minute, false, token.Expired},
	} {
		whole, broken := &sink{resource: "namespaces"}, &sink{resource: "m2mclients"}
		then := now.Add(-test.age)
		whole.heard.Store(&now)
		broken.heard.Store(&then)
		broken.cut.Store(test.cut)
		for _, sinks := range [][]*sink{{whole, broken}, {broken, whole}} {
			d := NewDirectory(newTestIndex(), &Watches{sinks: sinks}, nil, time.Hour)
			if got := d.Freshness(now); got != test.want {
				t.Errorf("%s: %d, want %d", test.name, got, test.want)
			}
			state := strings.Join(d.State(), "\n")
			if !strings.Contains(state, "watch of namespaces: whole") || strings.Contains(state, "watch of m2mclients: whole") != (test.want == token.Fresh) {
				t.Errorf("%s: %s", test.name, state)
			}
		}
	}
	if (&Watches{sinks: []*sink{{}}}).Freshness(now, time.Hour) != token.Expired {
		t.Error("what was never heard is relied on")
	}
}

// A watch is broken from when the API server doesn't answer until it does.
func TestCutOffIsNoted(t *testing.T) {
	var fail error
	lw := &cache.ListWatch{
		ListWithContextFunc: func(context.Context, metav1.ListOptions) (runtime.Object, error) {
			return &v1alpha1.M2MClientList{}, fail
		},
		WatchFuncWithContext: func(context.Context, metav1.ListOptions) (watch.Interface, error) {
			return watch.NewEmptyWatch(), fail
		},
	}
	s := &sink{}
	m := &minded{lw, s}
	for _, fail = range []error{nil, errors.New("connection refused"), nil} {
		_, _ = m.ListWithContext(t.Context(), metav1.ListOptions{})
		if s.cut.Load() != (fail != nil) {
			t.Errorf("after a list with error %v: cut is %t", fail, s.cut.Load())
		}
		s.cut.Store(fail == nil)
		_, _ = m.WatchWithContext(t.Context(), metav1.ListOptions{})
		if s.cut.Load() != (fail != nil) {
			t.Errorf("after a watch with error %v: cut is %t", fail, s.cut.Load())
		}
	}
}

func labelled(name string, labels map[string]string) *metav1.PartialObjectMetadata {
	return &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name), Labels: labels}}
}

// Grants follow the labels of namespaces, whichever way they come.
func TestNamespaceLabels(t *testing.T) {
	w := newWorld(t)
	w.issuer.Spec.Grants = []v1alpha1.Grant{{
		Namespaces: v1alpha1.NamespaceSelection{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"team": "a"}}},
		Scopes:     []string{"*"},
	}}
	x := newTestIndex()
	c := w.client(1)
	w.load(x, c)
	s := &sink{resource: "namespaces", to: &namespaces{index: x}}
	in, out := map[string]string{"team": "a"}, map[string]string{"team": "b"}
	replace := func(list ...any) func() error { return func() error { return s.Replace(list, "7") } }
	for _, step := range []struct {
		name string
		do   func() error
		want string
	}{
		{"a list without labels", replace(labelled("default", nil)), ""},
		{"an event with the label", func() error { return s.Update(labelled("default", in)) }, "read:settings write:settings"},
		{"the same again", func() error { return s.Update(labelled("default", in)) }, "read:settings write:settings"},
		{"another's event", func() error { return s.Add(labelled("other", out)) }, "read:settings write:settings"},
		{"an event with another label", func() error { return s.Update(labelled("default", out)) }, ""},
		{"a list with the label", replace(labelled("other", out), labelled("default", in)), "read:settings write:settings"},
		{"a list without the namespace", replace(labelled("other", in)), ""},
		{"it is made again", func() error { return s.Add(labelled("default", in)) }, "read:settings write:settings"},
		{"it is deleted", func() error { return s.Delete(labelled("default", in)) }, "read:settings write:settings"}, // its clients go by themselves
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		if got := scopeOf(t, x, c.Status.ClientID); got != step.want {
			t.Fatalf("after %s the client holds %q, want %q", step.name, got, step.want)
		}
	}
}

// scopeOf is what a client gets that asks for nothing.
func scopeOf(t *testing.T, x *Index, id string) string {
	t.Helper()
	issuer, ok := x.Issuer("project")
	if !ok {
		t.Fatal("no issuer")
	}
	r := &token.Request{GrantType: "client_credentials", ClientID: id, ClientSecret: testSecret}
	g, err := token.NewAuthority(NewDirectory(x, nil, nil, 0), strings.NewReader("")).Authorize(time.Now(), issuer, r)
	if err != nil {
		t.Fatal(err)
	}
	return g.Scope
}

// ServiceAccounts find the clients that name them, in their own namespace alone, and an
// account that is made again is another.
func TestWorkloads(t *testing.T) {
	w := newWorld(t)
	x := newTestIndex()
	named := func(n int, accounts ...string) *v1alpha1.M2MClient {
		c := w.client(n)
		for _, name := range accounts {
			c.Spec.WorkloadIdentities = append(c.Spec.WorkloadIdentities, v1alpha1.WorkloadIdentity{ServiceAccountName: name})
		}
		return c
	}
	w.load(x, named(1, "a", "b"), named(2, "b"))
	issuer, _ := x.Issuer("project")
	of := func(namespace, name string) int {
		return len(x.ClientsOf(issuer, token.Account{Namespace: namespace, Name: name}))
	}
	check := func(when string, a, b int) {
		t.Helper()
		if of("default", "a") != a || of("default", "b") != b || of("other", "a")+of("default", "c")+of("", "a") != 0 {
			t.Errorf("%s: %d and %d clients, not %d and %d", when, of("default", "a"), of("default", "b"), a, b)
		}
	}
	check("at first", 1, 2)
	x.SetClient(named(1, "a", "b"))
	check("the same again", 1, 2)
	x.SetIssuer(w.issuer)
	x.SetPepper(w.pepperSecret())
	check("prepared anew", 1, 2)
	x.SetClient(named(1, "b"))
	check("one less", 0, 2)
	x.RemoveClient("uid-2")
	check("one deleted", 0, 1)
	x.SetPepper(nil)
	check("without a pepper", 0, 0)

	s := &sink{resource: "serviceaccounts", to: &accounts{x}}
	account := func(uid types.UID) *metav1.PartialObjectMetadata {
		return &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "a", UID: uid}}
	}
	for _, step := range []struct {
		do   func() error
		want string
	}{
		{func() error { return s.Add(account("1")) }, "1"},
		{func() error { return s.Add(account("2")) }, "2"},
		{func() error { return s.Delete(account("1")) }, "2"},
		{func() error { return s.Replace([]any{account("2")}, "7") }, "2"},
		{func() error { return s.Replace([]any{account("3")}, "8") }, "3"},
		{func() error { return s.Delete(account("3")) }, ""},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		if got := x.AccountUID(token.Account{Namespace: "default", Name: "a"}); got != step.want {
			t.Errorf("the account's UID is %q, not %q", got, step.want)
		}
	}
}

// A client that doesn't exist is refused as such, whatever stands in for it: also one
// with the right secret, of another issuer. Who is gone stands in for nobody.
func TestStandIns(t *testing.T) {
	w := newWorld(t)
	x := newTestIndex()
	c := w.client(1)
	w.load(x, c)
	other, err := token.NewUnavailableIssuer(token.IssuerConfig{Name: "other", URL: "https://other.example.com", ProjectID: "other", Profile: token.Stytch})
	if err != nil {
		t.Fatal(err)
	}
	standIn, known := x.Client(other, c.Status.ClientID)
	if known || standIn == nil || standIn.ID() != c.Status.ClientID {
		t.Errorf("another issuer's client is %v, known %t", standIn, known)
	}
	second := w.issuer.DeepCopy()
	second.Name, second.UID, second.Spec.URL, second.Spec.ProjectID = "second", "second", "https://second.example.com", "second"
	x.SetKeys(second.Name, w.keysSecret())
	x.SetIssuer(second)
	issuer, ok := x.Issuer("second")
	if !ok {
		t.Fatal("no second issuer")
	}
	r := &token.Request{GrantType: "client_credentials", ClientID: c.Status.ClientID, ClientSecret: testSecret}
	g, err := token.NewAuthority(NewDirectory(x, nil, nil, 0), strings.NewReader("")).Authorize(time.Now(), issuer, r)
	if refusal, ok := errors.AsType[*token.Error](err); !ok || refusal.Reason != "unknown_client" || g.Client != nil || g.Version != "" {
		t.Errorf("%+v, %v", g, err)
	}
	x.RemoveClient(c.UID)
	if standIn, known := x.Client(other, c.Status.ClientID); known || standIn != nil {
		t.Errorf("a client that is gone stands in")
	}
}
