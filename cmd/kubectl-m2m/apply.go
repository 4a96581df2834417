package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/ownership"
)

// change is what one field of a client is to be; nil: this program gives it up.
type change struct {
	path  []string
	value any
}

func set(value any, path ...string) change { return change{path, value} }
func giveUp(path ...string) change         { return change{path, nil} }

// configuration is what to apply to a client for the changes, or nil where it is so
// already: applying an equal value would co-own the field, and the next apply of who
// owns it would conflict. It has all that this program owns so far, which an apply
// without it would remove, and holds for the object only as it was read.
func configuration(live *unstructured.Unstructured, changes []change) (*unstructured.Unstructured, error) {
	config, err := owned(live)
	if err != nil {
		return nil, err
	}
	changed := false
	for _, c := range changes {
		if c.value == nil {
			changed = remove(config.Object, c.path) || changed
			continue
		}
		now, found, err := unstructured.NestedFieldNoCopy(live.Object, c.path...)
		if err != nil {
			return nil, err
		}
		if found && equality.Semantic.DeepEqual(now, c.value) {
			continue
		}
		if err := unstructured.SetNestedField(config.Object, c.value, c.path...); err != nil {
			return nil, err
		}
		changed = true
	}
	if !changed {
		return nil, nil
	}
	config.SetGroupVersionKind(clientGVK)
	config.SetNamespace(live.GetNamespace())
	config.SetName(live.GetName())
	config.SetUID(live.GetUID())
	config.SetResourceVersion(live.GetResourceVersion())
	return config, nil
}

// owned is what this program applied to an object before and still owns.
func owned(live *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	config := &unstructured.Unstructured{Object: map[string]any{}}
	mine, others := &fieldpath.Set{}, &fieldpath.Set{}
	for _, e := range live.GetManagedFields() {
		fields, err := ownership.Fields(e)
		switch {
		case err != nil:
			return nil, err
		case e.Manager == fieldManager && e.Operation == metav1.ManagedFieldsOperationApply && e.Subresource == "":
			mine = fields
		default:
			others = others.Union(fields)
		}
	}
	for path := range mine.Leaves().All() {
		names, err := namesOf(path)
		if err != nil {
			return nil, err
		}
		value, found, err := unstructured.NestedFieldCopy(live.Object, names...)
		if err != nil || !found {
			continue // it is gone
		}
		// A map that is owned as a whole has no fields of others in it: this one was
		// applied empty, and what is in it now is theirs.
		if _, isMap := value.(map[string]any); isMap && !within(others, path).Empty() {
			value = map[string]any{}
		}
		if err := unstructured.SetNestedField(config.Object, value, names...); err != nil {
			return nil, err
		}
	}
	return config, nil
}

// namesOf are the names of the fields on a path. Items of lists are not among what this
// program applies.
func namesOf(path fieldpath.Path) ([]string, error) {
	var names []string
	for _, element := range path {
		if element.FieldName == nil {
			return nil, fmt.Errorf("the field manager %q owns %s, which this program doesn't set and can't keep: apply that with another --field-manager", fieldManager, path)
		}
		names = append(names, *element.FieldName)
	}
	return names, nil
}

// within are the fields below a path.
func within(fields *fieldpath.Set, path fieldpath.Path) *fieldpath.Set {
	for _, element := range path {
		fields = fields.WithPrefix(element)
	}
	return fields
}

// remove takes a field out, and with it the maps that it leaves empty: an empty spec
// that is applied would own all of it.
func remove(object map[string]any, path []string) bool {
	if _, found, err := unstructured.NestedFieldNoCopy(object, path...); err != nil || !found {
		return false
	}
	unstructured.RemoveNestedField(object, path...)
	for n := len(path) - 1; n > 0; n-- {
		parent, _, _ := unstructured.NestedMap(object, path[:n]...)
		if len(parent) > 0 {
			break
		}
		unstructured.RemoveNestedField(object, path[:n]...)
	}
	return true
}

// editor changes clients by server-side apply.
type editor struct {
	client.Client
	force  bool
	dryRun dryRun
}

func (e *editor) addFlags(cmd *cobra.Command) {
	e.dryRun = "none"
	cmd.Flags().BoolVar(&e.force, "force-conflicts", false, "take fields over that another field manager owns; it takes them back when it applies with force")
	cmd.Flags().Var(&e.dryRun, "dry-run", "none, server (the API server checks it, and keeps nothing), or client (nothing is sent)")
}

// attempts is how often a change is tried that others get in the way of: the operator
// and the token servers write to clients, too.
const attempts = 5

// edit changes a client as wanted says of it as it is now, and tells whether anything
// was to change.
func (e *editor) edit(ctx context.Context, key client.ObjectKey, wanted func(*v1alpha1.M2MClient) ([]change, error)) (*v1alpha1.M2MClient, bool, error) {
	for attempt := 1; ; attempt++ {
		c, changed, err := e.try(ctx, key, wanted)
		if !apierrors.IsConflict(err) || attempt == attempts {
			return c, changed, err
		}
	}
}

func (e *editor) try(ctx context.Context, key client.ObjectKey, wanted func(*v1alpha1.M2MClient) ([]change, error)) (*v1alpha1.M2MClient, bool, error) {
	live := &unstructured.Unstructured{}
	live.SetGroupVersionKind(clientGVK)
	if err := e.Get(ctx, key, live); err != nil {
		return nil, false, notThere(err, key)
	}
	c, err := typedClient(live)
	if err != nil {
		return nil, false, err
	}
	changes, err := wanted(c)
	if err != nil {
		return nil, false, err
	}
	config, err := configuration(live, changes)
	if err != nil || config == nil || e.dryRun == "client" {
		return c, config != nil, err
	}
	if err := e.apply(ctx, config); err != nil {
		return nil, false, err
	}
	c, err = typedClient(config)
	return c, true, err
}

// apply sends a configuration, which becomes the object that the API server has then.
func (e *editor) apply(ctx context.Context, config *unstructured.Unstructured) error {
	options := []client.ApplyOption{client.FieldOwner(fieldManager)}
	if e.force {
		options = append(options, client.ForceOwnership)
	}
	if e.dryRun == "server" {
		options = append(options, client.DryRunAll)
	}
	key := client.ObjectKeyFromObject(config)
	return ownersConflict(e.Apply(ctx, client.ApplyConfigurationFromUnstructured(config), options...), key)
}

func typedClient(u *unstructured.Unstructured) (*v1alpha1.M2MClient, error) {
	c := &v1alpha1.M2MClient{}
	return c, runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, c)
}

// notThere says how to find a client that wasn't found.
func notThere(err error, key client.ObjectKey) error {
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("there is no M2MClient %s: `kubectl m2m list -A` shows all", key)
	}
	return err
}

// ownersConflict says in place of an API server's conflict of field managers whose the
// fields are, and what to do. Other errors stay as they are.
func ownersConflict(err error, key client.ObjectKey) error {
	var lines []string
	for _, c := range ownership.Conflicts(err) {
		lines = append(lines, fmt.Sprintf("%s of M2MClient %s belongs to the field manager %q: %s", c.Field, key, c.Manager, instead(c.Manager)))
	}
	if lines == nil {
		return err
	}
	return errors.New(strings.Join(lines, "\n"))
}

// instead is what to do about a field of another manager.
func instead(manager string) string {
	switch {
	case manager == v1alpha1.ManagementAPI:
		return "change it through the management API, or pass --force-conflicts to take it over"
	case isPerson(manager):
		return "somebody set it by hand; pass --force-conflicts to take it over"
	}
	return "change it there (in Git), or pass --force-conflicts to take it over until the next sync"
}

// isPerson tells whether a field manager is a command of kubectl that changes what is
// there, which no pipeline would run again.
func isPerson(manager string) bool {
	switch manager {
	case "kubectl-edit", "kubectl-patch", "kubectl-annotate", "kubectl-label", "kubectl-create", "kubectl-replace":
		return true
	}
	return false
}

// dryRun is the value of --dry-run.
type dryRun string

func (d *dryRun) String() string { return string(*d) }
func (d *dryRun) Type() string   { return "mode" }

func (d *dryRun) Set(value string) error {
	switch value {
	case "none", "client", "server":
		*d = dryRun(value)
		return nil
	}
	return errors.New("must be none, client or server")
}

// off tells whether things are really done.
func (d *dryRun) off() bool { return *d != "client" && *d != "server" }

// suffix is what kubectl writes behind what it didn't do.
func (d *dryRun) suffix() string {
	switch *d {
	case "client":
		return " (dry run)"
	case "server":
		return " (server dry run)"
	}
	return ""
}
