package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/keyring"
)

func newKeysCommand(c *common) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keys",
		Short: "Export and import the signing keys of an issuer",
		Long: `The signing keys of an issuer are in a Secret of the operator's namespace. These
commands copy them out of a cluster and into one, as yourself: you need the right
to read, or to create and update, Secrets there.

What is exported holds private keys. Who has it can make any token of the issuer.`,
		Args: cobra.NoArgs,
	}
	cmd.AddCommand(newExportCommand(c), newImportCommand(c))
	return cmd
}

func newExportCommand(c *common) *cobra.Command {
	var issuer, output string
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write the signing keys of an issuer to a file",
		Long: `Writes the signing keys of an issuer, private ones included, to a new file that only
you can read, as JSON that "keys import" reads.`,
		Example: "  m2m-operator keys export --issuer default --output default-keys.json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return exportKeys(cmd.Context(), c, issuer, output, cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVar(&issuer, "issuer", v1alpha1.DefaultIssuer, "`name` of the ClusterM2MIssuer")
	cmd.Flags().StringVarP(&output, "output", "o", "", "`file` to write, which must not exist; - is the standard output (required)")
	return cmd
}

func newImportCommand(c *common) *cobra.Command {
	var issuer string
	var replace bool
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Give an issuer the signing keys of a file",
		Long: `Puts the signing keys that "keys export" wrote into the Secret that an issuer reads
its keys from. The issuer needn't be there yet: it finds them when it is created within
30 days.

Where the issuer has other keys already, nothing is changed without --replace: tokens
that these have signed would no longer verify.`,
		Example: "  m2m-operator keys import --issuer default default-keys.json",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return importKeys(cmd.Context(), c, issuer, args[0], replace, cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVar(&issuer, "issuer", v1alpha1.DefaultIssuer, "`name` of the ClusterM2MIssuer")
	cmd.Flags().BoolVar(&replace, "replace", false, "replace keys that the issuer has already")
	return cmd
}

// exported is the file with an issuer's keys.
type exported struct {
	Version int               `json:"version"`
	Issuer  string            `json:"issuer"`
	Entries map[string]string `json:"entries"` // of the Secret
}

const exportVersion = 1

// maxExport bounds a file that is read.
const maxExport = 1 << 20

func exportKeys(ctx context.Context, c *common, issuer, output string, stdout io.Writer) error {
	if output == "" {
		return errors.New("--output is missing: name a file for the private keys, or - for the standard output")
	}
	cluster, err := c.client()
	if err != nil {
		return err
	}
	secret := &corev1.Secret{}
	if err := cluster.Get(ctx, c.keysKey(issuer), secret); err != nil {
		return fmt.Errorf("reading the keys of issuer %q: %w", issuer, err)
	}
	if v1alpha1.IsMarked(secret) {
		return fmt.Errorf("the keys of issuer %q are not exported: Secret %s was made for an M2MClient", issuer, secret.Name)
	}
	if _, err := keyring.Parse(secret.Data); err != nil {
		return fmt.Errorf("the keys of issuer %q are not exported: %w", issuer, err)
	}
	e := exported{Version: exportVersion, Issuer: issuer, Entries: map[string]string{}}
	for name, value := range secret.Data {
		e.Entries[name] = string(value)
	}
	encoded, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding the keys: %w", err)
	}
	encoded = append(encoded, '\n')
	if output == "-" {
		_, err = stdout.Write(encoded)
		return err
	}
	if err := writeNew(output, encoded); err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, "The keys of issuer %q are in %s. Who has this file can make any token of the issuer: keep it safe.\n", issuer, output)
	return err
}

// writeNew writes a file that only its owner can read, and never over another.
func writeNew(name string, content []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("--output: %w", err)
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Close())
}

func importKeys(ctx context.Context, c *common, issuer, file string, replace bool, stdout io.Writer) error {
	data, ring, err := readExported(file)
	if err != nil {
		return err
	}
	cluster, err := c.client()
	if err != nil {
		return err
	}
	secret := &corev1.Secret{}
	err = cluster.Get(ctx, c.keysKey(issuer), secret)
	switch {
	case apierrors.IsNotFound(err):
		key := c.keysKey(issuer)
		secret = &corev1.Secret{ObjectMeta: metav1.ObjectMeta{
			Namespace: key.Namespace, Name: key.Name, Labels: map[string]string{v1alpha1.LabelManagedBy: v1alpha1.ManagedBy},
		}, Data: data}
		err = cluster.Create(ctx, secret)
	case err == nil && v1alpha1.IsMarked(secret):
		return fmt.Errorf("secret %s was made for an M2MClient, and would not be used as keys: delete it first", secret.Name)
	case err == nil:
		if others := otherKeys(secret, ring); len(others) > 0 && !replace {
			return fmt.Errorf("issuer %q has other keys already (%s): tokens that they have signed would no longer verify; if that is what you want, say --replace", issuer, others)
		}
		if secret.Labels == nil {
			secret.Labels = map[string]string{}
		}
		secret.Labels[v1alpha1.LabelManagedBy], secret.Data = v1alpha1.ManagedBy, data
		delete(secret.Annotations, v1alpha1.AnnotationKeepUntil) // what is imported is kept anew
		err = cluster.Update(ctx, secret)
	}
	if err != nil {
		return fmt.Errorf("writing the keys of issuer %q: %w", issuer, err)
	}
	_, err = fmt.Fprintf(stdout, "Issuer %q has %d keys of %s.\n", issuer, len(ring.Keys), file)
	return err
}

func readExported(file string) (map[string][]byte, keyring.Ring, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, keyring.Ring{}, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxExport+1))
	var e exported
	switch {
	case err != nil:
		return nil, keyring.Ring{}, err
	case len(content) > maxExport || json.Unmarshal(content, &e) != nil:
		return nil, keyring.Ring{}, fmt.Errorf("%s is not a file that \"keys export\" wrote", file)
	case e.Version != exportVersion:
		return nil, keyring.Ring{}, fmt.Errorf("%s has version %d, and this program reads version %d: use the program that wrote it", file, e.Version, exportVersion)
	}
	data := map[string][]byte{}
	for name, value := range e.Entries {
		data[name] = []byte(value)
	}
	ring, err := keyring.Parse(data)
	if err != nil {
		return nil, ring, fmt.Errorf("%s is damaged: %w", file, err)
	}
	// Only what was understood goes on.
	data, err = ring.Data()
	return data, ring, err
}

// otherKeys are the ids of a Secret's keys that a ring doesn't have, or what else it holds.
func otherKeys(secret *corev1.Secret, ring keyring.Ring) string {
	held, err := keyring.Parse(secret.Data)
	if err != nil {
		return fmt.Sprint(slices.Sorted(maps.Keys(secret.Data)))
	}
	var others []string
	for _, k := range held.Keys {
		if !slices.ContainsFunc(ring.Keys, func(mine keyring.Key) bool { return mine.ID == k.ID }) {
			others = append(others, k.ID)
		}
	}
	if len(others) == 0 {
		return ""
	}
	return fmt.Sprint(others)
}

func (c *common) keysKey(issuer string) client.ObjectKey {
	return client.ObjectKey{Namespace: c.namespace, Name: v1alpha1.SigningKeysSecretPrefix + issuer}
}

func (c *common) client() (client.Client, error) {
	config, err := c.restConfig()
	if err != nil {
		return nil, err
	}
	config.UserAgent = "m2m-operator-keys/" + version
	return client.New(config, client.Options{})
}
