package registry

import (
	"context"
	"os"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
	coordinationv1ac "k8s.io/client-go/applyconfigurations/coordination/v1"
	"k8s.io/client-go/rest"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
)

// leaseDuration is how long after its last word a server is surely missing: at least.
const leaseDuration = 30 * time.Second

// presence is the Lease of a server: that it gives tokens, and up to when it has
// reported which secrets were used for them.
type presence struct {
	leases    rest.Interface
	namespace string
	name      string
	identity  string
	started   time.Time
	duration  time.Duration
}

func newPresence(leases rest.Interface, namespace string, started time.Time, tick time.Duration) *presence {
	host, _ := os.Hostname() // the random part tells servers apart
	identity := identityOf(host, rand.String(5))
	return &presence{
		leases:    leases,
		namespace: namespace,
		name:      FieldManager + "-" + identity,
		identity:  identity,
		started:   started,
		duration:  max(3*tick, leaseDuration),
	}
}

// identityOf is a name that a Lease can have, of at most 40 characters.
func identityOf(host, random string) string {
	safe := strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' {
			return c
		}
		return '-'
	}, strings.ToLower(host))
	safe = strings.Trim(safe, "-")
	safe = safe[:min(len(safe), 40-1-len(random))]
	return strings.TrimLeft(safe+"-"+random, "-")
}

// renew says that the server lives, and up to when it has reported.
func (p *presence) renew(ctx context.Context, now, until time.Time) error {
	return apply(ctx, p.leases, "leases", p.namespace, p.name, p.lease(now, until))
}

// stop leaves behind that the server has stopped, with uses unreported.
func (p *presence) stop(ctx context.Context, now, until time.Time) error {
	lease := p.lease(now, until)
	lease.WithAnnotations(map[string]string{v1alpha1.AnnotationStoppedAt: now.UTC().Format(time.RFC3339)})
	lease.Spec.WithHolderIdentity("")
	return apply(ctx, p.leases, "leases", p.namespace, p.name, lease)
}

// end takes the Lease away: nobody has to wait for this server.
func (p *presence) end(ctx context.Context) error {
	err := p.leases.Delete().Namespace(p.namespace).Resource("leases").Name(p.name).Do(ctx).Error()
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

func (p *presence) lease(now, until time.Time) *coordinationv1ac.LeaseApplyConfiguration {
	return coordinationv1ac.Lease(p.name, p.namespace).
		WithLabels(map[string]string{v1alpha1.LabelManagedBy: v1alpha1.ManagedBy, v1alpha1.LabelRole: v1alpha1.RoleServer}).
		WithAnnotations(map[string]string{v1alpha1.AnnotationReportedUntil: until.UTC().Format(time.RFC3339)}).
		WithSpec(coordinationv1ac.LeaseSpec().
			WithHolderIdentity(p.identity).
			WithAcquireTime(metav1.NewMicroTime(p.started)).
			WithRenewTime(metav1.NewMicroTime(now)).
			WithLeaseDurationSeconds(int32(p.duration / time.Second)))
}
