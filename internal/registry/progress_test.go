package registry

import (
	"context"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/token"
)

// Who waits for a version finds what came with it in the index, whether it came as an
// event, in a list, or was there already.
func TestAwait(t *testing.T) {
	w, x := newWorld(t), newTestIndex()
	w.load(x)
	s := &sink{resource: "m2mclients", to: &clients{x}}
	directory := NewDirectory(x, &Watches{index: x, sinks: []*sink{s}, clients: map[string]*sink{"": s}}, nil, time.Hour)
	const events = 200
	var waiting sync.WaitGroup
	for n := range events {
		waiting.Go(func() {
			if !directory.Await(t.Context(), "ns", uint64(1000+n)) {
				t.Errorf("version %d never came", 1000+n)
			}
			id := w.client(n).Status.ClientID
			if issuer, _ := x.Issuer("project"); !known(x, issuer, id) {
				t.Errorf("version %d came before its client", 1000+n)
			}
		})
	}
	var list []any
	for n := range events / 2 {
		list = append(list, w.client(n))
	}
	if err := s.Replace(list, strconv.Itoa(999+events/2)); err != nil {
		t.Fatal(err)
	}
	for n := events / 2; n < events; n++ {
		if err := s.Add(w.client(n)); err != nil {
			t.Fatal(err)
		}
		s.UpdateResourceVersion(strconv.Itoa(1000 + n))
	}
	waiting.Wait()
	if s.moved != nil {
		t.Error("there is something to close, and nobody waits")
	}
}

func known(x *Index, issuer *token.Issuer, id string) bool {
	_, ok := x.Client(issuer, id)
	return ok
}

// A wait ends with its context, and what is no number moves nothing. After a restore from
// a snapshot versions are smaller.
func TestProgress(t *testing.T) {
	p := &progress{}
	p.reach("7")
	p.reach("")
	p.reach("-1")
	if p.version != 7 || !p.await(t.Context(), 7) {
		t.Fatalf("at %d", p.version)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if !p.await(ctx, 7) || p.await(ctx, 8) {
		t.Error("a wait doesn't end with its context, or where it needn't begin")
	}
	p.reach("8")
	if p.reach("3"); p.version != 3 {
		t.Errorf("at %d", p.version)
	}
}

// The quota of an issuer's resource is what its clients are held to.
func TestQuotaOfIssuer(t *testing.T) {
	w, x := newWorld(t), newTestIndex()
	w.issuer.Spec.Token = &v1alpha1.IssuerTokenSpec{Quota: &v1alpha1.TokenQuota{Tokens: 2}}
	w.issuer.Spec.Token.Quota.Per.Duration = time.Hour
	w.load(x, w.client(1))
	issuer, ok := x.Issuer("project")
	if !ok {
		t.Fatal("no issuer")
	}
	a := token.NewAuthority(NewDirectory(x, nil, nil, 0), nil)
	client, _ := x.Client(issuer, w.client(1).Status.ClientID)
	for n, want := range []bool{true, true, false} {
		if err := a.Spend(time.Now(), issuer, &token.Grant{Client: client}); (err == nil) != want {
			t.Errorf("token %d: %v", n+1, err)
		}
	}
}
