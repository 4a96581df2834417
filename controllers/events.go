package controllers

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/flowcontrol"
)

// Events of normal course come at most this often over all objects: ten thousand
// clients made at once would otherwise cost the API server a fourth write each, to
// say what their conditions say.
const (
	normalEventsPerSecond = 10
	normalEventsBurst     = 100
)

// measuredRecorder drops events of normal course past a rate, and never a warning.
type measuredRecorder struct {
	events.EventRecorder
	normal flowcontrol.PassiveRateLimiter
}

func newMeasuredRecorder(recorder events.EventRecorder) events.EventRecorder {
	return &measuredRecorder{recorder, flowcontrol.NewTokenBucketPassiveRateLimiter(normalEventsPerSecond, normalEventsBurst)}
}

func (r *measuredRecorder) Eventf(regarding, related runtime.Object, kind, reason, action, note string, args ...any) {
	if kind == corev1.EventTypeNormal && !r.normal.TryAccept() {
		return
	}
	r.EventRecorder.Eventf(regarding, related, kind, reason, action, note, args...)
}
