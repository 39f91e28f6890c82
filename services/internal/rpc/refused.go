package rpc

import (
	"context"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	"github.com/meshmart/meshmart/services/internal/policy"
)

// refused counts and logs the calls that gRPC itself ends before the server sees
// them: with Proxyless, of callers whom the control plane does not let in. A proxy
// would have told of them.
type refused struct{ server *Server }

// arrival is a call that gRPC has begun.
type arrival struct {
	method string
	at     time.Time
	taken  atomic.Bool // the server has it, and tells of it
}

type arrivalKey struct{}

// took says that the server has the call.
func (s *Server) took(ctx context.Context) {
	if s.cfg.Mesh != Proxyless {
		return
	}
	if a, ok := ctx.Value(arrivalKey{}).(*arrival); ok {
		a.taken.Store(true)
	}
}

// TagRPC implements stats.Handler.
func (refused) TagRPC(ctx context.Context, info *stats.RPCTagInfo) context.Context {
	if policy.Exempt(info.FullMethodName) {
		return ctx
	}
	return context.WithValue(ctx, arrivalKey{}, &arrival{method: info.FullMethodName, at: time.Now()})
}

// HandleRPC implements stats.Handler.
func (h refused) HandleRPC(ctx context.Context, event stats.RPCStats) {
	end, ok := event.(*stats.End)
	if !ok || end.Error == nil {
		return
	}
	a, ok := ctx.Value(arrivalKey{}).(*arrival)
	if !ok || a.taken.Load() {
		return
	}
	c := &call{route: h.server.routeOf(a.method), server: h.server, ctx: ctx, start: a.at}
	c.tell(status.Code(end.Error), end.Error)
}

// TagConn implements stats.Handler.
func (refused) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn implements stats.Handler.
func (refused) HandleConn(context.Context, stats.ConnStats) {}
