package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
)

// restoration is the command restore.
type restoration struct {
	*kube
	cluster client.Client
	wait    waiting
	secret  string
	file    string
	dryRun  dryRun
}

func newRestoreCommand(k *kube) *cobra.Command {
	r := &restoration{kube: k, dryRun: "none"}
	cmd := &cobra.Command{
		Use:   "restore (NAME | -f FILE)",
		Short: "Give clients their earlier credentials back",
		Long: `Give clients their earlier credentials back, after a restore from a backup that made new
UIDs: an M2MClient takes over the Secret that the operator sealed for the one before it. The
pepper of then must be there (see docs/operations.md), and the namespace and the name of the
Secret must be the same.

With a name, the client and the Secret are there already: the Secret loses the reference to
its dead owner, for which garbage collection would remove it, and gets the label
` + v1alpha1.LabelAdopt + `.

With a file, which "kubectl get -o json" or "-o yaml" wrote, issuers are created first, then
Secrets of clients, and then clients; what exists is left as it is. If the file has clients,
Secrets of others are passed over. Nobody owns the fields of what was restored, so Git's next
apply takes them.`,
		Example: `  # The backup: keep it safe. JSON takes every text that a manifest may have, YAML doesn't
  kubectl get secrets -A -l ` + v1alpha1.LabelClient + ` -o json > backup.json
  kubectl get clusterm2missuers,m2mclients -A -o json >> backup.json

  # Into a new cluster
  kubectl m2m restore -f backup.json

  # A client was deleted and made again, and its Secret is still there
  kubectl m2m restore billing`,
		ValidArgsFunction: k.completeClient,
		RunE:              func(cmd *cobra.Command, args []string) error { return r.run(cmd.Context(), args) },
	}
	flags := cmd.Flags()
	flags.StringVar(&r.secret, "secret", "", "the Secret that has the credential; without it the one that the client is to have")
	flags.StringVarP(&r.file, "filename", "f", "", "a file with ClusterM2MIssuers, M2MClients and their Secrets; - reads standard input")
	flags.Var(&r.dryRun, "dry-run", "with -f: none, server (the API server checks it, and keeps nothing), or client (what would be created is written)")
	r.wait.addFlags(cmd, true, "until the clients are ready")
	return cmd
}

func (r *restoration) run(ctx context.Context, names []string) (err error) {
	if (len(names) != 1) == (r.file == "") {
		return errors.New("name one client, or a file by --filename")
	}
	if len(names) == 1 && !r.dryRun.off() {
		return errors.New("--dry-run is for --filename")
	}
	if r.cluster, err = r.client(); err != nil && r.dryRun != "client" {
		return err
	}
	namespace, err := r.namespace()
	if err != nil {
		return err
	}
	if r.file != "" {
		return r.restoreFile(ctx, namespace)
	}
	return r.adopt(ctx, client.ObjectKey{Namespace: namespace, Name: names[0]})
}

// adopt lets a client take over its Secret.
func (r *restoration) adopt(ctx context.Context, key client.ObjectKey) error {
	c := &v1alpha1.M2MClient{}
	if err := r.cluster.Get(ctx, key, c); err != nil {
		return notThere(err, key)
	}
	if c.Spec.Secret != nil && c.Spec.Secret.Delivery == v1alpha1.DeliveryNone {
		return errors.New("it has no Secret to take over (spec.secret.delivery is None)")
	}
	if r.secret == "" {
		r.secret = secretName(c)
	}
	secret := &corev1.Secret{}
	at := client.ObjectKey{Namespace: key.Namespace, Name: r.secret}
	if err := r.cluster.Get(ctx, at, secret); err != nil {
		if apierrors.IsNotFound(err) {
			return fmt.Errorf("there is no Secret %s: take it from a backup, and pass that by --filename", at)
		}
		return err
	}
	clients := &v1alpha1.M2MClientList{}
	if err := r.cluster.List(ctx, clients, client.InNamespace(key.Namespace)); err != nil {
		return err
	}
	if err := adoptable(c, secret, clients.Items); err != nil {
		return err
	}
	patch, err := adoption(c, secret)
	if err != nil {
		return err
	}
	version := secret.Annotations[v1alpha1.AnnotationVersion]
	if err := r.cluster.Patch(ctx, secret, client.RawPatch(types.MergePatchType, patch), client.FieldOwner(fieldManager)); err != nil {
		return err
	}
	return r.await(ctx, key, c.UID, version, "")
}

// await waits until a client has its earlier credential, and its id where that is known.
func (r *restoration) await(ctx context.Context, key client.ObjectKey, uid types.UID, version, id string) error {
	if !r.wait.on {
		fmt.Fprintf(r.Out, "%s%s restore requested\n", clientKind, key.Name)
		return nil
	}
	c, err := r.wait.client(ctx, r.kube, r.cluster, key, uid, ready)
	if err != nil {
		return afterwards(err, key, "told to take over its Secret")
	}
	if now := versionOf(c, roleCurrent); version != "" && now != version {
		return fmt.Errorf("M2MClient %s is ready, but with version %s of a secret and not %s: see `kubectl m2m get -n %s %s`", key, now, clean(version), key.Namespace, key.Name)
	}
	fmt.Fprintf(r.Out, "%s%s %s\n", clientKind, key.Name, restored(c, version, id))
	return nil
}

// restored says what a client has again, given the version that its Secret had, and its id
// if that is known: without a Secret, only the management API's clients have anything.
func restored(c *v1alpha1.M2MClient, version, was string) string {
	id := clean(c.Status.ClientID)
	switch {
	case version != "":
		return fmt.Sprintf("restored: client_id %s, version %s", id, clean(version))
	case c.Annotations[v1alpha1.AnnotationCredential] != "":
		return fmt.Sprintf("restored: client_id %s, with the secrets that the management API made", id)
	case was != "" && was != c.Status.ClientID:
		return fmt.Sprintf("is ready as client_id %s, and was %s: without a Secret only spec.clientID brings an id back", id, clean(was))
	}
	return fmt.Sprintf("is ready as client_id %s: there was no Secret of it to restore", id)
}

// secretName is the Secret that a client is to have.
func secretName(c *v1alpha1.M2MClient) string {
	if c.Spec.Secret != nil && c.Spec.Secret.Name != "" {
		return c.Spec.Secret.Name
	}
	return c.Name
}

// adoptable says why a client can't take over a Secret.
func adoptable(c *v1alpha1.M2MClient, secret *corev1.Secret, all []v1alpha1.M2MClient) error {
	uid := types.UID(secret.Annotations[v1alpha1.AnnotationClientUID])
	switch {
	case uid == c.UID:
		return fmt.Errorf("there is nothing to restore: Secret %q is the client's own already", secret.Name)
	case uid == "" || secret.Annotations[v1alpha1.AnnotationSeal] == "":
		return fmt.Errorf("the Secret %q has no seal of the operator: to import its values, name it in spec.secret.importFrom of a new M2MClient", secret.Name)
	case secret.Name != secretName(c):
		return fmt.Errorf("the client's Secret is %q, and a seal holds for one name: set spec.secret.name to %q first", secretName(c), secret.Name)
	case c.Status.Seal != "":
		return fmt.Errorf("the client has a credential of its own already, with client_id %s: delete it, create it again, and restore it before anything else", clean(c.Status.ClientID))
	}
	for i := range all {
		if all[i].UID == uid {
			return fmt.Errorf("the Secret %q belongs to the M2MClient %q, which is there", secret.Name, all[i].Name)
		}
	}
	return nil
}

// adoption is the patch that lets a client take over a Secret, as it was read: what
// other owners it has stays.
func adoption(c *v1alpha1.M2MClient, secret *corev1.Secret) ([]byte, error) {
	owners := []any{}
	for _, o := range secret.OwnerReferences {
		if o.Kind != clientGVK.Kind {
			owners = append(owners, o)
		}
	}
	return json.Marshal(map[string]any{"metadata": map[string]any{
		"resourceVersion": secret.ResourceVersion,
		"ownerReferences": owners,
		"labels":          map[string]string{v1alpha1.LabelAdopt: c.Name},
	}})
}

// restoreFile creates what a backup holds: Secrets first, so that no client gets another
// credential.
func (r *restoration) restoreFile(ctx context.Context, namespace string) error {
	content, err := r.read()
	if err != nil {
		return err
	}
	objects, err := parseBackup(content)
	if err != nil {
		return err
	}
	b := newBackup(objects, namespace)
	for _, skipped := range b.skipped {
		fmt.Fprintf(r.ErrOut, "Skipped: %s\n", skipped)
	}
	if len(b.all()) == 0 {
		return errors.New("the file has no ClusterM2MIssuers, no M2MClients and no Secrets of clients")
	}
	if r.dryRun == "client" {
		for _, o := range b.all() {
			fmt.Fprintf(r.Out, "%s created%s\n", what(o), r.dryRun.suffix())
		}
		return nil
	}
	return r.restoreAll(ctx, b)
}

func (r *restoration) restoreAll(ctx context.Context, b backup) error {
	var created []*unstructured.Unstructured
	var failures []error
	for _, o := range b.all() {
		made, err := r.create(ctx, o)
		switch {
		case err != nil:
			failures = append(failures, fmt.Errorf("%s: %w", fullName(o), err))
		case made:
			created = append(created, o)
		}
	}
	if !r.dryRun.off() {
		return errors.Join(failures...)
	}
	clients := map[client.ObjectKey]*unstructured.Unstructured{}
	var keys []client.ObjectKey
	for _, o := range created {
		switch o.GroupVersionKind() {
		case issuerGVK:
			failures = append(failures, r.release(ctx, o))
		case clientGVK:
			key := client.ObjectKeyFromObject(o)
			clients[key], keys = o, append(keys, key)
		}
	}
	failures = append(failures, r.each(keys, func(key client.ObjectKey) error {
		if err := r.release(ctx, clients[key]); err != nil {
			return err
		}
		return r.await(ctx, key, clients[key].GetUID(), b.versions[key], b.ids[key])
	}))
	return errors.Join(failures...)
}

func (r *restoration) read() ([]byte, error) {
	if r.file == "-" {
		return io.ReadAll(r.In)
	}
	return os.ReadFile(r.file)
}

// create makes an object of a backup, and tells whether it wasn't there.
func (r *restoration) create(ctx context.Context, o *unstructured.Unstructured) (bool, error) {
	options := []client.CreateOption{client.FieldOwner(fieldManager)}
	if r.dryRun == "server" {
		options = append(options, client.DryRunAll)
	}
	err := r.cluster.Create(ctx, o, options...)
	switch {
	case apierrors.IsAlreadyExists(err):
		fmt.Fprintf(r.Out, "%s exists, and is left as it is\n", what(o))
		return false, nil
	case err != nil:
		return false, err
	}
	fmt.Fprintf(r.Out, "%s created%s\n", what(o), r.dryRun.suffix())
	return true, nil
}

// release gives up the fields of an object that was created. They were never this
// program's own: who applies them next owns them. It waits for the operator's first
// status: of an object that nobody manages the API server would make all fields those
// of a manager of its own.
func (r *restoration) release(ctx context.Context, created *unstructured.Unstructured) error {
	key := client.ObjectKeyFromObject(created)
	err := r.wait.until(ctx, r.kube, what(created), func(ctx context.Context) (bool, string, error) {
		live := &unstructured.Unstructured{}
		live.SetGroupVersionKind(created.GroupVersionKind())
		if err := r.cluster.Get(ctx, key, live); err != nil {
			return unread(fmt.Errorf("it can't be read: %w", err), err)
		}
		if live.GetUID() != created.GetUID() {
			return false, "", errors.New("it was deleted, and made again")
		}
		patch, err := releasing(live)
		if err != nil {
			return false, "", err
		}
		if patch == nil {
			return false, "the operator has not seen it yet", nil
		}
		err = r.cluster.Patch(ctx, live, client.RawPatch(types.MergePatchType, patch))
		if apierrors.IsConflict(err) {
			return false, "others write to it", nil
		}
		return err == nil, "", err
	})
	if err != nil {
		return fmt.Errorf("%s was created, but %w", fullName(created), err)
	}
	return nil
}

// what names an object as kubectl does.
func what(o *unstructured.Unstructured) string {
	switch o.GroupVersionKind() {
	case clientGVK:
		return clientKind + o.GetName()
	case issuerGVK:
		return "clusterm2missuer.m2m-operator.dev/" + o.GetName()
	}
	return "secret/" + o.GetName()
}

// fullName names an object for who has many namespaces.
func fullName(o *unstructured.Unstructured) string {
	if o.GetNamespace() == "" {
		return what(o)
	}
	return what(o) + " of namespace " + o.GetNamespace()
}

// parseBackup reads objects of YAML documents or JSON, lists taken apart.
func parseBackup(content []byte) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(content), 4096)
	for {
		document := runtime.RawExtension{}
		err := decoder.Decode(&document)
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		o := &unstructured.Unstructured{}
		if err == nil && len(document.Raw) > 0 {
			err = utiljson.Unmarshal(document.Raw, &o.Object)
		}
		if err != nil {
			return nil, fmt.Errorf("the file is not what `kubectl get -o yaml` writes: %w", err)
		}
		if len(o.Object) == 0 {
			continue
		}
		items, found := o.Object["items"].([]any)
		if !found {
			objects = append(objects, o)
			continue
		}
		for _, item := range items {
			object, ok := item.(map[string]any)
			if !ok {
				return nil, errors.New("the file has a list of something else than objects")
			}
			objects = append(objects, &unstructured.Unstructured{Object: object})
		}
	}
}
