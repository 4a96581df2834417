package controllers

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
)

// maxFormer bounds the Secrets that a client keeps under names that it had before: who
// may write one M2MClient must not fill a namespace with Secrets.
const maxFormer = 3

// secretNames are the names of Secrets that a client has, keeps or wants.
func secretNames(c *v1alpha1.M2MClient) []string {
	if !hasSecret(c) {
		return nil
	}
	names := []string{secretName(c)}
	if has := c.Status.SecretName; has != "" && has != names[0] {
		names = append(names, has)
	}
	for _, former := range c.Status.FormerSecrets {
		if !slices.Contains(names, former.Name) {
			names = append(names, former.Name)
		}
	}
	return names
}

// holds tells whether a name is a client's by what its status says: it delivers to it,
// or did lately, and pods may mount it. It stays so while the client lives, whatever
// became of the Secret, and whether the client is active, paused or going.
func holds(c *v1alpha1.M2MClient, name string, now time.Time) bool {
	return hasSecret(c) && (c.Status.SecretName == name || slices.ContainsFunc(c.Status.FormerSecrets, func(f v1alpha1.FormerSecret) bool {
		return f.Name == name && now.Before(f.KeepUntil.Time)
	}))
}

// comesBefore tells whether another client gets a name before this one, which neither
// holds: one whose status says nothing, because it is new or lost all that it had with
// its status, comes before one that waits already, and before a younger one. One that is
// going, or paused, gets nothing now.
func comesBefore(other, c *v1alpha1.M2MClient, name string) bool {
	silent := meta.FindStatusCondition(other.Status.Conditions, v1alpha1.ConditionReady) == nil
	held := !other.DeletionTimestamp.IsZero() || other.Annotations[v1alpha1.AnnotationPause] == "true"
	return silent && !held && hasSecret(other) && secretName(other) == name &&
		(stalledOnSecret(c) || older(other, c))
}

// rightfulClient is which of the others a name belongs to that this client wants; nil:
// none, and this one may have it.
func rightfulClient(c *v1alpha1.M2MClient, sealed bool, others []*v1alpha1.M2MClient, name string, now time.Time) *v1alpha1.M2MClient {
	if sealed && holds(c, name, now) {
		return nil
	}
	for _, other := range others {
		if holds(other, name, now) || comesBefore(other, c, name) {
			return other
		}
	}
	return nil
}

// heldBy asks whose a name is, before a Secret is made or taken over under it. The cache
// knows who may have it, and the API server what holds now: a holder's status must not be
// overlooked. sealed says that this client's own status can be believed.
func (r *ClientReconciler) heldBy(ctx context.Context, c *v1alpha1.M2MClient, name string, sealed bool) (*v1alpha1.M2MClient, error) {
	if sealed && holds(c, name, r.Now()) {
		return nil, nil
	}
	cached := &v1alpha1.M2MClientList{}
	err := r.Client.List(ctx, cached, client.InNamespace(c.Namespace), client.MatchingFields{indexSecretName: name}, client.UnsafeDisableDeepCopy)
	if err != nil {
		return nil, err
	}
	var others []*v1alpha1.M2MClient
	for i := range cached.Items {
		if cached.Items[i].UID != c.UID {
			others = append(others, &cached.Items[i])
		}
	}
	if len(others) == 0 {
		return nil, nil
	}
	if others, err = r.live(ctx, c.Namespace, others); err != nil {
		return nil, err
	}
	return rightfulClient(c, sealed, others, name, r.Now()), nil
}

// fewClients are read one by one; more are read at once.
const fewClients = 8

// live returns clients as the API server has them now, without those that are gone.
func (r *ClientReconciler) live(ctx context.Context, namespace string, cached []*v1alpha1.M2MClient) ([]*v1alpha1.M2MClient, error) {
	var all []*v1alpha1.M2MClient
	if len(cached) > fewClients {
		list := &v1alpha1.M2MClientList{}
		if err := r.Live.List(ctx, list, client.InNamespace(namespace)); err != nil {
			return nil, err
		}
		for i := range list.Items {
			if slices.ContainsFunc(cached, func(c *v1alpha1.M2MClient) bool { return c.Name == list.Items[i].Name }) {
				all = append(all, &list.Items[i])
			}
		}
		return all, nil
	}
	for _, c := range cached {
		now := &v1alpha1.M2MClient{}
		err := r.Live.Get(ctx, client.ObjectKeyFromObject(c), now)
		switch {
		case err == nil:
			all = append(all, now)
		case !apierrors.IsNotFound(err):
			return nil, err
		}
	}
	return all, nil
}

// naming is under which names a client delivers its Secrets.
type naming struct {
	name   string                  // of its Secret
	former []v1alpha1.FormerSecret // which it keeps; those that are over come too
	waits  time.Time               // until when the manifest's name must wait; zero: it needn't
}

// maxRecorded bounds how many former names a status tells of: more there are only where
// an earlier version of the operator left them.
const maxRecorded = 16

// nameSecrets decides that. own are the names of the client's Secrets, with the time until
// which each is kept if it is a former one; now it would be kept until longest.
func nameSecrets(c *v1alpha1.M2MClient, own map[string]time.Time, now, longest time.Time) naming {
	kept := maps.Clone(own)
	for _, f := range c.Status.FormerSecrets {
		until, there := own[f.Name]
		if !there {
			until = longest
		}
		if f.KeepUntil.Time.Before(until) {
			until = f.KeepUntil.Time // a person may have made it shorter, and no longer
		}
		kept[f.Name] = until
	}
	has := c.Status.SecretName
	if has != "" {
		kept[has] = longest
	}
	n := naming{name: secretName(c)}
	if _, known := kept[n.name]; !known {
		n.wait(has, kept, now)
	}
	delete(kept, n.name)
	n.former = byEnd(kept)
	return n
}

// wait keeps the name as it is while there are maxFormer others.
func (n *naming) wait(has string, kept map[string]time.Time, now time.Time) {
	kept = maps.Clone(kept)
	maps.DeleteFunc(kept, func(_ string, until time.Time) bool { return !now.Before(until) })
	if len(kept) <= maxFormer {
		return
	}
	latest := byEnd(kept)[len(kept)-1].Name // of a status that was lost
	n.name = cmp.Or(has, latest)
	delete(kept, n.name)
	n.waits = byEnd(kept)[len(kept)-maxFormer].KeepUntil.Time
}

// byEnd lists names by when they end.
func byEnd(kept map[string]time.Time) []v1alpha1.FormerSecret {
	var all []v1alpha1.FormerSecret
	for name, until := range kept {
		all = append(all, v1alpha1.FormerSecret{Name: name, KeepUntil: metav1.NewTime(until.UTC().Truncate(time.Second))})
	}
	slices.SortFunc(all, func(a, b v1alpha1.FormerSecret) int {
		return cmp.Or(a.KeepUntil.Compare(b.KeepUntil.Time), strings.Compare(a.Name, b.Name))
	})
	return all
}

// recorded are the former names that a status tells of.
func (n *naming) recorded(now time.Time) []v1alpha1.FormerSecret {
	var all []v1alpha1.FormerSecret
	for _, f := range n.former {
		if now.Before(f.KeepUntil.Time) && len(all) < maxRecorded {
			all = append(all, f)
		}
	}
	return all
}
