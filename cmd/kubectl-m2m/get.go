package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
)

// showing is the command get.
type showing struct {
	*kube
	noColor bool
	print   *genericclioptions.PrintFlags
}

func newGetCommand(k *kube) *cobra.Command {
	s := &showing{kube: k, print: genericclioptions.NewPrintFlags("")}
	cmd := &cobra.Command{
		Use:     "get NAME...",
		Aliases: []string{"describe"},
		Short:   "Show a client",
		Long: `Show a client: who it is, whether it is what its manifest says, the scopes that it asks for
and holds, the versions of its secret and when each was last used, the field managers of
its spec, and what happened to it lately.`,
		Example: `  kubectl m2m get billing
  kubectl m2m get billing -o yaml
  kubectl m2m get billing -o jsonpath='{.status.clientID}'`,
		Args:              named,
		ValidArgsFunction: k.completeClients,
		RunE:              func(cmd *cobra.Command, args []string) error { return s.run(cmd.Context(), args) },
	}
	cmd.Flags().BoolVar(&s.noColor, "no-color", false, "no colours on a terminal either; NO_COLOR in the environment does the same")
	addOutputFlags(cmd, s.print, "")
	return cmd
}

func (s *showing) run(ctx context.Context, names []string) error {
	cluster, err := s.client()
	if err != nil {
		return err
	}
	keys, err := (&selection{}).keys(ctx, s.kube, cluster, names)
	if err != nil {
		return err
	}
	if *s.print.OutputFormat != "" {
		return s.printObjects(ctx, cluster, keys)
	}
	colours := coloured(s.Out) && !s.noColor
	return s.each(keys, func(key client.ObjectKey) error {
		v, err := gatherView(ctx, cluster, key)
		if err != nil {
			return err
		}
		if key != keys[0] {
			fmt.Fprintln(s.Out)
		}
		_, err = fmt.Fprint(s.Out, render(v, time.Now(), colours))
		return err
	})
}

// printObjects prints one object as it is, and several as a list.
func (s *showing) printObjects(ctx context.Context, cluster client.Reader, keys []client.ObjectKey) error {
	printer, err := s.print.ToPrinter()
	if err != nil {
		return err
	}
	var items []unstructured.Unstructured
	failed := s.each(keys, func(key client.ObjectKey) error {
		u := unstructured.Unstructured{}
		u.SetGroupVersionKind(clientGVK)
		if err := cluster.Get(ctx, key, &u); err != nil {
			return notThere(err, key)
		}
		items = append(items, u)
		return nil
	})
	switch {
	case failed != nil && len(items) == 0:
		return failed
	case len(keys) == 1:
		return printer.PrintObj(&items[0], s.Out)
	}
	if err := printer.PrintObj(listOf(items), s.Out); err != nil {
		return err
	}
	return failed
}

// view is all that a page about a client shows.
type view struct {
	client *v1alpha1.M2MClient
	events []eventsv1.Event // the newest last
	// noEvents says why events can't be shown; "": they are.
	noEvents string
}

// shownEvents is how many events a page shows.
const shownEvents = 10

func gatherView(ctx context.Context, cluster client.Client, key client.ObjectKey) (view, error) {
	v := view{client: &v1alpha1.M2MClient{}}
	if err := cluster.Get(ctx, key, v.client); err != nil {
		return v, notThere(err, key)
	}
	list := &eventsv1.EventList{}
	err := cluster.List(ctx, list, client.InNamespace(key.Namespace), client.MatchingFields{"regarding.uid": string(v.client.UID)})
	switch {
	case apierrors.IsForbidden(err):
		v.noEvents = "you may not list events of this namespace"
	case err != nil:
		v.noEvents = err.Error()
	}
	slices.SortStableFunc(list.Items, func(a, b eventsv1.Event) int { return lastSeen(&a).Compare(lastSeen(&b)) })
	v.events = list.Items[max(0, len(list.Items)-shownEvents):]
	return v, nil
}

// lastSeen is when an event happened last.
func lastSeen(e *eventsv1.Event) time.Time {
	switch {
	case e.Series != nil:
		return e.Series.LastObservedTime.Time
	case !e.EventTime.IsZero():
		return e.EventTime.Time
	case !e.DeprecatedLastTimestamp.IsZero():
		return e.DeprecatedLastTimestamp.Time
	}
	return e.CreationTimestamp.Time
}
