package rpc

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"net"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	"github.com/meshmart/meshmart/services/internal/policy"
)

// Propagator carries the trace from call to call (W3C Trace Context).
var Propagator propagation.TextMapPropagator = propagation.TraceContext{}

// Roots reports whether a trace that begins now is kept. It is asked once for
// each call that belongs to no trace yet.
type Roots func() bool

// Ratio keeps a share of all traces, from 0 to 1.
func Ratio(share float64) Roots {
	return func() bool { return rand.Float64() < share }
}

type keptKey struct{}

// Kept reports whether Roots have said that the trace which begins under ctx is
// kept. The sampler of a provider must go by it, or it would throw the same dice
// once more.
func Kept(ctx context.Context) bool { return ctx.Value(keptKey{}) != nil }

// tracing is the traces of calls, most of which are not kept. Of such a call
// nothing is told to otelgrpc: its trace only goes on to whoever is called next,
// as it came, and into the log.
type tracing struct {
	spans spans // the zero value: there are no traces
	roots Roots
}

// Begin puts ctx, if it belongs to no trace, into one that begins, and reports
// whether the trace is kept. It is for what comes from elsewhere, and not by gRPC.
func Begin(ctx context.Context, roots Roots) (context.Context, bool) {
	sc := trace.SpanContextFromContext(ctx)
	ctx, kept := keeps(ctx, sc, roots)
	if !kept && !sc.IsValid() {
		ctx = trace.ContextWithSpanContext(ctx, unkept())
	}
	return ctx, kept
}

// keeps reports whether a call which is made in sc has a span, and returns ctx for
// its making.
func keeps(ctx context.Context, sc trace.SpanContext, roots Roots) (context.Context, bool) {
	switch {
	case sc.IsValid():
		return ctx, sc.IsSampled()
	case roots == nil:
		return ctx, true // whether it is recorded is the sampler's to say
	case roots():
		return context.WithValue(ctx, keptKey{}, true), true
	}
	return ctx, false
}

// arrived puts a server's call into its trace, and reports whether it has a span.
func (t *tracing) arrived(ctx context.Context, method string) (context.Context, bool) {
	if t.spans.Handler == nil {
		return ctx, false
	}
	in := Propagator.Extract(ctx, incoming{ctx})
	sc := trace.SpanContextFromContext(in)
	ctx, kept := keeps(ctx, sc, t.roots)
	switch {
	case kept:
	case sc.IsValid():
		return in, false
	default:
		return trace.ContextWithSpanContext(ctx, unkept()), false
	}
	ctx = t.spans.TagRPC(ctx, &stats.RPCTagInfo{FullMethodName: method})
	if p, ok := peer.FromContext(ctx); ok {
		t.spans.HandleRPC(ctx, &stats.InHeader{FullMethod: method, RemoteAddr: p.Addr, LocalAddr: p.LocalAddr})
	}
	return ctx, true
}

// answered ends the span of a server's call.
func (t *tracing) answered(ctx context.Context, err error) {
	t.spans.HandleRPC(ctx, &stats.End{Error: err})
}

// leaving has a client's call tell its trace, and reports whether it has a span.
func (t *tracing) leaving(ctx context.Context, method string) (context.Context, bool) {
	if t.spans.Handler == nil {
		return ctx, false
	}
	sc := trace.SpanContextFromContext(ctx)
	ctx, kept := keeps(ctx, sc, t.roots)
	switch {
	case kept:
		return t.spans.TagRPC(ctx, &stats.RPCTagInfo{FullMethodName: method}), true
	case !sc.IsValid():
		ctx = trace.ContextWithSpanContext(ctx, unkept())
	}
	return sending(ctx), false
}

// opened says on the span of a client's stream to whom it went.
func (t *tracing) opened(ctx context.Context, s grpc.ClientStream) {
	if to, ok := peer.FromContext(s.Context()); ok {
		t.sent(ctx, to.Addr)
	}
}

func (t *tracing) sent(ctx context.Context, to net.Addr) {
	t.spans.HandleRPC(ctx, &stats.OutHeader{Client: true, RemoteAddr: to})
}

// returned ends the span of a client's call; to is whom it went to, nil for nobody
// or if that is said already.
func (t *tracing) returned(ctx context.Context, to net.Addr, err error) {
	if to != nil {
		t.sent(ctx, to)
	}
	if err != nil {
		err = status.Error(ended(err), "")
	}
	t.spans.HandleRPC(ctx, &stats.End{Client: true, Error: err})
}

// unkept returns the beginning of a trace that nobody keeps.
func unkept() trace.SpanContext {
	var c trace.SpanContextConfig
	binary.NativeEndian.PutUint64(c.TraceID[:8], rand.Uint64())
	binary.NativeEndian.PutUint64(c.TraceID[8:], rand.Uint64()|1) // zero is no id
	binary.NativeEndian.PutUint64(c.SpanID[:], rand.Uint64()|1)
	return trace.NewSpanContext(c)
}

// sending tells whoever is called with ctx the trace that it is made in. Nobody
// else does: it is added to the headers that there are, without a look at them.
func sending(ctx context.Context) context.Context {
	var out outgoing
	Propagator.Inject(ctx, &out)
	return metadata.AppendToOutgoingContext(ctx, out...)
}

// outgoing are headers of a call, each a name and its value.
type outgoing []string

// Set implements propagation.TextMapCarrier.
func (out *outgoing) Set(key, value string) { *out = append(*out, key, value) }

// Get implements propagation.TextMapCarrier: nothing is read of what goes out.
func (*outgoing) Get(string) string { return "" }

// Keys implements propagation.TextMapCarrier.
func (*outgoing) Keys() []string { return nil }

// incoming reads the headers of a call without a copy of them all.
type incoming struct{ ctx context.Context }

// Get implements propagation.TextMapCarrier.
func (in incoming) Get(key string) string {
	if values := metadata.ValueFromIncomingContext(in.ctx, key); len(values) > 0 {
		return values[0]
	}
	return ""
}

// Set implements propagation.TextMapCarrier: nothing is written to what came in.
func (incoming) Set(string, string) {}

// Keys implements propagation.TextMapCarrier.
func (incoming) Keys() []string { return nil }

// traced makes spans of calls. Its metrics are left to measure.
func traced(traces trace.TracerProvider) []otelgrpc.Option {
	return []otelgrpc.Option{
		otelgrpc.WithTracerProvider(traces),
		otelgrpc.WithMeterProvider(noop.NewMeterProvider()),
		otelgrpc.WithPropagators(Propagator),
		otelgrpc.WithFilter(func(info *stats.RPCTagInfo) bool { return !policy.Exempt(info.FullMethodName) }),
	}
}
