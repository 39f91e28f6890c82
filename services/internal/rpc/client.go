package rpc

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/meshmart/meshmart/services/internal/breaker"
	"github.com/meshmart/meshmart/services/internal/fault"
	"github.com/meshmart/meshmart/services/internal/faultpoint"
	"github.com/meshmart/meshmart/services/internal/identity"
	"github.com/meshmart/meshmart/services/internal/policy"
)

// ClientConfig is what a connection needs from its process.
type ClientConfig struct {
	// Name is the service that is called; the breaker is named after it.
	Name   string
	Target string
	// Mesh is what the connection goes through.
	Mesh Mesh
	// Identity is what the process proves itself by with NoMesh; nil: plaintext.
	Identity *identity.Identity
	Log      *slog.Logger
	Traces   trace.TracerProvider // nil: calls have no spans; as a server's
	Roots    Roots                // as a server's
	Meters   metric.MeterProvider // nil: calls are not counted
	// Breaker makes the breaker of the connection; nil: breaker.New.
	Breaker func(breaker.Config) *breaker.Breaker
	// Point is for tests: it is told "before call of <method>", and "after call
	// of <method>" when the caller has not acted on the reply yet; of a stream
	// only the former.
	Point faultpoint.Hook
}

// MaxReply is how large a reply may be, in bytes. gRPC's own limit of 4 MiB is
// less than a page of 1,000 products with the longest descriptions.
const MaxReply = 32 << 20

// Dial returns a connection with a circuit breaker of its own. It connects when
// it is first used; with Proxyless at once, as a short call can't wait for all
// that the control plane has to tell of the way. With a mesh of proxies the
// transport is plaintext, for on the wire the mesh encrypts it, and it keeps no
// retries, for the mesh repeats what the contract allows. Whoever repeats: the
// breaker counts a call once.
func Dial(cfg ClientConfig, opts ...grpc.DialOption) (*grpc.ClientConn, error) {
	how, err := cfg.Mesh.dialOptions(cfg.Name, cfg.Identity)
	if err != nil {
		return nil, err
	}
	g, err := newGuard(cfg)
	if err != nil {
		return nil, err
	}
	conn, err := grpc.NewClient(cfg.Target, slices.Concat([]grpc.DialOption{
		grpc.WithConnectParams(reconnect()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxReply)),
		grpc.WithUnaryInterceptor(g.unary),
		grpc.WithStreamInterceptor(g.stream),
	}, cfg.traced(g), how, opts)...)
	if err == nil && cfg.Mesh == Proxyless {
		conn.Connect()
	}
	return conn, err
}

// traced has the calls of a guard traced, or each attempt of them where gRPC makes
// several.
func (cfg *ClientConfig) traced(g *guard) []grpc.DialOption {
	if cfg.Traces == nil {
		return nil
	}
	t := tracing{clientSpans(otelgrpc.NewClientHandler(traced(cfg.Traces)...)), cfg.Roots}
	if cfg.Mesh.repeats() {
		return []grpc.DialOption{grpc.WithStatsHandler(attemptSpans{t})}
	}
	g.traces = t
	return nil
}

func (g *guard) unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if policy.Exempt(method) { // who asks for the health of a target means to ask
		return invoke(ctx, method, req, reply, cc, opts...)
	}
	p, _ := policy.Of(method)
	ctx, cancel, err := budget(ctx, p)
	if err != nil {
		return err
	}
	defer cancel()
	done, err := g.allow(ctx)
	if err != nil {
		return err
	}
	start := time.Now()
	err = breaker.ErrPanicked
	defer func() {
		g.count(ctx, method, start, err)
		done(err)
	}()
	out, traced := g.traces.leaving(ctx, method)
	var by *peer.Peer
	if traced {
		by = &peer.Peer{}
	}
	err = g.witness.unary(out, p, by, method, identified(req, p), reply, cc, invoke, opts...)
	if traced {
		g.traces.returned(out, by.Addr, err)
	}
	return fault.FromStatus(err)
}

func (g *guard) stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	if policy.Exempt(method) {
		return open(ctx, desc, cc, method, opts...)
	}
	p, _ := policy.Of(method)
	ctx, cancel, err := budget(ctx, p)
	if err != nil {
		return nil, err
	}
	done, err := g.allow(ctx)
	if err != nil {
		cancel()
		return nil, err
	}
	start := time.Now()
	out, traced := g.traces.leaving(ctx, method)
	w := newWatchedStream(ctx, desc, done, func(err error) {
		if traced {
			g.traces.returned(out, nil, err)
		}
		g.count(ctx, method, start, err)
		cancel()
	})
	err = breaker.ErrPanicked
	defer func() {
		if err != nil {
			w.report(err)
			w.end(err)
		}
	}()
	w.ClientStream, err = g.witness.stream(out, p, desc, cc, method, open, opts...)
	if err != nil {
		return nil, fault.FromStatus(err)
	}
	if traced {
		g.traces.opened(out, w.ClientStream)
	}
	return w, nil
}

// identified fills in an empty request_id (AIP-4235), so that a repetition by
// the mesh or by gRPC is known for one. The caller's message is left as it was.
func identified(req any, p *policy.Policy) any {
	m, ok := req.(proto.Message)
	if !ok || p == nil || p.RequestID == nil || m.ProtoReflect().Has(p.RequestID) {
		return req
	}
	c := proto.Clone(m)
	c.ProtoReflect().Set(p.RequestID, protoreflect.ValueOfString(uuid.NewString()))
	return c
}
