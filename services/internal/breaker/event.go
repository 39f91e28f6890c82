package breaker

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
)

// What a breaker decides is an event of the span of whoever calls: a call that
// is refused has no span of its own.
const (
	eventRefused = "circuit_breaker.refused"
	eventProbe   = "circuit_breaker.probe"
	eventOpened  = "circuit_breaker.opened"
)

// Refused says on the span of ctx that a call was not made, for the breaker of
// the target is in that state. Allow does so by itself; it is for those who ask
// for the state, and do not even try.
func Refused(ctx context.Context, target string, state State) {
	tell(ctx, eventRefused, target, state)
}

// tell costs nothing where nobody listens.
func tell(ctx context.Context, event, target string, state State) {
	span := trace.SpanFromContext(ctx)
	if !span.IsRecording() {
		return
	}
	span.AddEvent(event, trace.WithAttributes(
		attribute.String("circuit_breaker.target", target), attribute.String("circuit_breaker.state", state.String())))
}
