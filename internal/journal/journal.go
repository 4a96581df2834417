// Package journal reads and writes the record of a client's credential in its
// status: the journal of validity. Only the controller writes it; the token
// servers read it, and believe it where its seal holds.
package journal

import (
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/credential"
)

// unreadable stands for the seal of a status that the operator can't have written.
const unreadable = "unreadable"

// Read returns the record in a status. One that can't be read comes back with a
// seal that can't hold.
func Read(s *v1alpha1.M2MClientStatus) credential.Record {
	r := credential.Record{
		ClientID:    s.ClientID,
		Since:       instant(s.ClientIDSince),
		LastNumber:  int(s.LastVersionNumber),
		RotatedAt:   instant(s.LastRotationTime),
		CancelledAt: instant(s.LastCancelTime),
		NotBefore:   instant(s.TokensNotBefore),
		Sequence:    s.CredentialSequence,
		Seal:        s.Seal,
	}
	if t := s.ObservedTriggers; t != nil {
		r.Triggers = credential.Triggers{Spec: t.Spec, Annotation: t.Annotation}
	}
	for i := range s.Credentials {
		c, err := parse(&s.Credentials[i])
		if err != nil {
			r.Credentials, r.Seal = nil, unreadable
			return r
		}
		r.Credentials = append(r.Credentials, c)
	}
	return r
}

// Only returns a status with nothing but the record.
func Only(s *v1alpha1.M2MClientStatus) v1alpha1.M2MClientStatus {
	return v1alpha1.M2MClientStatus{
		ClientID:           s.ClientID,
		ClientIDSince:      s.ClientIDSince,
		LastVersionNumber:  s.LastVersionNumber,
		LastRotationTime:   s.LastRotationTime,
		LastCancelTime:     s.LastCancelTime,
		TokensNotBefore:    s.TokensNotBefore,
		CredentialSequence: s.CredentialSequence,
		ObservedTriggers:   s.ObservedTriggers,
		Credentials:        s.Credentials,
		Seal:               s.Seal,
	}
}

func instant(t *metav1.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}

func stamp(t time.Time) *metav1.Time {
	if t.IsZero() {
		return nil
	}
	stamped := metav1.NewTime(t)
	return &stamped
}

func parse(s *v1alpha1.CredentialStatus) (credential.Credential, error) {
	version, err := credential.ParseVersion(s.Version)
	if err != nil {
		return credential.Credential{}, err
	}
	hash, err := credential.ParseHash(s.Hash)
	if err != nil {
		return credential.Credential{}, err
	}
	c := credential.Credential{
		Version:     version,
		Role:        credential.Role(s.Role),
		Hash:        hash,
		CreatedAt:   s.CreatedAt.UTC(),
		RetireAfter: instant(s.RetireAfter),
		NotAfter:    instant(s.NotAfter),
	}
	if s.LastFour != version.LastFour {
		return credential.Credential{}, fmt.Errorf("version %s and its last four characters differ", s.Version)
	}
	return c, nil
}

// Write puts a record into a status, and leaves alone what is the same.
func Write(s *v1alpha1.M2MClientStatus, r credential.Record) {
	s.ClientID, s.Seal, s.LastVersionNumber, s.CredentialSequence = r.ClientID, r.Seal, int64(r.LastNumber), r.Sequence
	s.ClientIDSince = stamp(r.Since)
	s.LastRotationTime, s.LastCancelTime, s.TokensNotBefore = stamp(r.RotatedAt), stamp(r.CancelledAt), stamp(r.NotBefore)
	s.ObservedTriggers = nil
	if r.Triggers != (credential.Triggers{}) {
		s.ObservedTriggers = &v1alpha1.RotationTriggers{Spec: r.Triggers.Spec, Annotation: r.Triggers.Annotation}
	}
	current, _ := r.Current()
	next, _ := r.Next()
	s.ClientSecretLastFour, s.NextClientSecretLastFour = current.Version.LastFour, next.Version.LastFour
	if slices.EqualFunc(s.Credentials, r.Credentials, same) {
		return
	}
	s.Credentials = nil
	for _, c := range r.Credentials {
		s.Credentials = append(s.Credentials, format(c))
	}
}

func format(c credential.Credential) v1alpha1.CredentialStatus {
	return v1alpha1.CredentialStatus{
		Version:     c.Version.String(),
		Role:        string(c.Role),
		Hash:        c.Hash.String(),
		LastFour:    c.Version.LastFour,
		CreatedAt:   metav1.NewTime(c.CreatedAt),
		RetireAfter: stamp(c.RetireAfter),
		NotAfter:    stamp(c.NotAfter),
	}
}

func same(s v1alpha1.CredentialStatus, c credential.Credential) bool {
	return equality.Semantic.DeepEqual(s, format(c))
}
