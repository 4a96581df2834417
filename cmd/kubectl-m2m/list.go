package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/printers"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
)

// listing is the command list.
type listing struct {
	*kube
	labels        string
	allNamespaces bool
	unready       bool
	noHeaders     bool
	print         *genericclioptions.PrintFlags
}

func newListCommand(k *kube) *cobra.Command {
	l := &listing{kube: k, print: genericclioptions.NewPrintFlags("")}
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List clients",
		Long: `List clients: whether they are what their manifests say, how many scopes they hold, when
their secrets rotate next by their interval, and when they last got a token. Uses are
reported at most once an hour while a replaced secret is valid, else once a day.`,
		Example: `  kubectl m2m list
  kubectl m2m list -A --unready
  kubectl m2m list -l team=billing -o wide
  kubectl m2m list -o jsonpath='{.items[*].status.clientID}'`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return l.run(cmd.Context()) },
	}
	flags := cmd.Flags()
	flags.StringVarP(&l.labels, "selector", "l", "", "those with these labels, such as team=billing")
	flags.BoolVarP(&l.allNamespaces, "all-namespaces", "A", false, "of all namespaces")
	flags.BoolVar(&l.unready, "unready", false, "only those that are not what their manifests say")
	flags.BoolVar(&l.noHeaders, "no-headers", false, "leave out the line with the names of the columns")
	addOutputFlags(cmd, l.print, "wide")
	return cmd
}

// addOutputFlags adds -o with a format of this program's own to those of kubectl.
func addOutputFlags(cmd *cobra.Command, print *genericclioptions.PrintFlags, own string) {
	print.AddFlags(cmd)
	output := cmd.Flags().Lookup("output")
	output.Usage = "Output format. One of: json, yaml, name, jsonpath=..., go-template=..., their -file forms"
	if own != "" {
		output.Usage += ", " + own
	}
}

func (l *listing) run(ctx context.Context) error {
	namespace, err := l.namespace()
	if err != nil {
		return err
	}
	if l.allNamespaces {
		namespace = ""
	}
	format := *l.print.OutputFormat
	var printer printers.ResourcePrinter
	if format != "" && format != "wide" {
		if printer, err = l.print.ToPrinter(); err != nil {
			return err
		}
	}
	items, err := l.clients(ctx, namespace)
	if err != nil {
		return err
	}
	if printer != nil {
		return printer.PrintObj(listOf(items), l.Out)
	}
	if len(items) == 0 {
		fmt.Fprintln(l.ErrOut, nothingFound(namespace))
		return nil
	}
	table, err := clientTable(items, l.allNamespaces, time.Now())
	if err != nil {
		return err
	}
	options := printers.PrintOptions{Wide: format == "wide", NoHeaders: l.noHeaders}
	return printers.NewTablePrinter(options).PrintObj(table, l.Out)
}

func nothingFound(namespace string) string {
	if namespace == "" {
		return "No M2MClients found"
	}
	return fmt.Sprintf("No M2MClients found in namespace %s: -A lists those of all", namespace)
}

// clients are those that are to be listed, as the API server has them: fields that this
// program doesn't know are printed, too.
func (l *listing) clients(ctx context.Context, namespace string) ([]unstructured.Unstructured, error) {
	cluster, err := l.client()
	if err != nil {
		return nil, err
	}
	var items []unstructured.Unstructured
	options := &client.ListOptions{Namespace: namespace, Limit: pageSize, Raw: &metav1.ListOptions{LabelSelector: l.labels}}
	for {
		page := &unstructured.UnstructuredList{}
		page.SetGroupVersionKind(v1alpha1.SchemeGroupVersion.WithKind("M2MClientList"))
		if err := cluster.List(ctx, page, options); err != nil {
			return nil, err
		}
		for _, item := range page.Items {
			if !l.unready || !isReady(&item) {
				items = append(items, item)
			}
		}
		if options.Continue = page.GetContinue(); options.Continue == "" {
			return items, nil
		}
	}
}

func isReady(u *unstructured.Unstructured) bool {
	c, err := typedClient(u)
	if err != nil {
		return false
	}
	done, _, _ := ready(c)
	return done
}

// listOf is what kubectl prints for more than one object.
func listOf(items []unstructured.Unstructured) *unstructured.UnstructuredList {
	list := &unstructured.UnstructuredList{Items: items}
	list.SetAPIVersion("v1")
	list.SetKind("List")
	return list
}

// clientTable is the clients in lines; columns of priority 1 are shown by -o wide.
func clientTable(items []unstructured.Unstructured, withNamespace bool, now time.Time) (*metav1.Table, error) {
	table := &metav1.Table{}
	column := func(name string, priority int32) {
		table.ColumnDefinitions = append(table.ColumnDefinitions, metav1.TableColumnDefinition{Name: name, Type: "string", Priority: priority})
	}
	if withNamespace {
		column("Namespace", 0)
	}
	for _, name := range []string{"Name", "Client ID", "State", "Ready", "Reason", "Scopes", "Rotates", "Last Used", "Age"} {
		column(name, 0)
	}
	column("Issuer", 1)
	column("Secret", 1)
	column("Version", 1)
	for i := range items {
		c, err := typedClient(&items[i])
		if err != nil {
			return nil, fmt.Errorf("M2MClient %s/%s can't be read: %w", items[i].GetNamespace(), items[i].GetName(), err)
		}
		cells := clientCells(c, now)
		if withNamespace {
			cells = append([]any{c.Namespace}, cells...)
		}
		table.Rows = append(table.Rows, metav1.TableRow{Cells: cells, Object: runtime.RawExtension{}})
	}
	return table, nil
}

func clientCells(c *v1alpha1.M2MClient, now time.Time) []any {
	is, reason := "Unknown", ""
	if condition := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionReady); condition != nil {
		is, reason = string(condition.Status), condition.Reason
	}
	if c.Status.ObservedGeneration != c.Generation {
		is, reason = "Unknown", "NotSeenYet"
	}
	issuer := ""
	if e := c.Status.Effective; e != nil {
		issuer = e.IssuerName
	}
	return []any{
		c.Name, clean(c.Status.ClientID), string(stateOf(c)), is, clean(reason), len(c.Spec.Scopes),
		in(c.Status.NextRotationTime, now), ago(lastUse(c), now), ago(&c.CreationTimestamp, now),
		clean(issuer), clean(c.Status.SecretName), versionOf(c, roleCurrent),
	}
}

func stateOf(c *v1alpha1.M2MClient) v1alpha1.ClientState {
	if c.Spec.State == v1alpha1.ClientInactive {
		return v1alpha1.ClientInactive
	}
	return v1alpha1.ClientActive
}

// lastUse is when a client last got a token, as far as it was reported.
func lastUse(c *v1alpha1.M2MClient) *metav1.Time {
	var last *metav1.Time
	for i := range c.Status.Usage {
		if at := &c.Status.Usage[i].LastUsedAt; last == nil || last.Before(at) {
			last = at
		}
	}
	return last
}
