package journal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/credential"
)

// deposit is the form of a deposit in the annotation of a client.
type deposit struct {
	ClientID    string                      `json:"clientID"`
	Sequence    int64                       `json:"sequence"`
	Credentials []v1alpha1.CredentialStatus `json:"credentials"`
	Seal        string                      `json:"seal"`
}

// Bounds of a deposit: the secret that a client has, and the one that replaces it.
const (
	maxDeposited = 2
	maxDeposit   = 4096 // bytes
)

// FormatDeposit returns the value of the annotation.
func FormatDeposit(d credential.Deposit) (string, error) {
	out := deposit{ClientID: d.ClientID, Sequence: d.Sequence, Seal: d.Seal}
	for _, c := range d.Credentials {
		out.Credentials = append(out.Credentials, format(c))
	}
	text, err := json.Marshal(out)
	if err != nil {
		return "", fmt.Errorf("encoding the credential of a client: %w", err)
	}
	return string(text), nil
}

// ObserveDeposit reads and checks what the management API left with a client.
func ObserveDeposit(c *v1alpha1.M2MClient, pepper *credential.Pepper) credential.ObservedDeposit {
	text, ok := c.Annotations[v1alpha1.AnnotationCredential]
	if !ok {
		return credential.ObservedDeposit{}
	}
	d, err := ParseDeposit(text)
	if err != nil {
		return credential.ObservedDeposit{State: credential.SealBroken}
	}
	at := credential.Place{Namespace: c.Namespace, Name: c.Name}
	return credential.ObservedDeposit{State: pepper.CheckDeposit(at, d), Deposit: d}
}

var errDeposit = errors.New("not a credential that the management API wrote")

// ParseDeposit reads what [FormatDeposit] wrote. Its seal is for the caller to check.
func ParseDeposit(text string) (credential.Deposit, error) {
	var in deposit
	decoder := json.NewDecoder(bytes.NewReader([]byte(text)))
	decoder.DisallowUnknownFields()
	if len(text) > maxDeposit || decoder.Decode(&in) != nil || in.Sequence < 1 || in.ClientID == "" || len(in.Credentials) > maxDeposited {
		return credential.Deposit{}, errDeposit
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return credential.Deposit{}, errDeposit
	}
	d := credential.Deposit{ClientID: in.ClientID, Sequence: in.Sequence, Seal: in.Seal}
	for i := range in.Credentials {
		c, err := parse(&in.Credentials[i])
		if err != nil || c.Role != credential.RoleCurrent && c.Role != credential.RoleNext || !c.NotAfter.IsZero() || !c.RetireAfter.IsZero() {
			return credential.Deposit{}, errDeposit
		}
		d.Credentials = append(d.Credentials, c)
	}
	return d, nil
}
