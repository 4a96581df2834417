package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	ac "github.com/m2m-operator/m2m-operator/api/v1alpha1/applyconfiguration/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/catalogue"
	"github.com/m2m-operator/m2m-operator/internal/credential"
	"github.com/m2m-operator/m2m-operator/internal/journal"
	"github.com/m2m-operator/m2m-operator/internal/managementapi"
	"github.com/m2m-operator/m2m-operator/internal/policy"
)

// Create implements [managementapi.Clients]. The client and what its secret is checked
// with are one write; the controller copies the latter into the status.
func (s *Service) Create(ctx context.Context, by managementapi.Caller, c managementapi.Creation) (managementapi.Changed, error) {
	if err := s.ready(); err != nil {
		return managementapi.Changed{}, err
	}
	namespace := s.apiNamespace(by.Issuer)
	if err := s.mayCreate(ctx, by, namespace); err != nil {
		return managementapi.Changed{}, err
	}
	spec := creation(by, c)
	if err := s.check(by, namespace, &v1alpha1.M2MClientSpec{}, spec); err != nil {
		return managementapi.Changed{}, err
	}
	if err := s.checkChosen(by, namespace, c); err != nil {
		return managementapi.Changed{}, err
	}
	made, secret, err := s.make(ctx, by, namespace, c, spec)
	if err != nil {
		return managementapi.Changed{}, err
	}
	now, err := s.await(ctx, made, func(o *v1alpha1.M2MClient) bool {
		return o == nil && s.cluster.removedIn(made.Namespace) > version(made) || o != nil && (o.Status.CredentialSequence > 0 || stalled(o) != nil)
	})
	if err == nil && now != nil && now.Status.CredentialSequence > 0 {
		return changed(now, secret), nil
	}
	// Nobody will ever know its secret.
	s.unmake(ctx, made)
	switch {
	case err != nil:
		return managementapi.Changed{}, undone(err)
	case now == nil:
		return managementapi.Changed{}, conflict("the client was deleted by somebody else while it was made")
	case stalled(now).Reason == v1alpha1.ReasonClientIDTaken, stalled(now).Reason == v1alpha1.ReasonClientIDInUse:
		return managementapi.Changed{}, duplicate(c.ID)
	}
	return managementapi.Changed{}, conflict("the client could not be made: %s", stalled(now).Message)
}

func (s *Service) mayCreate(ctx context.Context, by managementapi.Caller, namespace string) error {
	if namespace == "" {
		return &managementapi.Problem{
			Status: http.StatusForbidden, Type: managementapi.TypeForbidden, Reason: "closed",
			Message: fmt.Sprintf("the management API of this project makes no clients: set spec.managementAPI.namespace of the ClusterM2MIssuer %q", by.Issuer),
		}
	}
	if by.Method == managementapi.ByProjectSecret {
		return nil
	}
	allowed, err := s.access.may(ctx, by, "create", namespace, "")
	if err == nil && !allowed {
		err = &managementapi.Problem{
			Status: http.StatusForbidden, Type: managementapi.TypeForbidden,
			Message: fmt.Sprintf("user %q may not create m2mclients in namespace %q: ask for a RoleBinding there", by.User.Name, namespace),
		}
	}
	return err
}

// creation is the spec of a new client.
func creation(by managementapi.Caller, c managementapi.Creation) *v1alpha1.M2MClientSpec {
	spec := &v1alpha1.M2MClientSpec{
		DisplayName: c.Name,
		Description: c.Description,
		ClientID:    c.ID,
		Scopes:      c.Scopes,
		Secret:      &v1alpha1.SecretSpec{Delivery: v1alpha1.DeliveryNone},
	}
	if by.Issuer != v1alpha1.DefaultIssuer {
		spec.IssuerRef = &v1alpha1.IssuerReference{Name: by.Issuer}
	}
	for key, value := range c.TrustedMetadata {
		if spec.TrustedMetadata == nil {
			spec.TrustedMetadata = map[string]apiextensionsv1.JSON{}
		}
		spec.TrustedMetadata[key] = apiextensionsv1.JSON{Raw: value}
	}
	return spec
}

// check refuses what the client would ask for and not get, unless it did before.
func (s *Service) check(by managementapi.Caller, namespace string, before, after *v1alpha1.M2MClientSpec) error {
	issuer := s.cluster.issuer(func(i *v1alpha1.ClusterM2MIssuer) bool { return i.Name == by.Issuer })
	if issuer == nil {
		return managementapi.NotFound()
	}
	allowed := s.cluster.allowed(issuer, namespace)
	known := policy.Resolve(before, &issuer.Spec, allowed).Violations
	var messages []string
	for _, v := range policy.Resolve(after, &issuer.Spec, allowed).Violations {
		if !slices.Contains(known, v) {
			messages = append(messages, v.Message)
		}
	}
	if messages != nil {
		return invalid("%s", strings.Join(messages, ". "))
	}
	return nil
}

// minSecretLength is the least length of a chosen secret, in characters.
const minSecretLength = 8

// checkChosen refuses an id that isn't free or may not be chosen, and a secret that
// could be guessed.
func (s *Service) checkChosen(by managementapi.Caller, namespace string, c managementapi.Creation) error {
	if c.Secret != "" {
		if bits := credential.Entropy(c.Secret); len(c.Secret) < minSecretLength || bits < credential.MinEntropy {
			return invalid("client_secret could be guessed: it has an estimated entropy of %.0f bits, under %d: %s; leave it out, and one is made",
				bits, credential.MinEntropy, credential.EntropyRule)
		}
	}
	if c.ID == "" {
		return nil
	}
	issuer := s.cluster.issuer(func(i *v1alpha1.ClusterM2MIssuer) bool { return i.Name == by.Issuer })
	var allowed policy.Allowance
	if issuer != nil {
		allowed = s.cluster.allowed(issuer, namespace)
	}
	switch {
	case !allowed.ChosenClientIDs:
		return invalid("client_id can't be chosen: ask for a grant with chosenClientIDs to namespace %q (spec.grants of the ClusterM2MIssuer %q), or leave it out, and one is made", namespace, by.Issuer)
	case credential.IsProjectID(c.ID):
		return invalid("client_id has the form of a project's id, which no client may have: choose another, or leave it out, and one is made")
	case credential.IsClientID(c.ID) && !allowed.ReservedClientIDs:
		return invalid("client_id has the form of those that the operator makes: ask for a grant with reservedClientIDs to namespace %q (spec.grants of the ClusterM2MIssuer %q), choose another, or leave it out, and one is made", namespace, by.Issuer)
	}
	project := s.cluster.issuer(func(i *v1alpha1.ClusterM2MIssuer) bool { return i.Spec.ProjectID == c.ID })
	if _, taken := s.cluster.catalogue.Client(by.Issuer, c.ID); taken || project != nil {
		return duplicate(c.ID)
	}
	return nil
}

func duplicate(id string) *managementapi.Problem {
	return &managementapi.Problem{
		Status: http.StatusConflict, Type: managementapi.TypeDuplicateID,
		Message: fmt.Sprintf("the client_id %q is taken: choose another, or leave it out, and one is made", id),
	}
}

// make writes a client with what its secret is checked with.
func (s *Service) make(ctx context.Context, by managementapi.Caller, namespace string, c managementapi.Creation, spec *v1alpha1.M2MClientSpec) (*v1alpha1.M2MClient, string, error) {
	name, err := credential.NewClientID(s.Rand, by.Live)
	if err != nil {
		return nil, "", err
	}
	first := credential.First{ClientID: c.ID, Secret: c.Secret}
	if first.ClientID == "" {
		first.ClientID = name
	}
	d, m, err := credential.NewDeposit(s.Now(), s.Rand, s.cluster.Pepper(), credential.Place{Namespace: namespace, Name: name}, first)
	if err != nil {
		return nil, "", err
	}
	text, err := journal.FormatDeposit(d)
	if err != nil {
		return nil, "", err
	}
	configuration := ac.M2MClient(name, namespace).
		WithLabels(map[string]string{v1alpha1.LabelManagedBy: v1alpha1.ManagementAPI}).
		WithAnnotations(map[string]string{v1alpha1.AnnotationCredential: text}).
		WithSpec(specConfiguration(spec))
	err = s.client.Apply(ctx, configuration, client.FieldOwner(v1alpha1.ManagementAPI))
	if apierrors.IsNotFound(err) {
		return nil, "", conflict("namespace %q, where the management API makes clients of the ClusterM2MIssuer %q, does not exist: create it", namespace, by.Issuer)
	}
	if err != nil {
		return nil, "", refused("making a client", err)
	}
	return applied(configuration), m.Value, nil
}

// unmake takes back a client whose secret was never shown.
func (s *Service) unmake(ctx context.Context, made *v1alpha1.M2MClient) {
	const patience = 5 * time.Second
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	err := s.client.Delete(ctx, made, client.Preconditions{UID: &made.UID})
	if client.IgnoreNotFound(err) != nil {
		s.cluster.log.Warn("A client that could not be made is left behind: delete it", "namespace", made.Namespace, "name", made.Name, "reason", err.Error())
	}
}

// stalled is why a client can't become what its manifest says; nil: it can.
func stalled(o *v1alpha1.M2MClient) *metav1.Condition {
	if !meta.IsStatusConditionTrue(o.Status.Conditions, v1alpha1.ConditionStalled) {
		return nil
	}
	return meta.FindStatusCondition(o.Status.Conditions, v1alpha1.ConditionStalled)
}

// Get implements [managementapi.Clients].
func (s *Service) Get(ctx context.Context, by managementapi.Caller, id string) (managementapi.Client, error) {
	o, err := s.find(ctx, by, id, "get")
	if err != nil {
		return managementapi.Client{}, err
	}
	return shown(o), nil
}

// Search implements [managementapi.Clients].
func (s *Service) Search(ctx context.Context, by managementapi.Caller, q managementapi.Search) (managementapi.Page, error) {
	if err := s.ready(); err != nil {
		return managementapi.Page{}, err
	}
	pepper := s.cluster.Pepper()
	var after catalogue.Position
	if q.Cursor != "" {
		var err error
		if after, err = catalogue.Open(pepper.CheckCursor, by.Issuer, q.Query, q.Cursor); err != nil {
			return managementapi.Page{}, &managementapi.Problem{Status: http.StatusBadRequest, Type: managementapi.TypeInvalidCursor, Message: err.Error()}
		}
	}
	visible, err := s.visible(ctx, by)
	if err != nil {
		return managementapi.Page{}, err
	}
	found, total, next, more := s.cluster.catalogue.Search(by.Issuer, q.Query, visible, after, q.Limit)
	page := managementapi.Page{Clients: make([]managementapi.Client, 0, len(found)), Total: total}
	for _, o := range found {
		page.Clients = append(page.Clients, shown(o))
	}
	if more {
		page.NextCursor = catalogue.Seal(pepper.SealCursor, by.Issuer, q.Query, next)
	}
	return page, nil
}

// Update implements [managementapi.Clients].
func (s *Service) Update(ctx context.Context, by managementapi.Caller, id string, c managementapi.Change) (managementapi.Changed, error) {
	found, err := s.find(ctx, by, id, "patch")
	if err != nil {
		return managementapi.Changed{}, err
	}
	written, err := s.change(ctx, found, false, func(live *v1alpha1.M2MClient, apply *ac.M2MClientApplyConfiguration) error {
		return s.edit(by, live, apply, c)
	})
	if err != nil {
		return managementapi.Changed{}, err
	}
	now, err := s.await(ctx, written, func(o *v1alpha1.M2MClient) bool { return o == nil || version(o) >= version(written) })
	if err != nil {
		return managementapi.Changed{}, undone(err)
	}
	if now == nil {
		return managementapi.Changed{}, managementapi.NotFound() // deleted meanwhile
	}
	return changed(now, ""), nil
}

// edit puts into a configuration what changes of a client, and nothing that stays.
func (s *Service) edit(by managementapi.Caller, live *v1alpha1.M2MClient, apply *ac.M2MClientApplyConfiguration, c managementapi.Change) error {
	if apply.Spec == nil {
		apply.WithSpec(ac.M2MClientSpec())
	}
	after := live.Spec.DeepCopy()
	if c.Name != nil {
		after.DisplayName = *c.Name
	}
	if c.Description != nil {
		after.Description = *c.Description
	}
	if c.Active != nil && *c.Active != (live.Spec.State != v1alpha1.ClientInactive) {
		after.State = v1alpha1.ClientInactive
		if *c.Active {
			after.State = v1alpha1.ClientActive
		}
	}
	if c.Scopes != nil {
		after.Scopes = *c.Scopes
	}
	if c.TrustedMetadata != nil {
		after.TrustedMetadata = merged(live.Spec.TrustedMetadata, c.TrustedMetadata)
	}
	if len(after.TrustedMetadata) > maxMetadataKeys {
		return invalid("trusted_metadata would have %d top-level keys, more than %d: remove some with null", len(after.TrustedMetadata), maxMetadataKeys)
	}
	if err := s.check(by, live.Namespace, &live.Spec, after); err != nil {
		return err
	}
	return applyChanges(apply, live, after)
}

// maxMetadataKeys is what the schema of M2MClients says.
const maxMetadataKeys = 20

// applyChanges sets what differs; where nothing does it returns errUnchanged. An
// equal value isn't set: the API would own it too, and its owner couldn't change it.
func applyChanges(apply *ac.M2MClientApplyConfiguration, live *v1alpha1.M2MClient, after *v1alpha1.M2MClientSpec) error {
	before, to := &live.Spec, apply.Spec
	unchanged := true
	for _, field := range []struct {
		name    string
		differs bool
		empty   bool // what it becomes
		owned   bool // by the API
		set     func()
	}{
		{"displayName", after.DisplayName != before.DisplayName, after.DisplayName == "", to.DisplayName != nil,
			func() { to.DisplayName = orNil(after.DisplayName) }},
		{"description", after.Description != before.Description, after.Description == "", to.Description != nil,
			func() { to.Description = orNil(after.Description) }},
		{"state", after.State != before.State, false, to.State != nil,
			func() { to.State = &after.State }},
		{"scopes", !slices.Equal(after.Scopes, before.Scopes), len(after.Scopes) == 0, to.Scopes != nil,
			func() { to.Scopes = after.Scopes }},
		{"trustedMetadata", !maps.EqualFunc(after.TrustedMetadata, before.TrustedMetadata, sameJSON), len(after.TrustedMetadata) == 0, to.TrustedMetadata != nil,
			func() { to.TrustedMetadata = after.TrustedMetadata }},
	} {
		if !field.differs {
			continue
		}
		// Leaving out a field that another owns would change nothing, and say nothing.
		if field.empty && !field.owned {
			return conflict("spec.%s of M2MClient %s in namespace %s belongs to %s: change it there", field.name, live.Name, live.Namespace, quoted(others(live, field.name)))
		}
		field.set()
		unchanged = false
	}
	if unchanged {
		return errUnchanged
	}
	return nil
}

func orNil(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

// sameJSON compares values, not how they are written.
func sameJSON(a, b apiextensionsv1.JSON) bool {
	if bytes.Equal(a.Raw, b.Raw) {
		return true
	}
	first, err := decoded(a.Raw)
	second, other := decoded(b.Raw)
	return err == nil && other == nil && reflect.DeepEqual(first, second)
}

func decoded(text []byte) (value any, err error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	return value, decoder.Decode(&value)
}

// merged is metadata with a patch of its top-level keys; null removes one.
func merged(metadata map[string]apiextensionsv1.JSON, patch map[string]json.RawMessage) map[string]apiextensionsv1.JSON {
	after := maps.Clone(metadata)
	if after == nil {
		after = map[string]apiextensionsv1.JSON{}
	}
	for key, value := range patch {
		if string(value) == "null" {
			delete(after, key)
			continue
		}
		after[key] = apiextensionsv1.JSON{Raw: value}
	}
	return after
}

// Delete implements [managementapi.Clients].
func (s *Service) Delete(ctx context.Context, by managementapi.Caller, id string) (managementapi.Changed, error) {
	found, err := s.find(ctx, by, id, "delete")
	if err != nil {
		return managementapi.Changed{}, err
	}
	err = retry.RetryOnConflict(contended, func() error { return s.tryDelete(ctx, found) })
	if problem, is := errors.AsType[*managementapi.Problem](err); is {
		return managementapi.Changed{}, problem
	}
	if client.IgnoreNotFound(err) != nil {
		return managementapi.Changed{}, refused("deleting a client", err)
	}
	now, err := s.await(ctx, found, func(o *v1alpha1.M2MClient) bool { return o == nil || !o.DeletionTimestamp.IsZero() })
	if err != nil {
		return managementapi.Changed{}, undone(err)
	}
	result := managementapi.Changed{Client: shown(found), Version: s.cluster.removedIn(found.Namespace), Namespace: found.Namespace}
	if now != nil {
		result.Version = version(now) // something else holds it back, and it gets no tokens
	}
	return result, nil
}

// tryDelete deletes a client as it is read; where somebody else wrote meanwhile it fails with
// the API server's conflict.
func (s *Service) tryDelete(ctx context.Context, found *v1alpha1.M2MClient) error {
	live, err := s.live(ctx, found)
	if err != nil {
		return err
	}
	if managers := others(live); len(managers) > 0 {
		return conflict("the client is managed by %s (M2MClient %s in namespace %s): delete it there", quoted(managers), live.Name, live.Namespace)
	}
	return s.client.Delete(ctx, live, client.Preconditions{UID: &live.UID, ResourceVersion: &live.ResourceVersion})
}

func quoted(names []string) string {
	var all []string
	for _, name := range names {
		all = append(all, fmt.Sprintf("%q", name))
	}
	return strings.Join(all, ", ")
}

// shown is what an answer says of a client.
func shown(o *v1alpha1.M2MClient) managementapi.Client {
	c := managementapi.Client{
		ID:              o.Status.ClientID,
		Name:            o.Spec.DisplayName,
		Description:     o.Spec.Description,
		Active:          o.Spec.State != v1alpha1.ClientInactive,
		Scopes:          o.Spec.Scopes,
		LastFour:        o.Status.ClientSecretLastFour,
		NextLastFour:    o.Status.NextClientSecretLastFour,
		TrustedMetadata: map[string]json.RawMessage{},
	}
	for key, value := range o.Spec.TrustedMetadata {
		c.TrustedMetadata[key] = value.Raw
	}
	return c
}

func changed(o *v1alpha1.M2MClient, secret string) managementapi.Changed {
	return managementapi.Changed{Client: shown(o), Secret: secret, Version: version(o), Namespace: o.Namespace}
}

// applied is a client as the API server answered it.
func applied(configuration *ac.M2MClientApplyConfiguration) *v1alpha1.M2MClient {
	o := &v1alpha1.M2MClient{}
	text, err := json.Marshal(configuration)
	if err == nil {
		err = json.Unmarshal(text, o)
	}
	if err != nil {
		panic(errors.Join(errors.New("a client can't be read that the API server answered"), err))
	}
	return o
}

// specConfiguration is a spec as server-side apply wants it.
func specConfiguration(spec *v1alpha1.M2MClientSpec) *ac.M2MClientSpecApplyConfiguration {
	c := ac.M2MClientSpec().
		WithSecret(ac.SecretSpec().WithDelivery(spec.Secret.Delivery)).
		WithScopes(spec.Scopes...).
		WithTrustedMetadata(spec.TrustedMetadata)
	c.DisplayName, c.Description, c.ClientID = orNil(spec.DisplayName), orNil(spec.Description), orNil(spec.ClientID)
	if spec.IssuerRef != nil {
		c.WithIssuerRef(ac.IssuerReference().WithName(spec.IssuerRef.Name))
	}
	return c
}
