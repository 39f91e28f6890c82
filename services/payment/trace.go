package payment

import (
	"context"

	"go.opentelemetry.io/otel/propagation"
)

// What the worker does belongs to the trace of whoever asked for it, which is
// kept with the payment as W3C traceparent.

const traceparent = "traceparent"

func saveTrace(ctx context.Context) string {
	m := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, m)
	return m[traceparent]
}

// restoreTrace returns ctx in the trace that saveTrace saved, if there was one.
func restoreTrace(ctx context.Context, saved string) context.Context {
	return propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{traceparent: saved})
}
