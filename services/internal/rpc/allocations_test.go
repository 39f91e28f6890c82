//go:build !race

package rpc

import (
	"context"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/test/bufconn"

	greeterpb "github.com/meshmart/meshmart/proto/greeter/v1"
)

// What a call of ours may allocate more than one of gRPC's own, with metrics, an
// access log, deadlines, a rate limit and a trace that is not kept. Whoever needs
// more has a reason, and says it here; these are the figures that were measured,
// and one for chance.
const (
	serverAllocations = 17 + 1
	clientAllocations = 31 + 1
	streamAllocations = 0 + 1 // of a message that a server receives
)

// wired is a connection to a greeter, either of which is the runtime's or gRPC's own.
func wired(t *testing.T, server, client bool) greeterpb.GreetingServiceClient {
	t.Helper()
	lis := bufconn.Listen(1 << 16)
	log := slog.New(slog.NewJSONHandler(io.Discard, nil))
	traces := sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.NeverSample()))
	meters := sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader()))
	var s transport = grpc.NewServer()
	if server {
		var err error
		s, err = NewServer(ServerConfig{Log: log, Traces: traces, Roots: Ratio(0), Meters: meters, Clock: time.Now,
			Insider: func(net.Addr) bool { return true }, Draining: make(chan struct{})})
		if err != nil {
			t.Fatal(err)
		}
	}
	greeterpb.RegisterGreetingServiceServer(s, greeter{w: &world{greet: func(context.Context, *greeterpb.GreetRequest) (*greeterpb.GreetResponse, error) {
		return &greeterpb.GreetResponse{}, nil
	}}})
	go s.Serve(lis)
	t.Cleanup(s.Stop)
	opts := []grpc.DialOption{grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) })}
	dial := func() (*grpc.ClientConn, error) {
		return grpc.NewClient("passthrough:///greeter", append(opts, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	}
	if client {
		dial = func() (*grpc.ClientConn, error) {
			return Dial(ClientConfig{Name: "greeter", Target: "passthrough:///greeter", Log: log, Traces: traces, Roots: Ratio(0), Meters: meters}, opts...)
		}
	}
	conn, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return greeterpb.NewGreetingServiceClient(conn)
}

// perCall is what a call allocates on both sides.
func perCall(t *testing.T, server, client bool) float64 {
	c := wired(t, server, client)
	ctx := metadata.AppendToOutgoingContext(t.Context(), "traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00")
	if client {
		ctx = t.Context() // the runtime's client says by itself in which trace it calls
	}
	return testing.AllocsPerRun(2000, func() {
		if _, err := c.Greet(ctx, &greeterpb.GreetRequest{Name: "Ada"}); err != nil {
			t.Fatal(err)
		}
	})
}

func TestAllocationsOfACall(t *testing.T) {
	bare := perCall(t, false, false)
	server, client := perCall(t, true, false)-bare, perCall(t, false, true)-bare
	t.Logf("figure: allocations of a unary call: %.0f of gRPC's own, the runtime adds %.0f at the server and %.0f at the client", bare, server, client)
	if server > serverAllocations {
		t.Errorf("a call allocates %.0f times at the server, which may be %d", server, serverAllocations)
	}
	if client > clientAllocations {
		t.Errorf("a call allocates %.0f times at the client, which may be %d", client, clientAllocations)
	}
}

// perMessage is what a message of a stream allocates that a client sends.
func perMessage(t *testing.T, server bool) float64 {
	c := wired(t, server, false)
	stream, err := c.RecordGreetings(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer stream.CloseAndRecv()
	return testing.AllocsPerRun(20_000, func() {
		if err := stream.Send(&greeterpb.RecordGreetingsRequest{Name: "Ada"}); err != nil {
			t.Fatal(err)
		}
	})
}

func TestAllocationsOfAStreamedMessage(t *testing.T) {
	bare := perMessage(t, false)
	more := perMessage(t, true) - bare
	t.Logf("figure: allocations of a message that a client streams: %.0f of gRPC's own, the runtime adds %.0f", bare, more)
	if more > streamAllocations {
		t.Errorf("a message allocates %.0f times more than on a bare server, which may be %d", more, streamAllocations)
	}
}
