package controllers

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
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
	problem := r.mayRestart(ctx, c)
	if problem.reason == "" && version != out.restartedFor {
		for _, w := range c.Spec.Rotation.Restart {
			if err := r.restartWorkload(ctx, c, w, version); err != nil {
				problem = stalled(v1alpha1.ReasonRestartFailed, fmt.Sprintf(
					"%s %q can't be restarted for version %s of the secret, and is tried again every minute: %s", w.Kind, w.Name, version, apiMessage(err)))
			}
		}
	}
	if problem.reason != "" {
		if soon := r.Now().Add(recheck); out.again.IsZero() || soon.Before(out.again) {
			out.again = soon
		}
		return problem
	}
	out.restartedFor = version
	return verdict{}
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
// several clients may restart one workload. The same value again changes nothing.
func (r *ClientReconciler) restartWorkload(ctx context.Context, c *v1alpha1.M2MClient, w v1alpha1.Workload, version string) error {
	patch, err := json.Marshal(map[string]any{"spec": map[string]any{"template": map[string]any{"metadata": map[string]any{
		"annotations": map[string]string{"m2m-operator.dev/" + c.Name: version},
	}}}})
	if err != nil {
		return err
	}
	workload := workloadOf(w.Kind)
	workload.SetNamespace(c.Namespace)
	workload.SetName(w.Name)
	return r.Direct.Patch(ctx, workload, client.RawPatch("application/merge-patch+json", patch), client.FieldOwner(v1alpha1.ManagedBy))
}

func workloadOf(kind string) client.Object {
	switch kind {
	case "StatefulSet":
		return &appsv1.StatefulSet{}
	case "DaemonSet":
		return &appsv1.DaemonSet{}
	default:
		return &appsv1.Deployment{}
	}
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
