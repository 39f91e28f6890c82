// Package traceparent keeps the place of a piece of work in its trace while the
// work waits in a database (W3C Trace Context).
package traceparent

import (
	"context"

	"go.opentelemetry.io/otel/propagation"
)

const header = "traceparent"

// Save returns the place of ctx in its trace, or "" if it is in none.
func Save(ctx context.Context) string {
	m := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, m)
	return m[header]
}

// Restore returns ctx in the place that Save returned; a text that can't be
// read leaves ctx as it is.
func Restore(ctx context.Context, saved string) context.Context {
	return propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{header: saved})
}
