package controllers

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/credential"
	"github.com/m2m-operator/m2m-operator/internal/policy"
)

// idRest is how long only the namespace that a client id was used in may take it again:
// who deletes a client and makes it anew mustn't lose its id to somebody who waits for it.
const idRest = time.Hour

// idClaims are the client ids that were chosen, by issuer and id: those that this process
// has let clients take and whose statuses it may not have seen yet, too. An id that the
// operator made is nobody's choice, and isn't kept.
type idClaims struct {
	mu    sync.Mutex
	by    map[string]client.ObjectKey
	of    map[client.ObjectKey]string
	freed map[string]freedID
}

// freedID is an id whose client was deleted.
type freedID struct {
	namespace string
	until     time.Time
}

// hold notes that a client has an id.
func (s *idClaims) hold(issuer, id string, key client.ObjectKey) {
	if id == "" || credential.IsClientID(id) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.set(idKey(issuer, id), key)
}

func (s *idClaims) set(name string, key client.ObjectKey) {
	if s.by == nil {
		s.by, s.of, s.freed = map[string]client.ObjectKey{}, map[client.ObjectKey]string{}, map[string]freedID{}
	}
	if by, held := s.by[name]; held && by != key {
		return
	}
	s.by[name], s.of[key] = key, name
}

// forget frees the id of a client that is gone.
func (s *idClaims) forget(key client.ObjectKey, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.freed, func(_ string, f freedID) bool { return !now.Before(f.until) })
	if name, ok := s.of[key]; ok {
		delete(s.by, name)
		delete(s.of, key)
		s.freed[name] = freedID{key.Namespace, now.Add(idRest)}
	}
}

// rests tells until when an id rests for another namespace than a client's; zero: it
// doesn't.
func (s *idClaims) rests(name string, key client.ObjectKey, now time.Time) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.resting(name, key, now)
}

func (s *idClaims) resting(name string, key client.ObjectKey, now time.Time) time.Time {
	if f := s.freed[name]; f.namespace != key.Namespace && now.Before(f.until) {
		return f.until
	}
	return time.Time{}
}

// take lets a client have an id, or tells that another was let have it, or until when it
// rests.
func (s *idClaims) take(name string, key client.ObjectKey, now time.Time) (taken bool, rests time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if by, held := s.by[name]; held && by != key {
		return true, time.Time{}
	}
	if rests = s.resting(name, key, now); rests.IsZero() {
		s.set(name, key)
	}
	return false, rests
}

// claim lets a client have an id that no seal of its own vouches for, or says why
// not: it must be permitted, and nobody else's.
func (r *ClientReconciler) claim(ctx context.Context, c *v1alpha1.M2MClient, out *outcome, d credential.Decision) (verdict, error) {
	id, issuer := d.Record.ClientID, out.issuer
	if d.Cause == credential.CauseIssued || d.Cause == credential.CauseDeposited && c.Spec.ClientID != "" {
		if refused := refusedChoice(c, out, id); refused.reason != "" {
			return refused, nil
		}
		if cameLate(c) {
			return idHolder{taken: true}.verdict(id), nil
		}
	}
	holder, err := r.idHolder(ctx, c, issuer, id)
	if err != nil || holder.taken {
		return holder.verdict(id), err
	}
	taken, rests := r.claims.take(idKey(issuer.Name, id), client.ObjectKeyFromObject(c), r.Now())
	switch {
	case taken:
		return idHolder{taken: true}.verdict(id), nil
	case !rests.IsZero():
		return waiting(v1alpha1.ReasonClientIDTaken, fmt.Sprintf(
			"a client of another namespace had the client id %q until lately: this one gets it at %s, unless it is taken by then; or choose another for a new M2MClient",
			id, rests.UTC().Format(time.RFC3339))), nil
	}
	return verdict{}, nil
}

// refusedChoice says why a client can't choose an id.
func refusedChoice(c *v1alpha1.M2MClient, out *outcome, id string) verdict {
	const instead = "or create an M2MClient without spec.clientID and importFrom"
	switch {
	case !out.allowed.ChosenClientIDs:
		return stalled(v1alpha1.ReasonClientIDNotPermitted, fmt.Sprintf(
			"the ClusterM2MIssuer %q doesn't let namespace %q choose client ids: ask for a grant with chosenClientIDs (spec.grants of the issuer), %s",
			out.issuer.Name, c.Namespace, instead))
	case credential.IsProjectID(id):
		return stalled(v1alpha1.ReasonClientIDReserved, fmt.Sprintf(
			"the client id %q has the form of a project's id, which no client may have: create an M2MClient with another", beginning(id, 128)))
	case credential.IsClientID(id) && !out.allowed.ReservedClientIDs:
		return stalled(v1alpha1.ReasonClientIDReserved, fmt.Sprintf(
			"the client id %q has the form of those that the operator makes, and may be another client's: to take over ids from elsewhere ask for a grant with reservedClientIDs (spec.grants of the issuer), to get an earlier one of this client back restore its Secret, %s",
			id, instead))
	}
	return verdict{}
}

// idHolder is what stands between a client and an id. The zero value is nothing.
type idHolder struct {
	taken     bool   // by a project or another client, or it was when this one asked for it first
	neighbour string // the name of the other client, if it is in the same namespace
}

// verdict tells of it. A client waits for what its own namespace may do. Nobody gets an
// id by waiting for the client of another namespace to be deleted.
func (h idHolder) verdict(id string) verdict {
	id = beginning(id, 128)
	switch {
	case !h.taken:
		return verdict{}
	case h.neighbour != "":
		return stalled(v1alpha1.ReasonClientIDInUse, fmt.Sprintf(
			"the client id %q belongs to M2MClient %q: delete that, or choose another for a new M2MClient", id, h.neighbour))
	}
	return stalled(v1alpha1.ReasonClientIDTaken, fmt.Sprintf(
		"the client id %q belongs to another client or project, or did when this M2MClient was made: choose another for a new one", id))
}

// idHolder finds who has an id. A client that has a credential keeps its id; of those
// that have none, and may choose, the oldest comes first.
func (r *ClientReconciler) idHolder(ctx context.Context, c *v1alpha1.M2MClient, issuer *v1alpha1.ClusterM2MIssuer, id string) (idHolder, error) {
	issuers := &v1alpha1.ClusterM2MIssuerList{}
	if err := r.Client.List(ctx, issuers, client.UnsafeDisableDeepCopy); err != nil {
		return idHolder{}, err
	}
	for i := range issuers.Items {
		if issuers.Items[i].Spec.ProjectID == id {
			return idHolder{taken: true}, nil
		}
	}
	others := &v1alpha1.M2MClientList{}
	if err := r.Client.List(ctx, others, client.MatchingFields{indexClientID: idKey(issuer.Name, id)}, client.UnsafeDisableDeepCopy); err != nil {
		return idHolder{}, err
	}
	for i := range others.Items {
		other := &others.Items[i]
		if other.UID == c.UID {
			continue
		}
		has := other.Status.ClientID == id && other.Status.Seal != ""
		comes, err := r.comesFirst(ctx, other, c, issuer, id)
		switch {
		case err != nil:
			return idHolder{}, err
		case !has && !comes:
		case other.Namespace == c.Namespace:
			return idHolder{taken: true, neighbour: other.Name}, nil
		default:
			return idHolder{taken: true}, nil
		}
	}
	return idHolder{}, nil
}

// cameLate tells whether a client was refused an id for good.
func cameLate(c *v1alpha1.M2MClient) bool {
	ready := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionReady)
	return ready != nil && ready.Reason == v1alpha1.ReasonClientIDTaken && c.Status.Seal == "" &&
		meta.IsStatusConditionTrue(c.Status.Conditions, v1alpha1.ConditionStalled)
}

// comesFirst tells whether another client that has no credential gets an id before this one.
func (r *ClientReconciler) comesFirst(ctx context.Context, other, c *v1alpha1.M2MClient, issuer *v1alpha1.ClusterM2MIssuer, id string) (bool, error) {
	if other.Status.Seal != "" || !older(other, c) || cameLate(other) ||
		!r.claims.rests(idKey(issuer.Name, id), client.ObjectKeyFromObject(other), r.Now()).IsZero() {
		return false, nil
	}
	namespace, err := r.namespace(ctx, other.Namespace)
	if err != nil || namespace == nil {
		return false, err
	}
	allowed := policy.Allow(&issuer.Spec, policy.Namespace{Name: namespace.Name, Labels: namespace.Labels})
	return allowed.ChosenClientIDs && (allowed.ReservedClientIDs || !credential.IsClientID(other.Spec.ClientID)), nil
}

func older(a, b *v1alpha1.M2MClient) bool {
	if !a.CreationTimestamp.Equal(&b.CreationTimestamp) {
		return a.CreationTimestamp.Before(&b.CreationTimestamp)
	}
	return a.UID < b.UID
}

func idKey(issuer, id string) string { return issuer + "/" + id }
