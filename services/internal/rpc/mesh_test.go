package rpc

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric/noop"
	tracenoop "go.opentelemetry.io/otel/trace/noop"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/emptypb"

	_ "github.com/meshmart/meshmart/proto/greeter/v1"
	_ "github.com/meshmart/meshmart/proto/inventory/v1"
	meshpb "github.com/meshmart/meshmart/proto/mesh/v1"
	_ "github.com/meshmart/meshmart/proto/order/v1"
	_ "github.com/meshmart/meshmart/proto/payment/v1"
	_ "github.com/meshmart/meshmart/proto/product/v1"
	_ "github.com/meshmart/meshmart/proto/user/v1"
	"github.com/meshmart/meshmart/services/internal/policy"
)

// backend is a replica that answers every RPC of every service as a test says.
type backend struct {
	health *health.Server
	answer func(ctx context.Context, attempt int) error

	lis      *bufconn.Listener
	mu       sync.Mutex
	attempts map[string]int // by method
}

func newBackend(t *testing.T, answer func(ctx context.Context, attempt int) error, opts ...grpc.ServerOption) *backend {
	t.Helper()
	b := &backend{health: health.NewServer(), answer: answer, lis: bufconn.Listen(1 << 16), attempts: map[string]int{}}
	s := grpc.NewServer(append(opts, grpc.UnknownServiceHandler(b.handle))...)
	healthpb.RegisterHealthServer(s, b.health)
	go s.Serve(b.lis)
	t.Cleanup(s.Stop)
	return b
}

func (b *backend) handle(_ any, ss grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(ss)
	b.mu.Lock()
	b.attempts[method]++
	n := b.attempts[method]
	b.mu.Unlock()
	if err := ss.RecvMsg(&emptypb.Empty{}); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if err := b.answer(ss.Context(), n); err != nil {
		return err
	}
	return ss.SendMsg(&emptypb.Empty{})
}

func (b *backend) of(method string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.attempts[method]
}

func (b *backend) all() (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, a := range b.attempts {
		n += a
	}
	return n
}

func unavailable(context.Context, int) error {
	return status.Error(codes.Unavailable, "nothing was done")
}

// dialReplicas connects to backends behind one name, as DNS tells of them.
func dialReplicas(t *testing.T, cfg ClientConfig, backends ...*backend) *grpc.ClientConn {
	t.Helper()
	names := manual.NewBuilderWithScheme("replicas")
	byAddr, state := map[string]*backend{}, resolver.State{}
	for i, b := range backends {
		addr := string(rune('a' + i))
		byAddr[addr] = b
		state.Addresses = append(state.Addresses, resolver.Address{Addr: addr})
	}
	names.InitialState(state)
	cfg.Target, cfg.Log, cfg.Traces, cfg.Meters = "replicas:///"+cfg.Name, slog.New(slog.DiscardHandler), tracenoop.NewTracerProvider(), noop.NewMeterProvider()
	conn, err := Dial(cfg, grpc.WithResolvers(names), grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
		return byAddr[addr].lis.DialContext(ctx)
	}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// rpcs calls fn with every RPC of our contracts.
func rpcs(t *testing.T, fn func(method string, m protoreflect.MethodDescriptor)) {
	t.Helper()
	n := 0
	protoregistry.GlobalFiles.RangeFiles(func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			s := f.Services().Get(i)
			if !proto.HasExtension(s.Options(), meshpb.E_Service) {
				continue
			}
			for j := range s.Methods().Len() {
				n++
				fn("/"+string(s.FullName())+"/"+string(s.Methods().Get(j).Name()), s.Methods().Get(j))
			}
		}
		return true
	})
	if n < 40 {
		t.Fatalf("only %d RPCs found", n)
	}
}

// invoke makes one call of any RPC, and of a stream takes what comes first.
func invoke(ctx context.Context, conn *grpc.ClientConn, method string, m protoreflect.MethodDescriptor) error {
	in, out := dynamicpb.NewMessage(m.Input()), dynamicpb.NewMessage(m.Output())
	if !m.IsStreamingClient() && !m.IsStreamingServer() {
		return conn.Invoke(ctx, method, in, out)
	}
	s, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: m.IsStreamingClient(), ServerStreams: m.IsStreamingServer()}, method)
	if err != nil {
		return err
	}
	if !m.IsStreamingClient() {
		if err := s.SendMsg(in); err != nil {
			return err
		}
	}
	if err := s.CloseSend(); err != nil {
		return err
	}
	return s.RecvMsg(out)
}

// declared is how many attempts of an RPC its contract allows.
func declared(m protoreflect.MethodDescriptor) int {
	p, _ := proto.GetExtension(m.Options(), meshpb.E_Method).(*meshpb.MethodPolicy)
	return 1 + int(p.GetRetry().GetAttempts())
}

// A backend that fails before it has done anything sees the attempts that the
// contract declares, all of them made by the process when there is no mesh, and
// else all but one of them by the mesh: attempts never multiply.
func TestAttemptsAreTheContractsAndMadeByOneOnly(t *testing.T) {
	unary, streams, repeated := 0, 0, 0
	for _, mesh := range []Mesh{"", "istio", "ambient", "linkerd", NoMesh} {
		rpcs(t, func(method string, m protoreflect.MethodDescriptor) {
			p, _ := policy.Of(method)
			b := newBackend(t, unavailable)
			conn := dialReplicas(t, ClientConfig{Name: p.Host, Mesh: mesh}, b)
			if err := invoke(t.Context(), conn, method, m); status.Code(err) != codes.Unavailable {
				t.Errorf("MESH=%s: %s: got %v, want the backend's UNAVAILABLE", mesh, method, err)
			}
			want := 1
			if mesh == NoMesh {
				want = declared(m)
				if p.Streaming {
					streams++
				} else {
					unary++
				}
				repeated += min(1, want-1)
			}
			if got := b.of(method); got != want || p.Streaming && got != 1 {
				t.Errorf("MESH=%s: %s: %d attempts reached the backend, want %d", mesh, method, got, want)
			}
		})
	}
	t.Logf("figure: without a mesh: the attempts of %d unary RPCs (%d are repeated) and %d streams are their contracts'", unary, repeated, streams)
}

// Only codes that say that nothing was done are repeated.
func TestOtherCodesAreNotRepeatedWithoutAMesh(t *testing.T) {
	for _, code := range []codes.Code{codes.ResourceExhausted, codes.Internal, codes.Aborted, codes.Canceled, codes.DeadlineExceeded, codes.NotFound} {
		rpcs(t, func(method string, m protoreflect.MethodDescriptor) {
			p, _ := policy.Of(method)
			if p.RetryOn == nil {
				return
			}
			b := newBackend(t, func(context.Context, int) error { return status.Error(code, "no") })
			conn := dialReplicas(t, ClientConfig{Name: p.Host, Mesh: NoMesh}, b)
			if err := invoke(t.Context(), conn, method, m); err == nil || b.of(method) != 1 {
				t.Errorf("%s: %v: %d attempts, want 1 (%v)", method, code, b.of(method), err)
			}
		})
	}
}

func TestWrongMeshIsToldWithTheRightOnes(t *testing.T) {
	var m Mesh
	if err := m.UnmarshalText([]byte("envoy")); err == nil || !strings.Contains(err.Error(), "none, istio, ambient, linkerd, proxyless") {
		t.Errorf("got %v", err)
	}
	for _, known := range meshes {
		if err := m.UnmarshalText([]byte(known)); err != nil || m != known {
			t.Errorf("%s: got %q, %v", known, m, err)
		}
	}
}

// A connection that has had its time must not cut off calls that have time left.
func TestConnectionsOutliveTheCallsUnderWay(t *testing.T) {
	rpcs(t, func(method string, _ protoreflect.MethodDescriptor) {
		if p, _ := policy.Of(method); p.Timeout >= connectionGrace {
			t.Errorf("%s may take %v, and a connection that is closed waits %v", method, p.Timeout, connectionGrace)
		}
	})
}

// later waits for what is about to be so.
func later(t *testing.T, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !so(); {
		if time.Now().After(end) {
			t.Fatalf("not %s after a minute", what)
		}
	}
}
