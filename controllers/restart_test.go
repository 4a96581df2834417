package controllers

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
)

func TestAllowsRestart(t *testing.T) {
	stamp := func(ago time.Duration) string { return noon.Add(-ago).Format(time.RFC3339) }
	for name, test := range map[string]struct {
		allows, restarted string
		reason            string
		waits             time.Duration
	}{
		"nothing said":               {"", "", v1alpha1.ReasonRestartForbidden, 0},
		"another client":             {"orders", "", v1alpha1.ReasonRestartForbidden, 0},
		"a name that begins alike":   {"billing-eu", "", v1alpha1.ReasonRestartForbidden, 0},
		"the client":                 {"billing", "", "", 0},
		"the client among others":    {"orders,billing", "", "", 0},
		"all":                        {"*", "", "", 0},
		"restarted long ago":         {"*", stamp(10 * time.Minute), "", 0},
		"restarted a moment ago":     {"*", stamp(4 * time.Minute), v1alpha1.ReasonRestartWaits, 6 * time.Minute},
		"restarted, says who lies":   {"*", "soon", "", 0},
		"restarted, in the future":   {"*", stamp(-time.Hour), "", 0},
		"forbidden and a moment ago": {"orders", stamp(0), v1alpha1.ReasonRestartForbidden, 0},
	} {
		w := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{}}}
		if test.allows != "" {
			w.Annotations[v1alpha1.AnnotationAllowRestart] = test.allows
		}
		if test.restarted != "" {
			w.Annotations[v1alpha1.AnnotationRestartedAt] = test.restarted
		}
		refusal, at := allowsRestart(w, v1alpha1.Workload{Kind: "Deployment", Name: "billing"}, "billing", noon, 10*time.Minute)
		if refusal.reason != test.reason || test.waits > 0 && !at.Equal(noon.Add(test.waits)) {
			t.Errorf("%s: %q until %s", name, refusal.reason, at)
		}
	}
}
