package controllers

import (
	"context"
	"fmt"

	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/m2m-operator/m2m-operator/internal/tracing"
)

// traced follows reconciliations: all that they ask of the API server is part of a trace.
func traced(tracer *tracing.Tracer, kind string, next reconcile.Reconciler) reconcile.Reconciler {
	if tracer == nil {
		return next
	}
	return reconcile.Func(func(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
		ctx, span := tracer.Work(ctx, "reconcile "+kind, request.Namespace, request.Name)
		if span == nil {
			return next.Reconcile(ctx, request)
		}
		ctx = log.IntoContext(ctx, log.FromContext(ctx).WithValues("trace_id", span.ID()))
		result, err := next.Reconcile(ctx, request)
		span.Done(err)
		if err != nil { // controller-runtime logs it, and doesn't know of traces
			err = fmt.Errorf("%w (trace_id %s)", err, span.ID())
		}
		return result, err
	})
}
