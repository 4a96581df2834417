package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
)

// rotation is the command rotate.
type rotation struct {
	*kube
	edit   editor
	wait   waiting
	choose selection
}

func newRotateCommand(k *kube) *cobra.Command {
	r := &rotation{kube: k}
	cmd := &cobra.Command{
		Use:   "rotate NAME...",
		Short: "Replace the secrets of clients",
		Long: `Replace the secrets of clients now: each gets another, and the one before stays valid for
spec.rotation.overlap, in which running pods take up the new one.

With spec.rotation.mode Staged the next secret is delivered beside the current one, and
` + "`kubectl m2m promote`" + ` or ` + "`kubectl m2m cancel`" + ` ends the rotation.

It sets the annotation ` + v1alpha1.AnnotationRotate + ` and nothing in the spec, so it doesn't fight
Git.`,
		Example: `  # Rotate one client, and wait until its Secret has the new secret
  kubectl m2m rotate billing --wait

  # Rotate all clients of a team, of all namespaces; those without a secret are passed over
  kubectl m2m rotate -A -l team=billing`,
		ValidArgsFunction: k.completeClients,
		RunE:              func(cmd *cobra.Command, args []string) error { return r.run(cmd.Context(), args) },
	}
	r.edit.addFlags(cmd)
	r.wait.addFlags(cmd, false, "until the new secret is delivered")
	r.choose.addFlags(cmd)
	return cmd
}

// asked is a rotation that was asked for.
type asked struct {
	client  *v1alpha1.M2MClient
	trigger string
	before  string // the version that was current then
}

func (r *rotation) run(ctx context.Context, names []string) error {
	cluster, err := r.client()
	if err != nil {
		return err
	}
	r.edit.Client = cluster
	keys, err := r.choose.keys(ctx, r.kube, cluster, names)
	if err != nil {
		return err
	}
	// All are asked before the first is waited for: they rotate at one time.
	rotations := map[client.ObjectKey]asked{}
	var waited []client.ObjectKey
	failed := r.choose.each(r.kube, keys, func(key client.ObjectKey) error {
		a, err := r.ask(ctx, key)
		if err == nil && r.wait.on && r.edit.dryRun.off() {
			rotations[key], waited = a, append(waited, key)
		}
		return err
	})
	return errors.Join(failed, r.choose.each(r.kube, waited, func(key client.ObjectKey) error { return r.await(ctx, key, rotations[key]) }))
}

// newTrigger is a text that no rotation was asked for with before.
func newTrigger(now time.Time, random string) string {
	return now.UTC().Format(time.RFC3339) + "-" + strings.ToLower(random[:6])
}

func (r *rotation) ask(ctx context.Context, key client.ObjectKey) (asked, error) {
	a := asked{trigger: newTrigger(time.Now(), rand.Text())}
	var err error
	a.client, _, err = r.edit.edit(ctx, key, func(c *v1alpha1.M2MClient) ([]change, error) {
		a.before = versionOf(c, roleCurrent)
		return rotateChanges(c, a.trigger)
	})
	if err != nil {
		return a, err
	}
	fmt.Fprintf(r.Out, "%s%s rotation requested%s\n", clientKind, key.Name, r.edit.dryRun.suffix())
	return a, nil
}

// rotateChanges asks for a rotation, where there can be one.
func rotateChanges(c *v1alpha1.M2MClient, trigger string) ([]change, error) {
	if err := errNoSecretHere(c); err != nil {
		return nil, err
	}
	if staged := versionOf(c, roleNext); staged != "" && isStaged(c) {
		return nil, fmt.Errorf("version %s is staged already: `kubectl m2m promote -n %s %s` or `cancel` ends that rotation first", staged, c.Namespace, c.Name)
	}
	return []change{set(trigger, "metadata", "annotations", v1alpha1.AnnotationRotate)}, nil
}

func (r *rotation) await(ctx context.Context, key client.ObjectKey, a asked) error {
	now, err := r.wait.client(ctx, r.kube, r.edit, key, a.client.UID, a.done)
	if err != nil {
		return afterwards(err, key, "told to rotate")
	}
	fmt.Fprintf(r.Out, "%s%s %s\n", clientKind, key.Name, rotated(now, a.before))
	return nil
}

// done says whether the rotation has ended, or the next secret is staged.
func (a asked) done(c *v1alpha1.M2MClient) (done bool, state string, err error) {
	condition := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionReady)
	switch {
	case c.Annotations[v1alpha1.AnnotationPause] == "true":
		return false, "", fmt.Errorf("it is paused: it rotates when the annotation %s is gone", v1alpha1.AnnotationPause)
	case c.Spec.State == v1alpha1.ClientInactive:
		return false, "", exempt{errors.New("it is Inactive: it rotates when it is active again")}
	case condition != nil && condition.Reason == v1alpha1.ReasonTooManyVersions:
		return false, "", errors.New(clean(condition.Message))
	case c.Status.ObservedTriggers == nil || c.Status.ObservedTriggers.Annotation != a.trigger:
		_, state, _ := ready(c)
		if state == "" {
			state = "the operator has not seen it yet"
		}
		return false, state, nil
	case isStaged(c) && condition != nil && condition.Reason == v1alpha1.ReasonStaged:
		return true, "", nil
	case versionOf(c, roleNext) != "":
		return false, fmt.Sprintf("version %s is valid, and will be in the Secret in a moment", versionOf(c, roleNext)), nil
	case versionOf(c, roleCurrent) == a.before:
		return false, "a new secret is being made", nil
	}
	return true, "", nil
}

// rotated says what a rotation led to.
func rotated(c *v1alpha1.M2MClient, before string) string {
	if next := versionOf(c, roleNext); next != "" {
		return fmt.Sprintf("staged: version %s is valid beside %s, as next_client_secret in Secret %q\nThen: kubectl m2m promote -n %s %s",
			next, before, c.Status.SecretName, c.Namespace, c.Name)
	}
	said := fmt.Sprintf("rotated: version %s -> %s in Secret %q", before, versionOf(c, roleCurrent), c.Status.SecretName)
	i := slices.IndexFunc(c.Status.Credentials, func(v v1alpha1.CredentialStatus) bool { return v.Version == before })
	if i < 0 {
		return said // it was revoked
	}
	return said + fmt.Sprintf("; %s is valid %s", before, validUntil(&c.Status.Credentials[i]))
}

// validUntil says until when a replaced version can be used.
func validUntil(v *v1alpha1.CredentialStatus) string {
	switch {
	case v.NotAfter == nil:
		return "until it is replaced"
	case v.RetireAfter != nil && !v.RetireAfter.Equal(v.NotAfter):
		return fmt.Sprintf("until %s, and while it is used until %s", stamp(*v.RetireAfter), stamp(*v.NotAfter))
	}
	return "until " + stamp(*v.NotAfter)
}

func stamp(t metav1.Time) string { return t.UTC().Format(time.RFC3339) }

// Roles of a version of a secret.
const (
	roleCurrent  = "Current"
	roleNext     = "Next"
	rolePrevious = "Previous"
)

// versionOf is the version that has a role; "" if none has.
func versionOf(c *v1alpha1.M2MClient, role string) string {
	for i := range c.Status.Credentials {
		if c.Status.Credentials[i].Role == role {
			return clean(c.Status.Credentials[i].Version)
		}
	}
	return ""
}

// isStaged tells whether the client's rotations wait for somebody.
func isStaged(c *v1alpha1.M2MClient) bool {
	return c.Spec.Rotation != nil && c.Spec.Rotation.Mode == v1alpha1.RotationStaged
}
