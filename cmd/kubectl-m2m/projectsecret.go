package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/printers"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
)

// projectSecrets is what the commands of project-secret share.
type projectSecrets struct {
	*kube
	operator string // its namespace
}

func newProjectSecretCommand(k *kube) *cobra.Command {
	p := &projectSecrets{kube: k}
	cmd := &cobra.Command{
		Use:     "project-secret",
		Aliases: []string{"project-secrets"},
		Short:   "Make, list and revoke secrets of the management API",
		Long: `Make, list and revoke project secrets, by which programs authenticate to the management API
(Stytch's M2M API) with the project id of an issuer.

Of each only the SHA-256 is kept, in a Secret of the operator's namespace: you must be
allowed to write Secrets there. Several may be valid at one time: make a new one, bring it
to its callers, and revoke the old one.`,
		Example: `  kubectl m2m project-secret create
  kubectl m2m project-secret list
  kubectl m2m project-secret revoke --last-four x8Fa`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	addOperatorNamespace(cmd, &p.operator)
	cmd.AddCommand(newProjectSecretCreateCommand(p), newProjectSecretListCommand(p), newProjectSecretRevokeCommand(p))
	return cmd
}

// operatorNamespace is where the operator is installed, as it is shipped.
const operatorNamespace = "m2m-system"

func addOperatorNamespace(cmd *cobra.Command, into *string) {
	cmd.PersistentFlags().StringVar(into, "operator-namespace", operatorNamespace, "where the operator is installed")
}

// makingSecret is the command project-secret create.
type makingSecret struct {
	*projectSecrets
	dryRun dryRun
	output string
}

func newProjectSecretCreateCommand(p *projectSecrets) *cobra.Command {
	m := &makingSecret{projectSecrets: p, dryRun: "none"}
	cmd := &cobra.Command{
		Use:   "create [ISSUER]",
		Short: "Make a project secret",
		Long: `Make a project secret of an issuer (the issuer "default" unless you name another), and print
it with the project id. It is shown this once: only its SHA-256 is kept.`,
		Example: `  kubectl m2m project-secret create
  eval "$(kubectl m2m project-secret create -o env)"`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: onlyFirst(p.completeIssuers),
		RunE: func(cmd *cobra.Command, args []string) error {
			return m.run(cmd.Context(), append(args, v1alpha1.DefaultIssuer)[0])
		},
	}
	cmd.Flags().Var(&m.dryRun, "dry-run", "none, server (the API server checks it, and keeps nothing), or client (nothing is sent)")
	addJSONFlag(cmd, &m.output, "json, or env (lines that a shell can read)", "env")
	return cmd
}

// onlyFirst completes the first argument.
func onlyFirst(complete cobra.CompletionFunc) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return complete(cmd, args, begun)
	}
}

func (m *makingSecret) run(ctx context.Context, name string) error {
	cluster, err := m.client()
	if err != nil {
		return err
	}
	issuer := &v1alpha1.ClusterM2MIssuer{}
	if err := cluster.Get(ctx, client.ObjectKey{Name: name}, issuer); apierrors.IsNotFound(err) {
		return fmt.Errorf("there is no ClusterM2MIssuer %s: `kubectl get clusterm2missuers` shows all", name)
	} else if err != nil {
		return err
	}
	value, s, err := newProjectSecret(rand.Reader, issuer, m.operator)
	if err != nil {
		return err
	}
	options := []client.CreateOption{client.FieldOwner(fieldManager)}
	if m.dryRun == "server" {
		options = append(options, client.DryRunAll)
	}
	if m.dryRun != "client" {
		if err := cluster.Create(ctx, s, options...); err != nil {
			return err
		}
	}
	if !m.dryRun.off() {
		fmt.Fprintf(m.Out, "a project secret of %s would be made in the namespace %s%s\n", issuer.Spec.ProjectID, m.operator, m.dryRun.suffix())
		return nil
	}
	if err := m.print(issuer, s.Name, value); err != nil {
		return fmt.Errorf("the project secret %s was made and could not be shown: revoke it: %w", s.Name, err)
	}
	if issuer.Spec.ManagementAPI == nil {
		fmt.Fprint(m.ErrOut, closedAPI(issuer.Name))
	}
	return nil
}

// closedAPI says how the management API is opened.
func closedAPI(issuer string) string {
	return fmt.Sprintf(`
The management API of this issuer is closed. Add to ClusterM2MIssuer %s where its clients live:

  spec:
    managementAPI:
      namespace: m2m-api
`, issuer)
}

func (m *makingSecret) print(issuer *v1alpha1.ClusterM2MIssuer, name, value string) error {
	var err error
	switch m.output {
	case "json":
		err = printJSON(m.Out, struct {
			Name      string `json:"name"`
			ProjectID string `json:"project_id"`
			Secret    string `json:"secret"`
		}{name, issuer.Spec.ProjectID, value})
	case "env":
		_, err = fmt.Fprintf(m.Out, "M2M_PROJECT_ID=%s\nM2M_PROJECT_SECRET=%s\n", issuer.Spec.ProjectID, value)
	default:
		p := &page{}
		p.field("Project ID", issuer.Spec.ProjectID)
		p.field("Project secret", value)
		p.field("Revoke it by", "kubectl m2m project-secret revoke "+name)
		p.WriteString("\nIt is not shown again.\n")
		_, err = fmt.Fprint(m.Out, p.String())
	}
	return err
}

// Of a project secret: 43 of 62 characters are 256 bits.
const (
	projectSecretLength = 43
	lettersAndDigits    = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	lowerAndDigits      = "0123456789abcdefghijklmnopqrstuvwxyz"
)

// newProjectSecret makes a project secret, and the Secret that it is checked with, which
// doesn't have it.
func newProjectSecret(random io.Reader, issuer *v1alpha1.ClusterM2MIssuer, namespace string) (string, *corev1.Secret, error) {
	value, err := randomText(random, lettersAndDigits, projectSecretLength)
	if err != nil {
		return "", nil, err
	}
	suffix, err := randomText(random, lowerAndDigits, 8)
	if err != nil {
		return "", nil, err
	}
	environment := "live"
	if issuer.Spec.Environment == v1alpha1.EnvironmentTest {
		environment = "test"
	}
	value = "secret-" + environment + "-" + value
	digest := sha256.Sum256([]byte(value))
	immutable := true
	return value, &corev1.Secret{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: metav1.ObjectMeta{
			Namespace:   namespace,
			Name:        "m2m-operator-project-" + issuer.Name + "-" + suffix,
			Labels:      map[string]string{v1alpha1.LabelIssuer: issuer.Name, v1alpha1.LabelManagedBy: v1alpha1.ManagedBy},
			Annotations: map[string]string{v1alpha1.AnnotationLastFour: value[len(value)-4:]},
		},
		Type:      v1alpha1.ProjectSecretType,
		Immutable: &immutable,
		Data:      map[string][]byte{v1alpha1.ProjectSecretHashKey: []byte(hex.EncodeToString(digest[:]))},
	}, nil
}

// randomText draws characters of an alphabet, each as likely as the others.
func randomText(random io.Reader, alphabet string, length int) (string, error) {
	text := make([]byte, 0, length)
	fair := 256 - 256%len(alphabet) // bytes from here on would prefer the first characters
	for b := make([]byte, 1); len(text) < length; {
		if _, err := io.ReadFull(random, b); err != nil {
			return "", err
		}
		if int(b[0]) < fair {
			text = append(text, alphabet[int(b[0])%len(alphabet)])
		}
	}
	return string(text), nil
}

// listingSecrets is the command project-secret list.
type listingSecrets struct {
	*projectSecrets
	output    string
	noHeaders bool
}

func newProjectSecretListCommand(p *projectSecrets) *cobra.Command {
	l := &listingSecrets{projectSecrets: p}
	cmd := &cobra.Command{
		Use:     "list [ISSUER]",
		Aliases: []string{"ls"},
		Short:   "List project secrets",
		Long:    `List project secrets, of one issuer or of all: their names and last four characters.`,
		Example: `  kubectl m2m project-secret list
  kubectl m2m project-secret list default -o json`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: onlyFirst(p.completeIssuers),
		RunE:              func(cmd *cobra.Command, args []string) error { return l.run(cmd.Context(), append(args, "")[0]) },
	}
	cmd.Flags().BoolVar(&l.noHeaders, "no-headers", false, "leave out the line with the names of the columns")
	addJSONFlag(cmd, &l.output, "json, or name", "name")
	return cmd
}

// projectSecret is what may be shown of a project secret.
type projectSecret struct {
	Name      string      `json:"name"`
	Issuer    string      `json:"issuer"`
	ProjectID string      `json:"project_id"`
	LastFour  string      `json:"last_four"`
	CreatedAt metav1.Time `json:"created_at"`

	object metav1.PartialObjectMetadata
}

// secrets are the project secrets of an issuer, of all where it is "". Their contents
// aren't even asked for.
func (p *projectSecrets) secrets(ctx context.Context, cluster client.Reader, issuer string) ([]projectSecret, error) {
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("SecretList"))
	err := cluster.List(ctx, list, client.InNamespace(p.operator), client.MatchingFields{"type": v1alpha1.ProjectSecretType})
	if err != nil {
		return nil, err
	}
	var all []projectSecret
	for _, o := range list.Items {
		if of := o.Labels[v1alpha1.LabelIssuer]; issuer == "" || of == issuer {
			all = append(all, projectSecret{
				Name: o.Name, Issuer: of, LastFour: o.Annotations[v1alpha1.AnnotationLastFour], CreatedAt: o.CreationTimestamp, object: o,
			})
		}
	}
	return all, nil
}

func (l *listingSecrets) run(ctx context.Context, issuer string) error {
	cluster, err := l.client()
	if err != nil {
		return err
	}
	all, err := l.secrets(ctx, cluster, issuer)
	if err != nil {
		return err
	}
	issuers := &v1alpha1.ClusterM2MIssuerList{}
	if err := cluster.List(ctx, issuers); err != nil {
		return err
	}
	for n := range all {
		i := slices.IndexFunc(issuers.Items, func(i v1alpha1.ClusterM2MIssuer) bool { return i.Name == all[n].Issuer })
		if i >= 0 {
			all[n].ProjectID = issuers.Items[i].Spec.ProjectID
		}
	}
	switch {
	case l.output == "json":
		return printJSON(l.Out, append([]projectSecret{}, all...))
	case l.output == "name":
		for _, s := range all {
			fmt.Fprintln(l.Out, s.Name)
		}
		return nil
	case len(all) == 0:
		fmt.Fprintf(l.ErrOut, "No project secrets found in namespace %s: `kubectl m2m project-secret create` makes one\n", l.operator)
		return nil
	}
	return printers.NewTablePrinter(printers.PrintOptions{NoHeaders: l.noHeaders}).PrintObj(projectSecretTable(all, time.Now()), l.Out)
}

func projectSecretTable(all []projectSecret, now time.Time) *metav1.Table {
	table := newTable("Name", "Issuer", "Project ID", "Last Four", "Age")
	for _, s := range all {
		addRow(table, s.Name, clean(s.Issuer), clean(orDash(s.ProjectID)), clean(orDash(s.LastFour)), ago(&s.CreatedAt, now))
	}
	return table
}

func newTable(names ...string) *metav1.Table {
	table := &metav1.Table{}
	for _, name := range names {
		table.ColumnDefinitions = append(table.ColumnDefinitions, metav1.TableColumnDefinition{Name: name, Type: "string"})
	}
	return table
}

func addRow(table *metav1.Table, cells ...string) {
	row := metav1.TableRow{Object: runtime.RawExtension{}}
	for _, text := range cells {
		row.Cells = append(row.Cells, text)
	}
	table.Rows = append(table.Rows, row)
}

// revokingSecret is the command project-secret revoke.
type revokingSecret struct {
	*projectSecrets
	lastFour string
	issuer   string
	yes      bool
	dryRun   dryRun
}

func newProjectSecretRevokeCommand(p *projectSecrets) *cobra.Command {
	r := &revokingSecret{projectSecrets: p, dryRun: "none"}
	cmd := &cobra.Command{
		Use:   "revoke NAME | --last-four XXXX",
		Short: "Revoke a project secret",
		Long: `Revoke a project secret, by the name that list shows or by its last four characters. The
management API refuses it as soon as its watch says so, a moment later. Revoking the last one
of an issuer needs a yes: no program can use the API then.`,
		Example: `  kubectl m2m project-secret revoke m2m-operator-project-default-4k2j9x0d
  kubectl m2m project-secret revoke --last-four x8Fa`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: onlyFirst(p.completeSecrets),
		RunE:              func(cmd *cobra.Command, args []string) error { return r.run(cmd.Context(), append(args, "")[0]) },
	}
	flags := cmd.Flags()
	flags.StringVar(&r.lastFour, "last-four", "", "the last four characters of the project secret")
	flags.StringVar(&r.issuer, "issuer", "", "with --last-four: of this issuer only")
	flags.BoolVarP(&r.yes, "yes", "y", false, "don't ask")
	flags.Var(&r.dryRun, "dry-run", "none, server (the API server checks it, and deletes nothing), or client (nothing is sent)")
	_ = cmd.RegisterFlagCompletionFunc("issuer", p.completeIssuers)
	return cmd
}

func (r *revokingSecret) run(ctx context.Context, name string) error {
	if (name == "") == (r.lastFour == "") {
		return errors.New("name a project secret, or give its --last-four: `kubectl m2m project-secret list` shows both")
	}
	cluster, err := r.client()
	if err != nil {
		return err
	}
	all, err := r.secrets(ctx, cluster, r.issuer)
	if err != nil {
		return err
	}
	s, err := chosenSecret(all, name, r.lastFour)
	if err != nil {
		return err
	}
	others := slices.ContainsFunc(all, func(o projectSecret) bool { return o.Issuer == s.Issuer && o.Name != s.Name })
	if !others && r.dryRun.off() {
		if err := r.confirm(r.yes, fmt.Sprintf("%s is the last project secret of ClusterM2MIssuer %s: without it no program can use the management API", s.Name, clean(s.Issuer))); err != nil {
			return err
		}
	}
	options := []client.DeleteOption{client.Preconditions{UID: &s.object.UID}}
	if r.dryRun == "server" {
		options = append(options, client.DryRunAll)
	}
	if r.dryRun != "client" {
		doomed := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: r.operator, Name: s.Name}}
		if err := cluster.Delete(ctx, doomed, options...); err != nil {
			return err
		}
	}
	fmt.Fprintf(r.Out, "project secret %s (...%s) revoked%s: the management API refuses it as soon as its watch says so\n",
		s.Name, clean(s.LastFour), r.dryRun.suffix())
	return nil
}

// chosenSecret is the one that has the name or the last four characters.
func chosenSecret(all []projectSecret, name, lastFour string) (projectSecret, error) {
	var found []projectSecret
	var names []string
	for _, s := range all {
		if name != "" && s.Name == name || name == "" && s.LastFour == lastFour {
			found, names = append(found, s), append(names, s.Name)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return projectSecret{}, errors.New("there is no such project secret: `kubectl m2m project-secret list` shows all")
	}
	return projectSecret{}, fmt.Errorf("several project secrets end so: name one of %s", strings.Join(names, ", "))
}

// completeSecrets completes the names of project secrets.
func (p *projectSecrets) completeSecrets(cmd *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
	defer cancel()
	cluster, err := p.client()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	all, err := p.secrets(ctx, cluster, "")
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, s := range all {
		if strings.HasPrefix(s.Name, begun) {
			names = append(names, cobra.CompletionWithDesc(s.Name, "..."+clean(s.LastFour)))
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
