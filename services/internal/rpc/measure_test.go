package rpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric/noop"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	greeterpb "github.com/meshmart/meshmart/proto/greeter/v1"
	orderpb "github.com/meshmart/meshmart/proto/order/v1"
	"github.com/meshmart/meshmart/services/internal/fault"
	"github.com/meshmart/meshmart/services/internal/policy"
)

// counting is a greeter and a client of it, whose calls are measured.
type counting struct {
	w      *world
	conn   *grpc.ClientConn
	lis    *bufconn.Listener
	server *Server
	reader *sdkmetric.ManualReader
	spans  *tracetest.InMemoryExporter
	traces *sdktrace.TracerProvider
}

func newCounting(t *testing.T) *counting {
	t.Helper()
	c := &counting{w: &world{}, reader: sdkmetric.NewManualReader(), spans: tracetest.NewInMemoryExporter(), lis: bufconn.Listen(1 << 16)}
	meters := sdkmetric.NewMeterProvider(sdkmetric.WithReader(c.reader))
	c.traces = sdktrace.NewTracerProvider(sdktrace.WithSyncer(c.spans))
	log := slog.New(slog.DiscardHandler)
	var err error
	c.server, err = NewServer(ServerConfig{Log: log, Traces: c.traces, Meters: meters, Clock: time.Now, Insider: func(net.Addr) bool { return true }})
	if err != nil {
		t.Fatal(err)
	}
	greeterpb.RegisterGreetingServiceServer(c.server, greeter{w: c.w})
	go c.server.Serve(c.lis)
	t.Cleanup(c.server.Stop)
	c.conn, err = Dial(ClientConfig{Name: "greeter", Target: "passthrough:///greeter", Log: log, Traces: c.traces, Meters: meters},
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return c.lis.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.conn.Close() })
	return c
}

// histograms returns the series of a metric.
func (c *counting) histograms(t *testing.T, name string) []metricdata.HistogramDataPoint[float64] {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := c.reader.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	var points []metricdata.HistogramDataPoint[float64]
	for _, s := range all.ScopeMetrics {
		for _, m := range s.Metrics {
			if h, ok := m.Data.(metricdata.Histogram[float64]); ok && m.Name == name {
				points = append(points, h.DataPoints...)
			}
		}
	}
	return points
}

// counts returns "method CODE" of the calls, each as often as it was counted.
func (c *counting) counts(t *testing.T, name string) map[string]uint64 {
	t.Helper()
	got := map[string]uint64{}
	for _, p := range c.histograms(t, name) {
		got[label(p.Attributes, "rpc.method")+" "+label(p.Attributes, "rpc.response.status_code")] += p.Count
		if got := label(p.Attributes, "rpc.system.name"); got != "grpc" {
			t.Errorf("%s: the system is %q", name, got)
		}
	}
	return got
}

func label(s attribute.Set, key string) string {
	v, _ := s.Value(attribute.Key(key))
	return v.String()
}

func TestEveryCallIsCountedOnceOnEachSide(t *testing.T) {
	c := newCounting(t)
	g := greeterpb.NewGreetingServiceClient(c.conn)
	ctx := t.Context()
	c.w.greet = func(ctx context.Context, r *greeterpb.GreetRequest) (*greeterpb.GreetResponse, error) {
		switch r.GetName() {
		case "nobody":
			return nil, fault.NotFound("nobody")
		case "slow":
			<-ctx.Done()
			return nil, ctx.Err()
		case "panic":
			panic("boom")
		}
		return &greeterpb.GreetResponse{}, nil
	}
	for _, name := range []string{"Ada", "Ada", "nobody", "panic", ""} {
		g.Greet(ctx, &greeterpb.GreetRequest{Name: name})
	}
	g.Greet(ctx, &greeterpb.GreetRequest{Name: "slow"}) // until the contract's timeout
	s, err := g.RecordGreetings(ctx)
	if err != nil {
		t.Fatal(err)
	}
	s.Send(&greeterpb.RecordGreetingsRequest{Name: "Ada"})
	if _, err := s.CloseAndRecv(); err != nil {
		t.Fatal(err)
	}
	c.w.record = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	gone, cancel := context.WithCancel(ctx)
	if s, err = g.RecordGreetings(gone); err != nil {
		t.Fatal(err)
	}
	s.Send(&greeterpb.RecordGreetingsRequest{Name: "Ada"})
	cancel()
	s.RecvMsg(&greeterpb.RecordGreetingsResponse{})
	// RPCs that this server has not: of a contract, of none, and of no sense.
	orderpb.NewOrderServiceClient(c.conn).GetOrder(ctx, &orderpb.GetOrderRequest{Id: productID})
	for i := range 3 {
		method := fmt.Sprintf("/evil.Service%d/%s", i, strings.Repeat("x", i))
		if err := c.conn.Invoke(ctx, method, &greeterpb.GreetRequest{}, &greeterpb.GreetResponse{}); status.Code(err) != codes.Unimplemented {
			t.Errorf("%s: %v", method, err)
		}
	}
	healthpb.NewHealthClient(c.conn).Check(ctx, &healthpb.HealthCheckRequest{})
	c.conn.Close()
	c.server.GracefulStop() // the server's part of a cancelled call ends after the client's

	want := map[string]uint64{
		"greeter.v1.GreetingService/Greet OK":                  2,
		"greeter.v1.GreetingService/Greet NOT_FOUND":           1,
		"greeter.v1.GreetingService/Greet INTERNAL":            1,
		"greeter.v1.GreetingService/Greet INVALID_ARGUMENT":    1,
		"greeter.v1.GreetingService/Greet DEADLINE_EXCEEDED":   1,
		"greeter.v1.GreetingService/RecordGreetings OK":        1,
		"greeter.v1.GreetingService/RecordGreetings CANCELLED": 1,
		"order.v1.OrderService/GetOrder UNIMPLEMENTED":         1,
		"_OTHER UNIMPLEMENTED":                                 3,
	}
	for _, side := range []string{"rpc.server.call.duration", "rpc.client.call.duration"} {
		got := c.counts(t, side)
		// A server learns of the end of a caller's time by its own clock or from the
		// caller, whichever is sooner.
		if slow := "greeter.v1.GreetingService/Greet "; side == "rpc.server.call.duration" && got[slow+"CANCELLED"] == 1 {
			delete(got, slow+"CANCELLED")
			got[slow+"DEADLINE_EXCEEDED"]++
		}
		if diff := cmp.Diff(got, want); diff != "" {
			t.Errorf("%s (-got +want):\n%s", side, diff)
		}
	}
}

func TestACallThatFindsNoServerIsCounted(t *testing.T) {
	c := newCounting(t)
	c.lis.Close() // nobody answers
	if err := hello(t.Context(), c.conn, "Ada"); status.Code(err) != codes.Unavailable {
		t.Fatalf("got %v", err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	hello(gone, c.conn, "Ada")
	points := c.histograms(t, "rpc.client.call.duration")
	for _, p := range points {
		if got := label(p.Attributes, "server.address"); got != "greeter" {
			t.Errorf("the target is called %q", got)
		}
	}
	if got := c.counts(t, "rpc.client.call.duration")["greeter.v1.GreetingService/Greet UNAVAILABLE"]; got != 1 {
		t.Errorf("counted %d times: %v", got, points)
	}
	if got := c.counts(t, "rpc.server.call.duration"); len(got) != 0 {
		t.Errorf("the server counted %v", got)
	}
}

func hello(ctx context.Context, conn *grpc.ClientConn, name string) error {
	_, err := greeterpb.NewGreetingServiceClient(conn).Greet(ctx, &greeterpb.GreetRequest{Name: name})
	return err
}

// An example of a histogram leads to the trace of a call, on either side: at the
// server to its span, at the client to the one that it was made in.
func TestHistogramsTellTheTraceOfACall(t *testing.T) {
	c := newCounting(t)
	c.w.greet = func(context.Context, *greeterpb.GreetRequest) (*greeterpb.GreetResponse, error) {
		return &greeterpb.GreetResponse{}, nil
	}
	ctx, span := c.traces.Tracer("test").Start(t.Context(), "caller")
	if err := hello(ctx, c.conn, "Ada"); err != nil {
		t.Fatal(err)
	}
	span.End()
	c.conn.Close()
	c.server.GracefulStop()
	for kind, name := range map[string]string{"internal": "rpc.client.call.duration", "server": "rpc.server.call.duration"} {
		got := "none"
		for _, p := range c.histograms(t, name) {
			for _, e := range p.Exemplars {
				got = fmt.Sprintf("%x of %x", e.SpanID, e.TraceID)
			}
		}
		want := ""
		for _, s := range c.spans.GetSpans() {
			if s.SpanKind.String() == kind {
				want = fmt.Sprintf("%s of %s", s.SpanContext.SpanID(), span.SpanContext().TraceID())
			}
		}
		if got != want {
			t.Errorf("%s: the example is span %s, want %s", name, got, want)
		}
	}
}

func TestEachPromisedLatencyIsABoundary(t *testing.T) {
	c := newCounting(t)
	c.w.greet = func(context.Context, *greeterpb.GreetRequest) (*greeterpb.GreetResponse, error) {
		return &greeterpb.GreetResponse{}, nil
	}
	if err := hello(t.Context(), c.conn, "Ada"); err != nil {
		t.Fatal(err)
	}
	got := c.histograms(t, "rpc.client.call.duration")[0].Bounds
	promised := 0
	for _, p := range policy.Linked() {
		if l := p.SLO.GetLatency().AsDuration(); l > 0 {
			promised++
			if !slices.Contains(got, l.Seconds()) {
				t.Errorf("%s promises %v, which is not among %v", p.Method, l, got)
			}
		}
	}
	if promised == 0 || !slices.IsSorted(got) || !slices.Contains(got, 7.5) {
		t.Errorf("%d promises, boundaries %v", promised, got)
	}
}

func TestUnknownCodesAreOneSeries(t *testing.T) {
	m, err := newMeasure(noop.NewMeterProvider(), "x", "", "s")
	if err != nil {
		t.Fatal(err)
	}
	if a, b := m.other.of(77), m.other.of(codes.Unknown); &a[0] != &b[0] {
		t.Error("a code that the specification has not has a series of its own")
	}
	for err, want := range map[error]codes.Code{
		context.Canceled: codes.Canceled, context.DeadlineExceeded: codes.DeadlineExceeded,
		errors.New("x"): codes.Unknown, status.Error(codes.Aborted, "x"): codes.Aborted,
	} {
		if got := ended(err); got != want {
			t.Errorf("%v ended %v, want %v", err, got, want)
		}
	}
}
