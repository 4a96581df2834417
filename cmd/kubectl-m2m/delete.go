package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
)

// deletion is the command delete.
type deletion struct {
	*kube
	cluster client.Client
	wait    waiting
	choose  selection
	dryRun  dryRun
	yes     bool
}

func newDeleteCommand(k *kube) *cobra.Command {
	d := &deletion{kube: k, dryRun: "none"}
	cmd := &cobra.Command{
		Use:   "delete NAME...",
		Short: "Delete clients with their credentials",
		Long: `Delete clients. Their credentials are refused from then on, and their Secrets go with them
unless spec.secret.deletionPolicy is Retain. A client that is made again under the same name
is another one.

Where another field manager owns the spec, such as Git's, the tool behind it will probably
make the client again: then this asks first.`,
		Example: `  kubectl m2m delete billing

  # All clients of a namespace
  kubectl m2m delete --all -n staging --yes`,
		ValidArgsFunction: k.completeClients,
		RunE:              func(cmd *cobra.Command, args []string) error { return d.run(cmd.Context(), args) },
	}
	cmd.Flags().BoolVarP(&d.yes, "yes", "y", false, "don't ask where another field manager owns the spec")
	cmd.Flags().Var(&d.dryRun, "dry-run", "none, server (the API server checks it, and deletes nothing), or client (nothing is sent)")
	d.wait.addFlags(cmd, true, "until the Secret is gone, too")
	d.choose.addFlags(cmd)
	return cmd
}

func (d *deletion) run(ctx context.Context, names []string) error {
	cluster, err := d.client()
	if err != nil {
		return err
	}
	d.cluster = cluster
	keys, err := d.choose.keys(ctx, d.kube, cluster, names)
	if err != nil {
		return err
	}
	return d.each(keys, func(key client.ObjectKey) error { return d.delete(ctx, key) })
}

func (d *deletion) delete(ctx context.Context, key client.ObjectKey) error {
	c := &v1alpha1.M2MClient{}
	if err := d.cluster.Get(ctx, key, c); err != nil {
		return notThere(err, key)
	}
	if managers := makers(c.ManagedFields); len(managers) > 0 && d.dryRun.off() {
		what := fmt.Sprintf("M2MClient %s belongs to the field manager %s: what applies it there (from Git) will make it again, with another client_id; delete it there instead", key, strings.Join(managers, ", "))
		if err := d.confirm(d.yes, what); err != nil {
			return err
		}
	}
	if d.dryRun != "client" {
		options := []client.DeleteOption{client.Preconditions{UID: &c.UID}}
		if d.dryRun == "server" {
			options = append(options, client.DryRunAll)
		}
		if err := d.cluster.Delete(ctx, c, options...); err != nil {
			return notThere(err, key)
		}
	}
	fmt.Fprintf(d.Out, "%s%s deleted%s\n", clientKind, key.Name, d.dryRun.suffix())
	if !d.wait.on || !d.dryRun.off() || c.Status.SecretName == "" {
		return nil
	}
	return afterwards(d.awaitSecret(ctx, c), key, "deleted")
}

// awaitSecret waits until the Secret of a deleted client is gone.
func (d *deletion) awaitSecret(ctx context.Context, c *v1alpha1.M2MClient) error {
	key := client.ObjectKey{Namespace: c.Namespace, Name: c.Status.SecretName}
	if e := c.Status.Effective; e != nil && e.DeletionPolicy == v1alpha1.DeletionRetain {
		fmt.Fprintf(d.ErrOut, "Secret %s stays (deletionPolicy Retain), and is no longer valid\n", key)
		return nil
	}
	return d.wait.until(ctx, d.kube, "Secret "+key.String(), func(ctx context.Context) (bool, string, error) {
		s := &metav1.PartialObjectMetadata{}
		s.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Secret"))
		err := d.cluster.Get(ctx, key, s)
		switch {
		case apierrors.IsNotFound(err), err == nil && s.Annotations[v1alpha1.AnnotationClientUID] != string(c.UID):
			return true, "", nil
		case apierrors.IsForbidden(err):
			fmt.Fprintf(d.ErrOut, "Whether Secret %s is gone is not for you to see\n", key)
			return true, "", nil
		case err != nil:
			return unread(err, err)
		}
		return false, "garbage collection has not removed it yet", nil
	})
}

// makers are the field managers that will probably make a deleted client again, sorted:
// who owns its spec, or applied it, and is no person and not the management API.
func makers(entries []metav1.ManagedFieldsEntry) []string {
	var managers []string
	for _, e := range entries {
		if e.Subresource != "" || e.Manager == fieldManager || e.Manager == v1alpha1.ManagementAPI || isPerson(e.Manager) {
			continue
		}
		if e.Operation == metav1.ManagedFieldsOperationApply || len(fieldsIn(e, "spec")) > 0 {
			managers = append(managers, fmt.Sprintf("%q", e.Manager))
		}
	}
	slices.Sort(managers)
	return slices.Compact(managers)
}
