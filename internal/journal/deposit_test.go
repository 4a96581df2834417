package journal

import (
	"crypto/rand"
	"reflect"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/credential"
)

func newDeposit(t testing.TB) (*credential.Pepper, credential.Deposit) {
	t.Helper()
	pepper, err := credential.NewPepper(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	at := credential.Place{Namespace: "m2m-api", Name: "orders"}
	d, _, err := credential.NewDeposit(time.Unix(1_700_000_000, 0), rand.Reader, pepper, at, credential.First{ClientID: "m2m-client-test-1"})
	if err != nil {
		t.Fatal(err)
	}
	if d, _, err = d.StartRotation(time.Unix(1_700_000_100, 0), rand.Reader, pepper, at, 1); err != nil {
		t.Fatal(err)
	}
	return pepper, d
}

// What is written is read again, and nothing that was altered is believed.
func TestDepositAnnotation(t *testing.T) {
	pepper, d := newDeposit(t)
	text, err := FormatDeposit(d)
	if err != nil {
		t.Fatal(err)
	}
	client := &v1alpha1.M2MClient{ObjectMeta: metav1.ObjectMeta{Namespace: "m2m-api", Name: "orders"}}
	if got := ObserveDeposit(client, pepper); got.State != credential.SealMissing {
		t.Fatal(got.State)
	}
	for name, test := range map[string]struct {
		text string
		want credential.SealState
	}{
		"as it is":        {text, credential.SealValid},
		"empty":           {"", credential.SealBroken},
		"not JSON":        {"orders", credential.SealBroken},
		"something after": {text + "{}", credential.SealBroken},
		"another id":      {strings.Replace(text, "test-1", "test-2", 1), credential.SealBroken},
		"another role":    {strings.Replace(text, "Next", "Previous", 1), credential.SealBroken},
		"another field":   {strings.Replace(text, `{`, `{"admin":true,`, 1), credential.SealBroken},
		"huge":            {strings.Replace(text, "test-1", strings.Repeat("1", maxDeposit), 1), credential.SealBroken},
	} {
		client.Annotations = map[string]string{v1alpha1.AnnotationCredential: test.text}
		got := ObserveDeposit(client, pepper)
		if got.State != test.want {
			t.Errorf("%s: %v", name, got.State)
		}
		if got.State == credential.SealValid && !reflect.DeepEqual(got.Deposit, utc(d)) {
			t.Errorf("%s: %+v, not %+v", name, got.Deposit, d)
		}
	}
}

func utc(d credential.Deposit) credential.Deposit {
	for i := range d.Credentials {
		d.Credentials[i].CreatedAt = d.Credentials[i].CreatedAt.UTC()
	}
	return d
}

// FuzzParseDeposit: anybody who may write M2MClients writes the annotation.
func FuzzParseDeposit(f *testing.F) {
	_, d := newDeposit(f)
	text, err := FormatDeposit(d)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add(`{"clientID":"a","sequence":1,"credentials":null,"seal":""}`)
	f.Fuzz(func(t *testing.T, text string) {
		d, err := ParseDeposit(text)
		if err != nil {
			return
		}
		again, err := FormatDeposit(d)
		if err != nil {
			t.Fatal(err)
		}
		if same, err := ParseDeposit(again); err != nil || !reflect.DeepEqual(same, d) {
			t.Fatalf("%+v became %+v: %v", d, same, err)
		}
	})
}
