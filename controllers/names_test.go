package controllers

import (
	"fmt"
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func wanting(uid, name string) *v1alpha1.M2MClient {
	return &v1alpha1.M2MClient{
		ObjectMeta: metav1.ObjectMeta{Name: uid, UID: types.UID(uid), CreationTimestamp: metav1.NewTime(noon)},
		Spec:       v1alpha1.M2MClientSpec{Secret: &v1alpha1.SecretSpec{Name: name}},
	}
}

func says(c *v1alpha1.M2MClient, reason string) *v1alpha1.M2MClient {
	c.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionReady, Reason: reason}}
	return c
}

func TestRightfulClient(t *testing.T) {
	has := func(c *v1alpha1.M2MClient) *v1alpha1.M2MClient {
		c.Status.SecretName = secretName(c)
		return says(c, v1alpha1.ReasonIssued)
	}
	moved := func(until time.Duration) *v1alpha1.M2MClient {
		c := has(wanting("b", "elsewhere"))
		c.Status.FormerSecrets = []v1alpha1.FormerSecret{{Name: "shared", KeepUntil: metav1.NewTime(noon.Add(until))}}
		return c
	}
	going := has(wanting("b", "shared"))
	going.DeletionTimestamp = &metav1.Time{Time: noon}
	gone := wanting("b", "shared")
	gone.DeletionTimestamp = &metav1.Time{Time: noon}
	paused := has(wanting("b", "shared"))
	paused.Annotations = map[string]string{v1alpha1.AnnotationPause: "true"}
	inactive := has(wanting("b", "shared"))
	inactive.Spec.State = v1alpha1.ClientInactive
	without := has(wanting("b", "shared"))
	without.Spec.Secret.Delivery = v1alpha1.DeliveryNone
	refused := says(wanting("z", "shared"), v1alpha1.ReasonSecretConflict)
	for name, test := range map[string]struct {
		c, other *v1alpha1.M2MClient
		sealed   bool
		want     bool // the other has it
	}{
		"nobody has it":                               {wanting("a", "shared"), says(wanting("b", "shared"), v1alpha1.ReasonIssuerNotFound), false, false},
		"the other delivers to it":                    {refused, has(wanting("b", "shared")), false, true},
		"this one delivers to it":                     {has(wanting("a", "shared")), has(wanting("b", "shared")), true, false},
		"so it says, and no seal holds":               {has(wanting("a", "shared")), has(wanting("b", "shared")), false, true},
		"the other has moved, in its overlap":         {refused, moved(time.Hour), false, true},
		"the other has moved, and it is over":         {refused, moved(0), false, false},
		"the other is going":                          {refused, going, false, true},
		"the other is going, and never had it":        {refused, gone, false, false},
		"the other is paused":                         {refused, paused, false, true},
		"the other is inactive":                       {refused, inactive, false, true},
		"the other has no Secret":                     {refused, without, false, false},
		"the other lost its status, this one waits":   {refused, wanting("b", "shared"), false, true},
		"two that are new: the older":                 {wanting("b", "shared"), wanting("a", "shared"), false, true},
		"two that are new: not the younger":           {wanting("a", "shared"), wanting("b", "shared"), false, false},
		"the other lost its status and wants another": {refused, wanting("b", "elsewhere"), false, false},
	} {
		got := rightfulClient(test.c, test.sealed, []*v1alpha1.M2MClient{test.other}, "shared", noon)
		if (got != nil) != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestNameSecrets(t *testing.T) {
	hour := func(n int) time.Time { return noon.Add(time.Duration(n) * time.Hour) }
	record := func(has string, former ...string) *v1alpha1.M2MClient {
		c := wanting("a", "new")
		c.Status.SecretName = has
		for n, name := range former {
			c.Status.FormerSecrets = append(c.Status.FormerSecrets, v1alpha1.FormerSecret{Name: name, KeepUntil: metav1.NewTime(hour(n + 1))})
		}
		return c
	}
	back := record("d", "a", "b", "c")
	back.Spec.Secret.Name = "b"
	for name, test := range map[string]struct {
		c     *v1alpha1.M2MClient
		own   []string
		want  string
		waits int // hours
	}{
		"first":                                  {record(""), nil, "new []", 0},
		"the same":                               {record("new"), []string{"new"}, "new []", 0},
		"renamed":                                {record("old"), []string{"old"}, "new [old]", 0},
		"renamed, and the Secret was lost":       {record("old"), nil, "new [old]", 0},
		"renamed, and a crash before the status": {record("old"), []string{"old", "new"}, "new [old]", 0},
		"three times":                            {record("c", "a", "b"), []string{"a", "b", "c"}, "new [a b c]", 0},
		"four times: it waits":                   {record("d", "a", "b", "c"), []string{"a", "b", "c", "d"}, "d [a b c]", 1},
		"so, and the Secrets were lost":          {record("d", "a", "b", "c"), nil, "d [a b c]", 1},
		"back to a former name":                  {back, []string{"a", "b", "c", "d"}, "b [a c d]", 0},
		"the status was lost":                    {record(""), []string{"a", "b"}, "new [a b]", 0},
	} {
		own := map[string]time.Time{}
		for _, name := range test.own {
			own[name] = hour(24)
		}
		n := nameSecrets(test.c, own, noon, hour(24))
		var former []string
		for _, f := range n.former {
			former = append(former, f.Name)
		}
		if got := fmt.Sprint(n.name, " ", former); got != test.want || !n.waits.IsZero() != (test.waits > 0) || test.waits > 0 && !n.waits.Equal(hour(test.waits)) {
			t.Errorf("%s: %s, waits until %s", name, got, n.waits)
		}
	}
	if n := nameSecrets(record("d", "a", "b", "c"), map[string]time.Time{}, hour(1), hour(25)); n.name != "new" {
		t.Errorf("one has ended, and it is still called %s", n.name)
	}
}

// world is a namespace with clients that share names, and Secrets that get lost.
type world struct {
	now       time.Time
	clients   map[string]*v1alpha1.M2MClient
	secrets   map[string]types.UID
	delivered map[string]types.UID // whose pods mount a Secret
	made      int
}

const worldOverlap = 24 * time.Hour

var (
	worldClients = []string{"one", "two", "three"}
	worldNames   = []string{"shared", "other", "third", "fourth", "fifth"}
)

func (w *world) create(name, wants string) {
	w.made++
	c := wanting(name, wants)
	c.UID = types.UID(fmt.Sprintf("%02d-%s", w.made, name))
	c.CreationTimestamp = metav1.NewTime(w.now.Truncate(time.Second))
	w.clients[name] = c
}

// reconcile is what the controller does of a client, as far as names go. With crash it
// stops before the status.
func (w *world) reconcile(t *rapid.T, name string, crash bool) {
	c := w.clients[name]
	if c == nil || c.DeletionTimestamp != nil || c.Annotations[v1alpha1.AnnotationPause] != "" {
		return
	}
	own := map[string]time.Time{}
	longest := w.now.Add(worldOverlap)
	for secret, uid := range w.secrets {
		if uid == c.UID {
			own[secret] = longest
		}
	}
	n := nameSecrets(c, own, w.now, longest)
	if owner, exists := w.secrets[n.name]; exists && owner != c.UID || !exists && rightfulClient(c, c.Status.Seal != "", w.others(c), n.name, w.now) != nil {
		says(c, v1alpha1.ReasonSecretConflict)
		return
	}
	w.deliver(t, c, n.name)
	for _, f := range n.former {
		switch owner, exists := w.secrets[f.Name]; {
		case !w.now.Before(f.KeepUntil.Time) && owner == c.UID:
			delete(w.secrets, f.Name)
		case w.now.Before(f.KeepUntil.Time) && !exists:
			w.deliver(t, c, f.Name)
		}
	}
	if !crash {
		c.Status.SecretName, c.Status.FormerSecrets, c.Status.Seal = n.name, n.recorded(w.now), "holds"
		says(c, v1alpha1.ReasonIssued)
	}
}

func (w *world) others(c *v1alpha1.M2MClient) []*v1alpha1.M2MClient {
	var all []*v1alpha1.M2MClient
	for _, name := range worldClients {
		if other := w.clients[name]; other != nil && other != c && slices.Contains(append(secretNames(other), ""), secretName(other)) {
			all = append(all, other)
		}
	}
	return all
}

// deliver makes a client's Secret. Pods that mount it must not be another client's
// suddenly while that lives, and wants it or has left it lately.
func (w *world) deliver(t *rapid.T, c *v1alpha1.M2MClient, name string) {
	was := w.delivered[name]
	for _, other := range w.clients {
		if other.UID != was || was == c.UID {
			continue
		}
		lost := len(other.Status.Conditions) == 0 && other.DeletionTimestamp == nil && other.Annotations == nil && secretName(other) == name
		if holds(other, name, w.now) && !holds(c, name, w.now) || lost && stalledOnSecret(c) {
			t.Fatalf("Secret %s becomes that of %s, and %s has it", name, c.UID, was)
		}
	}
	w.secrets[name], w.delivered[name] = c.UID, c.UID
	count := 0
	for _, uid := range w.secrets {
		if uid == c.UID {
			count++
		}
	}
	if count > maxFormer+2 { // one that is over goes in a moment
		t.Fatalf("%s has %d Secrets", c.UID, count)
	}
}

// Whoever delivers to a name keeps it; who waits for it gets it when the other is gone.
func TestNamesOfSeveralClients(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{now: noon, clients: map[string]*v1alpha1.M2MClient{}, secrets: map[string]types.UID{}, delivered: map[string]types.UID{}}
		client := func() string { return rapid.SampledFrom(worldClients).Draw(t, "client") }
		secret := func() string { return rapid.SampledFrom(worldNames).Draw(t, "Secret") }
		on := func(change func(c *v1alpha1.M2MClient)) func(*rapid.T) {
			return func(*rapid.T) {
				if c := w.clients[client()]; c != nil {
					change(c)
				}
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"create": func(*rapid.T) {
				if name := client(); w.clients[name] == nil {
					w.create(name, secret())
				}
			},
			"reconcile":   func(t *rapid.T) { w.reconcile(t, client(), false) },
			"and again":   func(t *rapid.T) { w.reconcile(t, client(), false) },
			"crash":       func(t *rapid.T) { w.reconcile(t, client(), true) },
			"lose Secret": func(*rapid.T) { delete(w.secrets, secret()) },
			"lose Secret and status": func(*rapid.T) {
				name := secret()
				for _, c := range w.clients {
					if c.UID == w.secrets[name] {
						c.Status = v1alpha1.M2MClientStatus{}
					}
				}
				delete(w.secrets, name)
			},
			"rename": on(func(c *v1alpha1.M2MClient) { c.Spec.Secret.Name = secret() }),
			"pause":  on(func(c *v1alpha1.M2MClient) { c.Annotations = map[string]string{v1alpha1.AnnotationPause: "true"} }),
			"go on":  on(func(c *v1alpha1.M2MClient) { c.Annotations = nil }),
			"going":  on(func(c *v1alpha1.M2MClient) { c.DeletionTimestamp = &metav1.Time{Time: w.now} }),
			"gone": func(*rapid.T) {
				name := client()
				if c := w.clients[name]; c != nil {
					delete(w.clients, name)
					for secret, uid := range w.secrets {
						if uid == c.UID {
							delete(w.secrets, secret)
						}
					}
				}
			},
			"pass": func(t *rapid.T) { w.now = w.now.Add(time.Duration(rapid.IntRange(1, 30).Draw(t, "hours")) * time.Hour) },
			"":     w.settles,
		})
	})
}

// settles holds that who is alone in wanting a name gets it.
func (w *world) settles(t *rapid.T) {
	for _, name := range worldClients {
		c := w.clients[name]
		if c == nil || c.DeletionTimestamp != nil || c.Annotations != nil {
			continue
		}
		alone := true
		for _, other := range w.others(c) {
			alone = alone && secretName(other) != secretName(c) && !holds(other, secretName(c), w.now)
		}
		_, exists := w.secrets[secretName(c)]
		if alone && !exists && rightfulClient(c, c.Status.Seal != "", w.others(c), secretName(c), w.now) != nil {
			t.Fatalf("%s is alone in wanting %s, and doesn't get it", c.UID, secretName(c))
		}
	}
}
