package app

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"maps"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	greeterpb "github.com/meshmart/meshmart/proto/greeter/v1"
	"github.com/meshmart/meshmart/services/internal/app/otlptest"
)

// greeter greets, and logs what it does.
type greeter struct {
	greeterpb.UnimplementedGreetingServiceServer
	env *Env
}

func (g greeter) Greet(ctx context.Context, _ *greeterpb.GreetRequest) (*greeterpb.GreetResponse, error) {
	g.env.Log.DebugContext(ctx, "greeting")
	return &greeterpb.GreetResponse{}, nil
}

// runGreeter starts a greeter that is ready.
func runGreeter(t *testing.T, environ map[string]string) (*running, *Env) {
	t.Helper()
	var env *Env
	r := run(t, environ, func(_ context.Context, e *Env) error {
		env = e
		greeterpb.RegisterGreetingServiceServer(e.Server, greeter{env: e})
		return nil
	})
	select {
	case <-r.ready:
	case err := <-r.done:
		t.Fatal(err)
	}
	return r, env
}

func (r *running) greet(t *testing.T) {
	t.Helper()
	target, opts := r.net.Target("test")
	cc, err := grpc.NewClient(target, append(opts, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	if _, err := greeterpb.NewGreetingServiceClient(cc).Greet(t.Context(), &greeterpb.GreetRequest{Name: "Ada"}, grpc.WaitForReady(true)); err != nil {
		t.Fatal(err)
	}
}

// line returns the attributes of the service's line of a call.
func (r *running) line(t *testing.T) map[string]any {
	t.Helper()
	for l := range strings.Lines(r.log.String()) {
		m := map[string]any{}
		if json.Unmarshal([]byte(l), &m) == nil && m["msg"] == "call" {
			return m
		}
	}
	t.Fatalf("no line of a call:\n%s", r.log.String())
	return nil
}

// measured returns /metrics as OpenMetrics, once a call is counted there: it is
// when its server has ended it, which may be after its reply has come.
func (e *Env) measured(t *testing.T) string {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		req := httptest.NewRequest("GET", "/metrics", nil)
		req.Header.Set("Accept", "application/openmetrics-text;version=1.0.0")
		w := httptest.NewRecorder()
		e.opsHandler().ServeHTTP(w, req)
		if body := w.Body.String(); strings.Contains(body, "rpc_server_call_duration_seconds_count{") {
			return body
		}
		if time.Now().After(deadline) {
			t.Fatalf("no call is counted on /metrics:\n%s", w.Body)
		}
	}
}

func TestExamplesOnMetricsLeadToTraces(t *testing.T) {
	r, env := runGreeter(t, nil)
	r.greet(t)
	example := regexp.MustCompile(`rpc_server_call_duration_seconds_bucket\{(.*)\} 1 # \{.*trace_id="([0-9a-f]+)".*\}`)
	m := example.FindStringSubmatch(env.measured(t))
	if m == nil {
		t.Fatalf("no example of a call on /metrics:\n%s", env.measured(t))
	}
	if want := r.line(t)["trace_id"]; m[2] != want {
		t.Errorf("the example is of trace %s, the call of %v", m[2], want)
	}
	for _, label := range []string{`rpc_method="greeter.v1.GreetingService/Greet"`, `rpc_response_status_code="OK"`, `rpc_system_name="grpc"`, `service_name="test"`} {
		if !strings.Contains(m[1], label) {
			t.Errorf("no %s in %s", label, m[1])
		}
	}
	if err := r.stop(t); err != nil {
		t.Error(err)
	}
}

func TestTracesMetricsAndLogsGoToTheCollector(t *testing.T) {
	c := otlptest.New(t)
	r, env := runGreeter(t, map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT": c.Endpoint, "OTEL_METRICS_EXPORTER": "prometheus,otlp", "OTEL_LOGS_EXPORTER": "otlp",
	})
	r.greet(t)
	if body := env.measured(t); !strings.Contains(body, `go_goroutines{service_name="test"}`) {
		t.Errorf("on /metrics are only\n%s", body)
	}
	if err := r.stop(t); err != nil {
		t.Error(err)
	}
	line := r.line(t)
	spans := c.Spans()
	if len(spans) != 1 || len(spans[0].GetScopeSpans()[0].GetSpans()) != 1 {
		t.Fatalf("spans %v", spans)
	}
	wantService(t, "traces", spans[0].GetResource())
	if got := hex.EncodeToString(spans[0].GetScopeSpans()[0].GetSpans()[0].GetTraceId()); got != line["trace_id"] {
		t.Errorf("the trace is %s, in the line %v", got, line["trace_id"])
	}
	sent := sentMetrics(t, c)
	for name, times := range map[string]int{"rpc.server.call.duration": 1, "go_goroutines": 1, "process_cpu_seconds_total": 1} {
		if sent[name] != times {
			t.Errorf("%s was sent %d times, want %d; sent were %v", name, sent[name], times, slices.Sorted(maps.Keys(sent)))
		}
	}
	wantLineSent(t, c, line)
}

// sentMetrics returns how often each metric is in the last export.
func sentMetrics(t *testing.T, c *otlptest.Collector) map[string]int {
	t.Helper()
	all := c.Metrics()
	if len(all) == 0 {
		t.Fatal("no metrics were sent")
	}
	last := all[len(all)-1]
	wantService(t, "metrics", last.GetResource())
	sent := map[string]int{}
	for _, s := range last.GetScopeMetrics() {
		for _, m := range s.GetMetrics() {
			sent[m.GetName()]++
		}
	}
	return sent
}

// wantLineSent expects a line in the collector as it was written.
func wantLineSent(t *testing.T, c *otlptest.Collector, line map[string]any) {
	t.Helper()
	for _, res := range c.Logs() {
		wantService(t, "logs", res.GetResource())
		for _, rec := range res.GetScopeLogs()[0].GetLogRecords() {
			switch rec.GetBody().GetStringValue() {
			case "greeting":
				t.Error("a line below LOG_LEVEL was sent")
			case "call":
				got := attributes(rec.GetAttributes())
				got["trace_id"], got["span_id"] = hex.EncodeToString(rec.GetTraceId()), hex.EncodeToString(rec.GetSpanId())
				got["msg"], got["level"] = "call", rec.GetSeverityText()
				want := maps.Clone(line)
				delete(want, "time")
				delete(want, "service") // of the resource
				if diff := cmp.Diff(got, want); diff != "" {
					t.Errorf("sent (-) and written (+) differ:\n%s", diff)
				}
				return
			}
		}
	}
	t.Error("the line of the call was not sent")
}

func attributes(kvs []*commonpb.KeyValue) map[string]any {
	got := map[string]any{}
	for _, kv := range kvs {
		switch v := kv.GetValue().GetValue().(type) {
		case *commonpb.AnyValue_IntValue:
			got[kv.GetKey()] = float64(v.IntValue) // as a number in JSON
		default:
			got[kv.GetKey()] = kv.GetValue().GetStringValue()
		}
	}
	return got
}

func wantService(t *testing.T, what string, r *resourcepb.Resource) {
	t.Helper()
	got := attributes(r.GetAttributes())
	if got["service.name"] != "test" || got["service.namespace"] != "meshmart" || got["service.instance.id"] == "" {
		t.Errorf("the %s are of %v", what, got)
	}
}

// The SDK's complaints could be as many as the calls.
func TestComplaintsOfTheSDKAreToldOnceInAWhile(t *testing.T) {
	var out strings.Builder
	s := &seldom{log: newLog(&out, "test", slog.LevelInfo)}
	for range 1000 {
		s.Handle(context.Canceled)
	}
	if n := strings.Count(out.String(), "\n"); n != 1 || !strings.Contains(out.String(), context.Canceled.Error()) {
		t.Errorf("%d lines:\n%s", n, out.String())
	}
}
