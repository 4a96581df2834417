package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
)

// ending is the commands promote and cancel, which end a staged rotation.
type ending struct {
	*kube
	edit    editor
	wait    waiting
	action  v1alpha1.StagedActionType
	done    string // what was done
	version string // "": the one that is staged
	choose  selection
}

func newPromoteCommand(k *kube) *cobra.Command {
	return newEndingCommand(&ending{kube: k, action: v1alpha1.StagedPromote, done: "promoted"}, &cobra.Command{
		Use:   "promote NAME...",
		Short: "Make staged secrets the current ones",
		Long: `Make the secret that a staged rotation delivered the current one. The one before stays
valid for spec.rotation.overlap.`,
		Example: `  # Promote what is staged
  kubectl m2m promote billing --wait

  # Promote this version and no other
  kubectl m2m promote billing --version 4-QqNU

  # Promote whatever is staged
  kubectl m2m promote -A --all --wait`,
	})
}

func newCancelCommand(k *kube) *cobra.Command {
	return newEndingCommand(&ending{kube: k, action: v1alpha1.StagedCancel, done: "cancelled"}, &cobra.Command{
		Use:   "cancel NAME...",
		Short: "Drop staged secrets",
		Long:  `Drop the secret that a staged rotation delivered: it is no longer valid, and the current one stays.`,
		Example: `  # Drop what is staged
  kubectl m2m cancel billing`,
	})
}

func newEndingCommand(e *ending, cmd *cobra.Command) *cobra.Command {
	cmd.ValidArgsFunction = e.completeClients
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return e.run(cmd.Context(), args) }
	cmd.Flags().StringVar(&e.version, "version", "", "the version that must be staged, such as 4-QqNU")
	_ = cmd.RegisterFlagCompletionFunc("version", e.completeVersions(roleNext))
	e.edit.addFlags(cmd)
	e.wait.addFlags(cmd, false, "until it is done")
	e.choose.addFlags(cmd)
	return cmd
}

func (e *ending) run(ctx context.Context, names []string) error {
	if e.version != "" && len(names) != 1 {
		return errors.New("--version is one client's: name one")
	}
	cluster, err := e.client()
	if err != nil {
		return err
	}
	e.edit.Client = cluster
	keys, err := e.choose.keys(ctx, e.kube, cluster, names)
	if err != nil {
		return err
	}
	return e.choose.each(e.kube, keys, func(key client.ObjectKey) error { return e.end(ctx, key) })
}

func (e *ending) end(ctx context.Context, key client.ObjectKey) error {
	var version string
	c, _, err := e.edit.edit(ctx, key, func(c *v1alpha1.M2MClient) (changes []change, err error) {
		version, changes, err = endChanges(c, e.action, e.version)
		return changes, err
	})
	if err != nil {
		return err
	}
	if e.wait.on && e.edit.dryRun.off() {
		if _, err := e.wait.client(ctx, e.kube, e.edit, key, c.UID, ended(e.action, version)); err != nil {
			return afterwards(err, key, "told to "+e.verb())
		}
	}
	fmt.Fprintf(e.Out, "%s%s %s: version %s%s\n", clientKind, key.Name, e.done, version, e.edit.dryRun.suffix())
	return nil
}

func (e *ending) verb() string {
	if e.action == v1alpha1.StagedCancel {
		return "cancel"
	}
	return "promote"
}

// endChanges ends the staged rotation of a client: that of the version that is given,
// where one is.
func endChanges(c *v1alpha1.M2MClient, action v1alpha1.StagedActionType, given string) (version string, changes []change, err error) {
	if err := errNoSecretHere(c); err != nil {
		return "", nil, err
	}
	version = versionOf(c, roleNext)
	switch {
	case !isStaged(c):
		return "", nil, exempt{errors.New("its rotations are not staged (spec.rotation.mode): they end by themselves")}
	case version == "":
		return "", nil, exempt{fmt.Errorf("no secret is staged: `kubectl m2m rotate -n %s %s` stages one", c.Namespace, c.Name)}
	case given != "" && given != version:
		return "", nil, fmt.Errorf("version %s is not staged, but %s is", given, version)
	}
	return version, []change{
		set(version, "spec", "rotation", "staged", "version"),
		set(string(action), "spec", "rotation", "staged", "action"),
	}, nil
}

// ended says whether a staged rotation has ended as it was to.
func ended(action v1alpha1.StagedActionType, version string) look {
	return func(c *v1alpha1.M2MClient) (done bool, state string, err error) {
		_, state, _ = ready(c)
		switch {
		case versionOf(c, roleNext) == version:
			return false, "version " + version + " is still staged. " + state, nil
		case action == v1alpha1.StagedPromote && versionOf(c, roleCurrent) != version:
			return false, "", fmt.Errorf("version %s is neither staged nor current: somebody dropped it", version)
		}
		return true, "", nil
	}
}
