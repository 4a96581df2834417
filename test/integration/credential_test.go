package integration

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/test/eventually"
)

func TestManifestBecomesCredential(t *testing.T) {
	t.Parallel()
	c := shared.readyClient(t, nil)
	secret := shared.secret(t, c)
	var keys []string
	for key := range secret.Data {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	if got := strings.Join(keys, " "); got != "client_id client_secret issuer jwks_url scopes token_url" {
		t.Errorf("the Secret has the keys %s", got)
	}
	shared.waitAccepted(t, secret)
	for _, server := range shared.servers() {
		a := server.token(t, string(secret.Data["token_url"]), string(secret.Data["client_id"]), string(secret.Data["client_secret"]), "scope", "read:invoices")
		claims := server.claims(t, string(secret.Data["jwks_url"]), a.AccessToken)
		if claims["sub"] != c.Status.ClientID || claims["iss"] != string(secret.Data["issuer"]) || claims["scope"] != "read:invoices" {
			t.Errorf("claims %v", claims)
		}
		audit, err := os.ReadFile(server.Audit)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(audit), c.Status.ClientID) || strings.Contains(string(audit), string(secret.Data["client_secret"])) {
			t.Errorf("the audit log lacks the client, or has its secret")
		}
	}
	if out := shared.kubectl(t, "get", "m2m", "-n", c.Namespace); !strings.Contains(out, c.Status.ClientID) || !strings.Contains(out, "Active") {
		t.Errorf("kubectl get m2m:\n%s", out)
	}
	shared.kubectl(t, "wait", "--for=condition=Ready", "--timeout=10s", "-n", c.Namespace, "m2mclient/billing")
}

// A new client costs two writes, and a settled one none, through a restart too.
func TestWrites(t *testing.T) {
	c := shared.readyClient(t, nil)
	secret := shared.secret(t, c)
	if secret.Generation != 0 || len(secret.ManagedFields) != 1 {
		t.Errorf("the Secret was written more than once: %v", secret.ManagedFields)
	}
	statusWrites := slices.DeleteFunc(slices.Clone(c.ManagedFields), func(f metav1.ManagedFieldsEntry) bool { return f.Subresource != "status" })
	if len(statusWrites) != 1 {
		t.Errorf("the status has %d writers", len(statusWrites))
	}
	if err := shared.RestartController(t.Context()); err != nil {
		t.Fatal(err)
	}
	// The new controller has looked at every client when it has issued this one.
	marker := shared.readyClient(t, nil)
	after := &v1alpha1.M2MClient{ObjectMeta: c.ObjectMeta}
	shared.refresh(t, after)
	if after.ResourceVersion != c.ResourceVersion {
		t.Error("a settled client was written")
	}
	if s := shared.secret(t, c); s.ResourceVersion != secret.ResourceVersion {
		t.Error("the Secret of a settled client was written")
	}
	_ = marker
}

func TestApplyTwiceChangesNothing(t *testing.T) {
	t.Parallel()
	namespace := shared.namespace(t)
	for sample, name := range map[string]string{"m2mclient.yaml": "billing", "m2mclient-full.yaml": "reports", "m2mclient-workload.yaml": "shipping"} {
		manifest, err := os.ReadFile("../../config/samples/" + sample)
		if err != nil {
			t.Fatal(err)
		}
		text := strings.ReplaceAll(string(manifest), "namespace: default", "namespace: "+namespace)
		shared.kubectlInput(t, text, "apply", "--server-side", "-f", "-")
		c := &v1alpha1.M2MClient{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
		shared.waitReason(t, c, v1alpha1.ReasonIssued)
		version := c.ResourceVersion
		shared.kubectlInput(t, text, "apply", "--server-side", "-f", "-")
		shared.refresh(t, c)
		if c.ResourceVersion != version || c.Generation != 1 {
			t.Errorf("%s: applying it again changed it: generation %d", sample, c.Generation)
		}
	}
}

func TestInactiveAndDeleted(t *testing.T) {
	t.Parallel()
	c := shared.readyClient(t, nil)
	secret := shared.secret(t, c)
	shared.waitAccepted(t, secret)

	update(t, shared, c, func(c *v1alpha1.M2MClient) { c.Spec.State = v1alpha1.ClientInactive })
	shared.waitRefused(t, secret)
	if ready := shared.waitReason(t, c, v1alpha1.ReasonInactive); ready.Status != metav1.ConditionTrue {
		t.Errorf("an inactive client is as its manifest says, and Ready is %s", ready.Status)
	}
	checkOneAnswer(t, secret)

	update(t, shared, c, func(c *v1alpha1.M2MClient) { c.Spec.State = v1alpha1.ClientActive })
	shared.waitAccepted(t, secret)
	if again := shared.secret(t, c); again.ResourceVersion != secret.ResourceVersion {
		t.Error("the credential was not kept")
	}

	if err := shared.Delete(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	shared.waitRefused(t, secret)
	eventually.Right(t, func() string {
		if err := shared.Get(t.Context(), client.ObjectKeyFromObject(secret), &corev1.Secret{}); !apierrors.IsNotFound(err) {
			return fmt.Sprintf("the Secret of a deleted client: %v", err)
		}
		return ""
	})
}

// checkOneAnswer: unknown client, wrong secret, inactive client are one answer.
func checkOneAnswer(t *testing.T, inactive *corev1.Secret) {
	t.Helper()
	other := shared.secret(t, shared.readyClient(t, nil))
	url, server := string(inactive.Data["token_url"]), shared.servers()[0]
	shared.waitAccepted(t, other)
	want := server.token(t, url, string(inactive.Data["client_id"]), string(inactive.Data["client_secret"]))
	for name, got := range map[string]answer{
		"unknown client": server.token(t, url, "m2m-client-test-00000000-0000-4000-8000-000000000000", string(other.Data["client_secret"])),
		"wrong secret":   server.token(t, url, string(other.Data["client_id"]), string(inactive.Data["client_secret"])),
	} {
		if got.status != want.status || got.anonymous() != want.anonymous() {
			t.Errorf("%s: %d %s; an inactive client gets %d %s", name, got.status, got.body, want.status, want.body)
		}
	}
}

// Deleted and made again under its name, a client is another one.
func TestRecreatedClientIsAnother(t *testing.T) {
	t.Parallel()
	c := shared.readyClient(t, nil)
	secret := shared.secret(t, c)
	if err := shared.Delete(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	again := shared.newClient(t, c.Namespace, c.Name, nil)
	// The Secret of the first may be there until garbage collection takes it.
	shared.waitReason(t, again, v1alpha1.ReasonIssued)
	if again.Status.ClientID == c.Status.ClientID {
		t.Error("the client id was used again")
	}
	shared.waitRefused(t, secret)
	shared.waitAccepted(t, shared.secret(t, again))
}

func TestDrift(t *testing.T) {
	t.Parallel()
	t.Run("deleted Secret", func(t *testing.T) {
		c := shared.readyClient(t, nil)
		lost := shared.secret(t, c)
		if err := shared.Delete(t.Context(), lost.DeepCopy()); err != nil {
			t.Fatal(err)
		}
		shared.waitReplaced(t, c, lost)
	})
	t.Run("edited client_secret", func(t *testing.T) {
		c := shared.readyClient(t, nil)
		was := shared.secret(t, c)
		edited := was.DeepCopy()
		update(t, shared, edited, func(s *corev1.Secret) { s.Data["client_secret"] = []byte("my own, much nicer secret") })
		shared.waitReplaced(t, c, was)
		edited.Data["client_secret"] = []byte("my own, much nicer secret")
		shared.waitRefused(t, edited)
	})
	t.Run("older secret put back", func(t *testing.T) {
		c := shared.readyClient(t, nil)
		first := shared.secret(t, c)
		if err := shared.Delete(t.Context(), first.DeepCopy()); err != nil {
			t.Fatal(err)
		}
		second := shared.waitReplaced(t, c, first)
		update(t, shared, second.DeepCopy(), func(s *corev1.Secret) { s.Data, s.Annotations = first.Data, first.Annotations })
		eventually.Right(t, func() string {
			shared.refresh(t, c)
			if got := roles(c); got != "3C 2P 1P" {
				return "versions " + got
			}
			return ""
		})
		shared.waitAccepted(t, shared.secret(t, c))
	})
	t.Run("anything else edited", func(t *testing.T) {
		c := shared.readyClient(t, nil)
		was := shared.secret(t, c)
		update(t, shared, was.DeepCopy(), func(s *corev1.Secret) {
			s.Data["token_url"] = []byte("https://evil.example")
			s.Data["extra"] = []byte("x")
			delete(s.Labels, v1alpha1.LabelManagedBy)
			s.Annotations["example.com/note"] = "someone else's"
		})
		eventually.Right(t, func() string {
			s := shared.secret(t, c)
			_, extra := s.Data["extra"]
			if string(s.Data["token_url"]) != c.Status.TokenURL || extra || s.Labels[v1alpha1.LabelManagedBy] == "" {
				return fmt.Sprintf("not healed: %v %v", s.Labels, s.Annotations)
			}
			if string(s.Data["client_secret"]) != string(was.Data["client_secret"]) || s.Annotations["example.com/note"] == "" {
				return "healing took more than it should"
			}
			return ""
		})
	})
}

// waitReplaced waits for a new version after one was lost: both are valid.
func (o *operator) waitReplaced(t *testing.T, c *v1alpha1.M2MClient, lost *corev1.Secret) *corev1.Secret {
	t.Helper()
	id := c.Status.ClientID
	eventually.Right(t, func() string {
		o.refresh(t, c)
		if got := roles(c); got != "2C 1P" {
			return "versions " + got
		}
		return ""
	})
	now := o.secret(t, c)
	if string(now.Data["client_secret"]) == string(lost.Data["client_secret"]) || c.Status.ClientID != id {
		t.Errorf("the secret is the same, or the client id isn't")
	}
	o.waitAccepted(t, now)
	o.waitAccepted(t, lost)
	o.waitEvent(t, c, "SecretReplaced")
	return now
}

// waitEvent waits for an event about a client.
func (o *operator) waitEvent(t *testing.T, c *v1alpha1.M2MClient, reason string) {
	t.Helper()
	eventually.Right(t, func() string {
		events := &corev1.EventList{}
		if err := o.List(t.Context(), events, client.InNamespace(c.Namespace)); err != nil {
			return err.Error()
		}
		for _, e := range events.Items {
			if e.InvolvedObject.UID == c.UID && e.Reason == reason {
				return ""
			}
		}
		return "no event " + reason
	})
}

// Whoever may write a status gives nobody a credential.
func TestForgedStatus(t *testing.T) {
	t.Parallel()
	victim, attacker := shared.readyClient(t, nil), shared.readyClient(t, nil)
	victimSecret, attackerSecret := shared.secret(t, victim), shared.secret(t, attacker)
	shared.waitAccepted(t, victimSecret)
	for name, forge := range map[string]func(*v1alpha1.M2MClientStatus){
		"another client's status":     func(s *v1alpha1.M2MClientStatus) { *s = *victim.Status.DeepCopy() },
		"another client's id":         func(s *v1alpha1.M2MClientStatus) { s.ClientID = victim.Status.ClientID },
		"another client's credential": func(s *v1alpha1.M2MClientStatus) { s.Credentials = victim.Status.Credentials },
		"a credential more": func(s *v1alpha1.M2MClientStatus) {
			s.Credentials = append(s.Credentials, victim.Status.Credentials[0])
		},
		"an unreadable credential": func(s *v1alpha1.M2MClientStatus) { s.Credentials[0].Hash = "x" },
		"no seal":                  func(s *v1alpha1.M2MClientStatus) { s.Seal = "" },
		"nothing":                  loseStatus,
	} {
		shared.waitReason(t, attacker, v1alpha1.ReasonIssued)
		sealed := attacker.Status.DeepCopy()
		shared.writeStatus(t, attacker, forge)
		eventually.Right(t, func() string {
			shared.refresh(t, attacker)
			if attacker.Status.ClientID != sealed.ClientID || attacker.Status.Seal == "" || roles(attacker) != "1C" ||
				!meta.IsStatusConditionTrue(attacker.Status.Conditions, v1alpha1.ConditionReady) {
				return fmt.Sprintf("%s: not put right: %s %s", name, attacker.Status.ClientID, roles(attacker))
			}
			return ""
		})
		shared.waitAccepted(t, attackerSecret)
		shared.waitAccepted(t, victimSecret)
	}
	for _, server := range shared.servers() {
		a := server.token(t, victim.Status.TokenURL, victim.Status.ClientID, string(attackerSecret.Data["client_secret"]))
		if a.status != 401 {
			t.Errorf("the attacker's secret with the victim's id: %d", a.status)
		}
	}
	shared.waitEvent(t, attacker, "StatusForged")
}

func (o *operator) kubectl(t *testing.T, args ...string) string {
	t.Helper()
	return o.kubectlInput(t, "", args...)
}

func (o *operator) kubectlInput(t *testing.T, input string, args ...string) string {
	t.Helper()
	cmd := o.Cluster.Kubectl(t.Context(), args...)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(cmd.Args[1:], " "), err, out)
	}
	return string(out)
}
