package faults

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/credential"
	"github.com/m2m-operator/m2m-operator/internal/journal"
	"github.com/m2m-operator/m2m-operator/test/eventually"
)

// flow is something that a controller brings to an end, whatever happens to it.
type flow struct {
	name   string
	writes int // that it takes without a fault
	spec   func(*v1alpha1.M2MClient)
	// prepare, if it isn't nil, brings a client that is Ready into the state that the
	// flow begins in, and names the reason that it then has.
	prepare  func(*testing.T, *fixture, *v1alpha1.M2MClient) (reason string)
	begin    func(*testing.T, *fixture, *v1alpha1.M2MClient)
	later    time.Duration // the clock after begin, against the system's
	roles    string        // at the end
	reason   string        // at the end; empty: Issued
	delivers int           // new secrets
	secrets  int           // at the end; 0: 1
	lost     bool          // the flow begins with a Secret that doesn't work
	revokes  bool          // what the Secret held in the beginning
	// ends: what the Secret held in the beginning is not valid any more.
	ends  bool
	check func(*testing.T, *fixture, *v1alpha1.M2MClient) error // more, at the end
}

var flows = []flow{
	{name: "lost Secret", writes: 2, roles: "CP", delivers: 1, lost: true, begin: func(t *testing.T, x *fixture, c *v1alpha1.M2MClient) {
		must(t, x.Delete(t.Context(), x.secretOf(t, c)))
	}},
	{name: "edited secret", writes: 2, roles: "CP", delivers: 1, lost: true, begin: func(t *testing.T, x *fixture, c *v1alpha1.M2MClient) {
		s := x.secretOf(t, c)
		s.Data["client_secret"] = []byte("edited")
		must(t, x.Update(t.Context(), s))
		x.seen.add(c.Name, "edited")
	}},
	{name: "older secret put back", writes: 3, roles: "CPP", delivers: 1, prepare: rotatedOnce, begin: func(t *testing.T, x *fixture, c *v1alpha1.M2MClient) {
		s := x.secretOf(t, c)
		s.Data["client_secret"] = []byte(s.Annotations["example.com/secret"])
		s.Annotations[v1alpha1.AnnotationSeal] = s.Annotations["example.com/seal"]
		s.Annotations[v1alpha1.AnnotationVersion] = s.Annotations["example.com/version"]
		must(t, x.Update(t.Context(), s))
	}},
	{name: "lost status", writes: 1, roles: "C", begin: loseStatus},
	{name: "changed manifest", writes: 2, roles: "C", begin: func(t *testing.T, x *fixture, c *v1alpha1.M2MClient) {
		x.change(t, c, func(c *v1alpha1.M2MClient) { c.Spec.Scopes = []string{"read:other"} })
	}},
	{name: "rotation on demand", writes: 3, roles: "CP", delivers: 1, begin: trigger},
	{name: "rotation by annotation", writes: 3, roles: "CP", delivers: 1, begin: func(t *testing.T, x *fixture, c *v1alpha1.M2MClient) {
		x.change(t, c, func(c *v1alpha1.M2MClient) { c.Annotations[v1alpha1.AnnotationRotate] = "now" })
	}},
	{name: "scheduled rotation", writes: 3, roles: "CP", delivers: 1, spec: interval, begin: nothing, later: 1000 * time.Hour},
	{name: "staging", writes: 2, roles: "NC", reason: v1alpha1.ReasonStaged, spec: staged, begin: trigger, check: nextDelivered},
	{name: "promotion", writes: 2, roles: "CP", delivers: 1, spec: staged, prepare: stage, begin: act(v1alpha1.StagedPromote)},
	{name: "cancellation", writes: 2, roles: "C", spec: staged, prepare: stage, begin: act(v1alpha1.StagedCancel)},
	{name: "staged, status lost", writes: 1, roles: "NC", reason: v1alpha1.ReasonStaged, spec: staged, prepare: stage, begin: loseStatus, check: nextDelivered},
	{name: "staged, Secret lost", writes: 4, roles: "NCPP", reason: v1alpha1.ReasonStaged, delivers: 1, lost: true, spec: staged, prepare: stage,
		begin: func(t *testing.T, x *fixture, c *v1alpha1.M2MClient) {
			must(t, x.Delete(t.Context(), x.secretOf(t, c)))
		}, check: nextDelivered},
	{name: "earlier version revoked", writes: 1, roles: "C", prepare: rotatedOnce, begin: revoke(credential.RolePrevious)},
	{name: "current version revoked", writes: 2, roles: "C", delivers: 1, revokes: true, ends: true, begin: revoke(credential.RoleCurrent)},
	{name: "inactive", writes: 1, roles: "C", reason: v1alpha1.ReasonInactive, begin: func(t *testing.T, x *fixture, c *v1alpha1.M2MClient) {
		x.change(t, c, func(c *v1alpha1.M2MClient) {
			c.Spec.State, rotation(c).Trigger = v1alpha1.ClientInactive, "while inactive"
		})
	}},
	{name: "active again", writes: 3, roles: "CP", delivers: 1, prepare: func(t *testing.T, x *fixture, c *v1alpha1.M2MClient) string {
		x.change(t, c, func(c *v1alpha1.M2MClient) {
			c.Spec.State, rotation(c).Trigger = v1alpha1.ClientInactive, "while inactive"
		})
		return v1alpha1.ReasonInactive
	}, begin: func(t *testing.T, x *fixture, c *v1alpha1.M2MClient) {
		x.change(t, c, func(c *v1alpha1.M2MClient) { c.Spec.State = v1alpha1.ClientActive })
	}},
	{name: "Secret renamed", writes: 3, roles: "C", secrets: 2, begin: rename},
	{name: "rotation with a former name", writes: 4, roles: "CP", delivers: 1, secrets: 2, prepare: renamed, begin: trigger},
	{name: "former name ends", writes: 1, roles: "C", prepare: renamed, begin: nothing, later: 25 * time.Hour},
	{name: "overlap ends", writes: 1, roles: "C", prepare: rotatedOnce, begin: nothing, later: 25 * time.Hour},
	{name: "retired as unused", writes: 1, roles: "C", spec: interval, prepare: rotatedOnce, begin: serversReport, later: 49 * time.Hour},
	{name: "kept as unreported", writes: 1, roles: "CP", spec: interval, prepare: rotatedOnce, begin: nothing, later: 49 * time.Hour,
		check: func(_ *testing.T, _ *fixture, c *v1alpha1.M2MClient) error {
			if !meta.IsStatusConditionTrue(c.Status.Conditions, v1alpha1.ConditionPreviousSecretInUse) {
				return errors.New("it isn't said that the replaced secret is kept")
			}
			return nil
		}},
	{name: "tokens cut off", writes: 1, roles: "C", begin: func(t *testing.T, x *fixture, c *v1alpha1.M2MClient) {
		x.change(t, c, func(c *v1alpha1.M2MClient) {
			c.Spec.Token = &v1alpha1.TokenSpec{NotBefore: &metav1.Time{Time: time.Unix(1_700_000_000, 0)}}
		})
	}, check: func(_ *testing.T, _ *fixture, c *v1alpha1.M2MClient) error {
		if at := c.Status.TokensNotBefore; at == nil || at.Unix() != 1_700_000_000 {
			return fmt.Errorf("the recorded cut-off is %v", at)
		}
		return nil
	}},
	{name: "restored with a new UID", writes: 2, roles: "C", begin: restore},
	{name: "rotation with a restart", writes: 4, roles: "CP", delivers: 1, spec: restarting, begin: trigger, check: restarted},
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func nothing(*testing.T, *fixture, *v1alpha1.M2MClient) {}

func trigger(t *testing.T, x *fixture, c *v1alpha1.M2MClient) {
	x.change(t, c, func(c *v1alpha1.M2MClient) { rotation(c).Trigger += "+" })
}

func interval(c *v1alpha1.M2MClient) {
	rotation(c).Interval = &metav1.Duration{Duration: 1000 * time.Hour}
}

func staged(c *v1alpha1.M2MClient) { rotation(c).Mode = v1alpha1.RotationStaged }

func stage(t *testing.T, x *fixture, c *v1alpha1.M2MClient) string {
	trigger(t, x, c)
	return v1alpha1.ReasonStaged
}

func act(action v1alpha1.StagedActionType) func(*testing.T, *fixture, *v1alpha1.M2MClient) {
	return func(t *testing.T, x *fixture, c *v1alpha1.M2MClient) {
		next, _ := journal.Read(&c.Status).Next()
		x.change(t, c, func(c *v1alpha1.M2MClient) {
			rotation(c).Staged = &v1alpha1.StagedAction{Version: v1alpha1.SecretVersion(next.Version.String()), Action: action}
		})
	}
}

func nextDelivered(t *testing.T, x *fixture, c *v1alpha1.M2MClient) error {
	next := string(x.secretOf(t, c).Data["next_client_secret"])
	if next == "" || !authenticates(x.pepper(t), c, journal.Read(&c.Status), next) {
		return errors.New("the staged secret is not delivered, or doesn't authenticate")
	}
	return nil
}

// rotatedOnce rotates, and keeps the first secret where a test finds it.
func rotatedOnce(t *testing.T, x *fixture, c *v1alpha1.M2MClient) string {
	s := x.secretOf(t, c)
	s.Annotations["example.com/secret"] = string(s.Data["client_secret"])
	s.Annotations["example.com/seal"] = s.Annotations[v1alpha1.AnnotationSeal]
	s.Annotations["example.com/version"] = s.Annotations[v1alpha1.AnnotationVersion]
	must(t, x.Update(t.Context(), s))
	trigger(t, x, c)
	return v1alpha1.ReasonIssued
}

func revoke(role credential.Role) func(*testing.T, *fixture, *v1alpha1.M2MClient) {
	return func(t *testing.T, x *fixture, c *v1alpha1.M2MClient) {
		for _, v := range journal.Read(&c.Status).Credentials {
			if v.Role == role {
				x.change(t, c, func(c *v1alpha1.M2MClient) {
					rotation(c).Revoke = []v1alpha1.SecretVersion{v1alpha1.SecretVersion(v.Version.String())}
				})
			}
		}
	}
}

func rename(t *testing.T, x *fixture, c *v1alpha1.M2MClient) {
	x.change(t, c, func(c *v1alpha1.M2MClient) { c.Spec.Secret = &v1alpha1.SecretSpec{Name: c.Name + "-renamed"} })
}

func renamed(t *testing.T, x *fixture, c *v1alpha1.M2MClient) string {
	rename(t, x, c)
	return v1alpha1.ReasonIssued
}

func loseStatus(t *testing.T, x *fixture, c *v1alpha1.M2MClient) {
	c.Status = v1alpha1.M2MClientStatus{}
	must(t, x.Status().Update(t.Context(), c))
}

// serversReport is a token server that has reported all uses, for two days to come.
func serversReport(t *testing.T, x *fixture, _ *v1alpha1.M2MClient) {
	until := time.Now().Add(49 * time.Hour)
	renewed := metav1.NewMicroTime(until)
	lease := &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: operatorNamespace, Name: "m2m-operator-server-test",
			Labels:      map[string]string{v1alpha1.LabelManagedBy: v1alpha1.ManagedBy, v1alpha1.LabelRole: v1alpha1.RoleServer},
			Annotations: map[string]string{v1alpha1.AnnotationReportedUntil: until.UTC().Format(time.RFC3339)},
		},
		Spec: coordinationv1.LeaseSpec{RenewTime: &renewed},
	}
	must(t, client.IgnoreAlreadyExists(x.Create(t.Context(), lease)))
	t.Cleanup(func() { _ = x.Delete(context.Background(), lease) })
}

// restore deletes the client and its Secret, and brings both back: the client as Git
// has it, and the Secret from a backup, with the adopt label and without an owner.
func restore(t *testing.T, x *fixture, c *v1alpha1.M2MClient) {
	s := x.secretOf(t, c)
	must(t, x.Delete(t.Context(), c))
	must(t, x.Delete(t.Context(), s))
	s.ObjectMeta = metav1.ObjectMeta{Namespace: s.Namespace, Name: s.Name, Labels: s.Labels, Annotations: s.Annotations}
	s.Labels[v1alpha1.LabelAdopt] = c.Name
	must(t, x.Create(t.Context(), s))
	*c = *newClient(c.Name)
	setPaused(c, true)
	must(t, x.Create(t.Context(), c))
}

func restarting(c *v1alpha1.M2MClient) {
	rotation(c).Restart = []v1alpha1.Workload{{Kind: "Deployment", Name: "restarted"}}
}

func restarted(t *testing.T, x *fixture, c *v1alpha1.M2MClient) error {
	d := &appsv1.Deployment{}
	must(t, x.Get(t.Context(), client.ObjectKey{Namespace: "default", Name: "restarted"}, d))
	current, _ := journal.Read(&c.Status).Current()
	if got := d.Spec.Template.Annotations["m2m-operator.dev/"+c.Name]; got != current.Version.String() {
		return fmt.Errorf("the Deployment was restarted for version %q, not %s", got, current.Version)
	}
	return nil
}

// attempt is a flow with a fault at one of its writes.
type attempt struct {
	flow
	kind   faultKind
	at     int
	client *v1alpha1.M2MClient
	before string // what the Secret held in the beginning
}

func (a *attempt) String() string {
	return fmt.Sprintf("%s/%s write %d", a.name, [...]string{"stop before", "stop after", "conflict at"}[a.kind], a.at)
}

func attempts() []*attempt {
	var all []*attempt
	for _, f := range flows {
		for n := 1; n <= f.writes; n++ {
			for _, kind := range []faultKind{stopBefore, stopAfter, conflict} {
				all = append(all, &attempt{flow: f, kind: kind, at: n, client: newClient(fmt.Sprintf("c%03d", len(all)))})
			}
		}
	}
	return all
}

func TestEveryWrite(t *testing.T) {
	x := newFixture(t)
	all := attempts()
	x.prepare(t, all)
	for _, a := range all {
		t.Run(a.String(), func(t *testing.T) { x.try(t, a) })
	}
}

// prepare brings all clients into the states that their flows begin in.
func (x *fixture) prepare(t *testing.T, all []*attempt) {
	t.Helper()
	restarts := deployment("restarted")
	restarts.Annotations = map[string]string{v1alpha1.AnnotationAllowRestart: "*"}
	must(t, x.Create(t.Context(), restarts))
	stop := x.run(t, life{fault: none()})
	defer stop()
	for _, a := range all {
		if a.spec != nil {
			a.spec(a.client)
		}
		must(t, x.Create(t.Context(), a.client))
	}
	reasons := map[*attempt]string{}
	for _, a := range all {
		eventually.Succeeds(t, func() error { return x.ready(t, a.client) })
		reasons[a] = v1alpha1.ReasonIssued
		if a.prepare != nil {
			reasons[a] = a.prepare(t, x, a.client)
		}
	}
	for _, a := range all {
		eventually.Succeeds(t, func() error { return x.hasReason(t, a.client, reasons[a]) })
		x.change(t, a.client, func(c *v1alpha1.M2MClient) { setPaused(c, true) })
	}
}

// setPaused keeps a client as it is while others are tried.
func setPaused(c *v1alpha1.M2MClient, paused bool) {
	if c.Annotations == nil {
		c.Annotations = map[string]string{}
	}
	c.Annotations[v1alpha1.AnnotationPause] = fmt.Sprint(paused)
}

func deployment(name string) *appsv1.Deployment {
	labels := map[string]string{"app": name}
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
	d.Spec.Selector = &metav1.LabelSelector{MatchLabels: labels}
	d.Spec.Template.Labels = labels
	d.Spec.Template.Spec.Containers = []corev1.Container{{Name: name, Image: name}}
	return d
}

func (x *fixture) hasReason(t *testing.T, c *v1alpha1.M2MClient, reason string) error {
	if err := x.ready(t, c); err != nil {
		return err
	}
	if got := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionReady).Reason; got != reason {
		return fmt.Errorf("%s is %s, not %s", c.Name, got, reason)
	}
	return nil
}

// try runs a flow into its fault, and then a fresh controller to the end.
func (x *fixture) try(t *testing.T, a *attempt) {
	c := a.client
	a.before = string(x.secretOf(t, c).Data["client_secret"])
	eventually.Succeeds(t, func() error {
		if !slices.Contains(x.seen.of(c), a.before) {
			return errors.New("the watch is behind")
		}
		return nil
	})
	a.begin(t, x, c)
	seen := len(x.seen.of(c))
	x.change(t, c, func(c *v1alpha1.M2MClient) { setPaused(c, false) })
	defer func() { x.change(t, c, func(c *v1alpha1.M2MClient) { setPaused(c, true) }) }()
	generation := c.Generation
	revoked := ""
	if a.revokes {
		revoked = a.before
	}
	clock := func() time.Time { return time.Now().Add(a.later) }
	f := &fault{kind: a.kind, left: a.at, conflict: x.touch(t), check: x.watchdog(t, a.lost, revoked)}
	stop := x.run(t, life{fault: f, now: clock})
	eventually.Succeeds(t, func() error {
		if f.hasStruck() && a.kind != conflict {
			return nil
		}
		return x.settled(t, a)
	})
	stop()
	if f.left > 1 {
		t.Errorf("the flow took the writes %s", strings.Join(f.writes, ", "))
	}
	rest := none()
	rest.check = x.watchdog(t, a.lost, revoked)
	stop = x.run(t, life{fault: rest, now: clock})
	defer stop()
	eventually.Succeeds(t, func() error { return x.settled(t, a) })
	if c.Generation != generation {
		t.Error("the controller changed the spec")
	}
	eventually.Succeeds(t, func() error {
		if got := len(x.seen.of(c)) - seen; got != a.delivers {
			return fmt.Errorf("%d secrets were delivered, not %d", got, a.delivers)
		}
		return nil
	})
}

// settled tells why a client isn't what its manifest says yet: what its Secrets hold
// authenticates, what pods may hold does too, and nothing is left over.
func (x *fixture) settled(t *testing.T, a *attempt) error {
	c := a.client
	reason := a.reason
	if reason == "" {
		reason = v1alpha1.ReasonIssued
	}
	if err := x.hasReason(t, c, reason); err != nil {
		return err
	}
	record, pepper := journal.Read(&c.Status), x.pepper(t)
	if got := roles(record); got != a.roles {
		return fmt.Errorf("versions %q, want %q", got, a.roles)
	}
	secrets := x.secretsOf(t, c)
	if len(secrets) != max(a.secrets, 1) {
		return fmt.Errorf("%d Secrets", len(secrets))
	}
	for _, s := range secrets {
		if !authenticates(pepper, c, record, string(s.Data["client_secret"])) {
			return fmt.Errorf("what Secret %s holds doesn't authenticate", s.Name)
		}
		if got, want := string(s.Data["scopes"]), strings.Join(c.Spec.Scopes, " "); got != want {
			return fmt.Errorf("Secret %s says scopes %q, not %q", s.Name, got, want)
		}
	}
	if ended := a.ends; authenticates(pepper, c, record, a.before) == ended {
		return fmt.Errorf("what pods may hold authenticates: %v", !ended)
	}
	if a.check != nil {
		return a.check(t, x, c)
	}
	return nil
}
