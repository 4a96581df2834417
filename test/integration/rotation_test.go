package integration

import (
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/test/eventually"
)

func rotation(c *v1alpha1.M2MClient) *v1alpha1.RotationSpec {
	if c.Spec.Rotation == nil {
		c.Spec.Rotation = &v1alpha1.RotationSpec{}
	}
	return c.Spec.Rotation
}

// rotate asks for a rotation and waits until it has ended.
func (o *operator) rotate(t *testing.T, c *v1alpha1.M2MClient) *corev1.Secret {
	t.Helper()
	update(t, o, c, func(c *v1alpha1.M2MClient) { rotation(c).Trigger += "+" })
	o.waitReason(t, c, v1alpha1.ReasonIssued)
	return o.secret(t, c)
}

// waitRoles waits until the client has these versions.
func (o *operator) waitRoles(t *testing.T, c *v1alpha1.M2MClient, want string) {
	t.Helper()
	eventually.Right(t, func() string {
		if o.refresh(t, c); roles(c) != want {
			return fmt.Sprintf("versions %q, want %q; %+v", roles(c), want, c.Status.Conditions)
		}
		return ""
	})
}

// credentialOf is a Secret that holds another secret, to be tried at the servers.
func withSecret(s *corev1.Secret, key string) *corev1.Secret {
	other := s.DeepCopy()
	other.Data["client_secret"] = s.Data[key]
	return other
}

func TestRotationOnDemand(t *testing.T) {
	t.Parallel()
	c := shared.readyClient(t, func(c *v1alpha1.M2MClient) {
		rotation(c).Trigger = "as it was made"
		c.Annotations = map[string]string{v1alpha1.AnnotationRotate: "as it was made"}
	})
	before := shared.secret(t, c)
	if roles(c) != "1C" {
		t.Fatalf("a trigger that the client was made with: versions %s", roles(c))
	}
	update(t, shared, c, func(c *v1alpha1.M2MClient) { rotation(c).Trigger = "2026-11-22" })
	shared.waitReason(t, c, v1alpha1.ReasonIssued)
	after := shared.secret(t, c)
	if roles(c) != "2C 1P" || c.Status.LastRotationTime == nil || c.Status.Credentials[1].NotAfter.Sub(c.Status.LastRotationTime.Time) < 24*time.Hour {
		t.Errorf("after the trigger: versions %s, status %+v", roles(c), c.Status)
	}
	if string(after.Data["client_secret"]) == string(before.Data["client_secret"]) || string(after.Data["client_id"]) != string(before.Data["client_id"]) {
		t.Error("the Secret holds the same secret, or another id")
	}
	for _, s := range []*corev1.Secret{before, after} {
		shared.waitAccepted(t, s)
	}
	update(t, shared, c, func(c *v1alpha1.M2MClient) { c.Annotations[v1alpha1.AnnotationRotate] = "now" })
	shared.waitRoles(t, c, "3C 2P 1P")

	// Removing triggers does nothing, and neither does losing the status with them.
	update(t, shared, c, func(c *v1alpha1.M2MClient) { c.Annotations, c.Spec.Rotation = nil, nil })
	shared.waitReason(t, c, v1alpha1.ReasonIssued)
	update(t, shared, c, func(c *v1alpha1.M2MClient) { rotation(c).Trigger = "2026-11-22" })
	shared.waitReason(t, c, v1alpha1.ReasonIssued)
	if roles(c) != "3C 2P 1P" {
		t.Errorf("triggers removed and put back: versions %s", roles(c))
	}
	current := string(shared.secret(t, c).Data["client_secret"])
	shared.writeStatus(t, c, loseStatus)
	shared.waitRoles(t, c, "3C")
	if string(shared.secret(t, c).Data["client_secret"]) != current {
		t.Error("a lost status rotated the client")
	}
	shared.waitEvent(t, c, "SecretRotated")
}

func TestStagedRotation(t *testing.T) {
	t.Parallel()
	c := shared.readyClient(t, func(c *v1alpha1.M2MClient) { rotation(c).Mode = v1alpha1.RotationStaged })
	stage := func(trigger string) *corev1.Secret {
		t.Helper()
		update(t, shared, c, func(c *v1alpha1.M2MClient) { rotation(c).Trigger = trigger })
		shared.waitReason(t, c, v1alpha1.ReasonStaged)
		return shared.secret(t, c)
	}
	staged := stage("1")
	if roles(c) != "2N 1C" || c.Status.NextClientSecretLastFour != last4(staged, "next_client_secret") || c.Status.ClientSecretLastFour != last4(staged, "client_secret") {
		t.Errorf("versions %s, status %+v", roles(c), c.Status)
	}
	shared.waitAccepted(t, staged)
	shared.waitAccepted(t, withSecret(staged, "next_client_secret"))

	promote := &v1alpha1.StagedAction{Version: v1alpha1.SecretVersion(c.Status.Credentials[0].Version), Action: v1alpha1.StagedPromote}
	update(t, shared, c, func(c *v1alpha1.M2MClient) { rotation(c).Staged = promote })
	shared.waitReason(t, c, v1alpha1.ReasonIssued)
	promoted := shared.secret(t, c)
	if roles(c) != "2C 1P" || string(promoted.Data["client_secret"]) != string(staged.Data["next_client_secret"]) || promoted.Data["next_client_secret"] != nil {
		t.Errorf("promoted: versions %s, keys %d", roles(c), len(promoted.Data))
	}

	again := stage("2") // the manifest still says to promote 2
	if roles(c) != "3N 2C 1P" {
		t.Errorf("staged again: versions %s", roles(c))
	}
	dropped := withSecret(again, "next_client_secret")
	cancel := &v1alpha1.StagedAction{Version: v1alpha1.SecretVersion(c.Status.Credentials[0].Version), Action: v1alpha1.StagedCancel}
	update(t, shared, c, func(c *v1alpha1.M2MClient) { rotation(c).Staged = cancel })
	shared.waitReason(t, c, v1alpha1.ReasonIssued)
	if s := shared.secret(t, c); roles(c) != "2C 1P" || s.Data["next_client_secret"] != nil || c.Status.NextClientSecretLastFour != "" {
		t.Errorf("cancelled: versions %s, keys %d", roles(c), len(s.Data))
	}
	shared.waitRefused(t, dropped)

	// The same manifest for a client that is made anew does nothing.
	spec := c.Spec.DeepCopy()
	if err := shared.Delete(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	shared.waitRefused(t, promoted)
	fresh := shared.newClient(t, shared.namespace(t), "billing", func(c *v1alpha1.M2MClient) { c.Spec = *spec })
	shared.waitReason(t, fresh, v1alpha1.ReasonIssued)
	if roles(fresh) != "1C" || fresh.Status.ClientID == c.Status.ClientID {
		t.Errorf("made anew: versions %s, id %s", roles(fresh), fresh.Status.ClientID)
	}
}

func last4(s *corev1.Secret, key string) string {
	value := string(s.Data[key])
	return value[max(len(value)-4, 0):]
}

func TestRevoke(t *testing.T) {
	t.Parallel()
	c := shared.readyClient(t, nil)
	first := shared.secret(t, c)
	second := shared.rotate(t, c)
	revoke := func(versions ...string) {
		t.Helper()
		update(t, shared, c, func(c *v1alpha1.M2MClient) {
			for _, v := range versions {
				rotation(c).Revoke = append(rotation(c).Revoke, v1alpha1.SecretVersion(v))
			}
		})
		shared.waitReason(t, c, v1alpha1.ReasonIssued)
	}
	revoke(c.Status.Credentials[1].Version)
	if roles(c) != "2C" {
		t.Errorf("an earlier version revoked: versions %s", roles(c))
	}
	shared.waitRefused(t, first)
	shared.waitAccepted(t, second)

	revoke(c.Status.Credentials[0].Version)
	third := shared.secret(t, c)
	if roles(c) != "3C" || string(third.Data["client_secret"]) == string(second.Data["client_secret"]) {
		t.Errorf("the current version revoked: versions %s", roles(c))
	}
	shared.waitRefused(t, second)
	shared.waitAccepted(t, third)

	// Nobody brings a revoked one back: not by the Secret, not by the status.
	update(t, shared, shared.secret(t, c), func(s *corev1.Secret) {
		s.Data, s.Annotations = second.Data, second.Annotations
	})
	shared.waitRoles(t, c, "4C 3P")
	shared.waitRefused(t, second)
	shared.waitEvent(t, c, "SecretRevoked")
}

// Where no new secret can be delivered, a revoked one stops all the same.
func TestRevokeUndeliverable(t *testing.T) {
	t.Parallel()
	c := shared.readyClient(t, nil)
	secret := shared.secret(t, c)
	immutable := true
	update(t, shared, secret.DeepCopy(), func(s *corev1.Secret) { s.Immutable = &immutable })
	update(t, shared, c, func(c *v1alpha1.M2MClient) {
		rotation(c).Revoke = []v1alpha1.SecretVersion{v1alpha1.SecretVersion(c.Status.Credentials[0].Version)}
	})
	condition := shared.waitReason(t, c, v1alpha1.ReasonSecretConflict)
	if roles(c) != "" || !strings.Contains(condition.Message, "revoked") {
		t.Errorf("versions %q, message %q", roles(c), condition.Message)
	}
	shared.waitRefused(t, secret)
	if err := shared.Delete(t.Context(), secret.DeepCopy()); err != nil {
		t.Fatal(err)
	}
	shared.waitReason(t, c, v1alpha1.ReasonIssued)
	shared.waitAccepted(t, shared.secret(t, c))
	if string(shared.secret(t, c).Data["client_id"]) != string(secret.Data["client_id"]) {
		t.Error("the client has another id")
	}
}

func TestInactivePausesRotation(t *testing.T) {
	t.Parallel()
	c := shared.readyClient(t, nil)
	before := shared.secret(t, c)
	update(t, shared, c, func(c *v1alpha1.M2MClient) {
		c.Spec.State = v1alpha1.ClientInactive
		rotation(c).Trigger = "while inactive"
	})
	shared.waitReason(t, c, v1alpha1.ReasonInactive)
	shared.waitRefused(t, before)
	if roles(c) != "1C" {
		t.Errorf("inactive: versions %s", roles(c))
	}
	update(t, shared, c, func(c *v1alpha1.M2MClient) { c.Spec.State = "" })
	shared.waitRoles(t, c, "2C 1P")
	shared.waitReason(t, c, v1alpha1.ReasonIssued)
	shared.waitAccepted(t, before)
	shared.waitAccepted(t, shared.secret(t, c))
}

// A paused client is not written to, whatever happens to it.
func TestPause(t *testing.T) {
	t.Parallel()
	c := shared.readyClient(t, nil)
	secret := shared.secret(t, c)
	update(t, shared, c, func(c *v1alpha1.M2MClient) {
		c.Annotations = map[string]string{v1alpha1.AnnotationPause: "true"}
		rotation(c).Trigger = "while paused"
	})
	if err := shared.Delete(t.Context(), secret.DeepCopy()); err != nil {
		t.Fatal(err)
	}
	paused := c.ResourceVersion
	marker := shared.readyClient(t, nil)
	shared.rotate(t, marker) // by now all of it was seen
	if shared.refresh(t, c); c.ResourceVersion != paused {
		t.Error("the client was written")
	}
	if err := shared.Get(t.Context(), client.ObjectKeyFromObject(secret), &corev1.Secret{}); client.IgnoreNotFound(err) != nil || err == nil {
		t.Errorf("the Secret: %v", err)
	}
	shared.waitAccepted(t, secret)
	update(t, shared, c, func(c *v1alpha1.M2MClient) { c.Annotations = nil })
	shared.waitReason(t, c, v1alpha1.ReasonIssued)
	shared.waitAccepted(t, shared.secret(t, c))
}

// A changed name of the Secret rotates nothing, and running pods keep theirs, fresh.
func TestSecretRenamed(t *testing.T) {
	t.Parallel()
	c := shared.readyClient(t, nil)
	old := shared.secret(t, c)
	update(t, shared, c, func(c *v1alpha1.M2MClient) { c.Spec.Secret = &v1alpha1.SecretSpec{Name: "renamed"} })
	shared.waitReason(t, c, v1alpha1.ReasonIssued)
	renamed := shared.secret(t, c)
	if renamed.Name != "renamed" || roles(c) != "1C" || string(renamed.Data["client_secret"]) != string(old.Data["client_secret"]) {
		t.Errorf("Secret %s, versions %s", renamed.Name, roles(c))
	}
	rotated := shared.rotate(t, c)
	shared.refresh(t, old)
	if string(old.Data["client_secret"]) != string(rotated.Data["client_secret"]) {
		t.Error("the Secret of the old name is not kept fresh")
	}
	until, err := time.Parse(time.RFC3339, old.Annotations[v1alpha1.AnnotationKeepUntil])
	if err != nil || time.Until(until) < 23*time.Hour {
		t.Errorf("it is kept until %v, %v", until, err)
	}
	// When its time has come it goes.
	update(t, shared, old.DeepCopy(), func(s *corev1.Secret) {
		s.Annotations[v1alpha1.AnnotationKeepUntil] = time.Now().UTC().Format(time.RFC3339)
	})
	eventually.Right(t, func() string {
		if err := shared.Get(t.Context(), client.ObjectKeyFromObject(old), &corev1.Secret{}); client.IgnoreNotFound(err) != nil || err == nil {
			return fmt.Sprintf("the Secret of the old name: %v", err)
		}
		return ""
	})
	if shared.refresh(t, c); roles(c) != "2C 1P" {
		t.Errorf("versions %s", roles(c))
	}
	shared.waitAccepted(t, shared.secret(t, c))
}

func TestRestart(t *testing.T) {
	t.Parallel()
	o := ownOperator(t, "--restart-spacing=3s")
	c := o.newClient(t, o.namespace(t), "billing", func(c *v1alpha1.M2MClient) {
		rotation(c).Restart = []v1alpha1.Workload{{Kind: "Deployment", Name: "billing"}, {Kind: "StatefulSet", Name: "billing"}, {Kind: "DaemonSet", Name: "billing"}}
	})
	condition := o.waitReason(t, c, v1alpha1.ReasonRestartForbidden)
	if !strings.Contains(condition.Message, "config/restart") {
		t.Errorf("message %q", condition.Message)
	}
	o.waitAccepted(t, o.secret(t, c))
	if out, err := o.Cluster.Kubectl(t.Context(), "apply", "-k", "../../config/restart").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	workloads := newWorkloads(c.Namespace)
	for _, w := range workloads {
		if err := o.Create(t.Context(), w); err != nil {
			t.Fatal(err)
		}
	}
	o.controller(t, false)
	o.controller(t, true) // else it takes a minute
	o.waitReason(t, c, v1alpha1.ReasonIssued)
	if got := o.templates(t, workloads, c); got != "--- 1 1 1" {
		t.Errorf("for the first secret: %s", got)
	}
	// A workload says who may restart it: else nobody may, whoever writes an M2MClient.
	update(t, o, c, func(c *v1alpha1.M2MClient) { rotation(c).Trigger += "+" })
	if condition := o.waitReason(t, c, v1alpha1.ReasonRestartForbidden); !strings.Contains(condition.Message, "m2m-operator.dev/allow-restart=billing") {
		t.Errorf("message %q", condition.Message)
	}
	for i, w := range workloads {
		update(t, o, w, func(w client.Object) {
			w.SetAnnotations(map[string]string{v1alpha1.AnnotationAllowRestart: []string{"*", "other,billing", "billing"}[i]})
		})
	}
	o.stays(t, c, v1alpha1.ReasonIssued)
	if got, want := o.templates(t, workloads, c), strings.Repeat(c.Status.Credentials[0].Version, 3)+" 3 2 2"; got != want {
		t.Errorf("when they allow it: %s, want %s", got, want)
	}
	// It isn't restarted as often as somebody likes.
	update(t, o, c, func(c *v1alpha1.M2MClient) { rotation(c).Trigger += "+" })
	o.waitReason(t, c, v1alpha1.ReasonRestartWaits)
	o.waitReason(t, c, v1alpha1.ReasonIssued)
	if got, want := o.templates(t, workloads, c), strings.Repeat(c.Status.Credentials[0].Version, 3)+" 4 3 3"; got != want {
		t.Errorf("after a rotation: %s, want %s", got, want)
	}
	// Once a version: taking the annotation away isn't undone.
	for _, w := range workloads {
		update(t, o, w, func(w client.Object) { templateOf(w).Annotations = nil })
	}
	update(t, o, c, func(c *v1alpha1.M2MClient) { c.Spec.Scopes = []string{"read:other"} })
	o.waitReason(t, c, v1alpha1.ReasonIssued)
	if got := o.templates(t, workloads, c); got != "--- 5 4 4" {
		t.Errorf("after another change: %s", got)
	}
	if err := o.Delete(t.Context(), workloads[0]); err != nil {
		t.Fatal(err)
	}
	update(t, o, c, func(c *v1alpha1.M2MClient) { rotation(c).Trigger += "+" })
	if condition := o.waitReason(t, c, v1alpha1.ReasonRestartFailed); !strings.Contains(condition.Message, "not found") {
		t.Errorf("message %q", condition.Message)
	}
	if roles(c) != "4C 3P 2P 1P" {
		t.Errorf("versions %s", roles(c))
	}
}

func newWorkloads(namespace string) []client.Object {
	labels := map[string]string{"app": "billing"}
	meta := metav1.ObjectMeta{Namespace: namespace, Name: "billing"}
	selector := &metav1.LabelSelector{MatchLabels: labels}
	template := corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: labels},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "billing", Image: "billing"}}},
	}
	return []client.Object{
		&appsv1.Deployment{ObjectMeta: meta, Spec: appsv1.DeploymentSpec{Selector: selector, Template: template}},
		&appsv1.StatefulSet{ObjectMeta: meta, Spec: appsv1.StatefulSetSpec{Selector: selector, Template: template}},
		&appsv1.DaemonSet{ObjectMeta: meta, Spec: appsv1.DaemonSetSpec{Selector: selector, Template: template}},
	}
}

func templateOf(w client.Object) *corev1.PodTemplateSpec {
	switch w := w.(type) {
	case *appsv1.Deployment:
		return &w.Spec.Template
	case *appsv1.StatefulSet:
		return &w.Spec.Template
	default:
		return &w.(*appsv1.DaemonSet).Spec.Template
	}
}

// templates lists the workloads' annotations and generations.
func (o *operator) templates(t *testing.T, workloads []client.Object, c *v1alpha1.M2MClient) string {
	t.Helper()
	annotations, generations := "", ""
	for _, w := range workloads {
		o.refresh(t, w)
		annotation := templateOf(w).Annotations["m2m-operator.dev/"+c.Name]
		if annotation == "" {
			annotation = "-"
		}
		annotations += annotation
		generations += fmt.Sprintf(" %d", w.GetGeneration())
	}
	return annotations + generations
}

// With an interval the status says when the next rotation comes, and a replaced
// secret is kept while it may be used.
func TestIntervalInStatus(t *testing.T) {
	t.Parallel()
	c := shared.readyClient(t, func(c *v1alpha1.M2MClient) {
		rotation(c).Interval = &metav1.Duration{Duration: 1000 * time.Hour}
	})
	next := c.Status.NextRotationTime
	if next == nil || time.Until(next.Time) < 899*time.Hour || time.Until(next.Time) > 1000*time.Hour {
		t.Errorf("next rotation at %v", next)
	}
	if retire := c.Status.Effective.RetireWhenUnused; retire == nil || retire.For.Duration != 24*time.Hour || retire.Deadline.Duration != 1000*time.Hour {
		t.Errorf("effective %+v", c.Status.Effective)
	}
	shared.rotate(t, c)
	previous := c.Status.Credentials[1]
	if previous.RetireAfter == nil || previous.NotAfter.Sub(c.Status.LastRotationTime.Time) < 1000*time.Hour {
		t.Errorf("the replaced version: %+v", previous)
	}
	if meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionPreviousSecretInUse) != nil {
		t.Error("it is said to be in use in its overlap")
	}
}
