package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
)

// revocation is the command revoke.
type revocation struct {
	*kube
	edit   editor
	wait   waiting
	choose selection
	what   revoked
	yes    bool
}

// revoked is what is to be revoked.
type revoked struct {
	versions []string
	previous bool
	tokens   bool
}

func newRevokeCommand(k *kube) *cobra.Command {
	r := &revocation{kube: k}
	cmd := &cobra.Command{
		Use:   "revoke NAME... (--version VERSION | --previous | --tokens)",
		Short: "End secrets or tokens that have leaked",
		Long: `End versions of a client's secret at once, or all tokens that the client has.

A revoked version is no longer valid at any token server as soon as its watch says so. When
the current one is revoked another replaces it in the Secret at the same time, and pods that
hold the one before get no tokens until they have the new one: to give them time, rotate, and
revoke the earlier version later.

Tokens that services verify with the keys alone stay valid for them until they expire:
only introspection says that they are cut off.`,
		Example: `  # A secret has leaked: "kubectl m2m get billing" lists the versions
  kubectl m2m revoke billing --version 3-x8Fa

  # All secrets that were replaced and are still valid
  kubectl m2m revoke billing --previous

  # All tokens of all clients that were issued before now
  kubectl m2m revoke -A --all --tokens`,
		ValidArgsFunction: k.completeClients,
		RunE:              func(cmd *cobra.Command, args []string) error { return r.run(cmd.Context(), args) },
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&r.what.versions, "version", nil, "a version of the secret, such as 3-x8Fa; several by commas or by more flags")
	flags.BoolVar(&r.what.previous, "previous", false, "all versions that were replaced")
	flags.BoolVar(&r.what.tokens, "tokens", false, "all tokens that were issued before now")
	flags.BoolVarP(&r.yes, "yes", "y", false, "don't ask before the current secret is revoked")
	_ = cmd.RegisterFlagCompletionFunc("version", k.completeVersions(roleCurrent, roleNext, rolePrevious))
	r.edit.addFlags(cmd)
	r.wait.addFlags(cmd, false, "until they are no longer valid")
	r.choose.addFlags(cmd)
	return cmd
}

func (r *revocation) run(ctx context.Context, names []string) error {
	switch {
	case len(r.what.versions) == 0 && !r.what.previous && !r.what.tokens:
		return errors.New("say what to revoke: --version, --previous or --tokens")
	case len(r.what.versions) > 0 && len(names) != 1:
		return errors.New("--version is one client's: name one")
	}
	cluster, err := r.client()
	if err != nil {
		return err
	}
	r.edit.Client = cluster
	keys, err := r.choose.keys(ctx, r.kube, cluster, names)
	if err != nil {
		return err
	}
	return r.choose.each(r.kube, keys, func(key client.ObjectKey) error { return r.revoke(ctx, key) })
}

func (r *revocation) revoke(ctx context.Context, key client.ObjectKey) error {
	now := time.Now()
	var versions []string
	c, changed, err := r.edit.edit(ctx, key, func(c *v1alpha1.M2MClient) (changes []change, err error) {
		if versions, changes, err = revokeChanges(c, r.what, now); err != nil {
			return nil, err
		}
		if current := versionOf(c, roleCurrent); slices.Contains(versions, current) && r.edit.dryRun.off() {
			err = r.confirm(r.yes, fmt.Sprintf("version %s is the current secret of %s: another replaces it at once, and pods that hold it get no tokens until they have that", current, key))
			r.yes = true // a second try asks no second time; versions are of one client
		}
		return changes, err
	})
	if err != nil {
		return err
	}
	if r.wait.on && changed && r.edit.dryRun.off() {
		if _, err := r.wait.client(ctx, r.kube, r.edit, key, c.UID, over(versions)); err != nil {
			return afterwards(err, key, "told to revoke")
		}
	}
	fmt.Fprintf(r.Out, "%s%s %s%s\n", clientKind, key.Name, saysRevoked(versions, r.what.tokens, now, changed), r.edit.dryRun.suffix())
	return nil
}

func saysRevoked(versions []string, tokens bool, now time.Time, changed bool) string {
	var what []string
	if len(versions) > 0 {
		what = append(what, "version "+strings.Join(versions, ", "))
	}
	if tokens {
		what = append(what, "tokens issued before "+cutOff(now))
	}
	if len(what) == 0 || !changed {
		return "unchanged: nothing is left to revoke"
	}
	return "revoked: " + strings.Join(what, ", and ")
}

// cutOff is the end of this second: a token that was issued in it is cut off, too.
func cutOff(now time.Time) string {
	return now.UTC().Truncate(time.Second).Add(time.Second).Format(time.RFC3339)
}

// maxRevoked is how long spec.rotation.revoke can be.
const maxRevoked = 32

// revokeChanges revokes versions of a client's secret, and its tokens.
func revokeChanges(c *v1alpha1.M2MClient, what revoked, now time.Time) (versions []string, changes []change, err error) {
	if what.tokens {
		cut := cutOff(now)
		if c.Spec.Token == nil || c.Spec.Token.NotBefore == nil || stamp(*c.Spec.Token.NotBefore) < cut {
			changes = append(changes, set(cut, "spec", "token", "notBefore"))
		}
	}
	if len(what.versions) == 0 && !what.previous {
		return nil, changes, nil
	}
	if err := errNoSecretHere(c); err != nil {
		return nil, nil, err
	}
	if versions, err = toRevoke(c, what); err != nil || len(versions) == 0 {
		return versions, changes, err
	}
	list := revokeList(c, versions)
	if len(list) > maxRevoked {
		return nil, nil, fmt.Errorf("spec.rotation.revoke can't hold more than %d versions", maxRevoked)
	}
	return versions, append(changes, set(list, "spec", "rotation", "revoke")), nil
}

// toRevoke are the versions that are meant, all of them valid now.
func toRevoke(c *v1alpha1.M2MClient, what revoked) ([]string, error) {
	versions := slices.Clone(what.versions)
	var valid []string
	for i := range c.Status.Credentials {
		v := &c.Status.Credentials[i]
		valid = append(valid, clean(v.Version))
		if what.previous && v.Role == rolePrevious {
			versions = append(versions, v.Version)
		}
	}
	for _, v := range what.versions {
		if !slices.Contains(valid, v) && !isRevoked(c, v) {
			return nil, fmt.Errorf("version %s is not valid, so there is nothing to revoke: valid are %s", v, strings.Join(valid, ", "))
		}
	}
	slices.Sort(versions)
	return slices.Compact(versions), nil
}

func isRevoked(c *v1alpha1.M2MClient, version string) bool {
	return c.Spec.Rotation != nil && slices.Contains(c.Spec.Rotation.Revoke, v1alpha1.SecretVersion(version))
}

// revokeList is spec.rotation.revoke with more versions. Where it is full, what ended
// long ago makes room, the oldest first.
func revokeList(c *v1alpha1.M2MClient, versions []string) []any {
	var all []string
	if c.Spec.Rotation != nil {
		for _, v := range c.Spec.Rotation.Revoke {
			all = append(all, string(v))
		}
	}
	for _, v := range versions {
		if !slices.Contains(all, v) {
			all = append(all, v)
		}
	}
	valid := func(v string) bool {
		return slices.ContainsFunc(c.Status.Credentials, func(s v1alpha1.CredentialStatus) bool { return s.Version == v })
	}
	for len(all) > maxRevoked {
		i := slices.IndexFunc(all, func(v string) bool { return !valid(v) })
		if i < 0 {
			break
		}
		all = slices.Delete(all, i, i+1)
	}
	list := make([]any, len(all))
	for i, v := range all {
		list[i] = v
	}
	return list
}

// over says whether none of the versions is valid any more, and the Secret has one that is.
func over(versions []string) look {
	return func(c *v1alpha1.M2MClient) (done bool, state string, err error) {
		_, state, _ = ready(c)
		for i := range c.Status.Credentials {
			if v := c.Status.Credentials[i].Version; slices.Contains(versions, v) {
				return false, "version " + v + " is still valid. " + state, nil
			}
		}
		if c.Status.ObservedGeneration != c.Generation {
			return false, state, nil
		}
		return true, "", nil
	}
}
