package rpc

import (
	"context"
	"slices"
	"strconv"
	"sync/atomic"

	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	"github.com/meshmart/meshmart/services/internal/policy"
)

// spans gives calls the spans that otelgrpc makes, with two differences: what a
// service answers in words stays out of them, for it may repeat what a user has
// typed; and each attempt after a call's first says which it is.
type spans struct {
	stats.Handler
	failed func(codes.Code) bool // is a failure on this side of a call
}

func serverSpans(otel stats.Handler) spans { return spans{otel, ServerFailed} }

func clientSpans(otel stats.Handler) spans {
	return spans{otel, func(c codes.Code) bool { return c != codes.OK }}
}

// attemptSpans has a span for each attempt that gRPC itself makes of a call whose
// trace is kept, one beside the other under the caller's; those that it makes again
// because nothing was sent count too, of which a server hears nothing. Of the
// attempts of a mesh a client sees one span, and only the servers' say which they
// are: on such connections there is no such handler, which costs each call as much
// as all else that the runtime does for it.
type attemptSpans struct{ tracing }

// TagRPC implements stats.Handler.
func (a attemptSpans) TagRPC(ctx context.Context, info *stats.RPCTagInfo) context.Context {
	if policy.Exempt(info.FullMethodName) {
		return a.spans.TagRPC(ctx, info)
	}
	ctx, _ = a.leaving(ctx, info.FullMethodName)
	return ctx
}

// HandleRPC implements stats.Handler. Of what happens to a call, otelgrpc wants to
// know these.
func (a attemptSpans) HandleRPC(ctx context.Context, s stats.RPCStats) {
	switch s.(type) {
	case *stats.Begin, *stats.OutHeader, *stats.End:
		if trace.SpanFromContext(ctx).IsRecording() {
			a.spans.HandleRPC(ctx, s)
		}
	}
}

// TagConn implements stats.Handler.
func (attemptSpans) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn implements stats.Handler.
func (attemptSpans) HandleConn(context.Context, stats.ConnStats) {}

// ServerFailed reports whether the semantic conventions for gRPC count a code as
// the failure of a server: a refusal is none.
func ServerFailed(c codes.Code) bool {
	return slices.Contains([]codes.Code{codes.Unknown, codes.DeadlineExceeded, codes.Unimplemented,
		codes.Internal, codes.Unavailable, codes.DataLoss}, c)
}

type unobservedKey struct{}

// TagRPC implements stats.Handler.
func (h spans) TagRPC(ctx context.Context, info *stats.RPCTagInfo) context.Context {
	ctx = h.Handler.TagRPC(ctx, info)
	if policy.Exempt(info.FullMethodName) {
		return context.WithValue(ctx, unobservedKey{}, true) // the span in ctx is another's
	}
	if made, ok := ctx.Value(attemptsKey{}).(*atomic.Int64); ok {
		sayResends(ctx, int(made.Add(1))-1)
	}
	return ctx
}

// HandleRPC implements stats.Handler.
func (h spans) HandleRPC(ctx context.Context, s stats.RPCStats) {
	end, ok := s.(*stats.End)
	if !ok || end.Error == nil || ctx.Value(unobservedKey{}) != nil {
		h.Handler.HandleRPC(ctx, s)
		return
	}
	code := status.Code(end.Error)
	name := codeName(code)
	if h.failed(code) {
		trace.SpanFromContext(ctx).SetAttributes(semconv.ErrorTypeKey.String(name))
	}
	silent := *end
	silent.Error = status.Error(code, name)
	h.Handler.HandleRPC(ctx, &silent)
}

type attemptsKey struct{}

// countAttempts has the attempts of a unary call counted. It is for connections that
// make them.
func countAttempts(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	return invoke(context.WithValue(ctx, attemptsKey{}, new(atomic.Int64)), method, req, reply, cc, opts...)
}

// countAttemptsOfStream is countAttempts for the opening of a stream.
func countAttemptsOfStream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	return open(context.WithValue(ctx, attemptsKey{}, new(atomic.Int64)), desc, cc, method, opts...)
}

// maxResends is the most that is believed of who repeats a call. A contract
// allows fewer.
const maxResends = 99

// resends returns how often a call was made before, as whoever repeats it tells:
// gRPC counts the attempts before this one, Envoy this one too. Linkerd tells
// nothing. Anybody could write such a header, so it is for people to read.
func resends(ctx context.Context) int {
	return max(small(ctx, "grpc-previous-rpc-attempts"), small(ctx, "x-envoy-attempt-count")-1, 0)
}

// small returns the number in a header, 0 if there is none or it is not credible.
func small(ctx context.Context, header string) int {
	values := metadata.ValueFromIncomingContext(ctx, header)
	if len(values) != 1 || len(values[0]) > len("100") {
		return 0
	}
	n, err := strconv.ParseUint(values[0], 10, 8)
	if err != nil || n > maxResends+1 {
		return 0
	}
	return int(n)
}

// sayResends says on the span of ctx that it is of a repetition.
func sayResends(ctx context.Context, n int) {
	if n > 0 {
		trace.SpanFromContext(ctx).SetAttributes(semconv.HTTPRequestResendCount(n))
	}
}
