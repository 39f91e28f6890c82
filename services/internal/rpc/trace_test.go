package rpc

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric/noop"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/test/bufconn"

	greeterpb "github.com/meshmart/meshmart/proto/greeter/v1"
)

const theirs = "0af7651916cd43dd8448eb211c80319c"

// relay is a greeter that greets by another one, which is called with a mesh.
type relay struct {
	spans *tracetest.InMemoryExporter
	roots bool             // what is decided of a trace that begins
	conn  *grpc.ClientConn // to the first
	met   metadata.MD      // the headers of the call of the second
	log   bytes.Buffer     // of the first
}

func newRelay(t *testing.T, mesh Mesh) *relay {
	t.Helper()
	r := &relay{spans: tracetest.NewInMemoryExporter()}
	traces := sdktrace.NewTracerProvider(sdktrace.WithSyncer(r.spans), sdktrace.WithSampler(sdktrace.ParentBased(decided{})))
	second := r.dial(t, r.serve(t, traces, func(ctx context.Context) error {
		r.met, _ = metadata.FromIncomingContext(ctx)
		return nil
	}), traces, mesh)
	first := r.serve(t, traces, func(ctx context.Context) error {
		return hello(metadata.AppendToOutgoingContext(ctx, "x-more", "kept"), second, "Ada")
	})
	conn, err := grpc.NewClient("passthrough:///first", on(first), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	r.conn = conn
	return r
}

// decided samples what Roots have kept.
type decided struct{ sdktrace.Sampler }

func (decided) Description() string { return "decided" }

func (decided) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	if Kept(p.ParentContext) {
		return sdktrace.AlwaysSample().ShouldSample(p)
	}
	return sdktrace.NeverSample().ShouldSample(p)
}

func (r *relay) Write(p []byte) (int, error) { return r.log.Write(p) }

func (r *relay) serve(t *testing.T, traces trace.TracerProvider, greet func(context.Context) error) *bufconn.Listener {
	t.Helper()
	lines := slog.New(traceLines{slog.NewJSONHandler(r, nil)})
	s, err := NewServer(ServerConfig{Log: lines, Traces: traces, Roots: func() bool { return r.roots },
		Clock: time.Now, Insider: func(net.Addr) bool { return true }})
	if err != nil {
		t.Fatal(err)
	}
	greeterpb.RegisterGreetingServiceServer(s, greeter{w: &world{greet: func(ctx context.Context, _ *greeterpb.GreetRequest) (*greeterpb.GreetResponse, error) {
		return &greeterpb.GreetResponse{}, greet(ctx)
	}}})
	lis := bufconn.Listen(1 << 16)
	go s.Serve(lis)
	t.Cleanup(s.Stop)
	return lis
}

func (r *relay) dial(t *testing.T, lis *bufconn.Listener, traces trace.TracerProvider, mesh Mesh) *grpc.ClientConn {
	t.Helper()
	conn, err := Dial(ClientConfig{Name: "greeter", Target: "passthrough:///greeter", Mesh: mesh, Log: slog.New(slog.DiscardHandler),
		Traces: traces, Roots: func() bool { return r.roots }, Meters: noop.NewMeterProvider()}, on(lis))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func on(lis *bufconn.Listener) grpc.DialOption {
	return grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) })
}

// traceLines adds the trace to lines, as the logger of a service does.
type traceLines struct{ slog.Handler }

func (l traceLines) Handle(ctx context.Context, r slog.Record) error {
	r.AddAttrs(slog.String("trace_id", trace.SpanContextFromContext(ctx).TraceID().String()))
	return l.Handler.Handle(ctx, r)
}

func (l traceLines) WithAttrs(as []slog.Attr) slog.Handler {
	return traceLines{l.Handler.WithAttrs(as)}
}

// A trace goes on from call to call and is in the log, be it kept or not, and only
// those that are kept have spans.
func TestATraceGoesOnWhetherItIsKeptOrNot(t *testing.T) {
	for _, mesh := range []Mesh{"", NoMesh} {
		for _, tt := range []struct {
			about, parent, state string
			roots                bool
			trace                string // of the call that comes of it; "": any
			kept                 bool
		}{
			{about: "kept by the caller", parent: "00-" + theirs + "-b7ad6b7169203331-01", trace: theirs, kept: true},
			{about: "not kept by the caller", parent: "00-" + theirs + "-b7ad6b7169203331-00", state: "a=1,b=2", roots: true, trace: theirs},
			{about: "begun here and kept", roots: true, kept: true},
			{about: "begun here and not kept"},
			{about: "nonsense", parent: "00-" + theirs + "-xyz-01"},
		} {
			r := newRelay(t, mesh)
			r.roots = tt.roots
			ctx := t.Context()
			if tt.parent != "" {
				ctx = metadata.AppendToOutgoingContext(ctx, "traceparent", tt.parent, "tracestate", tt.state)
			}
			if err := hello(ctx, r.conn, "Ada"); err != nil {
				t.Fatal(err)
			}
			parent, name := r.met.Get("traceparent"), tt.about+" in mesh "+string(mesh)
			if len(parent) != 1 || len(parent[0]) != 55 || strings.HasSuffix(parent[0], "-01") != tt.kept {
				t.Fatalf("%s: the next service is told %q", name, parent)
			}
			id := parent[0][3:35]
			if strings.Trim(id, "0") == "" || tt.trace != "" && id != tt.trace {
				t.Errorf("%s: the trace has become %s", name, id)
			}
			if got := strings.Join(r.met.Get("tracestate"), " "); got != tt.state || r.met.Get("x-more") == nil {
				t.Errorf("%s: the next service is told tracestate %q, want %q, and %q", name, got, tt.state, r.met)
			}
			if !strings.Contains(r.log.String(), id) {
				t.Errorf("%s: %s is not in the log:\n%s", name, id, r.log.String())
			}
			want := 0
			if tt.kept {
				want = 2 // the second server's span ends before it answers, the first's later
			}
			if n := len(r.spans.GetSpans()); n < want || want == 0 && n > 0 {
				t.Errorf("%s: %d spans", name, n)
			}
		}
	}
}

// A request that can't be read is answered by gRPC, and counted and logged here.
func TestARequestThatCannotBeReadIsCountedAndLogged(t *testing.T) {
	w := newWorld(t)
	reader := sdkmetric.NewManualReader()
	c := &counting{reader: reader}
	lines := &bytes.Buffer{}
	s, err := NewServer(ServerConfig{Log: slog.New(slog.NewJSONHandler(lines, nil)), Meters: sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)),
		Clock: time.Now, Insider: func(net.Addr) bool { return true }})
	if err != nil {
		t.Fatal(err)
	}
	greeterpb.RegisterGreetingServiceServer(s, greeter{w: w})
	lis := bufconn.Listen(1 << 16)
	go s.Serve(lis)
	defer s.Stop()
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	tr := &http.Transport{Protocols: protocols, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return lis.DialContext(ctx) }}
	defer tr.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), "POST", "http://hop/greeter.v1.GreetingService/Greet", bytes.NewReader([]byte{0, 0, 0, 0, 2, 10, 99}))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	s.GracefulStop()
	if got := resp.Trailer.Get("Grpc-Status") + resp.Header.Get("Grpc-Status"); got != "13" {
		t.Errorf("status %s, want 13 (INTERNAL)", got)
	}
	if got := c.counts(t, "rpc.server.call.duration"); got["greeter.v1.GreetingService/Greet INTERNAL"] != 1 {
		t.Errorf("counted %v", got)
	}
	if !strings.Contains(lines.String(), `"code":"INTERNAL"`) {
		t.Errorf("log: %s", lines)
	}
}
