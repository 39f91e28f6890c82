package order

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshmart/meshmart/services/internal/failure"
	"github.com/meshmart/meshmart/services/internal/traceparent"
)

// scope names the instrumentation.
const scope = "github.com/meshmart/meshmart/services/order"

// TraceID returns the id of the trace that the order was placed in, or "".
func (o Order) TraceID() string {
	id := trace.SpanContextFromContext(traceparent.Restore(context.Background(), o.Trace)).TraceID()
	if !id.IsValid() {
		return ""
	}
	return id.String()
}

// span begins a span of the order's saga, such as "saga reserve".
func (s *Orders) span(ctx context.Context, o Order, verb string) (context.Context, trace.Span) {
	return s.tracer.Start(ctx, "saga "+verb, trace.WithAttributes(
		attribute.String("order.id", o.ID), attribute.String("order.state", string(o.State))))
}

// noted marks the span as failed if it did, and returns err.
func noted(span trace.Span, err error) error {
	failure.Mark(span, err)
	return err
}

// verb is what a span of the step is called.
func (s Step) verb() string {
	switch s {
	case stepReserve:
		return "reserve"
	case stepAuthorize:
		return "authorize"
	case stepComplete:
		return "complete"
	case stepUndoPayment:
		return "void"
	case stepUndoStock:
		return "release"
	}
	return "rest"
}

// verb is what a span of the change to the state is called.
func (s State) verb() string {
	switch s {
	case Confirmed:
		return "confirm"
	case Completed:
		return "completed"
	case Rejected:
		return "reject"
	case Cancelling:
		return "cancel"
	case Cancelled:
		return "cancelled"
	}
	return "change"
}
