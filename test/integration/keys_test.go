package integration

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/keyring"
	"github.com/m2m-operator/m2m-operator/test/eventually"
)

// keysOf are the ids of an issuer's keys by their state, the first of each.
func (o *operator) keysOf(t *testing.T, issuer *v1alpha1.ClusterM2MIssuer) map[v1alpha1.SigningKeyState]string {
	t.Helper()
	o.refresh(t, issuer)
	ids := map[v1alpha1.SigningKeyState]string{}
	for _, k := range issuer.Status.Keys {
		if ids[k.State] == "" {
			ids[k.State] = k.KeyID
		}
	}
	return ids
}

// published are the ids of the keys that a replica publishes.
func (s server) published(t *testing.T, issuer *v1alpha1.ClusterM2MIssuer) []string {
	t.Helper()
	response, err := http.Get(s.URL + "/v1/public/" + issuer.Spec.ProjectID + "/oauth2/jwks")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	var set struct {
		Keys []struct{ Kid string }
	}
	if err := json.Unmarshal(body, &set); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, k := range set.Keys {
		ids = append(ids, k.Kid)
	}
	return ids
}

// waitSigner waits until each replica signs with a key, and publishes these.
func (o *operator) waitSigner(t *testing.T, issuer *v1alpha1.ClusterM2MIssuer, secret *corev1.Secret, signer string, published ...string) {
	t.Helper()
	slices.Sort(published)
	for _, s := range o.servers() {
		eventually.Right(t, func() string {
			a := s.token(t, string(secret.Data["token_url"]), string(secret.Data["client_id"]), string(secret.Data["client_secret"]))
			token, _, err := jwt.NewParser().ParseUnverified(a.AccessToken, jwt.MapClaims{})
			if err != nil {
				return a.body
			}
			got := s.published(t, issuer)
			slices.Sort(got)
			if token.Header["kid"] != signer || !slices.Equal(got, published) {
				return fmt.Sprintf("signs with %v and publishes %q, not %s and %q", token.Header["kid"], got, signer, published)
			}
			return ""
		})
	}
}

// ring reads the signing keys of an issuer.
func (o *operator) ring(t *testing.T, issuer *v1alpha1.ClusterM2MIssuer) (*corev1.Secret, keyring.Ring) {
	t.Helper()
	secret := o.ownSecret(t, v1alpha1.SigningKeysSecretPrefix+issuer.Name)
	ring, err := keyring.Parse(secret.Data)
	if err != nil {
		t.Fatal(err)
	}
	return secret, ring
}

// A next key is always published; a leaked one is gone at once, and the next signs.
func TestSigningKeys(t *testing.T) {
	t.Parallel()
	issuer := shared.newIssuer(t, nil)
	secret := shared.secret(t, shared.readyClient(t, of(issuer)))
	first := shared.keysOf(t, issuer)
	active, next := first[v1alpha1.SigningKeyActive], first[v1alpha1.SigningKeyNext]
	if len(issuer.Status.Keys) != 2 || active == "" || next == "" {
		t.Fatalf("keys %+v", issuer.Status.Keys)
	}
	shared.waitSigner(t, issuer, secret, active, active, next)
	token := shared.getToken(t, secret)
	shared.waitActive(t, issuer, secret, token, true)

	update(t, shared, issuer, func(i *v1alpha1.ClusterM2MIssuer) {
		i.Spec.Signing = &v1alpha1.SigningSpec{Revoke: []string{active}}
	})
	eventually.Right(t, func() string {
		if now := shared.keysOf(t, issuer); now[v1alpha1.SigningKeyActive] != next || now[v1alpha1.SigningKeyNext] == "" {
			return fmt.Sprint(now)
		}
		return ""
	})
	second := shared.keysOf(t, issuer)[v1alpha1.SigningKeyNext]
	shared.waitSigner(t, issuer, secret, next, next, second)
	shared.waitActive(t, issuer, secret, token, false)
	shared.waitActive(t, issuer, secret, shared.getToken(t, secret), true)

	// A trigger while the next key is too young: it gets its date, two hours after it was published.
	update(t, shared, issuer, func(i *v1alpha1.ClusterM2MIssuer) {
		i.Spec.Signing.Rotation = &v1alpha1.KeyRotationSpec{Trigger: "now"}
	})
	eventually.Right(t, func() string {
		shared.refresh(t, issuer)
		last := issuer.Status.Keys[len(issuer.Status.Keys)-1]
		if last.ActiveFrom.Sub(last.PublishedAt.Time) != keyring.Publication {
			return fmt.Sprintf("%+v", last)
		}
		return ""
	})
}

// On demand the next key signs as soon as it has been published for two hours, at all
// replicas by its date; the former one stays published for its tokens.
func TestKeyRotationOnDemand(t *testing.T) {
	t.Parallel()
	o := ownOperator(t, "--propagation-delay=100ms")
	issuer := &v1alpha1.ClusterM2MIssuer{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.DefaultIssuer}}
	secret := o.secret(t, o.readyClient(t, nil))
	o.waitAccepted(t, secret)
	token := o.getToken(t, secret)
	aged, ring := o.ring(t, issuer)
	for i := range ring.Keys {
		ring.Keys[i].PublishedAt = ring.Keys[i].PublishedAt.Add(-3 * time.Hour)
	}
	data, err := ring.Data()
	if err != nil {
		t.Fatal(err)
	}
	aged.Data = data
	if err := o.Update(t.Context(), aged); err != nil {
		t.Fatal(err)
	}
	was := o.keysOf(t, issuer)
	update(t, o, issuer, func(i *v1alpha1.ClusterM2MIssuer) {
		i.Annotations = map[string]string{v1alpha1.AnnotationRotate: "now"}
	})
	eventually.Right(t, func() string {
		now := o.keysOf(t, issuer)
		if now[v1alpha1.SigningKeyActive] != was[v1alpha1.SigningKeyNext] || now[v1alpha1.SigningKeyRetired] != was[v1alpha1.SigningKeyActive] || now[v1alpha1.SigningKeyNext] == "" {
			return fmt.Sprint(now)
		}
		return ""
	})
	retired := issuer.Status.Keys[0]
	if retired.PublishedUntil == nil || retired.PublishedUntil.Sub(retired.RetiredAt.Time) != 24*time.Hour+keyring.ClockTolerance {
		t.Errorf("the retired key is %+v", retired)
	}
	now := o.keysOf(t, issuer)
	o.waitSigner(t, issuer, secret, was[v1alpha1.SigningKeyNext], was[v1alpha1.SigningKeyActive], was[v1alpha1.SigningKeyNext], now[v1alpha1.SigningKeyNext])
	o.waitActive(t, issuer, secret, token, true)
}

// The keys of a deleted issuer wait for it to come back.
func TestIssuerComesBack(t *testing.T) {
	t.Parallel()
	issuer := shared.newIssuer(t, nil)
	c := shared.readyClient(t, of(issuer))
	keys := shared.keysOf(t, issuer)
	again := &v1alpha1.ClusterM2MIssuer{ObjectMeta: metav1.ObjectMeta{Name: issuer.Name}, Spec: issuer.Spec}
	if err := shared.Delete(t.Context(), issuer); err != nil {
		t.Fatal(err)
	}
	shared.waitReason(t, c, v1alpha1.ReasonIssuerNotFound)
	eventually.Right(t, func() string {
		secret, _ := shared.ring(t, issuer)
		until, err := time.Parse(time.RFC3339, secret.Annotations[v1alpha1.AnnotationKeepUntil])
		if err != nil || time.Until(until) < 719*time.Hour || time.Until(until) > 720*time.Hour {
			return fmt.Sprintf("kept until %s, %v", secret.Annotations[v1alpha1.AnnotationKeepUntil], err)
		}
		return ""
	})
	if err := shared.Create(t.Context(), again); err != nil {
		t.Fatal(err)
	}
	shared.waitIssuer(t, again, v1alpha1.ReasonSigning)
	shared.waitReason(t, c, v1alpha1.ReasonIssued)
	if now := shared.keysOf(t, again); now[v1alpha1.SigningKeyActive] != keys[v1alpha1.SigningKeyActive] || now[v1alpha1.SigningKeyNext] != keys[v1alpha1.SigningKeyNext] {
		t.Errorf("keys %v became %v", keys, now)
	}
	eventually.Right(t, func() string {
		if secret, _ := shared.ring(t, again); secret.Annotations[v1alpha1.AnnotationKeepUntil] != "" {
			return "the keys still wait to be deleted"
		}
		return ""
	})
	// When their time is over they go.
	if err := shared.Delete(t.Context(), again); err != nil {
		t.Fatal(err)
	}
	secret, _ := shared.ring(t, again)
	update(t, shared, secret, func(s *corev1.Secret) {
		if s.Annotations == nil {
			s.Annotations = map[string]string{}
		}
		s.Annotations[v1alpha1.AnnotationKeepUntil] = time.Now().Add(-time.Second).UTC().Format(time.RFC3339)
	})
	eventually.Right(t, func() string {
		if err := shared.Get(t.Context(), client.ObjectKeyFromObject(secret), secret); !apierrors.IsNotFound(err) {
			return fmt.Sprint("the keys are still there: ", err)
		}
		return ""
	})
}

// Tokens of each algorithm verify against the keys that are published.
func TestAlgorithms(t *testing.T) {
	t.Parallel()
	for _, algorithm := range []string{"ES384", "RS384", "PS256", "EdDSA"} {
		issuer := shared.newIssuer(t, func(spec *v1alpha1.ClusterM2MIssuerSpec) {
			spec.Signing = &v1alpha1.SigningSpec{Algorithm: algorithm}
			spec.Token.Issuer = "stytch.com/" + spec.ProjectID
		})
		secret := shared.secret(t, shared.readyClient(t, of(issuer)))
		token := shared.getToken(t, secret)
		parsed, _, err := jwt.NewParser().ParseUnverified(token, jwt.MapClaims{})
		if err != nil || parsed.Header["alg"] != algorithm {
			t.Errorf("%s: %v, %v", algorithm, parsed, err)
		}
		if iss, _ := parsed.Claims.GetIssuer(); iss != "stytch.com/"+issuer.Spec.ProjectID {
			t.Errorf("iss is %q", iss)
		}
		shared.waitActive(t, issuer, secret, token, true) // the server verifies it
	}
}

// The issuer counts its clients.
func TestClientsAreCounted(t *testing.T) {
	t.Parallel()
	issuer := shared.newIssuer(t, nil)
	if issuer.Status.Clients == nil || *issuer.Status.Clients != 0 {
		t.Errorf("clients: %v", issuer.Status.Clients)
	}
	shared.readyClient(t, of(issuer))
	shared.readyClient(t, of(issuer))
	eventually.Right(t, func() string { // they are counted once a minute
		if shared.refresh(t, issuer); *issuer.Status.Clients != 2 {
			return fmt.Sprintf("%d clients, not 2", *issuer.Status.Clients)
		}
		return ""
	})
	if out := shared.kubectl(t, "get", "m2missuer", issuer.Name); !strings.Contains(out, "CLIENTS") {
		t.Errorf("%s", out)
	}
}

// Keys that were exported are the issuer's again after they were lost, and in another
// cluster; other keys are never replaced without a word.
func TestExportAndImport(t *testing.T) {
	t.Parallel()
	o := ownOperator(t)
	issuer := &v1alpha1.ClusterM2MIssuer{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.DefaultIssuer}}
	secret := o.secret(t, o.readyClient(t, nil))
	o.waitAccepted(t, secret)
	token := o.getToken(t, secret)
	keys := o.keysOf(t, issuer)
	file := filepath.Join(t.TempDir(), "keys.json")
	if out, err := o.keys(t, "export", "-o", file); err != nil || !strings.Contains(out, "keep it safe") {
		t.Fatalf("%v: %s", err, out)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if out, err := o.keys(t, "export", "-o", file); err == nil {
		t.Errorf("an existing file is written over: %s", out)
	}
	held, _ := o.ring(t, issuer)
	if err := o.Delete(t.Context(), held); err != nil {
		t.Fatal(err)
	}
	o.waitIssuer(t, issuer, v1alpha1.ReasonSigningKeyLost)
	if out, err := o.keys(t, "import", file); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	o.waitIssuer(t, issuer, v1alpha1.ReasonSigning)
	o.waitSigner(t, issuer, secret, keys[v1alpha1.SigningKeyActive], keys[v1alpha1.SigningKeyActive], keys[v1alpha1.SigningKeyNext])
	o.waitActive(t, issuer, secret, token, true)
	if out, err := o.keys(t, "import", file); err != nil {
		t.Errorf("the same keys again: %v: %s", err, out)
	}

	// Another issuer's place: its keys stay unless that is asked for.
	other := o.newIssuer(t, nil)
	was := o.keysOf(t, other)
	if out, err := o.keys(t, "import", "--issuer", other.Name, file); err == nil || !strings.Contains(out, "--replace") || !strings.Contains(out, was[v1alpha1.SigningKeyActive]) {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := o.keys(t, "import", "--issuer", other.Name, "--replace", file); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	eventually.Right(t, func() string {
		if now := o.keysOf(t, other); now[v1alpha1.SigningKeyActive] != keys[v1alpha1.SigningKeyActive] {
			return fmt.Sprint(now)
		}
		return ""
	})
	// Keys that wait for an issuer to come back wait anew.
	if err := o.Delete(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	waits, _ := o.ring(t, other)
	keptFor := func(least time.Duration) func() string {
		return func() string {
			waits, _ := o.ring(t, other)
			until, err := time.Parse(time.RFC3339, waits.Annotations[v1alpha1.AnnotationKeepUntil])
			if err != nil || time.Until(until) < least {
				return fmt.Sprintf("kept until %s, %v", waits.Annotations[v1alpha1.AnnotationKeepUntil], err)
			}
			return ""
		}
	}
	eventually.Right(t, keptFor(719*time.Hour))
	update(t, o, waits, func(s *corev1.Secret) {
		s.Annotations[v1alpha1.AnnotationKeepUntil] = time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	})
	if out, err := o.keys(t, "import", "--issuer", other.Name, file); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	eventually.Right(t, keptFor(719*time.Hour))
	damaged, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(strings.Replace(string(damaged), keys[v1alpha1.SigningKeyActive], "x", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := o.keys(t, "import", file); err == nil || strings.Contains(out, "PRIVATE KEY") {
		t.Errorf("a damaged file: %v: %s", err, out)
	}
}

// keys runs `m2m-operator keys` as the administrator.
func (o *operator) keys(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary, append([]string{"keys"}, args...)...)
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(kubeconfig, o.Cluster.Kubeconfig(), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd.Env = append(os.Environ(), "KUBECONFIG="+kubeconfig)
	out, err := cmd.CombinedOutput()
	return string(out), err
}
