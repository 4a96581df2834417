package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/printers"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
)

// idleness is the command unused.
type idleness struct {
	listing
	span       string
	operator   string
	ignoreLost bool
}

func newUnusedCommand(k *kube) *cobra.Command {
	u := &idleness{listing: listing{kube: k, print: genericclioptions.NewPrintFlags("")}}
	cmd := &cobra.Command{
		Use:   "unused",
		Short: "List clients that nobody has used for a time",
		Long: `List clients that got no token for a time, by any secret, key or ServiceAccount: as the token
servers report it in status.usage, up to a day late.

Not known, and listed apart, are clients that haven't had their credential for the whole
time, that are paused, and all of them if the token servers are behind with their reports or
one was lost that may have seen uses it didn't report (their Leases say so, if you may read
them). With -o the unused ones alone are printed.`,
		Example: `  kubectl m2m unused --for 90d
  kubectl m2m unused --for 12w -A -l team=billing
  kubectl m2m unused --for 90d -o name | xargs kubectl m2m deactivate`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return u.run(cmd.Context()) },
	}
	flags := cmd.Flags()
	flags.StringVar(&u.span, "for", "90d", "how long nobody has used them, such as 90d, 12w or 2160h; at least 2d")
	flags.StringVarP(&u.labels, "selector", "l", "", "those with these labels, such as team=billing")
	flags.BoolVarP(&u.allNamespaces, "all-namespaces", "A", false, "of all namespaces")
	flags.BoolVar(&u.noHeaders, "no-headers", false, "leave out the line with the names of the columns")
	flags.BoolVar(&u.ignoreLost, "ignore-lost-servers", false, "take it that token servers that were lost saw no use that they didn't report")
	addOperatorNamespace(cmd, &u.operator)
	addOutputFlags(cmd, u.print, "")
	return cmd
}

// shortestIdle is twice as long as uses may be unreported.
const shortestIdle = 48 * time.Hour

// longest is more than any client is old.
const longest = 100 * 365 * 24 * time.Hour

// parseSpan reads a duration in weeks and days, too.
func parseSpan(text string) (time.Duration, error) {
	wrong := fmt.Errorf("--for %s: write days, weeks or hours, such as 90d, 12w or 2160h", text)
	for suffix, unit := range map[string]time.Duration{"d": 24 * time.Hour, "w": 7 * 24 * time.Hour} {
		if number, ok := strings.CutSuffix(text, suffix); ok {
			n, err := strconv.ParseUint(number, 10, 16)
			if err != nil || time.Duration(n) > longest/unit {
				return 0, wrong
			}
			return bounded(time.Duration(n) * unit)
		}
	}
	d, err := time.ParseDuration(text)
	if err != nil || d > longest {
		return 0, wrong
	}
	return bounded(d)
}

func bounded(d time.Duration) (time.Duration, error) {
	if d < shortestIdle {
		return 0, errors.New("--for must be 2d or more: uses are reported up to a day late")
	}
	return d, nil
}

func (u *idleness) run(ctx context.Context) error {
	span, err := parseSpan(u.span)
	if err != nil {
		return err
	}
	format := *u.print.OutputFormat
	if format == "name" && u.allNamespaces {
		return errors.New("-o name has no namespaces: leave out --all-namespaces, or use -o json")
	}
	var printer printers.ResourcePrinter
	if format != "" {
		if printer, err = u.print.ToPrinter(); err != nil {
			return err
		}
	}
	namespace, err := u.namespace()
	if err != nil {
		return err
	}
	if u.allNamespaces {
		namespace = ""
	}
	items, err := u.clients(ctx, namespace)
	if err != nil {
		return err
	}
	now := time.Now()
	heard, err := u.reporting(ctx, now)
	if err != nil {
		return err
	}
	found, err := sortOut(items, heard, now.Add(-span), now)
	if err != nil {
		return err
	}
	if printer != nil {
		return u.printUnused(printer, found)
	}
	return u.tables(found, namespace, now)
}

// reported is what is known of the reports of all token servers.
type reported struct {
	known bool      // else their Leases can't be read
	until time.Time // up to when all have reported; zero: there is none
	gap   time.Time // when one that was lost gave its last token, at the latest; zero: none was
}

// reporting reads the token servers' Leases.
func (u *idleness) reporting(ctx context.Context, now time.Time) (reported, error) {
	cluster, err := u.client()
	if err != nil {
		return reported{}, err
	}
	leases := &coordinationv1.LeaseList{}
	err = cluster.List(ctx, leases, client.InNamespace(u.operator), client.MatchingLabels{v1alpha1.LabelRole: v1alpha1.RoleServer})
	if apierrors.IsForbidden(err) {
		fmt.Fprintf(u.ErrOut, "Warning: you may not list the token servers' Leases in namespace %s, so it isn't known whether all uses were reported\n", u.operator)
		return reported{}, nil
	}
	if err != nil {
		return reported{}, err
	}
	r := reportedIn(leases.Items, now)
	if u.ignoreLost {
		r.gap = time.Time{}
	}
	return r, nil
}

// lostServer is how long the operator waits for a server that says nothing any more.
const lostServer = time.Hour

// reportedIn reads Leases as the controller does when it retires secrets.
func reportedIn(leases []coordinationv1.Lease, now time.Time) reported {
	r := reported{known: true}
	living := false
	for i := range leases {
		l := &leases[i]
		ended, err := time.Parse(time.RFC3339, l.Annotations[v1alpha1.AnnotationStoppedAt])
		stopped := err == nil
		if renewed := l.Spec.RenewTime; !stopped && renewed != nil && now.Sub(renewed.Time) > lostServer {
			ended, stopped = renewed.Add(lostServer), true
		}
		if stopped {
			if ended.After(r.gap) {
				r.gap = ended
			}
			continue
		}
		until, err := time.Parse(time.RFC3339, l.Annotations[v1alpha1.AnnotationReportedUntil])
		if err != nil {
			until = time.Time{}
		}
		if !living || until.Before(r.until) {
			r.until = until
		}
		living = true
	}
	return r
}

// idle is a client that nobody is known to have used.
type idle struct {
	object *unstructured.Unstructured
	client *v1alpha1.M2MClient
	why    string // it isn't known for the whole time; "": it is
}

// sortOut finds the clients that weren't used since a time, as far as it is known.
func sortOut(items []unstructured.Unstructured, heard reported, since, now time.Time) ([]idle, error) {
	var found []idle
	for i := range items {
		c, err := typedClient(&items[i])
		if err != nil {
			return nil, fmt.Errorf("M2MClient %s/%s can't be read: %w", items[i].GetNamespace(), items[i].GetName(), err)
		}
		if last := lastUse(c); c.DeletionTimestamp != nil || last != nil && !last.Time.Before(since) {
			continue
		}
		found = append(found, idle{&items[i], c, unknown(c, heard, since, now)})
	}
	return found, nil
}

// lag is how far behind reports may be: what isn't urgent is reported once a day.
const lag = 24 * time.Hour

// unknown says why it isn't known of the whole time since an instant that a client wasn't
// used; "": it is.
func unknown(c *v1alpha1.M2MClient, heard reported, since, now time.Time) string {
	began := since
	if has := credentialSince(c); has != nil && has.After(since) {
		began = has.Time
	}
	switch {
	case c.CreationTimestamp.After(since):
		return "it was created " + ago(&c.CreationTimestamp, now) + " ago"
	case began != since:
		return "it got its credential " + ago(&metav1.Time{Time: began}, now) + " ago, or its status was made anew then"
	case c.Annotations[v1alpha1.AnnotationPause] == "true":
		return "it is paused: its uses aren't written down"
	case !heard.known:
		return ""
	case heard.until.IsZero():
		return "no token server has reported"
	case now.Sub(heard.until) > lag:
		return "the token servers have reported up to " + stamp(metav1.NewTime(heard.until)) + " only"
	case !heard.gap.Before(since) && !heard.gap.IsZero():
		return "a token server was lost at " + stamp(metav1.NewTime(heard.gap)) + " that may have seen a use"
	}
	return ""
}

// credentialSince is when a client got the first secret that its status knows of: a status
// that was lost is made anew with it, and knows of no use before. nil: the status is older,
// because it has a use or a rotation.
func credentialSince(c *v1alpha1.M2MClient) *metav1.Time {
	if len(c.Status.Usage) > 0 || c.Status.LastRotationTime != nil || len(c.Status.Credentials) == 0 {
		return nil
	}
	oldest := &c.Status.Credentials[0].CreatedAt
	for i := range c.Status.Credentials {
		if at := &c.Status.Credentials[i].CreatedAt; at.Before(oldest) {
			oldest = at
		}
	}
	return oldest
}

// printUnused prints those that are known to be unused, and counts the others.
func (u *idleness) printUnused(printer printers.ResourcePrinter, found []idle) error {
	var items []unstructured.Unstructured
	notKnown := 0
	for _, f := range found {
		if f.why == "" {
			items = append(items, *f.object)
		} else {
			notKnown++
		}
	}
	if notKnown > 0 {
		fmt.Fprintf(u.ErrOut, "Of %d more it isn't known: without -o they are shown\n", notKnown)
	}
	return printer.PrintObj(listOf(items), u.Out)
}

// tables prints those that are unused, and then those of which it isn't known.
func (u *idleness) tables(found []idle, namespace string, now time.Time) error {
	place := []string{"Namespace"}
	if namespace != "" {
		place = nil
	}
	unused := newTable(append(place, "Name", "Client ID", "State", "Last Used", "Age")...)
	notKnown := newTable(append(place, "Name", "Client ID", "Last Used", "Not Known, Because")...)
	for _, f := range found {
		var cells []string
		if namespace == "" {
			cells = append(cells, f.client.Namespace)
		}
		cells = append(cells, f.client.Name, clean(f.client.Status.ClientID))
		used := "never"
		if last := lastUse(f.client); last != nil {
			used = ago(last, now) + " ago"
		}
		if f.why == "" {
			addRow(unused, append(cells, string(stateOf(f.client)), used, ago(&f.client.CreationTimestamp, now))...)
		} else {
			addRow(notKnown, append(cells, used, clean(f.why))...)
		}
	}
	printer := func() printers.ResourcePrinter {
		return printers.NewTablePrinter(printers.PrintOptions{NoHeaders: u.noHeaders})
	}
	if len(unused.Rows) == 0 {
		fmt.Fprintf(u.ErrOut, "No client is known to be unused for %s\n", u.span)
	} else if err := printer().PrintObj(unused, u.Out); err != nil {
		return err
	}
	if len(notKnown.Rows) == 0 {
		return nil
	}
	if len(unused.Rows) > 0 {
		fmt.Fprintln(u.Out)
	}
	return printer().PrintObj(notKnown, u.Out)
}
