package main

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/credential"
	"github.com/m2m-operator/m2m-operator/internal/journal"
	"github.com/m2m-operator/m2m-operator/internal/keyring"
	"github.com/m2m-operator/m2m-operator/internal/registry"
	"github.com/m2m-operator/m2m-operator/internal/token"
)

// otherIssuer has clients that are refused at the one that is asked.
const otherIssuer = "other"

// newIndex is the index of the token server, fed as its watches feed it.
func (s *setup) newIndex() (*registry.Index, error) {
	index := registry.NewIndex(slog.New(slog.NewTextHandler(os.Stderr, nil)))
	pepper, err := credential.NewPepper(rand.Reader)
	if err != nil {
		return nil, err
	}
	index.SetNamespaces(map[string]map[string]string{accountNamespace: nil})
	index.SetPepper(&corev1.Secret{Data: pepper.Data()})
	if err := s.addIssuer(index, v1alpha1.DefaultIssuer, issuerURL, projectID); err != nil {
		return nil, err
	}
	if err := s.addIssuer(index, otherIssuer, "https://other.example.com", "project-live-other"); err != nil {
		return nil, err
	}
	index.SetAccount(token.Account{Namespace: accountNamespace, Name: accountName}, accountUID)
	clients := 0
	for n := range s.Clients {
		if s.Refusals && refusalOf(n).client == nil {
			continue
		}
		c, err := s.newClient(pepper, n)
		if err != nil {
			return nil, err
		}
		index.SetClient(c)
		clients++
	}
	if index.Clients() != clients {
		return nil, fmt.Errorf("the index serves %d of %d clients", index.Clients(), clients)
	}
	return index, nil
}

func (s *setup) addIssuer(index *registry.Index, name, url, project string) error {
	plan, err := keyring.Ring{}.Plan(keyring.Input{
		Now: time.Now(), Rand: rand.Reader, Algorithm: s.Algorithm, Interval: keyring.DefaultInterval, Longest: time.Hour,
	})
	if err != nil {
		return err
	}
	keys, err := plan.Ring.Data()
	if err != nil {
		return err
	}
	index.SetKeys(name, &corev1.Secret{Data: keys})
	index.SetIssuer(&v1alpha1.ClusterM2MIssuer{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v1alpha1.ClusterM2MIssuerSpec{URL: url, ProjectID: project, Grants: []v1alpha1.Grant{{
			Namespaces: v1alpha1.NamespaceSelection{Names: []string{"*"}}, Scopes: []string{"*"},
		}}},
	})
	return nil
}

// newClient is the n-th client, which is what the benchmark wants it for.
func (s *setup) newClient(pepper *credential.Pepper, n int) (*v1alpha1.M2MClient, error) {
	c := newClient(pepper, n, 1)
	if s.ClusterKey != nil && n == 0 {
		c.Spec.WorkloadIdentities = []v1alpha1.WorkloadIdentity{{ServiceAccountName: accountName}}
	}
	if s.Refusals {
		why := refusalOf(n)
		if why.name == wrongSecretOfThree {
			c.Status = newClient(pepper, n, 3).Status
		}
		return c, why.client(c)
	}
	if s.ClientKey == nil {
		return c, nil
	}
	c.Spec.PublicKeys = new(v1alpha1.PublicKeySet)
	return c, json.Unmarshal(s.ClientKey.JWKS, c.Spec.PublicKeys)
}

// newClient is a client as the controller leaves it.
func newClient(pepper *credential.Pepper, n, versions int) *v1alpha1.M2MClient {
	c := &v1alpha1.M2MClient{ObjectMeta: metav1.ObjectMeta{Namespace: accountNamespace, UID: types.UID(fmt.Sprintf("00000000-0000-4000-8000-%012d", n))}}
	c.Spec.Scopes = []string{"read:settings", "write:settings"}
	clientID, _ := credentialOf(n)
	record := credential.Record{ClientID: clientID, Credentials: newVersions(pepper, n, versions)}
	record.Seal = pepper.SealRecord(string(c.UID), record)
	journal.Write(&c.Status, record)
	return c
}

// newVersions are the versions of the n-th client's secret, the current one last.
func newVersions(pepper *credential.Pepper, n, number int) []credential.Credential {
	clientID, current := credentialOf(n)
	now := time.Now().Truncate(time.Second)
	var versions []credential.Credential
	for i := range number {
		_, secret := credentialOf(-1 - i)
		v := credential.Credential{Role: credential.RolePrevious, CreatedAt: now, NotAfter: now.Add(24 * time.Hour)}
		if i == number-1 {
			secret = current
			v.Role, v.NotAfter = credential.RoleCurrent, time.Time{}
		}
		v.Version = credential.Version{Number: i + 1, LastFour: secret[len(secret)-4:]}
		v.Hash = pepper.Hash(clientID, secret)
		versions = append(versions, v)
	}
	return versions
}
