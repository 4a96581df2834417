package journal

import (
	"encoding/json"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/credential"
)

// A record survives the API server: what is read from a stored status is what was
// written into it, so that its seal holds.
func TestRoundTrip(t *testing.T) {
	pepper, err := credential.NewPepper(zeros{})
	if err != nil {
		t.Fatal(err)
	}
	instant := rapid.Custom(func(t *rapid.T) time.Time {
		return time.Unix(rapid.Int64Range(1, 1<<33).Draw(t, "second"), 0).UTC()
	})
	rapid.Check(t, func(t *rapid.T) {
		r := credential.Record{
			ClientID:   rapid.StringMatching(`[a-z-]{1,40}`).Draw(t, "id"),
			LastNumber: rapid.IntRange(0, 1<<30).Draw(t, "number"),
			Triggers:   credential.Triggers{Spec: rapid.String().Draw(t, "trigger"), Annotation: rapid.String().Draw(t, "annotation")},
		}
		for _, at := range []*time.Time{&r.RotatedAt, &r.CancelledAt} {
			if rapid.Bool().Draw(t, "happened") {
				*at = instant.Draw(t, "at")
			}
		}
		for n := range rapid.IntRange(0, credential.MaxVersions).Draw(t, "versions") {
			c := credential.Credential{
				Version:   credential.Version{Number: n + 1, LastFour: rapid.StringMatching(`([0-9A-Za-z]{4})?`).Draw(t, "four")},
				Role:      rapid.SampledFrom([]credential.Role{credential.RoleCurrent, credential.RoleNext, credential.RolePrevious}).Draw(t, "role"),
				Hash:      pepper.Hash(r.ClientID, "secret"),
				CreatedAt: instant.Draw(t, "created"),
			}
			if rapid.Bool().Draw(t, "ends") {
				c.RetireAfter, c.NotAfter = instant.Draw(t, "overlap"), instant.Draw(t, "end")
			}
			r.Credentials = append(r.Credentials, c)
		}
		r.Seal = pepper.SealRecord("uid", r)

		var status v1alpha1.M2MClientStatus
		Write(&status, r)
		stored, err := json.Marshal(status)
		if err != nil {
			t.Fatal(err)
		}
		var loaded v1alpha1.M2MClientStatus
		if err := json.Unmarshal(stored, &loaded); err != nil {
			t.Fatal(err)
		}
		if pepper.CheckRecord("uid", Read(&loaded)) != credential.SealValid {
			t.Fatalf("the seal of %s doesn't hold", stored)
		}
		if only := Only(&loaded); pepper.CheckRecord("uid", Read(&only)) != credential.SealValid {
			t.Fatalf("the seal of %s doesn't hold for its record alone", stored)
		}
		Write(&loaded, Read(&loaded))
		if again, err := json.Marshal(loaded); err != nil || string(again) != string(stored) {
			t.Fatalf("written again it is %s, not %s", again, stored)
		}
	})
}

func TestUnreadableIsNotSealed(t *testing.T) {
	pepper, err := credential.NewPepper(zeros{})
	if err != nil {
		t.Fatal(err)
	}
	good := v1alpha1.CredentialStatus{Version: "1-abcd", LastFour: "abcd", Role: "Current", Hash: pepper.Hash("id", "s").String()}
	for name, change := range map[string]func(*v1alpha1.CredentialStatus){
		"version":   func(c *v1alpha1.CredentialStatus) { c.Version = "one" },
		"hash":      func(c *v1alpha1.CredentialStatus) { c.Hash = "x" },
		"last four": func(c *v1alpha1.CredentialStatus) { c.LastFour = "wxyz" },
	} {
		bad := good
		change(&bad)
		status := v1alpha1.M2MClientStatus{ClientID: "id", Credentials: []v1alpha1.CredentialStatus{bad}, Seal: pepper.SealRecord("uid", credential.Record{ClientID: "id"})}
		if pepper.CheckRecord("uid", Read(&status)) != credential.SealBroken {
			t.Errorf("with another %s the seal isn't broken", name)
		}
	}
}

// zeros is no source of randomness: these tests need none.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
