package tests

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// TestObserveShowsTheShop is `make observe`, `make run`, a sale and a refusal.
func TestObserveShowsTheShop(t *testing.T) {
	s := newStack(t)
	_, at := s.up("TAIL_WAIT=1s")
	orders := sell(t, s.port, at)
	traces := jaeger{at["JAEGER_URL"]}
	metrics := prom{at["PROMETHEUS_URL"]}
	for state, services := range map[string][]string{
		"COMPLETED": {"gateway", "inventory", "order", "payment", "product", "user"},
		"REJECTED":  {"gateway", "inventory", "order", "payment"},
	} {
		found(t, "the trace of the order that is "+state, func(ctx context.Context) error {
			return traces.has(ctx, orders[state], services...)
		})
		found(t, "the count of orders that are "+state, func(ctx context.Context) error {
			return metrics.atLeast(ctx, fmt.Sprintf(`sum(orders_decided_total{service_name="order",order_state=%q})`, state), 1)
		})
	}
	found(t, "an exemplar", func(ctx context.Context) error {
		return metrics.exemplar(ctx, `rpc_server_call_duration_seconds_bucket{rpc_method="order.v1.OrderService/CreateOrder"}`, orders["COMPLETED"], orders["REJECTED"])
	})
	found(t, "the log lines at the collector", func(ctx context.Context) error {
		return metrics.atLeast(ctx, `sum(otelcol_receiver_accepted_log_records_total)`, 5)
	})
	found(t, "the rules", metrics.rules)
}

// TestObserveEndsWithNothingLeft also holds the script to leaving alone what runs
// as it should.
func TestObserveEndsWithNothingLeft(t *testing.T) {
	s := newStack(t)
	s.up()
	if said, _ := s.up(); strings.Count(said, "runs already") < 3 || strings.Contains(said, "starting") {
		t.Errorf("a second time it says:\n%s", said)
	}
	if said, _ := s.up("TAIL_WAIT=1s"); strings.Count(said, "starting") != 1 || !strings.Contains(said, "starting "+s.name+"-otel-collector") {
		t.Errorf("with another setting of the collector it says:\n%s", said)
	}
	if len(s.left()) < 5 {
		t.Errorf("there are only %q", s.left())
	}
	if text, err := s.script("down"); err != nil || len(s.left()) > 0 {
		t.Errorf("%v\n%s\nleft: %q", err, text, s.left())
	}
	if text, err := s.script("down"); err != nil || !strings.Contains(text, "nothing runs") {
		t.Errorf("a second time: %v\n%s", err, text)
	}
}

func TestObserveNamesThePortThatIsTaken(t *testing.T) {
	s := newStack(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	text, err := s.script("up", "PROMETHEUS_PORT="+port)
	if err == nil || !strings.Contains(text, port) || !strings.Contains(text, "PROMETHEUS_PORT") {
		t.Errorf("%v\n%s", err, text)
	}
	if got := s.left(); len(got) > 0 {
		t.Errorf("left: %q", got)
	}
}

func TestObserveSaysHowToGetDocker(t *testing.T) {
	s := &stack{t: t, name: "none", envFile: filepath.Join(t.TempDir(), "observe.env")}
	text, err := s.script("up", "DOCKER_HOST=unix://"+filepath.Join(t.TempDir(), "none"))
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(text, "https://docs.docker.com/engine/install/") {
		t.Errorf("%v\n%s", err, text)
	}
}

// TestTailSamplingKeepsErrorsAndSlowTraces sends what no service had to do: the
// times of a span are what its sender says.
func TestTailSamplingKeepsErrorsAndSlowTraces(t *testing.T) {
	s := newStack(t)
	_, at := s.up("TAIL_KEEP_PERCENT=0", "TAIL_WAIT=1s", "TAIL_SLOW_MS=700")
	sender := newSender(t, at["OTEL_EXPORTER_OTLP_ENDPOINT"])
	traces := jaeger{at["JAEGER_URL"]}
	// Decisions are in the order of arrival: when the last is there, so are those
	// of the ordinary ones.
	var dropped, kept []string
	for range 20 {
		dropped = append(dropped, sender.send(690*time.Millisecond, codes.Unset))
	}
	kept = append(kept, sender.send(750*time.Millisecond, codes.Unset), sender.send(time.Millisecond, codes.Error))
	for _, id := range kept {
		found(t, "what is slow or has failed", func(ctx context.Context) error { return traces.has(ctx, id, "sender", "receiver") })
	}
	for _, id := range dropped {
		if err := traces.has(t.Context(), id); err == nil {
			t.Errorf("an ordinary trace is kept")
		}
	}
	found(t, "the count of both", func(ctx context.Context) error {
		const count = `sum(otelcol_processor_tail_sampling_global_count_traces_sampled_total{sampled=%q})`
		m := prom{at["PROMETHEUS_URL"]}
		return errors.Join(m.atLeast(ctx, fmt.Sprintf(count, "true"), float64(len(kept))), m.atLeast(ctx, fmt.Sprintf(count, "false"), float64(len(dropped))))
	})
	t.Logf("figure: tail sampling at 0 %% of the rest: kept %d of %d slow or failed traces, 0 of %d others", len(kept), len(kept), len(dropped))
}

// sender makes traces of two services.
type sender struct {
	t          *testing.T
	here, over *sdktrace.TracerProvider
}

func newSender(t *testing.T, endpoint string) *sender {
	t.Helper()
	provider := func(name string) *sdktrace.TracerProvider {
		exporter, err := otlptracegrpc.New(t.Context(), otlptracegrpc.WithEndpointURL(endpoint))
		if err != nil {
			t.Fatal(err)
		}
		p := sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter),
			sdktrace.WithResource(resource.NewSchemaless(attribute.String("service.name", name))))
		t.Cleanup(func() { _ = p.Shutdown(context.WithoutCancel(t.Context())) })
		return p
	}
	return &sender{t, provider("sender"), provider("receiver")}
}

// send sends a trace that takes so long, the receiver's part with the outcome, and
// returns its id.
func (s *sender) send(took time.Duration, outcome codes.Code) string {
	end := time.Now()
	ctx, root := s.here.Tracer("").Start(s.t.Context(), "call", trace.WithTimestamp(end.Add(-took)))
	_, inner := s.over.Tracer("").Start(ctx, "serve", trace.WithTimestamp(end.Add(-took/2)))
	inner.SetStatus(outcome, "")
	inner.End(trace.WithTimestamp(end.Add(-took / 4)))
	root.End(trace.WithTimestamp(end))
	return root.SpanContext().TraceID().String()
}

// has returns why there is no such trace with spans of all the services.
func (j jaeger) has(ctx context.Context, id string, services ...string) error {
	found, err := j.traces(ctx, "/"+id)
	if err != nil {
		return err
	}
	var got []string
	for _, tr := range found {
		for _, p := range tr.Processes {
			got = append(got, p.ServiceName)
		}
	}
	if len(got) == 0 {
		return fmt.Errorf("no trace %s", id)
	}
	for _, want := range services {
		if !slices.Contains(got, want) {
			return fmt.Errorf("trace %s has spans of %q, none of %s", id, got, want)
		}
	}
	return nil
}
