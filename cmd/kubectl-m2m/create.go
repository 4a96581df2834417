package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/json"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
)

// clientOptions are what create puts into a manifest.
type clientOptions struct {
	displayName, description string
	issuer, clientID         string
	scopes, audiences        []string
	lifetime, interval       string
	secretName               string
	noSecret                 bool
	serviceAccounts          []string
	metadata                 []string // key=value
}

func (o *clientOptions) addFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringSliceVar(&o.scopes, "scope", nil, "a scope that the client holds, such as read:invoices; several by commas or by more flags")
	flags.StringVar(&o.displayName, "display-name", "", "a short name for people")
	flags.StringVar(&o.description, "description", "", "what the client is for")
	flags.StringSliceVar(&o.audiences, "audience", nil, "a service that the client's tokens are for; several by commas or by more flags")
	flags.StringVar(&o.lifetime, "lifetime", "", "how long its tokens are valid, such as 30m")
	flags.StringVar(&o.issuer, "issuer", "", "the ClusterM2MIssuer; without it the issuer `default`")
	flags.StringVar(&o.secretName, "secret-name", "", "the Secret for the credential; without it the client's own name")
	flags.StringVar(&o.interval, "rotation-interval", "", "how long a secret is used before another replaces it, such as 90d or 2160h")
	flags.StringSliceVar(&o.serviceAccounts, "service-account", nil, "a ServiceAccount whose pods get the client's tokens without a secret")
	flags.StringVar(&o.clientID, "client-id", "", "the client id, where the issuer lets the namespace choose one")
	flags.StringArrayVar(&o.metadata, "metadata", nil, "a key of the trusted metadata, key=value: the value is JSON, or text")
	flags.BoolVar(&o.noSecret, "no-secret", false, "make no secret (delivery None): for --service-account, or publicKeys that you add")
}

// manifest is the M2MClient that the options ask for, with nothing that isn't asked for.
func (o *clientOptions) manifest(namespace, name string) (*unstructured.Unstructured, error) {
	u := &unstructured.Unstructured{Object: map[string]any{}}
	u.SetGroupVersionKind(clientGVK)
	u.SetName(name)
	if namespace != "" {
		u.SetNamespace(namespace)
	}
	metadata, err := parseMetadata(o.metadata)
	if err != nil {
		return nil, err
	}
	lifetime, err := parseDuration("--lifetime", o.lifetime)
	if err != nil {
		return nil, err
	}
	interval, err := parseDuration("--rotation-interval", o.interval)
	if err != nil {
		return nil, err
	}
	if o.noSecret {
		put(u, string(v1alpha1.DeliveryNone), "spec", "secret", "delivery")
	}
	put(u, o.issuer, "spec", "issuerRef", "name")
	put(u, o.displayName, "spec", "displayName")
	put(u, o.description, "spec", "description")
	putList(u, o.scopes, "spec", "scopes")
	putList(u, o.audiences, "spec", "token", "audiences")
	put(u, lifetime, "spec", "token", "lifetime")
	put(u, o.clientID, "spec", "clientID")
	put(u, o.secretName, "spec", "secret", "name")
	put(u, interval, "spec", "rotation", "interval")
	if len(metadata) > 0 {
		_ = unstructured.SetNestedMap(u.Object, metadata, "spec", "trustedMetadata")
	}
	var identities []any
	for _, account := range o.serviceAccounts {
		identities = append(identities, map[string]any{"serviceAccountName": account})
	}
	if len(identities) > 0 {
		_ = unstructured.SetNestedSlice(u.Object, identities, "spec", "workloadIdentities")
	}
	return u, nil
}

// put and putList set what was given. The parents are maps that they made themselves.
func put(u *unstructured.Unstructured, value string, path ...string) {
	if value != "" {
		_ = unstructured.SetNestedField(u.Object, value, path...)
	}
}

func putList(u *unstructured.Unstructured, values []string, path ...string) {
	if len(values) > 0 {
		_ = unstructured.SetNestedStringSlice(u.Object, values, path...)
	}
}

// parseMetadata reads key=value. What begins as JSON objects, arrays and strings do must
// be JSON; of the rest, what is no JSON is text.
func parseMetadata(pairs []string) (map[string]any, error) {
	metadata := map[string]any{}
	for _, pair := range pairs {
		key, text, ok := strings.Cut(pair, "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("--metadata %q: write key=value", pair)
		}
		if _, twice := metadata[key]; twice {
			return nil, fmt.Errorf("--metadata has the key %q twice", key)
		}
		var value any
		err := json.Unmarshal([]byte(text), &value)
		switch {
		case err == nil && value == nil:
			return nil, fmt.Errorf("--metadata %s: null says nothing: leave the key out", key)
		case err != nil && strings.IndexAny(text, `{["`) == 0:
			return nil, fmt.Errorf("--metadata %s: the value begins as JSON and is none: %w", key, err)
		case err != nil:
			value = text
		}
		metadata[key] = value
	}
	return metadata, nil
}

// parseDuration checks a duration, and writes days as hours, which manifests don't know.
func parseDuration(flag, text string) (string, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.Atoi(days)
		if err != nil || n < 1 || n > 3650 {
			return "", fmt.Errorf("%s %s: write a number of days such as 90d, or hours and minutes such as 2160h or 30m", flag, text)
		}
		return strconv.Itoa(n*24) + "h", nil
	}
	if text == "" {
		return "", nil
	}
	if d, err := time.ParseDuration(text); err != nil || d <= 0 {
		return "", fmt.Errorf("%s %s: write hours and minutes, such as 2160h or 30m, or days, such as 90d", flag, text)
	}
	return text, nil
}

// creation is the command create.
type creation struct {
	*kube
	options clientOptions
	edit    editor
	wait    waiting
	print   *genericclioptions.PrintFlags
}

func newCreateCommand(k *kube) *cobra.Command {
	c := &creation{kube: k, print: genericclioptions.NewPrintFlags("created")}
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Create a client",
		Long: `Create an M2MClient, and wait until its credential can be used.

With --dry-run=client -o yaml the manifest is only written, to be kept in Git: it needs
no cluster, and names the namespace only where --namespace does.`,
		Example: `  # A client with two scopes, whose credential is in the Secret "reports"
  kubectl m2m create reports --scope read:invoices --scope write:reports

  # Rotated every 90 days, with tokens for one service
  kubectl m2m create billing --scope charge:cards --audience https://cards.example.com --rotation-interval 90d

  # Without a secret: pods of a ServiceAccount authenticate as it
  kubectl m2m create orders --scope read:orders --service-account orders --no-secret

  # A manifest for Git
  kubectl m2m create reports --scope read:invoices --dry-run=client -o yaml > reports.yaml`,
		Args: namedOne,
		RunE: func(cmd *cobra.Command, args []string) error { return c.run(cmd.Context(), args[0]) },
	}
	c.options.addFlags(cmd)
	c.edit.addFlags(cmd)
	_ = cmd.Flags().MarkHidden("force-conflicts") // what doesn't exist has no owners
	c.wait.addFlags(cmd, true, "until the client is ready")
	c.print.AddFlags(cmd)
	return cmd
}

func (c *creation) run(ctx context.Context, name string) error {
	namespace, explicit, err := c.flags.ToRawKubeConfigLoader().Namespace()
	if err != nil {
		return err
	}
	if c.edit.dryRun == "client" && !explicit {
		namespace = ""
	}
	config, err := c.options.manifest(namespace, name)
	if err != nil {
		return err
	}
	if err := c.print.Complete("%s" + c.edit.dryRun.suffix()); err != nil {
		return err
	}
	printer, err := c.print.ToPrinter()
	if err != nil {
		return err
	}
	if c.edit.dryRun == "client" {
		return printer.PrintObj(config, c.Out)
	}
	if c.edit.Client, err = c.client(); err != nil {
		return err
	}
	key := client.ObjectKeyFromObject(config)
	if err := c.create(ctx, key, config); err != nil {
		return err
	}
	if !c.wait.on || !c.edit.dryRun.off() {
		return printer.PrintObj(config, c.Out)
	}
	return c.awaitReady(ctx, key, config, func(u *unstructured.Unstructured) error { return printer.PrintObj(u, c.Out) })
}

// create applies the manifest of a client that isn't there. An apply can't ask for that,
// so somebody who creates one in the same moment is found out only where fields differ.
func (c *creation) create(ctx context.Context, key client.ObjectKey, config *unstructured.Unstructured) error {
	existing := &unstructured.Unstructured{}
	existing.SetGroupVersionKind(clientGVK)
	switch err := c.edit.Get(ctx, key, existing); {
	case err == nil:
		return fmt.Errorf("M2MClient %s exists: change it with `kubectl edit m2m -n %s %s`, or in the manifest that it comes from and `kubectl apply`", key, key.Namespace, key.Name)
	case !apierrors.IsNotFound(err):
		return err
	}
	return c.edit.apply(ctx, config)
}

func (c *creation) awaitReady(ctx context.Context, key client.ObjectKey, created *unstructured.Unstructured, show func(*unstructured.Unstructured) error) error {
	text := c.print.OutputFormat == nil || *c.print.OutputFormat == ""
	if text {
		if err := show(created); err != nil {
			return err
		}
	}
	now, err := c.wait.client(ctx, c.kube, c.edit, key, created.GetUID(), readyOrStalled)
	if err != nil {
		return afterwards(err, key, "created")
	}
	if text {
		fmt.Fprintln(c.Out, credentialIs(now))
		return nil
	}
	if err := c.edit.Get(ctx, key, created); err != nil {
		return err
	}
	return show(created)
}

// credentialIs says where a new client's credential is.
func credentialIs(c *v1alpha1.M2MClient) string {
	if c.Status.SecretName == "" {
		return fmt.Sprintf("client_id %s, without a secret; tokens from %s", clean(c.Status.ClientID), clean(c.Status.TokenURL))
	}
	return fmt.Sprintf("client_id %s, in Secret %q with its client_secret; tokens from %s",
		clean(c.Status.ClientID), c.Status.SecretName, clean(c.Status.TokenURL))
}

// errNoSecretHere says that a client has no secret that a command could act on.
func errNoSecretHere(c *v1alpha1.M2MClient) error {
	if c.Spec.Secret == nil || c.Spec.Secret.Delivery != v1alpha1.DeliveryNone {
		return nil
	}
	if _, ok := c.Annotations[v1alpha1.AnnotationCredential]; ok || len(c.Status.Credentials) > 0 {
		return exempt{fmt.Errorf("its secret belongs to the management API: rotate it there, by POST /v1/m2m/clients/%s/secrets/rotate/start", clean(c.Status.ClientID))}
	}
	return exempt{errors.New("it has no secret (spec.secret.delivery is None): it authenticates by workloadIdentities or publicKeys")}
}
