package policy

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
)

func duration(d time.Duration) *metav1.Duration { return &metav1.Duration{Duration: d} }

func TestLifetime(t *testing.T) {
	narrow := &v1alpha1.IssuerTokenSpec{Lifetime: duration(20 * time.Minute), MinLifetime: duration(10 * time.Minute), MaxLifetime: duration(30 * time.Minute)}
	for _, test := range []struct {
		name   string
		asked  *metav1.Duration
		issuer *v1alpha1.IssuerTokenSpec
		want   time.Duration
		reason string
	}{
		{"nothing said", nil, nil, time.Hour, ""},
		{"issuer's", nil, narrow, 20 * time.Minute, ""},
		{"client's own", duration(2 * time.Hour), nil, 2 * time.Hour, ""},
		{"at the bounds", duration(30 * time.Minute), narrow, 30 * time.Minute, ""},
		{"too long", duration(time.Hour), narrow, 30 * time.Minute, v1alpha1.ReasonLifetimeOutOfBounds},
		{"too short", duration(time.Minute), narrow, 10 * time.Minute, v1alpha1.ReasonLifetimeOutOfBounds},
	} {
		client := &v1alpha1.M2MClientSpec{}
		if test.asked != nil {
			client.Token = &v1alpha1.TokenSpec{Lifetime: test.asked}
		}
		e := Resolve(client, &v1alpha1.ClusterM2MIssuerSpec{ProjectID: "p", Token: test.issuer}, Allowance{})
		reason := ""
		if len(e.Violations) > 0 {
			reason = e.Violations[0].Reason
		}
		if e.Lifetime != test.want || reason != test.reason {
			t.Errorf("%s: %s, %q; want %s, %q", test.name, e.Lifetime, reason, test.want, test.reason)
		}
	}
}

func TestAudiences(t *testing.T) {
	for _, test := range []struct {
		name           string
		profile        v1alpha1.TokenProfile
		issuer, client []v1alpha1.Audience
		want, refused  []string
	}{
		{"Stytch, nothing named", v1alpha1.ProfileStytch, nil, nil, []string{"p"}, nil},
		{"Stytch, issuer's", "", []v1alpha1.Audience{"x"}, nil, []string{"p", "x"}, nil},
		{"Stytch, client's", "", []v1alpha1.Audience{"a"}, []v1alpha1.Audience{"b"}, []string{"p", "b"}, nil},
		{"Stytch, project named", "", nil, []v1alpha1.Audience{"a", "p"}, []string{"p", "a"}, nil},
		{"Stytch, some refused", "", nil, []v1alpha1.Audience{"x", "abc", "xa"}, []string{"p", "abc"}, []string{"x", "xa"}},
		{"RFC 9068, nothing named", v1alpha1.ProfileRFC9068, nil, nil, []string{"p"}, nil},
		{"RFC 9068, issuer's", v1alpha1.ProfileRFC9068, []v1alpha1.Audience{"a"}, nil, []string{"a"}, nil},
		{"RFC 9068, client's", v1alpha1.ProfileRFC9068, []v1alpha1.Audience{"a"}, []v1alpha1.Audience{"b", "c"}, []string{"b", "c"}, nil},
		{"RFC 9068, all refused", v1alpha1.ProfileRFC9068, []v1alpha1.Audience{"a"}, []v1alpha1.Audience{"x"}, []string{"p"}, []string{"x"}},
	} {
		issuer := &v1alpha1.ClusterM2MIssuerSpec{ProjectID: "p", Token: &v1alpha1.IssuerTokenSpec{Profile: test.profile, Audiences: test.issuer}}
		got, refused := audiences(&v1alpha1.TokenSpec{Audiences: test.client}, issuer, Allowance{audiences: patterns{"b", "c", "a*"}})
		if !slices.Equal(got, test.want) || !slices.Equal(refused, test.refused) {
			t.Errorf("%s: %q without %q, want %q without %q", test.name, got, refused, test.want, test.refused)
		}
	}
}

// The size that is judged is that of the JSON that would be sent.
func TestMetadataSize(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		metadata := map[string]apiextensionsv1.JSON{}
		for key, value := range rapid.MapOf(rapid.String(), rapid.String()).Draw(t, "metadata") {
			raw, err := json.Marshal(value)
			if err != nil {
				t.Fatal(err)
			}
			metadata[key] = apiextensionsv1.JSON{Raw: raw}
		}
		encoded, err := json.Marshal(metadata)
		if err != nil {
			t.Fatal(err)
		}
		if got := metadataSize(metadata); got != len(encoded) {
			t.Fatalf("%d, want %d: %s", got, len(encoded), encoded)
		}
	})
}

func TestMetadataLimit(t *testing.T) {
	for size, tooLarge := range map[int]bool{MaxMetadataBytes: false, MaxMetadataBytes + 1: true} {
		value := `"` + strings.Repeat("x", size-len(`{"k":""}`)) + `"`
		client := &v1alpha1.M2MClientSpec{TrustedMetadata: map[string]apiextensionsv1.JSON{"k": {Raw: []byte(value)}}}
		e := Resolve(client, &v1alpha1.ClusterM2MIssuerSpec{ProjectID: "p"}, Allowance{metadataKeys: patterns{"*"}})
		if (len(e.Violations) > 0) != tooLarge || (e.Metadata == nil) != tooLarge {
			t.Errorf("%d bytes: %+v", size, e.Violations)
		}
	}
}

// Of issuers that claim one thing exactly one has no rival, in whatever order they come.
func TestOneRivalWins(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var issuers []v1alpha1.ClusterM2MIssuer
		for _, name := range rapid.SliceOfNDistinct(rapid.StringMatching(`[a-z]{1,3}`), 1, 6, rapid.ID).Draw(t, "names") {
			issuer := v1alpha1.ClusterM2MIssuer{ObjectMeta: metav1.ObjectMeta{Name: name}}
			issuer.CreationTimestamp = metav1.Unix(int64(rapid.IntRange(0, 2).Draw(t, "age")), 0)
			issuer.Spec.URL, issuer.Spec.ProjectID = "https://a", name
			issuers = append(issuers, issuer)
		}
		winners := 0
		for i := range issuers {
			if Rival(&issuers[i], issuers) == nil {
				winners++
			}
		}
		if winners != 1 {
			t.Fatalf("%d winners", winners)
		}
	})
}
