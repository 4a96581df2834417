// Package journal reads and writes the record of a client's credential in its
// status: the journal of validity. Only the controller writes it; the token
// servers read it, and believe it where its seal holds.
package journal

import (
	"fmt"
	"slices"

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
	r := credential.Record{ClientID: s.ClientID, Seal: s.Seal}
	for i := range s.Credentials {
		c, err := parse(&s.Credentials[i])
		if err != nil {
			return credential.Record{ClientID: s.ClientID, Seal: unreadable}
		}
		r.Credentials = append(r.Credentials, c)
	}
	return r
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
	c := credential.Credential{Version: version, Role: credential.Role(s.Role), Hash: hash, CreatedAt: s.CreatedAt.UTC()}
	if s.LastFour != version.LastFour {
		return credential.Credential{}, fmt.Errorf("version %s and its last four characters differ", s.Version)
	}
	if s.NotAfter != nil {
		c.NotAfter = s.NotAfter.UTC()
	}
	return c, nil
}

// Write puts a record into a status, and leaves alone what is the same.
func Write(s *v1alpha1.M2MClientStatus, r credential.Record) {
	s.ClientID, s.Seal, s.ClientSecretLastFour = r.ClientID, r.Seal, ""
	if current, ok := r.Current(); ok {
		s.ClientSecretLastFour = current.Version.LastFour
	}
	if slices.EqualFunc(s.Credentials, r.Credentials, same) {
		return
	}
	s.Credentials = nil
	for _, c := range r.Credentials {
		s.Credentials = append(s.Credentials, format(c))
	}
}

func format(c credential.Credential) v1alpha1.CredentialStatus {
	s := v1alpha1.CredentialStatus{
		Version:   c.Version.String(),
		Role:      string(c.Role),
		Hash:      c.Hash.String(),
		LastFour:  c.Version.LastFour,
		CreatedAt: metav1.NewTime(c.CreatedAt),
	}
	if !c.NotAfter.IsZero() {
		notAfter := metav1.NewTime(c.NotAfter)
		s.NotAfter = &notAfter
	}
	return s
}

func same(s v1alpha1.CredentialStatus, c credential.Credential) bool {
	return equality.Semantic.DeepEqual(s, format(c))
}
