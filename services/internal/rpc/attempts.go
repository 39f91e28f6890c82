package rpc

import (
	"context"
	"errors"
	"math"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	"github.com/meshmart/meshmart/services/internal/effect"
	"github.com/meshmart/meshmart/services/internal/policy"
)

// repeating is for connections that make the attempts of a call themselves.
func repeating() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithMaxCallAttempts(math.MaxInt), // the contract's number counts, not gRPC's 5
		grpc.WithStatsHandler(attempts{}),
		grpc.WithChainUnaryInterceptor(lastAnswer, countAttempts),
		grpc.WithChainStreamInterceptor(countAttemptsOfStream),
	}
}

// lastAnswer returns the error of a call's last attempt as it came, without
// gRPC's count of the attempts in its text.
func lastAnswer(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	err := invoke(ctx, method, req, reply, cc, opts...)
	var answer interface{ GRPCStatus() *status.Status }
	if errors.As(err, &answer) {
		return answer.GRPCStatus().Err()
	}
	return err
}

// attempts notes what each attempt of a call may have changed at its target,
// where the witness only sees the last one: a first attempt whose reply was lost
// may have done the work that a second one was refused.
type attempts struct{}

type attemptKey struct{}

// attempt is one attempt of a unary call that changes something.
type attempt struct{ sent atomic.Bool }

// TagRPC implements stats.Handler.
func (attempts) TagRPC(ctx context.Context, info *stats.RPCTagInfo) context.Context {
	p, ok := policy.Of(info.FullMethodName)
	if policy.Exempt(info.FullMethodName) || ok && (p.ReadOnly || p.Streaming) {
		return ctx
	}
	return context.WithValue(ctx, attemptKey{}, &attempt{})
}

// HandleRPC implements stats.Handler.
func (attempts) HandleRPC(ctx context.Context, s stats.RPCStats) {
	a, ok := ctx.Value(attemptKey{}).(*attempt)
	if !ok {
		return
	}
	switch s := s.(type) {
	case *stats.OutHeader:
		a.sent.Store(true)
	case *stats.End:
		if affected(s.Error, a.sent.Load()) {
			effect.Note(ctx)
		}
	}
}

// TagConn implements stats.Handler.
func (attempts) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn implements stats.Handler.
func (attempts) HandleConn(context.Context, stats.ConnStats) {}
