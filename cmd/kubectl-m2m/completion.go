package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
)

// completionTimeout is how long a person at the Tab key waits.
const completionTimeout = 3 * time.Second

// completeClients completes the names of clients.
func (k *kube) completeClients(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
	defer cancel()
	cluster, err := k.client()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	namespace, err := k.namespace()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	keys, err := clientKeys(ctx, cluster, namespace, "")
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, key := range keys {
		if strings.HasPrefix(key.Name, begun) && !slices.Contains(args, key.Name) {
			names = append(names, key.Name)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeClient completes the name of one client.
func (k *kube) completeClient(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return k.completeClients(cmd, args, begun)
}

// completeVersions completes the versions of a client's secret that have one of the roles.
func (k *kube) completeVersions(roles ...string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
		defer cancel()
		namespace, err := k.namespace()
		if err != nil || len(args) != 1 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		cluster, err := k.client()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		c := &v1alpha1.M2MClient{}
		if err := cluster.Get(ctx, client.ObjectKey{Namespace: namespace, Name: args[0]}, c); err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var versions []string
		for i := range c.Status.Credentials {
			v := &c.Status.Credentials[i]
			if slices.Contains(roles, v.Role) && strings.HasPrefix(v.Version, begun) {
				versions = append(versions, cobra.CompletionWithDesc(clean(v.Version), v.Role))
			}
		}
		return versions, cobra.ShellCompDirectiveNoFileComp
	}
}

// describeCompletion says how completion works behind kubectl, too.
func describeCompletion(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		if cmd.Name() != "completion" {
			continue
		}
		cmd.Long = `Write the completion script of a shell for kubectl-m2m.

For "kubectl m2m" put an executable file named kubectl_complete-m2m into your PATH, which
kubectl (1.26 or later) with completion of its own asks:

  #!/bin/sh
  exec kubectl m2m __complete "$@"`
	}
}
