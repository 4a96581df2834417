package main

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
)

func TestNewProjectSecret(t *testing.T) {
	issuer := &v1alpha1.ClusterM2MIssuer{}
	issuer.Name = "eu"
	for environment, form := range map[v1alpha1.Environment]string{
		v1alpha1.EnvironmentTest: `^secret-test-[0-9A-Za-z]{43}$`,
		"":                       `^secret-live-[0-9A-Za-z]{43}$`,
	} {
		issuer.Spec.Environment = environment
		value, s, err := newProjectSecret(rand.Reader, issuer, "m2m-system")
		if err != nil || !regexp.MustCompile(form).MatchString(value) {
			t.Fatal(value, err)
		}
		digest := sha256.Sum256([]byte(value))
		if string(s.Data[v1alpha1.ProjectSecretHashKey]) != hex.EncodeToString(digest[:]) || s.Annotations[v1alpha1.AnnotationLastFour] != value[len(value)-4:] {
			t.Errorf("%+v", s)
		}
		if !regexp.MustCompile(`^m2m-operator-project-eu-[0-9a-z]{8}$`).MatchString(s.Name) || !*s.Immutable || s.Type != v1alpha1.ProjectSecretType {
			t.Errorf("%+v", s)
		}
		text, err := yaml.Marshal(s)
		if err != nil || strings.Contains(string(text), value[12:]) {
			t.Errorf("the Secret has the project secret: %s %v", text, err)
		}
	}
	if _, _, err := newProjectSecret(bytes.NewReader(make([]byte, 20)), issuer, ""); err == nil {
		t.Error("a project secret of too little randomness")
	}
}

// Each character is as likely as the others: each byte that counts comes to one, and as
// many bytes come to each.
func TestRandomText(t *testing.T) {
	var all []byte
	for b := range 256 {
		all = append(all, byte(b))
	}
	for _, alphabet := range []string{lettersAndDigits, lowerAndDigits} {
		each := 256 / len(alphabet)
		text, err := randomText(bytes.NewReader(all), alphabet, each*len(alphabet))
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range alphabet {
			if n := strings.Count(text, string(r)); n != each {
				t.Errorf("%q comes %d times, not %d", r, n, each)
			}
		}
		if _, err := randomText(bytes.NewReader(all), alphabet, each*len(alphabet)+1); err == nil {
			t.Error("bytes count that prefer some characters")
		}
	}
}

func TestChosenSecret(t *testing.T) {
	all := []projectSecret{{Name: "a", LastFour: "1111"}, {Name: "b", LastFour: "1111"}, {Name: "c", LastFour: "2222"}, {Name: "d"}}
	for _, test := range []struct{ name, lastFour, want string }{
		{"a", "", "a"}, {"", "2222", "c"}, {"", "1111", ""}, {"x", "", ""}, {"", "3333", ""},
	} {
		s, err := chosenSecret(all, test.name, test.lastFour)
		if s.Name != test.want || (err == nil) != (test.want != "") {
			t.Errorf("%v: %q %v", test, s.Name, err)
		}
		if test.lastFour == "1111" && !slices.ContainsFunc([]string{err.Error()}, func(s string) bool { return strings.Contains(s, "a, b") }) {
			t.Error(err)
		}
	}
}
