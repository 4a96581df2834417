package controllers

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/credential"
	"github.com/m2m-operator/m2m-operator/internal/journal"
)

// annotationPepperRotated is, on the pepper's Secret, the text of AnnotationRotate
// that was carried out last.
const annotationPepperRotated = "m2m-operator.dev/rotated"

// How long the steps of a pepper's rotation are apart, in propagation delays. There
// is no hurry, and a server that doesn't know a key can't check what it sealed.
const (
	pepperLook     = 1   // between two looks
	pepperPublish  = 10  // before a published key is active
	pepperRetire   = 300 // before a key that was active may go
	pepperRecounts = 30  // between two counts
)

// pepperWatch is what the process has seen of the pepper's keys, by a clock that
// nobody can set.
type pepperWatch struct {
	next, active           string
	nextSince, activeSince time.Duration
	counting               bool
	counted                time.Duration
}

// rotatePepper replaces the pepper's active key when an annotation asks for it, and
// drops keys that nothing names any more.
func (i *Installation) rotatePepper(ctx context.Context) {
	seen := &pepperWatch{}
	wait.UntilWithContext(ctx, func(ctx context.Context) {
		if err := i.lookAfterPepper(ctx, seen); err != nil && ctx.Err() == nil {
			log.FromContext(ctx).Error(err, "Can't look after the pepper's keys")
		}
	}, pepperLook*i.Propagation)
}

func (i *Installation) lookAfterPepper(ctx context.Context, seen *pepperWatch) error {
	pepper, err := i.Pepper(ctx)
	if lost := (*LostError)(nil); errors.As(err, &lost) {
		return nil // what needs it says so
	}
	secret := &corev1.Secret{}
	if err == nil {
		err = i.Client.Get(ctx, i.pepperKey(), secret)
	}
	if err != nil {
		return client.IgnoreNotFound(err)
	}
	now := i.Elapsed()
	if id := pepper.NextKeyID(); id != seen.next {
		seen.next, seen.nextSince = id, now
	}
	if id := pepper.ActiveKeyID(); id != seen.active {
		seen.active, seen.activeSince = id, now
	}
	asked := secret.Annotations[v1alpha1.AnnotationRotate]
	switch {
	case pepper.NextKeyID() != "" && now-seen.nextSince >= pepperPublish*i.Propagation:
		return i.updatePepper(ctx, secret, pepper.Activate(), "PepperRotated", "credentials are hashed and sealed with a new key; the one before only checks")
	case pepper.NextKeyID() != "":
		return nil
	case asked != "" && asked != secret.Annotations[annotationPepperRotated]:
		if pepper, err = pepper.WithNext(i.Rand); err != nil {
			return err
		}
		secret = secret.DeepCopy()
		secret.Annotations[annotationPepperRotated] = asked
		return i.updatePepper(ctx, secret, pepper, "PepperKeyPublished", "a new key is published, and will be used in a moment")
	case seen.counting && now-seen.counted < pepperRecounts*i.Propagation:
		return nil
	}
	seen.counting, seen.counted = true, now
	if err := i.forgetServers(ctx); err != nil {
		return err
	}
	return i.dropUnusedKeys(ctx, secret, pepper, now-seen.activeSince >= pepperRetire*i.Propagation)
}

func (i *Installation) updatePepper(ctx context.Context, secret *corev1.Secret, pepper *credential.Pepper, reason, message string) error {
	secret = secret.DeepCopy()
	secret.Data = pepper.Data()
	if err := i.Client.Update(ctx, secret); err != nil {
		return err
	}
	i.Events.Eventf(secret, nil, corev1.EventTypeNormal, reason, "Update", "%s", message)
	return nil
}

// dropUnusedKeys shows how much names each key, and drops one that nothing does. The
// API server has the last word: what a dropped key made can't be checked any more.
func (i *Installation) dropUnusedKeys(ctx context.Context, secret *corev1.Secret, pepper *credential.Pepper, ripe bool) error {
	uses, err := countKeyUses(ctx, i.Client, i.Within, 0)
	if err != nil {
		return err
	}
	pepperKeyUses.Reset()
	var unused []string
	for _, id := range pepper.KeyIDs() {
		active := "false"
		if id == pepper.ActiveKeyID() {
			active = "true"
		} else if uses[id] == 0 {
			unused = append(unused, id)
		}
		pepperKeyUses.WithLabelValues(id, active).Set(float64(uses[id]))
	}
	if len(unused) == 0 || !ripe {
		return nil
	}
	if uses, err = countKeyUses(ctx, i.Live, i.Within, listPage); err != nil {
		return err
	}
	unused = slices.DeleteFunc(unused, func(id string) bool { return uses[id] > 0 })
	for _, id := range unused {
		pepper = pepper.Without(id)
	}
	if len(unused) == 0 {
		return nil
	}
	return i.updatePepper(ctx, secret, pepper, "PepperKeyDropped", "a key that nothing was made with any more is gone: "+strings.Join(unused, ", "))
}

// countDeposit counts what the management API left with a client, which it may have to
// be recovered from.
func countDeposit(text string, count func(texts ...string)) {
	d, err := journal.ParseDeposit(text)
	if err != nil {
		return
	}
	count(d.Seal)
	for _, c := range d.Credentials {
		count(c.Hash.String())
	}
}

// countKeyUses counts the hashes and seals that name each pepper key. The cache has
// no pages: then page is 0.
func countKeyUses(ctx context.Context, from client.Reader, within []string, page int64) (map[string]int, error) {
	uses := map[string]int{}
	count := func(texts ...string) {
		for _, text := range texts {
			if id, _, ok := strings.Cut(text, ":"); ok {
				uses[id]++
			}
		}
	}
	clients := &v1alpha1.M2MClientList{}
	err := eachPage(ctx, from, within, clients, page, func() (enough bool) {
		for n := range clients.Items {
			status := &clients.Items[n].Status
			count(status.Seal)
			for _, c := range status.Credentials {
				count(c.Hash)
			}
			countDeposit(clients.Items[n].Annotations[v1alpha1.AnnotationCredential], count)
		}
		return false
	})
	if err != nil {
		return nil, err
	}
	secrets := &corev1.SecretList{}
	err = eachPage(ctx, from, within, secrets, page, func() (enough bool) {
		for n := range secrets.Items {
			a := secrets.Items[n].Annotations
			count(a[v1alpha1.AnnotationSeal], a[v1alpha1.AnnotationNextSeal])
		}
		return false
	}, client.HasLabels{v1alpha1.LabelClient})
	return uses, err
}
