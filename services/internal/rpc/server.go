// Package rpc is how services speak gRPC: one constructor for servers and one
// for clients, so that every call is traced, logged, guarded and bounded alike.
// Encryption, retries and balancing are the mesh's work, not this package's,
// unless there is none: see Mesh.
package rpc

import (
	"context"
	"log/slog"
	"net"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/meshmart/meshmart/services/internal/apart"
	"github.com/meshmart/meshmart/services/internal/auth"
	"github.com/meshmart/meshmart/services/internal/faultpoint"
	"github.com/meshmart/meshmart/services/internal/identity"
	"github.com/meshmart/meshmart/services/internal/policy"
)

// ServerConfig is what a server needs from its process.
type ServerConfig struct {
	Log    *slog.Logger
	Traces trace.TracerProvider // nil: calls have no spans; its sampler follows the caller's decision
	Roots  Roots                // of the traces that begin here; nil: the sampler of Traces is asked each time
	Meters metric.MeterProvider // nil: calls are not counted
	Clock  func() time.Time
	// Mesh is what the server stands in.
	Mesh Mesh
	// Identity is what the server proves itself by with NoMesh; nil: it takes calls
	// in plaintext. If it is mutual, callers are who the contracts say.
	Identity *identity.Identity
	// Insider reports whether a caller at this address is one of the shop's own
	// services, as far as that can be told here: others get no INTERNAL RPC. Who
	// is known by a certificate is not asked where he is.
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
	traces   tracing
	calls    *measure       // nil: they are not counted
	verifier *auth.Verifier // nil: no RPC of this server asks for a token
	routes   map[string]*route
}

// workers answer calls on stacks that have grown to what a call needs; a goroutine
// made for one call would grow its own, for a fourteenth of the processor time. Those
// that are too many for them have one each, as have streams that stay open.
const workers = 64

// NewServer returns a server with nothing registered.
func NewServer(cfg ServerConfig) (*Server, error) {
	s := &Server{cfg: cfg, limits: newLimits(cfg.Clock), routes: map[string]*route{}}
	var err error
	if cfg.Meters != nil {
		if s.calls, err = measureServer(cfg.Meters); err != nil {
			return nil, err
		}
	}
	if cfg.Traces != nil {
		s.traces = tracing{serverSpans(otelgrpc.NewServerHandler(traced(cfg.Traces)...)), cfg.Roots}
	}
	opts := []grpc.ServerOption{
		grpc.NumStreamWorkers(workers),
		grpc.StreamInterceptor(s.stream),
		grpc.UnknownServiceHandler(unknown), // gRPC's own would have no end in traces, metrics and log
	}
	if cfg.Mesh == Proxyless {
		opts = append(opts, grpc.StatsHandler(refused{s}))
	}
	if cfg.Identity != nil {
		creds, err := cfg.Identity.Server()
		if err != nil {
			return nil, err
		}
		opts = append(opts, grpc.Creds(creds))
	}
	s.transport, err = cfg.Mesh.server(cfg.Log, opts...)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Verify makes v the judge of the tokens that callers present. It must be
// called before the server serves.
func (s *Server) Verify(v *auth.Verifier) { s.verifier = v }

// RegisterService implements grpc.ServiceRegistrar. Unary RPCs are registered as
// handlers of the server's own, which also see a request that can't be read: an
// interceptor would not, and a stats handler would cost each call a copy of its
// headers and an event for each of its parts.
func (s *Server) RegisterService(desc *grpc.ServiceDesc, impl any) {
	d := *desc
	d.Methods = make([]grpc.MethodDesc, len(desc.Methods))
	for i, m := range desc.Methods {
		if name := "/" + desc.ServiceName + "/" + m.MethodName; !policy.Exempt(name) {
			m.Handler = s.unary(s.route(name), m.Handler)
		} else if s.cfg.Identity.Mutual() {
			m.Handler = s.guarded(name, m.Handler)
		}
		d.Methods[i] = m
	}
	for _, m := range desc.Streams {
		s.route("/" + desc.ServiceName + "/" + m.StreamName)
	}
	s.transport.RegisterService(&d, impl)
}

// unknown answers for RPCs that are not registered.
func unknown(any, grpc.ServerStream) error {
	return status.Error(codes.Unimplemented, "there is no such RPC here")
}

// unaryHandler is a grpc.MethodDesc's.
type unaryHandler = func(srv any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error)

func (s *Server) unary(r *route, next unaryHandler) unaryHandler {
	return func(srv any, ctx context.Context, decode func(any) error, outer grpc.UnaryServerInterceptor) (any, error) {
		c := s.begin(ctx, r)
		defer c.cancel()
		reply, err := c.run(func() (any, error) {
			return next(srv, c.ctx, func(m any) error {
				err := decode(m)
				c.unread = err != nil
				return err
			}, c.behind(outer))
		})
		return reply, c.end(err)
	}
}

// behind is handle behind an interceptor that the transport has of its own, as
// gRPC's for xDS may be; nil for none.
func (c *call) behind(outer grpc.UnaryServerInterceptor) grpc.UnaryServerInterceptor {
	if outer == nil {
		return c.handle
	}
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		return outer(ctx, req, info, func(ctx context.Context, req any) (any, error) { return c.handle(ctx, req, info, next) })
	}
}

// handle is called with a request that could be read.
func (c *call) handle(_ context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if err := c.admit(); err != nil {
		return nil, err
	}
	if err := validate(req); err != nil {
		return nil, err
	}
	return next(c.ctx, req)
}

// stream does apart what needs a stack at the beginning: a stream may wait for long
// after it.
func (s *Server) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	if policy.Exempt(info.FullMethod) {
		if err := s.mayAsk(ss.Context(), info.FullMethod); err != nil {
			return unwatched(info.FullMethod, err)
		}
		return next(srv, ss)
	}
	var c *call
	apart.Run(func() { c = s.begin(ss.Context(), s.routeOf(info.FullMethod)) })
	defer c.cancel()
	g := &guardedStream{ServerStream: ss, call: c, long: info.IsClientStream}
	_, err := c.run(func() (any, error) {
		if srv == nil { // it is unknown
			if err := s.mayAsk(c.ctx, c.method); err != nil {
				return nil, err
			}
			return nil, next(srv, g)
		}
		var err error
		if apart.Run(func() { err = c.admit() }); err != nil {
			return nil, err
		}
		return nil, next(srv, g)
	})
	return c.end(err)
}
