package controllers

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
)

// Restarting workloads needs config/restart, which an installation doesn't include
// unless it is asked to: there is no RBAC marker here.

// restart has the workloads replaced that can't reload a changed Secret, once for
// each version, and says so where it can't. The pods come with the new secret: it
// is in the Secret already.
func (r *ClientReconciler) restart(ctx context.Context, c *v1alpha1.M2MClient, out *outcome) verdict {
	version := versionToRestart(out)
	if c.Spec.Rotation == nil || len(c.Spec.Rotation.Restart) == 0 {
		out.restartedFor = version
		return verdict{}
	}
	problem, again := r.mayRestart(ctx, c), r.Now().Add(recheck)
	if problem.reason == "" && version != out.restartedFor {
		problem, again = r.restartAll(ctx, c, version)
	}
	if problem.reason != "" {
		if out.again.IsZero() || again.Before(out.again) {
			out.again = again
		}
		return problem
	}
	out.restartedFor = version
	return verdict{}
}

// restartedFor begins the annotation of a workload that says for which version of a
// client's secret it was restarted; the client's name follows.
const restartedFor = "restarted.m2m-operator.dev/"

// restartAll restarts what can be restarted now. The verdict says what can't, what waits
// for a person first, and when it is tried again.
func (r *ClientReconciler) restartAll(ctx context.Context, c *v1alpha1.M2MClient, version string) (problem verdict, again time.Time) {
	again = r.Now().Add(recheck)
	for _, w := range c.Spec.Rotation.Restart {
		refusal, at := r.restartOne(ctx, c, w, version)
		if refusal.reason != "" && problem.other != v1alpha1.ConditionStalled {
			problem = refusal
		}
		if !at.IsZero() && at.Before(again) {
			again = at
		}
	}
	return problem, again
}

// restartOne restarts a workload, or says why not, and when it may be; zero: nobody knows.
func (r *ClientReconciler) restartOne(ctx context.Context, c *v1alpha1.M2MClient, w v1alpha1.Workload, version string) (refusal verdict, at time.Time) {
	workload, err := r.workload(ctx, c.Namespace, w)
	if err == nil {
		if workload.Annotations[restartedFor+c.Name] == version {
			return verdict{}, time.Time{} // while another workload was waited for
		}
		if refusal, at = allowsRestart(workload, w, c.Name, r.Now(), r.RestartSpacing); refusal.reason != "" {
			return refusal, at
		}
		err = r.restartWorkload(ctx, c.Name, workload, version)
	}
	switch {
	case err == nil:
		return verdict{}, time.Time{}
	case apierrors.IsConflict(err):
		return waiting(v1alpha1.ReasonRestartWaits, fmt.Sprintf("%s %q was written by others meanwhile: it is restarted in a moment", w.Kind, w.Name)), r.Now().Add(retryDelay)
	}
	return stalled(v1alpha1.ReasonRestartFailed, fmt.Sprintf(
		"%s %q can't be restarted for version %s of the secret, and is tried again every minute: %s", w.Kind, w.Name, version, apiMessage(err))), time.Time{}
}

// allowsRestart says why a workload isn't restarted now for a client, and when it may be:
// who may write M2MClients could else restart all workloads of the namespace, as often as
// they like.
func allowsRestart(workload client.Object, w v1alpha1.Workload, name string, now time.Time, spacing time.Duration) (refusal verdict, at time.Time) {
	allowed := strings.Split(workload.GetAnnotations()[v1alpha1.AnnotationAllowRestart], ",")
	if !slices.Contains(allowed, "*") && !slices.Contains(allowed, name) {
		return stalled(v1alpha1.ReasonRestartForbidden, fmt.Sprintf(
			"%s %q doesn't allow to be restarted: annotate it with %s=%s, or take it out of spec.rotation.restart", w.Kind, w.Name, v1alpha1.AnnotationAllowRestart, name)), time.Time{}
	}
	last, err := time.Parse(time.RFC3339, workload.GetAnnotations()[v1alpha1.AnnotationRestartedAt])
	if at = last.Add(spacing); err == nil && now.Before(at) && !last.After(now) {
		return waiting(v1alpha1.ReasonRestartWaits, fmt.Sprintf(
			"%s %q was restarted a moment ago: it is restarted for the present secret at %s", w.Kind, w.Name, at.UTC().Format(time.RFC3339))), at
	}
	return verdict{}, time.Time{}
}

// workload reads the metadata of a workload.
func (r *ClientReconciler) workload(ctx context.Context, namespace string, w v1alpha1.Workload) (*metav1.PartialObjectMetadata, error) {
	workload := &metav1.PartialObjectMetadata{}
	workload.SetGroupVersionKind(appsv1.SchemeGroupVersion.WithKind(w.Kind))
	return workload, r.Direct.Get(ctx, client.ObjectKey{Namespace: namespace, Name: w.Name}, workload)
}

// versionToRestart is the version that the Secret delivers since a rotation. For a
// client's first nobody has to be restarted.
func versionToRestart(out *outcome) string {
	current, ok := out.record.Current()
	if !ok || out.record.RotatedAt.IsZero() {
		return out.restartedFor
	}
	return current.Version.String()
}

// restartWorkload sets an annotation of the pods' template, under the client's name:
// several clients may restart one workload. It is fenced by what was read, so that of two
// that come at once one waits.
func (r *ClientReconciler) restartWorkload(ctx context.Context, name string, workload *metav1.PartialObjectMetadata, version string) error {
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{
			"resourceVersion": workload.ResourceVersion,
			"annotations": map[string]string{
				v1alpha1.AnnotationRestartedAt: r.Now().UTC().Format(time.RFC3339),
				restartedFor + name:            version,
			},
		},
		"spec": map[string]any{"template": map[string]any{"metadata": map[string]any{
			"annotations": map[string]string{"m2m-operator.dev/" + name: version},
		}}},
	})
	if err != nil {
		return err
	}
	return r.Direct.Patch(ctx, workload, client.RawPatch("application/merge-patch+json", patch), client.FieldOwner(v1alpha1.ManagedBy))
}

var resourceOfKind = map[string]string{"Deployment": "deployments", "StatefulSet": "statefulsets", "DaemonSet": "daemonsets"}

// accessCache keeps answers about what the operator may do for a minute.
type accessCache struct {
	mu      sync.Mutex
	answers map[string]accessAnswer
}

type accessAnswer struct {
	allowed bool
	until   time.Time
}

// mayRestart says, before a rotation needs it, that the installation doesn't let
// the operator restart workloads.
func (r *ClientReconciler) mayRestart(ctx context.Context, c *v1alpha1.M2MClient) verdict {
	for _, w := range c.Spec.Rotation.Restart {
		allowed, err := r.allowed(ctx, c.Namespace, resourceOfKind[w.Kind])
		if err == nil && allowed {
			continue
		}
		if err != nil && !apierrors.IsForbidden(err) {
			return waiting(v1alpha1.ReasonRestartFailed, "can't ask whether workloads may be restarted: "+apiMessage(err))
		}
		return stalled(v1alpha1.ReasonRestartForbidden, fmt.Sprintf(
			"spec.rotation.restart names a %s, and the operator may not patch %s in namespace %q: apply config/restart of the operator, or take the entry out and restart its pods yourself after a rotation",
			w.Kind, resourceOfKind[w.Kind], c.Namespace))
	}
	return verdict{}
}

func (r *ClientReconciler) allowed(ctx context.Context, namespace, resource string) (bool, error) {
	key := namespace + "/" + resource
	r.access.mu.Lock()
	defer r.access.mu.Unlock()
	if answer, ok := r.access.answers[key]; ok && r.Now().Before(answer.until) {
		return answer.allowed, nil
	}
	review := &authorizationv1.SelfSubjectAccessReview{
		Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{
			Namespace: namespace, Verb: "patch", Group: appsv1.GroupName, Resource: resource,
		}},
	}
	if err := r.Direct.Create(ctx, review); err != nil {
		return false, err
	}
	if r.access.answers == nil {
		r.access.answers = map[string]accessAnswer{}
	}
	r.access.answers[key] = accessAnswer{review.Status.Allowed, r.Now().Add(recheck)}
	return review.Status.Allowed, nil
}
