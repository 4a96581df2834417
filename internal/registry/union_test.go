package registry

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
)

// held is a receiver that has what it was given.
type held map[types.UID]bool

func (h held) set(o metav1.Object)    { h[o.GetUID()] = true }
func (h held) remove(o metav1.Object) { delete(h, o.GetUID()) }
func (h held) strip(metav1.Object)    {}
func (h held) keep(listed map[types.UID]bool) {
	maps.DeleteFunc(h, func(uid types.UID, _ bool) bool { return !listed[uid] })
}

// Watches of several namespaces bring what one of all would: a new list of one forgets
// nothing of the others.
func TestUnionIsWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		got := held{}
		whole := &union{to: got, parts: map[string]map[types.UID]bool{}}
		want := map[string]map[types.UID]bool{"a": {}, "b": {}, "c": {}}
		sinks := map[string]*sink{}
		for namespace := range want {
			sinks[namespace] = &sink{resource: "m2mclients", namespace: namespace, to: part{whole, namespace}}
		}
		draw := func(t *rapid.T, namespace string) *v1alpha1.M2MClient {
			c := &v1alpha1.M2MClient{}
			c.Namespace = namespace
			c.UID = types.UID(fmt.Sprintf("%s-%d", namespace, rapid.IntRange(0, 4).Draw(t, "n")))
			return c
		}
		anyNamespace := rapid.SampledFrom([]string{"a", "b", "c"})
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				namespace := anyNamespace.Draw(t, "namespace")
				c := draw(t, namespace)
				want[namespace][c.UID] = true
				if err := sinks[namespace].Add(c); err != nil {
					t.Fatal(err)
				}
			},
			"delete": func(t *rapid.T) {
				namespace := anyNamespace.Draw(t, "namespace")
				c := draw(t, namespace)
				delete(want[namespace], c.UID)
				if err := sinks[namespace].Delete(c); err != nil {
					t.Fatal(err)
				}
			},
			"list": func(t *rapid.T) {
				namespace := anyNamespace.Draw(t, "namespace")
				want[namespace] = map[types.UID]bool{}
				var list []any
				for range rapid.IntRange(0, 4).Draw(t, "length") {
					c := draw(t, namespace)
					want[namespace][c.UID] = true
					list = append(list, c)
				}
				if err := sinks[namespace].Replace(list, "7"); err != nil {
					t.Fatal(err)
				}
			},
			"": func(t *rapid.T) {
				all := map[types.UID]bool{}
				for _, of := range want {
					maps.Copy(all, of)
				}
				if !maps.Equal(map[types.UID]bool(got), all) {
					t.Fatalf("%v, want %v", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(all)))
				}
			},
		})
	})
}
