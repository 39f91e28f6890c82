package shop

import (
	"context"
	"encoding/hex"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	collectorpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"

	"github.com/meshmart/meshmart/tests/tracetree"
)

// TestResumedOrderStaysInItsTrace kills the shop while a card is being charged.
// What the next process does to finish the order is in the trace in which the
// order was placed, and in no other.
func TestResumedOrderStaysInItsTrace(t *testing.T) {
	eachEngine(t, func(t *testing.T, databases map[string]string) {
		r := startReceiver(t)
		environ := map[string]string{
			"SIMULATOR_LATENCY":           "2800ms", // for the kill to come first; the service gives up after 3 s
			"OTEL_EXPORTER_OTLP_ENDPOINT": "http://" + r.addr,
			"OTEL_BSP_SCHEDULE_DELAY":     "20", // milliseconds
		}
		maps.Copy(environ, databases)
		p := &process{t: t, dir: t.TempDir(), more: environ, addr: freeAddr(t), log: &logBuffer{}}
		p.start()
		m := &market{t: t, base: "http://" + p.addr, log: p.log, http: &http.Client{Timeout: 20 * time.Second}}
		token, product := m.customer(), m.product(5)
		m.must("GET", "/v1/orders", token, nil) // the keys of tokens are known now
		waitForOutboxes(t, p.dir, databases)

		began := time.Now()
		answered := make(chan error, 1)
		go func() {
			_, _, err := m.try("POST", "/v1/orders", token, orderOf(product, 2, "tok_visa"))
			answered <- err
		}()
		r.await(t, began, "killed")
		p.kill(syscall.SIGKILL)
		if <-answered == nil {
			t.Error("the order was answered before the kill")
		}
		p.more["SIMULATOR_LATENCY"] = "100ms"
		p.start()
		r.await(t, began, "resumed")
		if err := p.kill(syscall.SIGTERM); err != nil { // which sends the last spans
			t.Errorf("SIGTERM: %v\n%s", err, tail(p.log.String(), 20))
		}
		r.await(t, began, "resumed")
	})
}

// receiver takes the spans that processes send, as a collector does.
type receiver struct {
	collectorpb.UnimplementedTraceServiceServer
	addr string

	mu    sync.Mutex
	spans []tracetree.Span
}

func startReceiver(t *testing.T) *receiver {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &receiver{addr: l.Addr().String()}
	s := grpc.NewServer()
	collectorpb.RegisterTraceServiceServer(s, r)
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return r
}

// Export implements the collector's service.
func (r *receiver) Export(_ context.Context, req *collectorpb.ExportTraceServiceRequest) (*collectorpb.ExportTraceServiceResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rs := range req.GetResourceSpans() {
		service := ""
		for _, a := range rs.GetResource().GetAttributes() {
			if a.GetKey() == "service.name" {
				service = a.GetValue().GetStringValue()
			}
		}
		for _, ss := range rs.GetScopeSpans() {
			for _, s := range ss.GetSpans() {
				r.spans = append(r.spans, sentSpan(service, s))
			}
		}
	}
	return &collectorpb.ExportTraceServiceResponse{}, nil
}

func sentSpan(service string, s *tracepb.Span) tracetree.Span {
	span := tracetree.Span{
		Trace: hex.EncodeToString(s.GetTraceId()), ID: hex.EncodeToString(s.GetSpanId()),
		Parent: hex.EncodeToString(s.GetParentSpanId()), Service: service, Name: s.GetName(),
		Kind:   strings.ToLower(strings.TrimPrefix(s.GetKind().String(), "SPAN_KIND_")),
		Failed: s.GetStatus().GetCode() == tracepb.Status_STATUS_CODE_ERROR,
		Start:  time.Unix(0, int64(s.GetStartTimeUnixNano())),
	}
	for _, a := range s.GetAttributes() {
		span.Statement = span.Statement || a.GetKey() == "db.system.name"
	}
	return span
}

// await waits until of the work on orders since then there is one trace, and it is
// the tree in testdata.
func (r *receiver) await(t *testing.T, since time.Time, name string) {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name + ".tree")
	if err != nil {
		t.Fatal(err)
	}
	trees, err := tracetree.Parse(string(text))
	if err != nil || len(trees) != 1 {
		t.Fatalf("%s.tree: %d trees, %v", name, len(trees), err)
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		work := r.work(since)
		problem := fmt.Sprintf("%d traces, want one\n", len(work))
		for _, spans := range work {
			result := tracetree.Match(trees[0], spans)
			if len(work) == 1 && result.OK() {
				return
			}
			problem += result.String()
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s.tree: %s", name, problem)
		}
	}
}

// work returns the traces since then in which something was done: those of a
// process that looks around when it starts are not among them.
func (r *receiver) work(since time.Time) map[string][]tracetree.Span {
	r.mu.Lock()
	defer r.mu.Unlock()
	traces := tracetree.Traces(r.spans)
	maps.DeleteFunc(traces, func(_ string, spans []tracetree.Span) bool {
		return spans[0].Start.Before(since) || !slices.ContainsFunc(spans, func(s tracetree.Span) bool {
			verb, _, _ := strings.Cut(s.Name, " ")
			return slices.Contains([]string{"saga", "publish", "process", "processor", "INSERT", "UPDATE"}, verb)
		})
	})
	return traces
}
