package catalogue

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/managementapi"
	"github.com/m2m-operator/m2m-operator/internal/policy"
)

func trusting(o *v1alpha1.M2MClient) string { return o.Status.ClientID }

func everybody(string, bool) bool { return true }

func client(uid, id string, created int64) *v1alpha1.M2MClient {
	return &v1alpha1.M2MClient{
		ObjectMeta: metav1.ObjectMeta{UID: types.UID(uid), Namespace: "team", CreationTimestamp: metav1.Unix(created, 0)},
		Status:     v1alpha1.M2MClientStatus{ClientID: id},
	}
}

func all(field managementapi.Field, values ...string) managementapi.Query {
	return managementapi.Query{Operands: []managementapi.Operand{{Field: field, Values: values}}}
}

// cluster is what a catalogue should know, told in the plainest way.
type cluster struct {
	objects map[types.UID]*v1alpha1.M2MClient
	key     string // records that another key sealed aren't believed
}

func (m *cluster) identify(o *v1alpha1.M2MClient) string {
	if o.Status.Seal != m.key {
		return ""
	}
	return o.Status.ClientID
}

func (m *cluster) indexed(issuer string) (found []*v1alpha1.M2MClient) {
	for _, o := range m.objects {
		if o.DeletionTimestamp == nil && m.identify(o) != "" && policy.IssuerName(&o.Spec) == issuer {
			found = append(found, o)
		}
	}
	return found
}

func (m *cluster) client(issuer, id string) *v1alpha1.M2MClient {
	same := slices.DeleteFunc(m.indexed(issuer), func(o *v1alpha1.M2MClient) bool { return o.Status.ClientID != id })
	if len(same) == 0 {
		return nil
	}
	return slices.MinFunc(same, func(a, b *v1alpha1.M2MClient) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.UID, b.UID))
	})
}

func (m *cluster) namespaces(issuer string) []string {
	set := map[string]bool{}
	for _, o := range m.indexed(issuer) {
		set[o.Namespace] = true
	}
	return slices.Sorted(maps.Keys(set))
}

func (m *cluster) search(issuer string, q managementapi.Query, visible func(string, bool) bool) []*v1alpha1.M2MClient {
	found := slices.DeleteFunc(m.indexed(issuer), func(o *v1alpha1.M2MClient) bool {
		return m.client(issuer, o.Status.ClientID) != o || !visible(o.Namespace, o.Annotations[v1alpha1.AnnotationCredential] != "") || !holds(q, o)
	})
	slices.SortFunc(found, func(a, b *v1alpha1.M2MClient) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Status.ClientID, b.Status.ClientID))
	})
	return found
}

func holds(q managementapi.Query, o *v1alpha1.M2MClient) bool {
	number := 0
	for _, operand := range q.Operands {
		has := map[managementapi.Field][]string{
			managementapi.FieldClientID:   {o.Status.ClientID},
			managementapi.FieldClientName: {o.Spec.DisplayName},
			managementapi.FieldScopes:     o.Spec.Scopes,
		}[operand.Field]
		if slices.ContainsFunc(has, func(v string) bool { return slices.Contains(operand.Values, v) }) {
			number++
		}
	}
	return number == len(q.Operands) || q.Any && number > 0
}

// Few values, so that all that can be equal is.
var (
	issuers   = []string{"default", "other"}
	ids       = []string{"a", "b", "c", "d", "e"}
	names     = []string{"", "one", "two"}
	scopes    = []string{"read:x", "write:x", "read:y"}
	keys      = []string{"k1", "k2"}
	instants  = []time.Time{{}, time.Unix(1, 0), time.Unix(2, 0), time.Unix(3, 0)}
	anyUID    = rapid.IntRange(0, 11)
	anyValues = map[managementapi.Field][]string{managementapi.FieldClientID: ids, managementapi.FieldClientName: names, managementapi.FieldScopes: scopes}
)

// anyObject is a client as it may be. What can't change of one follows from its UID.
func anyObject(t *rapid.T) *v1alpha1.M2MClient {
	n := anyUID.Draw(t, "uid")
	o := client(strconv.Itoa(n), rapid.SampledFrom(ids).Draw(t, "id"), 0)
	o.CreationTimestamp = metav1.Time{Time: instants[n%len(instants)]}
	o.Namespace = fmt.Sprintf("ns-%d", n%3)
	if n%4 == 3 {
		o.Spec.IssuerRef = &v1alpha1.IssuerReference{Name: "other"}
	}
	o.Status.Seal = rapid.SampledFrom(keys).Draw(t, "key")
	o.Spec.DisplayName = rapid.SampledFrom(names).Draw(t, "name")
	o.Spec.Scopes = rapid.SliceOfNDistinct(rapid.SampledFrom(scopes), 0, 3, rapid.ID).Draw(t, "scopes")
	if rapid.Bool().Draw(t, "made") {
		o.Annotations = map[string]string{v1alpha1.AnnotationCredential: "a deposit"}
	}
	if rapid.IntRange(0, 9).Draw(t, "deleted") == 0 {
		o.DeletionTimestamp = &metav1.Time{Time: time.Unix(9, 0)}
	}
	return o
}

func anyQuery(t *rapid.T) (q managementapi.Query) {
	q.Any = rapid.Bool().Draw(t, "any")
	for range rapid.IntRange(0, 3).Draw(t, "operands") {
		field := rapid.SampledFrom(slices.Sorted(maps.Keys(anyValues))).Draw(t, "field")
		values := rapid.SliceOfN(rapid.SampledFrom(anyValues[field]), 1, 3).Draw(t, "values")
		q.Operands = append(q.Operands, managementapi.Operand{Field: field, Values: values})
	}
	return q
}

func TestLikeTheCluster(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &cluster{objects: map[types.UID]*v1alpha1.M2MClient{}, key: keys[0]}
		c := New(m.identify)
		t.Repeat(map[string]func(*rapid.T){
			"set": func(t *rapid.T) {
				o := anyObject(t)
				m.objects[o.UID] = o
				c.Set(o)
			},
			"remove": func(t *rapid.T) {
				uid := types.UID(strconv.Itoa(anyUID.Draw(t, "uid")))
				delete(m.objects, uid)
				c.Remove(uid)
			},
			"keep": func(t *rapid.T) {
				listed := map[types.UID]bool{}
				for _, n := range rapid.SliceOfN(anyUID, 3, 12).Draw(t, "listed") {
					listed[types.UID(strconv.Itoa(n))] = true
				}
				maps.DeleteFunc(m.objects, func(uid types.UID, _ *v1alpha1.M2MClient) bool { return !listed[uid] })
				c.Keep(listed)
			},
			"reidentify": func(t *rapid.T) {
				m.key = rapid.SampledFrom(keys).Draw(t, "key")
				c.Reidentify()
			},
			"": func(t *rapid.T) { compare(t, m, c) },
		})
	})
}

func compare(t *rapid.T, m *cluster, c *Catalogue) {
	q, limit := anyQuery(t), rapid.IntRange(1, 4).Draw(t, "limit")
	hidden := rapid.SampledFrom([]string{"", "ns-0", "ns-1"}).Draw(t, "hidden")
	home := rapid.SampledFrom([]string{"", "ns-0", "ns-1"}).Draw(t, "home")
	visible := func(namespace string, made bool) bool { return namespace != hidden || made && namespace == home }
	for _, issuer := range issuers {
		for _, id := range ids {
			want := m.client(issuer, id)
			if got, ok := c.Client(issuer, id); got != want || ok != (want != nil) {
				t.Fatalf("client %s of %s is %v, want %v", id, issuer, got, want)
			}
		}
		if got, want := c.Namespaces(issuer), m.namespaces(issuer); !slices.Equal(got, want) {
			t.Fatalf("namespaces of %s: %v, want %v", issuer, got, want)
		}
		want := m.search(issuer, q, visible)
		var got []*v1alpha1.M2MClient
		for after, more := (Position{}), true; more; {
			page, total, next, further := c.Search(issuer, q, visible, after, limit)
			if total != len(want) || len(page) > limit || further && len(page) < limit {
				t.Fatalf("%d of %d, more %t; want at most %d of %d", len(page), total, further, limit, len(want))
			}
			got, after, more = append(got, page...), next, further
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%+v of %s: found %v, want %v", q, issuer, got, want)
		}
	}
	if len(c.entries) > len(m.objects) || len(c.objects) != len(m.objects) || len(c.waiting) > 0 {
		t.Fatalf("%d entries, %d objects and %d waiting of %d clients", len(c.entries), len(c.objects), len(c.waiting), len(m.objects))
	}
}

// Pages are right whatever happens between them.
func TestPagesWhileClientsComeAndGo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := New(trusting)
		there := map[types.UID]*v1alpha1.M2MClient{}
		made := 0
		create := func(t *rapid.T) {
			// Now and then one that was made long ago is seen late.
			created := int64(made / 3)
			if rapid.IntRange(0, 4).Draw(t, "late") == 0 {
				created = rapid.Int64Range(0, created).Draw(t, "created")
			}
			o := client(strconv.Itoa(made), fmt.Sprintf("id-%d", made*7919%1000), created)
			made++
			there[o.UID] = o
			c.Set(o)
		}
		for range rapid.IntRange(0, 40).Draw(t, "clients") {
			create(t)
		}
		stayed, shown := maps.Clone(there), map[types.UID]int{}
		var reached Position
		for more := true; more; {
			page, total, next, further := c.Search("default", managementapi.Query{}, everybody, reached, rapid.IntRange(1, 7).Draw(t, "limit"))
			if total != len(there) {
				t.Fatalf("total %d of %d clients", total, len(there))
			}
			for _, o := range page {
				at := Position{o.CreationTimestamp.Unix(), o.Status.ClientID}
				if shown[o.UID]++; shown[o.UID] > 1 || at.compare(reached) <= 0 || there[o.UID] != o {
					t.Fatalf("%s is shown %d times, at %v after %v", o.UID, shown[o.UID], at, reached)
				}
				reached = at
			}
			if more = further; more && next != reached {
				t.Fatalf("the next page begins after %v, want %v", next, reached)
			}
			for range rapid.IntRange(0, 4).Draw(t, "changes") {
				change := rapid.IntRange(0, 4).Draw(t, "change")
				if change == 0 || len(there) == 0 {
					create(t)
					continue
				}
				uid := rapid.SampledFrom(slices.Sorted(maps.Keys(there))).Draw(t, "uid")
				if change == 1 {
					delete(there, uid)
					delete(stayed, uid)
					c.Remove(uid)
				} else {
					there[uid] = there[uid].DeepCopy()
					c.Set(there[uid])
				}
			}
			if made > 300 {
				break
			}
		}
		for uid, o := range stayed {
			if at := (Position{o.CreationTimestamp.Unix(), o.Status.ClientID}); shown[uid] == 0 && made <= 300 {
				t.Fatalf("%s at %v stayed and was skipped", uid, at)
			}
		}
	})
}

func TestOperandsThatFindNothing(t *testing.T) {
	c := New(trusting)
	c.Set(client("1", "a", 1))
	operand := managementapi.Operand{Field: managementapi.FieldClientName, Values: []string{""}}
	for name, q := range map[string]managementapi.Query{
		"unknown field":          {Operands: []managementapi.Operand{operand, {Field: "status", Values: []string{"", "a"}}}},
		"unknown field or none":  {Any: true, Operands: []managementapi.Operand{{Field: "status", Values: []string{"", "a"}}}},
		"no values":              all(managementapi.FieldClientID),
		"too many operands":      {Operands: slices.Repeat([]managementapi.Operand{operand}, maxOperands+1)},
		"any of too many":        {Any: true, Operands: slices.Repeat([]managementapi.Operand{operand}, maxOperands+1)},
		"other than the last":    {Operands: append(slices.Repeat([]managementapi.Operand{operand}, maxOperands-1), all(managementapi.FieldScopes, "x").Operands...)},
		"ids that contradict":    {Operands: append(all(managementapi.FieldClientID, "a").Operands, all(managementapi.FieldClientID, "b").Operands...)},
		"id and name contradict": {Operands: append(all(managementapi.FieldClientID, "a").Operands, all(managementapi.FieldClientName, "b").Operands...)},
	} {
		if page, total, _, more := c.Search("default", q, everybody, Position{}, 10); len(page) != 0 || total != 0 || more {
			t.Errorf("%s: found %d of %d, more %t", name, len(page), total, more)
		}
	}
	if _, total, _, _ := c.Search("default", managementapi.Query{Operands: slices.Repeat([]managementapi.Operand{operand}, maxOperands)}, everybody, Position{}, 10); total != 1 {
		t.Errorf("found %d with as many operands as may be, want 1", total)
	}
}

// Readers see a client that changes all the time, and exactly one of two that share an id.
func TestReadersWhileTheWatchWrites(t *testing.T) {
	c := New(trusting)
	const stable = 1500 // in several chunks
	for i := range stable {
		c.Set(client(strconv.Itoa(i), fmt.Sprintf("id-%d", i), int64(i)))
	}
	younger := client("younger", "shared", stable/2+9)
	c.Set(younger)
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-done:
					return
				default:
				}
				lookAround(t, c, i%stable, stable)
			}
		})
	}
	for i := range 3000 {
		c.Set(client(strconv.Itoa(i%stable), fmt.Sprintf("id-%d", i%stable), int64(i%stable)))
		switch i % 4 {
		case 0:
			c.Set(client("elder", "shared", stable/2))
		case 2:
			c.Remove("elder")
		}
		if i%1000 == 999 {
			c.Reidentify()
		}
	}
	close(done)
	readers.Wait()
}

func lookAround(t *testing.T, c *Catalogue, n, stable int) {
	if _, ok := c.Client("default", fmt.Sprintf("id-%d", n)); !ok {
		t.Errorf("client %d is missing", n)
	}
	if got := c.Namespaces("default"); !slices.Equal(got, []string{"team"}) {
		t.Errorf("namespaces %v", got)
	}
	if _, total, _, _ := c.Search("default", all(managementapi.FieldClientID, "shared"), everybody, Position{}, 1); total != 1 {
		t.Errorf("%d clients hold one id", total)
	}
	page, total, _, _ := c.Search("default", managementapi.Query{}, everybody, Position{}, 2*stable)
	ordered := slices.IsSortedFunc(page, func(a, b *v1alpha1.M2MClient) int {
		return a.CreationTimestamp.Compare(b.CreationTimestamp.Time)
	})
	if total != stable+1 || len(page) != total || !ordered {
		t.Errorf("%d of %d clients, in order: %t; want %d", len(page), total, ordered, stable+1)
	}
}
