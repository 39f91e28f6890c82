// Package otlptest has collectors for tests: one that keeps what it is sent, and
// some that are out of order.
package otlptest

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	logspb "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	metricspb "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	tracespb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	logdata "go.opentelemetry.io/proto/otlp/logs/v1"
	metricdata "go.opentelemetry.io/proto/otlp/metrics/v1"
	tracedata "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
)

// Collector keeps what it is sent. It listens until the end of its test.
type Collector struct {
	Endpoint string // a URL, as in OTEL_EXPORTER_OTLP_ENDPOINT

	mu      sync.Mutex
	spans   []*tracedata.ResourceSpans
	metrics []*metricdata.ResourceMetrics
	logs    []*logdata.ResourceLogs
}

// New starts a collector.
func New(t testing.TB) *Collector {
	t.Helper()
	c := &Collector{}
	s := grpc.NewServer()
	tracespb.RegisterTraceServiceServer(s, traces{c: c})
	metricspb.RegisterMetricsServiceServer(s, metrics{c: c})
	logspb.RegisterLogsServiceServer(s, logs{c: c})
	c.Endpoint = serve(t, s)
	return c
}

// Spans returns all that were sent so far.
func (c *Collector) Spans() []*tracedata.ResourceSpans {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.spans
}

// Metrics returns all that were sent so far: each export again.
func (c *Collector) Metrics() []*metricdata.ResourceMetrics {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.metrics
}

// Logs returns all that were sent so far.
func (c *Collector) Logs() []*logdata.ResourceLogs {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.logs
}

type traces struct {
	tracespb.UnimplementedTraceServiceServer
	c *Collector
}

func (s traces) Export(_ context.Context, r *tracespb.ExportTraceServiceRequest) (*tracespb.ExportTraceServiceResponse, error) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.c.spans = append(s.c.spans, r.GetResourceSpans()...)
	return &tracespb.ExportTraceServiceResponse{}, nil
}

type metrics struct {
	metricspb.UnimplementedMetricsServiceServer
	c *Collector
}

func (s metrics) Export(_ context.Context, r *metricspb.ExportMetricsServiceRequest) (*metricspb.ExportMetricsServiceResponse, error) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.c.metrics = append(s.c.metrics, r.GetResourceMetrics()...)
	return &metricspb.ExportMetricsServiceResponse{}, nil
}

type logs struct {
	logspb.UnimplementedLogsServiceServer
	c *Collector
}

func (s logs) Export(_ context.Context, r *logspb.ExportLogsServiceRequest) (*logspb.ExportLogsServiceResponse, error) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.c.logs = append(s.c.logs, r.GetResourceLogs()...)
	return &logspb.ExportLogsServiceResponse{}, nil
}

// Answering starts a collector that reads nothing of what it is sent and answers
// each batch as the test says; it returns its endpoint and how many came.
func Answering(t testing.TB, answer func(context.Context) error) (endpoint string, batches *atomic.Int64) {
	t.Helper()
	batches = &atomic.Int64{}
	endpoint = serve(t, grpc.NewServer(grpc.ForceServerCodecV2(unread{}), grpc.MaxRecvMsgSize(64<<20),
		grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
			if err := s.RecvMsg(nil); err != nil {
				return err
			}
			batches.Add(1)
			if err := answer(s.Context()); err != nil {
				return err
			}
			return s.SendMsg(nil)
		})))
	return endpoint, batches
}

// Discarding starts a collector that takes everything and keeps nothing.
func Discarding(t testing.TB) (endpoint string, batches *atomic.Int64) {
	t.Helper()
	return Answering(t, func(context.Context) error { return nil })
}

// Refusing returns an endpoint at which nobody listens.
func Refusing(t testing.TB) string {
	t.Helper()
	l := listen(t)
	l.Close()
	return "http://" + l.Addr().String()
}

// Silent returns an endpoint that takes connections and says nothing.
func Silent(t testing.TB) string {
	t.Helper()
	l := listen(t)
	var wg sync.WaitGroup
	var open []net.Conn
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			open = append(open, c)
		}
	})
	t.Cleanup(func() {
		l.Close()
		wg.Wait()
		for _, c := range open {
			c.Close()
		}
	})
	return "http://" + l.Addr().String()
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func serve(t testing.TB, s *grpc.Server) (endpoint string) {
	t.Helper()
	l := listen(t)
	var wg sync.WaitGroup
	wg.Go(func() { s.Serve(l) })
	t.Cleanup(func() { s.Stop(); wg.Wait() })
	return "http://" + l.Addr().String()
}

// unread is a codec of messages that nobody looks at: an empty one is a valid
// answer to each of OTLP's requests.
type unread struct{}

func (unread) Name() string                         { return "unread" }
func (unread) Marshal(any) (mem.BufferSlice, error) { return nil, nil }
func (unread) Unmarshal(mem.BufferSlice, any) error { return nil }
