package integration

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/test/eventually"
	"github.com/m2m-operator/m2m-operator/test/installation"
)

// legacySecret is what another system called a good secret.
const legacySecret = "q8Zr2LxWn5TbV0yKd4Hs"

// mayChoose lets a namespace choose client ids.
func (o *operator) mayChoose(t *testing.T, namespace string) {
	t.Helper()
	issuer := &v1alpha1.ClusterM2MIssuer{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.DefaultIssuer}}
	update(t, o, issuer, func(i *v1alpha1.ClusterM2MIssuer) {
		i.Spec.Grants = append(i.Spec.Grants, v1alpha1.Grant{
			Namespaces: v1alpha1.NamespaceSelection{Names: []string{namespace}}, ChosenClientIDs: true,
		})
	})
}

func (o *operator) legacy(t *testing.T, namespace string, labels map[string]string, id, secret string) *corev1.Secret {
	t.Helper()
	s := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "legacy", Labels: labels},
		Data:       map[string][]byte{"ID": []byte(id), "client_secret": []byte(secret)},
	}
	if err := o.Create(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	return s
}

func importing(name string) func(*v1alpha1.M2MClient) {
	return func(c *v1alpha1.M2MClient) {
		c.Spec.Secret = &v1alpha1.SecretSpec{ImportFrom: &v1alpha1.ImportSpec{Name: name, ClientIDKey: "ID"}}
	}
}

func TestImport(t *testing.T) {
	t.Parallel()
	namespace := shared.namespace(t)
	c := shared.newClient(t, namespace, "billing", importing("legacy"))
	shared.waitReason(t, c, v1alpha1.ReasonImportWaiting) // it isn't there yet
	legacy := shared.legacy(t, namespace, nil, "billing-"+namespace, legacySecret)
	eventually.Right(t, func() string {
		shared.refresh(t, c)
		if ready := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionReady); !strings.Contains(ready.Message, v1alpha1.LabelAdopt+": billing") {
			return "without the label: " + ready.Message
		}
		return ""
	})
	update(t, shared, legacy, func(s *corev1.Secret) { s.Labels = map[string]string{v1alpha1.LabelAdopt: "billing"} })
	shared.waitReason(t, c, v1alpha1.ReasonClientIDNotPermitted)
	shared.mayChoose(t, namespace)
	shared.waitReason(t, c, v1alpha1.ReasonIssued)
	secret := shared.secret(t, c)
	if string(secret.Data["client_id"]) != "billing-"+namespace || string(secret.Data["client_secret"]) != legacySecret {
		t.Errorf("the Secret holds id %s, or another secret", secret.Data["client_id"])
	}
	shared.waitAccepted(t, secret)
	rotated := shared.rotate(t, c)
	shared.waitAccepted(t, secret)
	shared.waitAccepted(t, rotated)
	for _, p := range shared.Processes() {
		if log, err := os.ReadFile(p.Log); err != nil || strings.Contains(string(log), legacySecret) {
			t.Errorf("%s: %v, or its log has the imported secret", p.Name, err)
		}
	}
	if out := shared.kubectl(t, "get", "m2m,events", "-n", namespace, "-o", "yaml"); strings.Contains(out, legacySecret) {
		t.Error("a status or an event has the imported secret")
	}
}

// A Secret may be taken over as it stands, and a short secret shows nothing of itself.
func TestImportInPlace(t *testing.T) {
	t.Parallel()
	namespace := shared.namespace(t)
	shared.mayChoose(t, namespace)
	const short = "q8Zr2LxWn5TbV0y"
	shared.legacy(t, namespace, map[string]string{v1alpha1.LabelAdopt: "billing", "mine": "stays"}, "in-place-"+namespace, short)
	c := shared.newClient(t, namespace, "billing", func(c *v1alpha1.M2MClient) {
		importing("legacy")(c)
		c.Spec.Secret.Name = "legacy"
	})
	shared.waitReason(t, c, v1alpha1.ReasonIssued)
	secret := shared.secret(t, c)
	if string(secret.Data["client_secret"]) != short || secret.Labels["mine"] != "stays" || secret.Labels[v1alpha1.LabelAdopt] != "" {
		t.Errorf("labels %v, keys %d", secret.Labels, len(secret.Data))
	}
	if c.Status.ClientSecretLastFour != "" || c.Status.Credentials[0].Version != "1-" {
		t.Errorf("of a secret under 16 characters the status says %q, version %q", c.Status.ClientSecretLastFour, c.Status.Credentials[0].Version)
	}
	shared.waitAccepted(t, secret)
}

func TestImportRefused(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ id, secret, says string }{
		"weak":     {"weak", "Password2026!", "under 80"},
		"no id":    {"", legacySecret, `no value for the key "ID"`},
		"no ASCII": {"id", legacySecret + "é", "printable ASCII"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			namespace := shared.namespace(t)
			shared.legacy(t, namespace, map[string]string{v1alpha1.LabelAdopt: "billing"}, test.id, test.secret)
			c := shared.newClient(t, namespace, "billing", importing("legacy"))
			condition := shared.waitReason(t, c, v1alpha1.ReasonImportRefused)
			if !strings.Contains(condition.Message, test.says) || strings.Contains(condition.Message, test.secret) {
				t.Errorf("message %q", condition.Message)
			}
		})
	}
}

func TestChosenClientID(t *testing.T) {
	t.Parallel()
	namespace, other := shared.namespace(t), shared.namespace(t)
	id := "chosen-" + namespace
	choosing := func(c *v1alpha1.M2MClient) { c.Spec.ClientID = id }
	stranger := shared.newClient(t, other, "billing", choosing)
	shared.waitReason(t, stranger, v1alpha1.ReasonClientIDNotPermitted)
	shared.mayChoose(t, namespace)
	c := shared.newClient(t, namespace, "billing", choosing)
	shared.waitReason(t, c, v1alpha1.ReasonIssued)
	if c.Status.ClientID != id {
		t.Errorf("client id %s", c.Status.ClientID)
	}
	// The holder keeps it, though the other asked first and is permitted now.
	shared.mayChoose(t, other)
	shared.waitReason(t, stranger, v1alpha1.ReasonClientIDTaken)
	shared.waitAccepted(t, shared.secret(t, c))
	// Nobody is called as a project is.
	issuer := &v1alpha1.ClusterM2MIssuer{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.DefaultIssuer}}
	shared.refresh(t, issuer)
	project := shared.newClient(t, namespace, "project", func(c *v1alpha1.M2MClient) { c.Spec.ClientID = issuer.Spec.ProjectID })
	shared.waitReason(t, project, v1alpha1.ReasonClientIDReserved)
}

// Of many that ask for one id at one time, one gets it.
func TestChosenClientIDRace(t *testing.T) {
	t.Parallel()
	namespace := shared.namespace(t)
	shared.mayChoose(t, namespace)
	var all []*v1alpha1.M2MClient
	for n := range 8 {
		all = append(all, shared.newClient(t, namespace, fmt.Sprintf("c%d", n), func(c *v1alpha1.M2MClient) { c.Spec.ClientID = "raced-" + namespace }))
	}
	holders := 0
	for _, c := range all {
		eventually.Right(t, func() string {
			shared.refresh(t, c)
			ready := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionReady)
			early := ready != nil && ready.Reason == v1alpha1.ReasonClientIDNotPermitted // the grant has not come through yet
			if early || c.Status.ObservedGeneration != c.Generation || meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionReconciling) != nil {
				return c.Name + " is undecided"
			}
			return ""
		})
		if c.Status.ClientID != "" {
			holders++
		}
	}
	if holders != 1 {
		t.Errorf("%d clients hold one id", holders)
	}
}

// A restore makes new UIDs: with the adopt label, and without owners, the Secret gives
// its credential to the new client. kube-controller-manager collects what has a dead owner.
func TestRestore(t *testing.T) {
	t.Parallel()
	c := shared.readyClient(t, nil)
	backup := shared.secret(t, c)
	id := c.Status.ClientID
	if err := shared.Delete(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	shared.waitRefused(t, backup)
	eventually.Right(t, func() string {
		if err := shared.Get(t.Context(), client.ObjectKeyFromObject(backup), &corev1.Secret{}); client.IgnoreNotFound(err) != nil || err == nil {
			return fmt.Sprintf("the Secret is not collected: %v", err)
		}
		return ""
	})
	restored := backup.DeepCopy()
	restored.ObjectMeta = metav1.ObjectMeta{Namespace: backup.Namespace, Name: backup.Name, Labels: backup.Labels, Annotations: backup.Annotations}

	// Without the label nothing comes back.
	unlabelled := restored.DeepCopy()
	if err := shared.Create(t.Context(), unlabelled); err != nil {
		t.Fatal(err)
	}
	again := shared.newClient(t, c.Namespace, c.Name, nil)
	shared.waitReason(t, again, v1alpha1.ReasonSecretConflict)
	shared.waitRefused(t, backup)

	update(t, shared, unlabelled, func(s *corev1.Secret) { s.Labels[v1alpha1.LabelAdopt] = c.Name })
	shared.waitReason(t, again, v1alpha1.ReasonIssued)
	if again.Status.ClientID != id || again.UID == c.UID || roles(again) != "1C" {
		t.Errorf("restored: id %s, versions %s", again.Status.ClientID, roles(again))
	}
	shared.waitAccepted(t, backup)
	now := shared.secret(t, again)
	if len(now.OwnerReferences) != 1 || now.OwnerReferences[0].UID != again.UID || now.Labels[v1alpha1.LabelAdopt] != "" {
		t.Errorf("the Secret's owners %v, labels %v", now.OwnerReferences, now.Labels)
	}
	shared.rotate(t, again)
	shared.waitAccepted(t, backup)
}

// The adopt label takes nothing from a client that is still there, nor from another
// namespace.
func TestAdoptSteals(t *testing.T) {
	t.Parallel()
	victim := shared.readyClient(t, nil)
	secret := shared.secret(t, victim)
	update(t, shared, secret, func(s *corev1.Secret) { s.Labels[v1alpha1.LabelAdopt] = "thief" })
	thief := shared.newClient(t, victim.Namespace, "thief", func(c *v1alpha1.M2MClient) {
		c.Spec.Secret = &v1alpha1.SecretSpec{Name: secret.Name}
	})
	shared.waitReason(t, thief, v1alpha1.ReasonSecretConflict)

	elsewhere := shared.namespace(t)
	stolen := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: elsewhere, Name: secret.Name, Annotations: secret.Annotations, Labels: map[string]string{
			v1alpha1.LabelAdopt: "billing", v1alpha1.LabelManagedBy: v1alpha1.ManagedBy,
		}},
		Data: secret.Data,
	}
	if err := shared.Create(t.Context(), stolen); err != nil {
		t.Fatal(err)
	}
	c := shared.newClient(t, elsewhere, "billing", nil)
	shared.waitReason(t, c, v1alpha1.ReasonSecretConflict)
	shared.waitAccepted(t, secret)
	if shared.refresh(t, victim); roles(victim) != "1C" {
		t.Errorf("the victim's versions %s", roles(victim))
	}
}

// With Secret and status kept and the pepper lost, nothing changes until it is told
// to: then the client has a new secret under its id.
func TestPepperGivenUp(t *testing.T) {
	t.Parallel()
	o := ownOperator(t)
	told, kept := o.readyClient(t, func(c *v1alpha1.M2MClient) { rotation(c).Trigger = "old" }), o.readyClient(t, nil)
	before := o.secret(t, told)
	pepper := o.ownSecret(t, v1alpha1.PepperSecret)
	backup := pepper.DeepCopy()
	remove(t, o, pepper)
	if condition := o.waitReason(t, told, v1alpha1.ReasonPepperLost); !strings.Contains(condition.Message, "replace-lost-pepper=true") {
		t.Errorf("message %q", condition.Message)
	}
	empty := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{
		Namespace: installation.Namespace, Name: v1alpha1.PepperSecret,
		Annotations: map[string]string{"m2m-operator.dev/replace-lost-pepper": "true"},
	}}
	if err := o.Create(t.Context(), empty); err != nil {
		t.Fatal(err)
	}
	eventually.Right(t, func() string {
		for _, c := range []*v1alpha1.M2MClient{told, kept} {
			o.refresh(t, c)
			ready := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionReady)
			if ready.Reason != v1alpha1.ReasonPepperLost || !strings.Contains(ready.Message, v1alpha1.AnnotationRotate) {
				return "a client says " + ready.Message
			}
		}
		return ""
	})
	update(t, o, told, func(c *v1alpha1.M2MClient) {
		c.Annotations = map[string]string{v1alpha1.AnnotationRotate: "the pepper is lost"}
	})
	o.waitReason(t, told, v1alpha1.ReasonIssued)
	after := o.secret(t, told)
	if string(after.Data["client_id"]) != string(before.Data["client_id"]) || roles(told) != "2C" {
		t.Errorf("told to rotate: versions %s", roles(told))
	}
	o.waitAccepted(t, after)
	o.waitRefused(t, before)
	if o.refresh(t, kept); roles(kept) != "1C" {
		t.Errorf("not told to: versions %s", roles(kept))
	}
	// The old key, found again, joins the new one.
	update(t, o, empty, func(s *corev1.Secret) {
		for key, value := range backup.Data {
			if key != "active" {
				s.Data[key] = value
			}
		}
	})
	o.waitReason(t, kept, v1alpha1.ReasonIssued)
	o.waitAccepted(t, o.secret(t, kept))
}

// The pepper's key is replaced while clients work; the old one goes when nothing names it.
func TestPepperRotation(t *testing.T) {
	t.Parallel()
	o := ownOperator(t, "--propagation-delay=20ms")
	c := o.readyClient(t, nil)
	first := o.secret(t, c)
	pepper := o.ownSecret(t, v1alpha1.PepperSecret)
	old := string(pepper.Data["active"])
	update(t, o, pepper, func(s *corev1.Secret) { s.Annotations = map[string]string{v1alpha1.AnnotationRotate: "2026"} })
	eventually.Right(t, func() string {
		if o.refresh(t, pepper); string(pepper.Data["active"]) == old || pepper.Data["next"] != nil {
			return "the pepper's key has not been replaced"
		}
		return ""
	})
	if pepper.Data[old] == nil {
		t.Error("the old key is gone, and a client needs it")
	}
	o.waitAccepted(t, first)
	o.waitMetric(t, fmt.Sprintf(`m2m_pepper_key_uses{active="false",key="%s"} 3`, old))
	second := o.rotate(t, c)
	o.waitAccepted(t, first)
	o.waitAccepted(t, second)
	// A rotation hashes both secrets with the new key, and nothing names the old one.
	eventually.Right(t, func() string {
		if o.refresh(t, pepper); pepper.Data[old] != nil {
			return "the old key is still there"
		}
		return ""
	})
	o.waitAccepted(t, first)
	o.waitAccepted(t, second)
}

// waitMetric waits until the controller shows a line.
func (o *operator) waitMetric(t *testing.T, line string) {
	t.Helper()
	eventually.Right(t, func() string {
		body := get(t, o.MetricsURLs()["controller"])
		if !strings.Contains(body, line) {
			name, _, _ := strings.Cut(line, "{")
			return fmt.Sprintf("no %s, but %s", line, strings.Join(regexp.MustCompile("(?m)^"+name+".*").FindAllString(body, -1), ", "))
		}
		return ""
	})
}

func get(t *testing.T, url string) string {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}
