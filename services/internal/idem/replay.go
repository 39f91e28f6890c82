package idem

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
)

// ReplayedKey is the attribute of a span whose work had been done before.
const ReplayedKey = attribute.Key("idempotency.replayed")

// Replayed says on the span of ctx that the request is the repetition of one that
// had taken effect, and is answered as that was. Do says so by itself; it is for
// services that know a repetition by a key of their own, such as an order's id. A
// stream is a repetition if each of its messages is.
func Replayed(ctx context.Context) {
	trace.SpanFromContext(ctx).SetAttributes(ReplayedKey.Bool(true))
}
