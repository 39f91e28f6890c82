// Package rpc is how services speak gRPC: one constructor for servers and one
// for clients, so that every call is traced, logged, guarded and bounded alike.
// Encryption, retries and balancing are the mesh's work, not this package's,
// unless there is none: see Mesh.
package rpc

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/meshmart/meshmart/services/internal/auth"
	"github.com/meshmart/meshmart/services/internal/effect"
	"github.com/meshmart/meshmart/services/internal/fault"
	"github.com/meshmart/meshmart/services/internal/faultpoint"
	"github.com/meshmart/meshmart/services/internal/policy"
)

// Propagator carries the trace from call to call (W3C Trace Context).
var Propagator propagation.TextMapPropagator = propagation.TraceContext{}

// ServerConfig is what a server needs from its process.
type ServerConfig struct {
	Log    *slog.Logger
	Traces trace.TracerProvider // nil: calls have no spans
	Meters metric.MeterProvider // nil: calls are not counted
	Clock  func() time.Time
	// Mesh is what the server stands in.
	Mesh Mesh
	// Insider reports whether a caller at this address is one of the shop's own
	// services, as far as that can be told here: others get no INTERNAL RPC.
	Insider func(net.Addr) bool
	// Draining is closed when the process begins to shut down; nil for never.
	Draining <-chan struct{}
	// Outage reports whether a handler's error says that the store could not
	// be reached and nothing was done; the caller is told UNAVAILABLE.
	Outage func(error) bool
	// Point is for tests: it is told "before reply of <method>" when a handler
	// has done its work and its caller knows nothing of it, or not of the end of
	// its stream.
	Point faultpoint.Hook
}

// Server is a gRPC server whose every call passes through the policy that the
// RPC's contract declares.
type Server struct {
	transport

	cfg      ServerConfig
	limits   *limits
	verifier *auth.Verifier // nil: no RPC of this server asks for a token
}

// NewServer returns a server with nothing registered.
func NewServer(cfg ServerConfig) (*Server, error) {
	s := &Server{cfg: cfg, limits: newLimits(cfg.Clock)}
	watched, err := cfg.watched()
	if err != nil {
		return nil, err
	}
	s.transport, err = cfg.Mesh.server(cfg.Log, append(watched,
		grpc.UnaryInterceptor(s.unary),
		grpc.StreamInterceptor(s.stream),
		grpc.UnknownServiceHandler(unknown), // gRPC's own would have no end in traces, metrics and log
	)...)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Verify makes v the judge of the tokens that callers present. It must be
// called before the server serves.
func (s *Server) Verify(v *auth.Verifier) { s.verifier = v }

// watched has each call traced and counted.
func (cfg *ServerConfig) watched() ([]grpc.ServerOption, error) {
	var opts []grpc.ServerOption
	if cfg.Traces != nil {
		opts = append(opts, grpc.StatsHandler(serverSpans(otelgrpc.NewServerHandler(traced(cfg.Traces)...))))
	}
	if cfg.Meters != nil {
		calls, err := measureServer(cfg.Meters)
		if err != nil {
			return nil, err
		}
		opts = append(opts, grpc.StatsHandler(calls))
	}
	return opts, nil
}

// traced makes spans of calls. Its metrics are left to measure.
func traced(traces trace.TracerProvider) []otelgrpc.Option {
	return []otelgrpc.Option{
		otelgrpc.WithTracerProvider(traces),
		otelgrpc.WithMeterProvider(noop.NewMeterProvider()),
		otelgrpc.WithPropagators(Propagator),
		otelgrpc.WithFilter(func(info *stats.RPCTagInfo) bool { return !policy.Exempt(info.FullMethodName) }),
	}
}

// unknown answers for RPCs that are not registered.
func unknown(any, grpc.ServerStream) error {
	return status.Error(codes.Unimplemented, "there is no such RPC here")
}

func (s *Server) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if policy.Exempt(info.FullMethod) {
		return next(ctx, req)
	}
	c := s.begin(ctx, info.FullMethod)
	defer c.cancel()
	reply, err := c.run(func() (any, error) {
		if err := c.admit(); err != nil {
			return nil, err
		}
		if err := validate(req); err != nil {
			return nil, err
		}
		return next(c.ctx, req)
	})
	return reply, c.end(err)
}

func (s *Server) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	if policy.Exempt(info.FullMethod) {
		return next(srv, ss)
	}
	c := s.begin(ss.Context(), info.FullMethod)
	defer c.cancel()
	g := &guardedStream{ServerStream: ss, call: c, long: info.IsClientStream}
	_, err := c.run(func() (any, error) {
		if srv == nil { // it is unknown, whoever asks
			return nil, next(srv, g)
		}
		if err := c.admit(); err != nil {
			return nil, err
		}
		return nil, next(srv, g)
	})
	return c.end(err)
}

// guardedStream validates what comes in and counts both directions.
type guardedStream struct {
	grpc.ServerStream
	call *call
	long bool // the client may send for as long as it likes
}

func (g *guardedStream) Context() context.Context { return g.call.ctx }

func (g *guardedStream) RecvMsg(m any) error {
	if err := g.receive(m); err != nil {
		return err
	}
	g.call.received.Add(1)
	return validate(m)
}

// idleAtDrain is how long a shutdown waits for the next message of a stream.
const idleAtDrain = 500 * time.Millisecond

// receive waits for the next message, and at a shutdown no longer than for one
// that is on its way: a client that says nothing would hold up the others. What
// it has sent was taken or is sent again, as its contract says.
func (g *guardedStream) receive(m any) error {
	if !g.long || g.call.server.cfg.Draining == nil {
		return g.ServerStream.RecvMsg(m)
	}
	done := make(chan error, 1)
	go func() { done <- g.ServerStream.RecvMsg(m) }() // ends with the stream at the latest
	select {
	case err := <-done:
		return err
	case <-g.call.server.cfg.Draining:
	}
	select {
	case err := <-done:
		return err
	case <-time.After(idleAtDrain):
		return fault.Unavailable(time.Second, "this server stops: open the stream again")
	}
}

func (g *guardedStream) SendMsg(m any) error {
	err := g.ServerStream.SendMsg(m)
	if err == nil {
		g.call.sent.Add(1)
	}
	return err
}

// call is one call on its way through the server.
type call struct {
	server *Server
	ctx    context.Context
	cancel context.CancelFunc
	method string
	policy *policy.Policy
	start  time.Time
	again  int // how often it was made before, as far as that is told

	// A handler may have returned while a goroutine of its stream still receives.
	received, sent atomic.Int64
}

// begin bounds the call by its policy's timeout, or by the caller's deadline if
// that is sooner.
func (s *Server) begin(ctx context.Context, method string) *call {
	ctx = effect.Track(s.cfg.Point.In(ctx, strings.TrimPrefix(method, "/")))
	c := &call{server: s, ctx: ctx, cancel: func() {}, method: method, start: time.Now(), again: resends(ctx)}
	sayResends(ctx, c.again)
	c.policy, _ = policy.Of(method)
	if c.policy != nil && c.policy.Timeout > 0 {
		c.ctx, c.cancel = context.WithTimeout(ctx, c.policy.Timeout)
	}
	return c
}

// admit lets the call in, or says why not: it has a policy, time left, a place
// in the rate limit, and a caller who may.
func (c *call) admit() error {
	if c.policy == nil {
		return fmt.Errorf("%s has no policy", c.method)
	}
	if err := c.ctx.Err(); err != nil {
		return err
	}
	principal, err := c.server.authenticate(c.ctx, c.policy)
	if err != nil {
		return err
	}
	if principal != nil {
		c.ctx = auth.With(c.ctx, principal)
	}
	return c.server.limits.take(c.ctx, c.policy, principal)
}

// run calls fn and turns a panic into an error, logged with its stack.
func (c *call) run(fn func() (any, error)) (reply any, err error) {
	defer func() {
		if p := recover(); p != nil {
			c.server.cfg.Log.ErrorContext(c.ctx, "panic", "method", c.method, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			reply, err = nil, fmt.Errorf("panic: %v", p)
		}
	}()
	return fn()
}

// end writes the call's one line and returns what the caller is told.
func (c *call) end(err error) error {
	st := status.New(codes.OK, "")
	if err != nil {
		st = c.truthful(visible(c.ctx, err, c.server.cfg.Outage))
	}
	attrs := make([]slog.Attr, 0, 8)
	// The time is whole microseconds: slog has encoding/json write a float, which
	// would be a twentieth of what a call costs.
	attrs = append(attrs, slog.String("method", c.method), slog.String("code", codeName(st.Code())),
		slog.Int64("us", time.Since(c.start).Microseconds()))
	if p, ok := auth.From(c.ctx); ok {
		attrs = append(attrs, slog.String("user", p.Subject))
	}
	if c.policy != nil && c.policy.Streaming {
		attrs = append(attrs, slog.Int64("received", c.received.Load()), slog.Int64("sent", c.sent.Load()))
	}
	if c.again > 0 {
		attrs = append(attrs, slog.Int("attempt", c.again+1))
	}
	if err != nil {
		attrs = append(attrs, slog.String("err", err.Error()))
	}
	c.server.cfg.Log.LogAttrs(c.ctx, level(st.Code()), "call", attrs...)
	c.server.cfg.Point.At("before reply of ", strings.TrimPrefix(c.method, "/"))
	return st.Err()
}

// level is how much an outcome should worry whoever runs the service.
func level(c codes.Code) slog.Level {
	switch c {
	case codes.Internal, codes.Unknown, codes.DataLoss, codes.Unimplemented:
		return slog.LevelError
	case codes.Unavailable, codes.DeadlineExceeded, codes.ResourceExhausted:
		return slog.LevelWarn
	}
	return slog.LevelInfo
}

func validate(m any) error {
	msg, ok := m.(proto.Message)
	if !ok {
		return nil
	}
	return Validate(msg)
}
