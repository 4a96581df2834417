package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/ownership"
)

// switching is the commands activate and deactivate.
type switching struct {
	*kube
	edit   editor
	wait   waiting
	choose selection
	state  v1alpha1.ClientState
	done   string
}

func newActivateCommand(k *kube) *cobra.Command {
	return newSwitchCommand(&switching{kube: k, state: v1alpha1.ClientActive, done: "activated"}, &cobra.Command{
		Use:   "activate NAME...",
		Short: "Let clients get tokens again",
		Long:  `Let clients get tokens again, with the credential that they have.`,
		Example: `  kubectl m2m activate billing

  # All clients of a team
  kubectl m2m activate -l team=billing`,
	})
}

func newDeactivateCommand(k *kube) *cobra.Command {
	return newSwitchCommand(&switching{kube: k, state: v1alpha1.ClientInactive, done: "deactivated"}, &cobra.Command{
		Use:   "deactivate NAME...",
		Short: "Refuse clients, and keep their credentials",
		Long: `Refuse clients at the token endpoint, and keep their credentials. Introspection says at once
that their tokens are not active; services that verify tokens with the keys alone accept
them until they expire.`,
		Example: `  kubectl m2m deactivate billing --wait`,
	})
}

func newSwitchCommand(s *switching, cmd *cobra.Command) *cobra.Command {
	cmd.ValidArgsFunction = s.completeClients
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return s.run(cmd.Context(), args) }
	s.edit.addFlags(cmd)
	s.wait.addFlags(cmd, false, "until the operator has seen it")
	s.choose.addFlags(cmd)
	return cmd
}

func (s *switching) run(ctx context.Context, names []string) error {
	cluster, err := s.client()
	if err != nil {
		return err
	}
	s.edit.Client = cluster
	keys, err := s.choose.keys(ctx, s.kube, cluster, names)
	if err != nil {
		return err
	}
	return s.each(keys, func(key client.ObjectKey) error { return s.turn(ctx, key) })
}

func (s *switching) turn(ctx context.Context, key client.ObjectKey) error {
	c, changed, err := s.edit.edit(ctx, key, func(c *v1alpha1.M2MClient) ([]change, error) {
		return stateChanges(c, s.state), nil
	})
	if err != nil {
		return err
	}
	if !changed {
		fmt.Fprintf(s.Out, "%s%s unchanged: it is %s\n", clientKind, key.Name, s.state)
		return nil
	}
	if s.wait.on && s.edit.dryRun.off() {
		if _, err := s.wait.client(ctx, s.kube, s.edit, key, c.UID, inState(s.state)); err != nil {
			return afterwards(err, key, s.done)
		}
	}
	fmt.Fprintf(s.Out, "%s%s %s%s\n", clientKind, key.Name, s.done, s.edit.dryRun.suffix())
	return nil
}

// stateChanges makes a client active or inactive. What this program alone made inactive
// is left to the default again, so that no field stays behind that Git would meet.
func stateChanges(c *v1alpha1.M2MClient, state v1alpha1.ClientState) []change {
	path := []string{"spec", "state"}
	active := c.Spec.State != v1alpha1.ClientInactive
	switch {
	case active == (state == v1alpha1.ClientActive):
		return nil
	case !active && slices.Equal(ownership.Managers(c.ManagedFields, "spec", "state"), []string{fieldManager}):
		return []change{giveUp(path...)}
	}
	return []change{set(string(state), path...)}
}

func inState(state v1alpha1.ClientState) look {
	return func(c *v1alpha1.M2MClient) (done bool, said string, err error) {
		if c.Status.ObservedGeneration == c.Generation && c.Status.Effective != nil && c.Status.Effective.State == state {
			return true, "", nil
		}
		return false, "the operator has not seen it yet", nil
	}
}
