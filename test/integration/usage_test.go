package integration

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/test/eventually"
	"github.com/m2m-operator/m2m-operator/test/installation"
)

// usageManager is the servers' name in the managedFields of what they write.
const usageManager = "m2m-operator-server"

// Servers write down together which secrets are used: seldom, and each says of
// itself up to when it has.
func TestUsage(t *testing.T) {
	t.Parallel()
	const interval = 2 * time.Second
	o := ownInstallation(t, installation.Options{ServerArgs: []string{"--usage-tick=200ms", "--usage-interval=" + interval.String()}})
	c := o.readyClient(t, nil)
	unused := o.newClient(t, c.Namespace, "unused", nil)
	paused := o.newClient(t, c.Namespace, "paused", nil)
	o.waitReason(t, unused, v1alpha1.ReasonIssued)
	o.waitReason(t, paused, v1alpha1.ReasonIssued)
	o.pause(t, paused, "true")
	secretless := o.newClient(t, c.Namespace, "secretless", workload("billing"))
	o.waitReason(t, secretless, v1alpha1.ReasonIssued)
	projected := o.projected(t, o.account(t, c.Namespace, "billing"), nil, secretless.Status.Issuer)
	o.waitAnswer(t, 200, func(s server) answer { return s.assert(t, secretless.Status.TokenURL, projected) })
	o.waitUsage(t, secretless, "service_account")
	stamps := o.usageStamps(t, c)

	old := o.secret(t, c)
	o.waitAccepted(t, old)
	o.waitAccepted(t, o.secret(t, paused))
	o.waitUsage(t, c, "1")
	current := o.rotate(t, c)
	o.waitRoles(t, c, "2C 1P")

	var reported time.Time
	for range 3 { // each time it is used after the report before
		eventually.Right(t, func() string {
			o.waitAccepted(t, old)
			o.waitAccepted(t, current)
			o.refresh(t, c)
			for _, version := range []string{"1", "2"} {
				if !usedAt(c, version).After(reported) {
					return fmt.Sprintf("version %s: usage %v, after %v", version, c.Status.Usage, reported)
				}
			}
			return ""
		})
		reported = c.Status.Usage[0].LastUsedAt.Time
	}
	if !slices.IsSortedFunc(c.Status.Usage, func(a, b v1alpha1.VersionUsage) int { return b.LastUsedAt.Compare(a.LastUsedAt.Time) }) {
		t.Errorf("usage %v", c.Status.Usage)
	}
	all := stamps()
	for i := 1; i < len(all); i++ {
		if all[i].Sub(all[i-1]) < interval {
			t.Errorf("usage was written at %v", all)
		}
	}
	for _, other := range []*v1alpha1.M2MClient{unused, paused} {
		version := other.ResourceVersion
		if o.refresh(t, other); other.ResourceVersion != version {
			t.Errorf("%s was written: %v", other.Name, other.ManagedFields)
		}
	}
	o.pause(t, paused, "")
	o.waitUsage(t, paused, "1")

	t.Run("stop", func(t *testing.T) { testServersStop(t, o, old) })
}

// testServersStop stops servers one way and another, and looks at their Leases.
func testServersStop(t *testing.T, o *operator, old *corev1.Secret) {
	used := time.Now()
	var leases map[string]coordinationv1.Lease
	eventually.Right(t, func() string {
		leases = o.serverLeases(t)
		for name, l := range leases {
			until, err := time.Parse(time.RFC3339, l.Annotations[v1alpha1.AnnotationReportedUntil])
			if err != nil || !until.After(used) {
				return fmt.Sprintf("%s has reported until %v, %v", name, until, err)
			}
		}
		return ""
	})
	if len(leases) != 2 {
		t.Fatalf("%d servers have %d Leases", len(o.Servers), len(leases))
	}
	for name, l := range leases {
		if name != usageManager+"-"+*l.Spec.HolderIdentity || l.Labels[v1alpha1.LabelManagedBy] != v1alpha1.ManagedBy || l.Spec.AcquireTime == nil || l.Spec.RenewTime == nil {
			t.Errorf("Lease %s: labels %v, spec %+v", name, l.Labels, l.Spec)
		}
	}

	o.Servers[1].Stop(time.Minute)
	left := o.serverLeases(t)
	if len(left) != 1 {
		t.Fatalf("of two servers one was stopped, and %d Leases are there", len(left))
	}
	first := slices.Collect(maps.Keys(left))[0]

	replica, err := o.AddServer(t.Context(), filepath.Join(t.TempDir(), "audit.log"))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(replica.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-replica.Done()
	left = o.serverLeases(t)
	for name, l := range left {
		if name != first && (*l.Spec.HolderIdentity == "" || l.Annotations[v1alpha1.AnnotationStoppedAt] != "") {
			t.Errorf("a server that was killed says %+v, annotations %v", l.Spec, l.Annotations)
		}
	}
	if len(left) != 2 {
		t.Errorf("after a server was killed %d Leases are there", len(left))
	}

	o.forbidReports(t)
	o.Servers = o.Servers[:1]
	time.Sleep(time.Second) // uses of one second are one use
	o.waitAccepted(t, old)
	o.Servers[0].Stop(time.Minute)
	if l := o.serverLeases(t)[first]; l.Annotations[v1alpha1.AnnotationStoppedAt] == "" || *l.Spec.HolderIdentity != "" {
		t.Errorf("a server that stopped with uses unreported says %+v, annotations %v", l.Spec, l.Annotations)
	}
}

// forbidReports takes from the servers what they need to report uses.
func (o *operator) forbidReports(t *testing.T) {
	t.Helper()
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: usageManager}}
	update(t, o, role, func(r *rbacv1.ClusterRole) {
		r.Rules = slices.DeleteFunc(r.Rules, func(rule rbacv1.PolicyRule) bool {
			return slices.Contains(rule.Resources, "m2mclients/status")
		})
	})
	eventually.Right(t, func() string {
		out, _ := o.Cluster.Kubectl(t.Context(), "auth", "can-i", "patch", "m2mclients/status",
			"--as=system:serviceaccount:"+installation.Namespace+":"+usageManager, "-A").Output()
		if strings.TrimSpace(string(out)) != "no" {
			return "the servers may still report: " + string(out)
		}
		return ""
	})
}

// serverLeases are the Leases of the token servers.
func (o *operator) serverLeases(t *testing.T) map[string]coordinationv1.Lease {
	t.Helper()
	leases := &coordinationv1.LeaseList{}
	if err := o.List(t.Context(), leases, client.InNamespace(installation.Namespace), client.MatchingLabels{v1alpha1.LabelRole: v1alpha1.RoleServer}); err != nil {
		t.Fatal(err)
	}
	byName := map[string]coordinationv1.Lease{}
	for _, l := range leases.Items {
		byName[l.Name] = l
	}
	return byName
}

// usageStamps collects when a client's usage was written, by the API server's clock,
// until it is called.
func (o *operator) usageStamps(t *testing.T, c *v1alpha1.M2MClient) func() []time.Time {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	w, err := o.Watch(ctx, &v1alpha1.M2MClientList{}, client.InNamespace(c.Namespace))
	if err != nil {
		t.Fatal(err)
	}
	name, stamps := c.Name, map[time.Time]bool{}
	var watching sync.WaitGroup
	watching.Go(func() {
		for event := range w.ResultChan() {
			seen, ok := event.Object.(*v1alpha1.M2MClient)
			if !ok || seen.Name != name {
				continue
			}
			for _, f := range seen.ManagedFields {
				if f.Manager == usageManager && f.Subresource == "status" {
					stamps[f.Time.Time] = true
				}
			}
		}
	})
	return func() []time.Time {
		w.Stop()
		stop()
		watching.Wait()
		return slices.SortedFunc(maps.Keys(stamps), time.Time.Compare)
	}
}

// pause sets the annotation that stops all writes to a client.
func (o *operator) pause(t *testing.T, c *v1alpha1.M2MClient, value string) {
	t.Helper()
	update(t, o, c, func(c *v1alpha1.M2MClient) {
		metav1.SetMetaDataAnnotation(&c.ObjectMeta, v1alpha1.AnnotationPause, value)
	})
}

// waitUsage waits until the client's status says that a version was used.
func (o *operator) waitUsage(t *testing.T, c *v1alpha1.M2MClient, number string) {
	t.Helper()
	eventually.Right(t, func() string {
		if o.refresh(t, c); usedAt(c, number).IsZero() {
			return fmt.Sprintf("%s: usage %v", c.Name, c.Status.Usage)
		}
		return ""
	})
}

// usedAt is when the version with a number was used, as the status says.
func usedAt(c *v1alpha1.M2MClient, number string) (last time.Time) {
	for _, u := range c.Status.Usage {
		if n, _, _ := strings.Cut(u.Version, "-"); n == number {
			last = u.LastUsedAt.Time
		}
	}
	return last
}
