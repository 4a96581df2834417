package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
)

// clientCommands create, show and change M2MClients.
func clientCommands(k *kube) []*cobra.Command {
	return []*cobra.Command{
		newCreateCommand(k),
		newListCommand(k),
		newGetCommand(k),
		newRotateCommand(k),
		newPromoteCommand(k),
		newCancelCommand(k),
		newRevokeCommand(k),
		newActivateCommand(k),
		newDeactivateCommand(k),
		newDeleteCommand(k),
		newRestoreCommand(k),
	}
}

// clientKind is how kubectl's output names a client.
const clientKind = "m2mclient.m2m-operator.dev/"

// The kinds as the API server knows them.
var (
	clientGVK = v1alpha1.SchemeGroupVersion.WithKind("M2MClient")
	issuerGVK = v1alpha1.SchemeGroupVersion.WithKind("ClusterM2MIssuer")
)

// selection is which clients a command acts on, where it isn't by name.
type selection struct {
	labels        string
	all           bool
	allNamespaces bool
}

func (s *selection) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&s.labels, "selector", "l", "", "act on the clients with these labels, such as team=billing")
	cmd.Flags().BoolVar(&s.all, "all", false, "act on all clients of the namespace")
	cmd.Flags().BoolVarP(&s.allNamespaces, "all-namespaces", "A", false, "with -l or --all: in all namespaces")
}

// check says what is wrong with a selection beside these names.
func (s *selection) check(names []string) error {
	switch {
	case len(names) > 0 && (s.all || s.labels != ""):
		return errors.New("name clients, or choose them by --selector or --all, not both")
	case s.all && s.labels != "":
		return errors.New("--all and --selector exclude each other")
	case len(names) > 0 && s.allNamespaces:
		return errors.New("names are of one namespace: leave out --all-namespaces, or use --all or --selector")
	case len(names) == 0 && !s.all && s.labels == "":
		return errors.New("name a client, or choose clients by --selector or --all")
	}
	return nil
}

// keys are the clients that are named or selected.
func (s *selection) keys(ctx context.Context, k *kube, cluster client.Client, names []string) ([]client.ObjectKey, error) {
	if err := s.check(names); err != nil {
		return nil, err
	}
	namespace, err := k.namespace()
	if err != nil {
		return nil, err
	}
	var keys []client.ObjectKey
	for _, name := range names {
		name = strings.TrimPrefix(name, clientKind) // as -o name writes it
		keys = append(keys, client.ObjectKey{Namespace: namespace, Name: name})
	}
	if len(names) > 0 {
		return keys, nil
	}
	if s.allNamespaces {
		namespace = ""
	}
	keys, err = clientKeys(ctx, cluster, namespace, s.labels)
	if err == nil && len(keys) == 0 {
		err = errors.New("no M2MClient is selected")
	}
	return keys, err
}

// exempt is why a command is none for a client. To a client that was named that is an
// error; of many it is passed over.
type exempt struct{ error }

// each acts on the clients that were named or selected.
func (s *selection) each(k *kube, keys []client.ObjectKey, act func(client.ObjectKey) error) error {
	if !s.all && s.labels == "" {
		return k.each(keys, act)
	}
	return k.each(keys, func(key client.ObjectKey) error {
		err := act(key)
		if _, ok := errors.AsType[exempt](err); !ok {
			return err
		}
		fmt.Fprintf(k.Out, "%s%s of namespace %s passed over: %v\n", clientKind, key.Name, key.Namespace, err)
		return nil
	})
}

// pageSize is how many objects are read at one time, as kubectl does.
const pageSize = 500

// clientKeys lists clients by name, of all namespaces where namespace is "".
func clientKeys(ctx context.Context, cluster client.Client, namespace, labels string) ([]client.ObjectKey, error) {
	var keys []client.ObjectKey
	options := &client.ListOptions{Namespace: namespace, Limit: pageSize, Raw: &metav1.ListOptions{LabelSelector: labels}}
	for {
		page := &metav1.PartialObjectMetadataList{}
		page.SetGroupVersionKind(v1alpha1.SchemeGroupVersion.WithKind("M2MClientList"))
		if err := cluster.List(ctx, page, options); err != nil {
			return nil, err
		}
		for i := range page.Items {
			keys = append(keys, client.ObjectKeyFromObject(&page.Items[i]))
		}
		if options.Continue = page.Continue; page.Continue == "" {
			return keys, nil
		}
	}
}

// each acts on clients one after the other. What fails is reported, and doesn't keep
// the others from being acted on.
func (k *kube) each(keys []client.ObjectKey, act func(client.ObjectKey) error) error {
	var failed []string
	for _, key := range keys {
		err := act(key)
		switch {
		case err == nil:
		case len(keys) == 1:
			return err
		default:
			fmt.Fprintf(k.ErrOut, "error: %s: %v\n", key, err)
			failed = append(failed, key.String())
		}
		if errors.Is(err, context.Canceled) {
			break
		}
	}
	if len(failed) > 0 {
		return fmt.Errorf("%d of %d clients failed: %s", len(failed), len(keys), strings.Join(failed, ", "))
	}
	return nil
}

// confirm asks whoever is at the terminal. Without one, --yes is needed.
func (k *kube) confirm(yes bool, what string) error {
	switch {
	case yes:
		return nil
	case !isTerminal(k.In):
		return fmt.Errorf("%s: pass --yes if that is what you want", what)
	}
	fmt.Fprintf(k.ErrOut, "%s. Go on? [y/N] ", what)
	var answer string
	if _, err := fmt.Fscanln(k.In, &answer); err != nil || !strings.EqualFold(answer, "y") && !strings.EqualFold(answer, "yes") {
		return errors.New("nothing was changed")
	}
	return nil
}

// named is the Args of commands on one or more clients.
func named(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("name a client: %s", cmd.UseLine())
	}
	return nil
}

// namedOne is the Args of commands on one client.
func namedOne(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("name one client: %s", cmd.UseLine())
	}
	return nil
}
