package shop

import (
	"container/list"
	"context"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshmart/meshmart/services/gateway"
)

// How much of what happened is kept for the console: the traces last added to,
// and of each no more spans than a person reads.
const (
	maxTraces = 1000
	maxSpans  = 300
)

// Traces keeps the last traces of all services in memory, for the console.
// With Jaeger at hand that is the place to look; this is for a laptop without.
type Traces struct {
	mu     sync.Mutex
	byID   map[trace.TraceID]*list.Element // of *kept
	recent list.List                       // most recently added to in front
}

type kept struct {
	id    trace.TraceID
	spans []sdktrace.ReadOnlySpan
}

// NewTraces returns an empty recorder.
func NewTraces() *Traces { return &Traces{byID: map[trace.TraceID]*list.Element{}} }

// OnStart implements sdktrace.SpanProcessor.
func (*Traces) OnStart(context.Context, sdktrace.ReadWriteSpan) {}

// OnEnd implements sdktrace.SpanProcessor.
func (t *Traces) OnEnd(s sdktrace.ReadOnlySpan) {
	t.mu.Lock()
	defer t.mu.Unlock()
	id := s.SpanContext().TraceID()
	e := t.byID[id]
	if e == nil {
		e = t.recent.PushFront(&kept{id: id})
		t.byID[id] = e
		t.forgetOldest()
	}
	t.recent.MoveToFront(e)
	if k := e.Value.(*kept); len(k.spans) < maxSpans {
		k.spans = append(k.spans, s)
	}
}

func (t *Traces) forgetOldest() {
	if t.recent.Len() > maxTraces {
		old := t.recent.Back()
		delete(t.byID, old.Value.(*kept).id)
		t.recent.Remove(old)
	}
}

// Shutdown implements sdktrace.SpanProcessor.
func (*Traces) Shutdown(context.Context) error { return nil }

// ForceFlush implements sdktrace.SpanProcessor.
func (*Traces) ForceFlush(context.Context) error { return nil }

// Spans implements gateway.TraceReader.
func (t *Traces) Spans(traceID string) []gateway.Span {
	id, err := trace.TraceIDFromHex(traceID)
	if err != nil {
		return nil
	}
	t.mu.Lock()
	var spans []sdktrace.ReadOnlySpan
	if e := t.byID[id]; e != nil {
		spans = append(spans, e.Value.(*kept).spans...)
	}
	t.mu.Unlock()
	out := make([]gateway.Span, 0, len(spans))
	for _, s := range spans {
		out = append(out, shown(s))
	}
	return out
}

func shown(s sdktrace.ReadOnlySpan) gateway.Span {
	span := gateway.Span{
		SpanID:         s.SpanContext().SpanID().String(),
		Name:           s.Name(),
		Kind:           s.SpanKind().String(),
		StartUnixNanos: s.StartTime().UnixNano(),
		DurationNanos:  s.EndTime().Sub(s.StartTime()).Nanoseconds(),
		Status:         s.Status().Code.String(),
		Attributes:     map[string]string{},
	}
	if s.Parent().IsValid() {
		span.ParentID = s.Parent().SpanID().String()
	}
	if v, ok := s.Resource().Set().Value(attribute.Key("service.name")); ok {
		span.Service = v.AsString()
	}
	for _, a := range s.Attributes() {
		span.Attributes[string(a.Key)] = a.Value.String()
	}
	return span
}
