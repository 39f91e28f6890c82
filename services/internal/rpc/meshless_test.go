package rpc

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric/noop"
	tracenoop "go.opentelemetry.io/otel/trace/noop"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	greeterpb "github.com/meshmart/meshmart/proto/greeter/v1"
	inventorypb "github.com/meshmart/meshmart/proto/inventory/v1"
	"github.com/meshmart/meshmart/services/internal/breaker"
	"github.com/meshmart/meshmart/services/internal/effect"
	"github.com/meshmart/meshmart/services/internal/fault"
)

func fine(context.Context, int) error { return nil }

func greet(ctx context.Context, conn *grpc.ClientConn) error {
	_, err := greeterpb.NewGreetingServiceClient(conn).Greet(ctx, &greeterpb.GreetRequest{Name: "Ada"})
	return err
}

func greetAll(t *testing.T, conn *grpc.ClientConn, n int) {
	t.Helper()
	for range n {
		if err := greet(t.Context(), conn); err != nil {
			t.Fatal(err)
		}
	}
}

func TestReplicasShareTheCallsAndOneThatIsNotReadyGetsNone(t *testing.T) {
	a, b := newBackend(t, fine), newBackend(t, fine)
	conn := dialReplicas(t, ClientConfig{Name: "greeter", Mesh: NoMesh}, a, b)
	later(t, "connected to both", func() bool { greetAll(t, conn, 1); return a.all() > 0 && b.all() > 0 })
	wasA, wasB := a.all(), b.all()
	greetAll(t, conn, 100)
	if gotA, gotB := a.all()-wasA, b.all()-wasB; gotA != 50 || gotB != 50 {
		t.Errorf("of 100 calls one replica got %d and the other %d", gotA, gotB)
	}

	b.health.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING)
	later(t, "left out", func() bool { // two in a row to the same one
		before := b.all()
		greetAll(t, conn, 2)
		return b.all() == before
	})
	wasB = b.all()
	greetAll(t, conn, 100)
	if got := b.all() - wasB; got != 0 {
		t.Errorf("a replica that is not ready got %d calls", got)
	}

	b.health.SetServingStatus("", healthpb.HealthCheckResponse_SERVING)
	later(t, "back", func() bool { greetAll(t, conn, 1); return b.all() > wasB })
}

// With a mesh the one connection is to the sidecar: which replica is ready is
// not this process's business.
func TestAMeshIsLeftToBalance(t *testing.T) {
	a, b := newBackend(t, fine), newBackend(t, fine)
	a.health.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING)
	conn := dialReplicas(t, ClientConfig{Name: "greeter", Mesh: "istio"}, a, b)
	greetAll(t, conn, 20)
	if a.all() != 20 || b.all() != 0 {
		t.Errorf("got %d and %d calls, want all on the first connection", a.all(), b.all())
	}
}

func TestARepeatedCallFindsAnotherReplica(t *testing.T) {
	a, b := newBackend(t, unavailable), newBackend(t, fine)
	conn := dialReplicas(t, ClientConfig{Name: "greeter", Mesh: NoMesh}, a, b)
	later(t, "connected to both", func() bool { greetAll(t, conn, 1); return a.all() > 0 && b.all() > 0 })
	greetAll(t, conn, 20)
}

// The breaker stands outside of the attempts.
func TestTheBreakerCountsACallOnceHoweverOftenItIsTried(t *testing.T) {
	back := newBackend(t, unavailable)
	var own *breaker.Breaker
	conn := dialReplicas(t, ClientConfig{Name: "greeter", Mesh: NoMesh, Breaker: func(cfg breaker.Config) *breaker.Breaker {
		own = breaker.New(cfg)
		return own
	}}, back)
	for i := range breaker.Row {
		if own.State() != breaker.Closed {
			t.Fatalf("the breaker is %v after %d calls", own.State(), i)
		}
		err := greet(t.Context(), conn)
		if s := status.Convert(err); s.Code() != codes.Unavailable || s.Message() != "nothing was done" {
			t.Errorf("got %v, want the backend's words", err)
		}
	}
	if own.State() != breaker.Open || back.all() != 3*breaker.Row {
		t.Errorf("after %d calls and %d attempts the breaker is %v", breaker.Row, back.all(), own.State())
	}
}

// All attempts together have the time of one call.
func TestAttemptsShareOneBudget(t *testing.T) {
	var left []time.Duration
	back := newBackend(t, func(ctx context.Context, _ int) error {
		end, _ := ctx.Deadline()
		left = append(left, time.Until(end))
		return unavailable(ctx, 0)
	})
	conn := dialReplicas(t, ClientConfig{Name: "greeter", Mesh: NoMesh}, back)
	if err := greet(t.Context(), conn); status.Code(err) != codes.Unavailable || len(left) != 3 {
		t.Fatalf("got %v after %d attempts", err, len(left))
	}
	if left[0] > time.Second || left[1] >= left[0] || left[2] >= left[1] {
		t.Errorf("the attempts had %v left", left)
	}
}

// A first attempt that was lost on the way may have done the work that the
// others were refused.
func TestEveryAttemptCountsAsAnEffect(t *testing.T) {
	lost, refused := status.Error(codes.Unavailable, "connection lost"), fault.Unavailable(time.Second, "come back later")
	tests := map[string]struct {
		answers [3]error
		want    bool
	}{
		"all refused by the service": {[3]error{refused, refused, refused}, false},
		"the first lost":             {[3]error{lost, refused, refused}, true},
		"the last lost":              {[3]error{refused, refused, lost}, true},
		"the last one works":         {[3]error{refused, refused, nil}, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			back := newBackend(t, func(_ context.Context, n int) error { return tt.answers[n-1] })
			stock := inventorypb.NewInventoryServiceClient(dialReplicas(t, ClientConfig{Name: "inventory", Mesh: NoMesh}, back))
			change, read := effect.Track(t.Context()), effect.Track(t.Context())
			stock.Release(change, &inventorypb.ReleaseRequest{OrderId: productID})
			stock.GetStock(read, &inventorypb.GetStockRequest{ProductId: productID})
			if got := effect.Noted(change); got != tt.want || back.all() != 6 {
				t.Errorf("an effect was noted: %v, want %v; %d attempts of 6", got, tt.want, back.all())
			}
			if effect.Noted(read) {
				t.Error("what only reads was noted as an effect")
			}
		})
	}
}

// connections counts those that a server has had.
type connections struct{ n atomic.Int32 }

func (*connections) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (*connections) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (*connections) HandleRPC(context.Context, stats.RPCStats)                         {}
func (c *connections) HandleConn(_ context.Context, s stats.ConnStats) {
	if _, ok := s.(*stats.ConnBegin); ok {
		c.n.Add(1)
	}
}

func TestConnectionsAreMadeAnewAndNoCallIsLost(t *testing.T) {
	seen := &connections{}
	back := newBackend(t, fine, spread(20*time.Millisecond, time.Minute), grpc.StatsHandler(seen))
	conn := dialReplicas(t, ClientConfig{Name: "greeter", Mesh: NoMesh}, back)
	later(t, "connected anew", func() bool { greetAll(t, conn, 1); return seen.n.Load() >= 3 })
}

func TestEveryServiceOfTheContractsHasAServiceConfig(t *testing.T) {
	if _, err := serviceConfig(serviceConfigs, "nobody"); err == nil || !strings.Contains(err.Error(), "nobody") {
		t.Errorf("got %v", err)
	}
	if _, err := Dial(ClientConfig{Name: "nobody", Mesh: NoMesh}); err == nil {
		t.Error("connected to a service without a service config")
	}
}

func TestMoreAttemptsThanGRPCsOwnLimit(t *testing.T) {
	back := newBackend(t, unavailable)
	config := grpc.WithDefaultServiceConfig(`{"methodConfig": [{"name": [{"service": "greeter.v1.GreetingService", "method": "Greet"}],
		"retryPolicy": {"maxAttempts": 7, "initialBackoff": "0.001s", "maxBackoff": "0.001s", "backoffMultiplier": 1, "retryableStatusCodes": ["UNAVAILABLE"]}}]}`)
	dialer := grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return back.lis.DialContext(ctx) })
	conn, err := Dial(ClientConfig{Name: "greeter", Target: "passthrough:///greeter", Mesh: NoMesh, Log: slog.New(slog.DiscardHandler),
		Traces: tracenoop.NewTracerProvider(), Meters: noop.NewMeterProvider()}, dialer, config)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := greet(t.Context(), conn); status.Code(err) != codes.Unavailable || back.all() != 7 {
		t.Errorf("got %v after %d attempts, want 7", err, back.all())
	}
}
