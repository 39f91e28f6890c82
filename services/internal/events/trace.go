package events

import (
	"context"
	"encoding/json"

	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshmart/meshmart/services/internal/failure"
)

// scope names the instrumentation.
const scope = "github.com/meshmart/meshmart/services/internal/events"

// The trace goes writer -> "publish" (producer) -> "process" (consumer). The
// outbox row keeps the writer's context, as W3C traceparent and tracestate; the
// message's headers keep the producer's.

// carrier is the headers of a message. NATS keeps the case of a key, and other
// clients look for lower case, so propagation.HeaderCarrier does not fit.
type carrier nats.Header

func (c carrier) Get(key string) string { return nats.Header(c).Get(key) }
func (c carrier) Set(key, value string) { nats.Header(c).Set(key, value) }
func (c carrier) Keys() []string {
	keys := make([]string, 0, len(c))
	for k := range c {
		keys = append(keys, k)
	}
	return keys
}

// saveTrace returns the trace context of ctx as JSON.
func saveTrace(ctx context.Context) string {
	m := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, m)
	text, _ := json.Marshal(m) // strings always encode
	return string(text)
}

// restoreTrace returns ctx with the trace context that saveTrace saved. A text
// that can't be read costs the trace its continuity, not the event.
func restoreTrace(ctx context.Context, text string) context.Context {
	m := propagation.MapCarrier{}
	_ = json.Unmarshal([]byte(text), &m)
	return propagation.TraceContext{}.Extract(ctx, m)
}

// startPublish begins the span of a publication and puts it into the headers.
func (b *Bus) startPublish(ctx context.Context, r row, h nats.Header) trace.Span {
	ctx, span := b.tracer.Start(restoreTrace(ctx, r.headers), "publish "+r.subject,
		trace.WithSpanKind(trace.SpanKindProducer),
		trace.WithAttributes(describe(r.subject, r.id, len(r.payload))...),
		trace.WithAttributes(semconv.MessagingOperationName("publish"), semconv.MessagingOperationTypeSend))
	propagation.TraceContext{}.Inject(ctx, carrier(h))
	return span
}

// deliveries is how often a message has been delivered, if more than once. The
// conventions have such an attribute for some other systems, and so it is called
// as they would.
const deliveries = attribute.Key("messaging.nats.message.delivery_count")

// startProcess begins the span of the n-th delivery to a consumer.
func (b *Bus) startProcess(ctx context.Context, consumer string, e Event, h nats.Header, n uint64) (context.Context, trace.Span) {
	ctx, span := b.tracer.Start(propagation.TraceContext{}.Extract(ctx, carrier(h)), "process "+e.Subject,
		trace.WithSpanKind(trace.SpanKindConsumer),
		trace.WithAttributes(describe(e.Subject, e.ID, len(e.Data))...),
		trace.WithAttributes(semconv.MessagingOperationName("process"), semconv.MessagingOperationTypeProcess,
			semconv.MessagingConsumerGroupName(consumer)))
	if n > 1 {
		span.SetAttributes(deliveries.Int64(int64(n)))
	}
	return ctx, span
}

func describe(subject, id string, size int) []attribute.KeyValue {
	return []attribute.KeyValue{
		semconv.MessagingSystemKey.String("nats"),
		semconv.MessagingDestinationName(subject),
		semconv.MessagingMessageID(id),
		semconv.MessagingMessageBodySize(size),
	}
}

// endSpan ends a span with what came out of it.
func endSpan(span trace.Span, err error) {
	failure.Mark(span, err)
	span.End()
}
