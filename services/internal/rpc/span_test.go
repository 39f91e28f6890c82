package rpc

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	greeterpb "github.com/meshmart/meshmart/proto/greeter/v1"
	"github.com/meshmart/meshmart/services/internal/breaker"
	"github.com/meshmart/meshmart/services/internal/fault"
)

// value returns an attribute of a span as a text, "" if it has none.
func value(attrs []attribute.KeyValue, key attribute.Key) string {
	for _, a := range attrs {
		if a.Key == key {
			return a.Value.String()
		}
	}
	return ""
}

// kind returns the world's spans of a kind as they began, once there are n: the
// server's may end after its reply has arrived, and after the next one.
func (w *world) kind(t *testing.T, kind trace.SpanKind, n int) (found tracetest.SpanStubs) {
	t.Helper()
	later(t, fmt.Sprintf("%d %v spans", n, kind), func() bool {
		found = nil
		for _, s := range w.spans.GetSpans() {
			if s.SpanKind == kind {
				found = append(found, s)
			}
		}
		return len(found) >= n
	})
	slices.SortFunc(found, func(a, b tracetest.SpanStub) int { return a.StartTime.Compare(b.StartTime) })
	return found
}

// meshless returns a connection to the world's server that repeats calls itself.
func (w *world) meshless(t *testing.T) *grpc.ClientConn {
	t.Helper()
	dialer := grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return w.lis.DialContext(ctx) })
	conn, err := Dial(ClientConfig{Name: "greeter", Target: "passthrough:///greeter", Mesh: NoMesh, Log: slog.New(slog.DiscardHandler),
		Traces: w.traces, Meters: noop.NewMeterProvider()}, dialer)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// A call that is repeated has a span for each attempt, on both sides and beside
// each other, of which those after the first say so.
func TestAttemptsAreSeenOnBothSides(t *testing.T) {
	w := newWorld(t)
	n := 0
	w.greets(func(context.Context) error {
		if n++; n < 3 {
			return fault.Unavailable(time.Millisecond, "come back later")
		}
		return nil
	})
	ctx, caller := w.traces.Tracer("test").Start(t.Context(), "caller")
	if err := greet(ctx, w.meshless(t)); err != nil {
		t.Fatal(err)
	}
	caller.End()
	clients, servers := w.kind(t, trace.SpanKindClient, 3), w.kind(t, trace.SpanKindServer, 3)
	parents := map[trace.SpanID]string{}
	for i, s := range clients {
		parents[s.SpanContext.SpanID()] = value(s.Attributes, "http.request.resend_count")
		if s.Parent.SpanID() != caller.SpanContext().SpanID() {
			t.Errorf("attempt %d is not beside the others", i+1)
		}
	}
	var got []string
	for _, s := range servers {
		count := value(s.Attributes, "http.request.resend_count")
		got = append(got, count+" "+value(s.Attributes, "error.type"))
		if of, ok := parents[s.Parent.SpanID()]; !ok || of != count {
			t.Errorf("the server says %q of an attempt of which its client says %q", count, of)
		}
	}
	if diff := cmp.Diff(got, []string{" UNAVAILABLE", "1 UNAVAILABLE", "2 "}); diff != "" {
		t.Error(diff)
	}
	var logged []string
	for _, line := range w.lines() {
		_, attempt, _ := strings.Cut(line, `"attempt":`)
		logged = append(logged, attempt[:min(1, len(attempt))])
	}
	if diff := cmp.Diff(logged, []string{"", "2", "3"}); diff != "" {
		t.Errorf("attempts in the log: %s", diff)
	}
}

func TestOnlySmallNumbersOfAttemptsAreBelieved(t *testing.T) {
	for _, tt := range []struct {
		headers []string
		want    int
	}{
		{nil, 0},
		{[]string{"grpc-previous-rpc-attempts", "2"}, 2},
		{[]string{"x-envoy-attempt-count", "1"}, 0},
		{[]string{"x-envoy-attempt-count", "3"}, 2},
		{[]string{"x-envoy-attempt-count", "2", "grpc-previous-rpc-attempts", "4"}, 4},
		{[]string{"x-envoy-attempt-count", "100"}, 99},
		{[]string{"x-envoy-attempt-count", "101"}, 0},
		{[]string{"x-envoy-attempt-count", "0"}, 0},
		{[]string{"x-envoy-attempt-count", "-3"}, 0},
		{[]string{"x-envoy-attempt-count", "2", "x-envoy-attempt-count", "2"}, 0},
		{[]string{"grpc-previous-rpc-attempts", "99999999999999999999"}, 0},
		{[]string{"grpc-previous-rpc-attempts", "2; DROP"}, 0},
	} {
		ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs(tt.headers...))
		if got := resends(ctx); got != tt.want {
			t.Errorf("%q: %d, want %d", tt.headers, got, tt.want)
		}
	}
}

// What a service says in words may repeat what it was told.
func TestSpansOfFailedCallsHaveNoWords(t *testing.T) {
	w := newWorld(t)
	for _, tt := range []struct {
		err            error
		client, server string
	}{
		{fault.Refused("NOT_NOW", "no, hunter2"), "FAILED_PRECONDITION", ""},
		{fault.Unavailable(time.Second, "no, hunter2"), "UNAVAILABLE", "UNAVAILABLE"},
		{status.Error(codes.Unknown, "no, hunter2"), "INTERNAL", "INTERNAL"},
		{nil, "", ""},
	} {
		w.spans.Reset()
		w.greets(func(context.Context) error { return tt.err })
		w.call(t.Context())
		for _, s := range append(w.kind(t, trace.SpanKindClient, 1), w.kind(t, trace.SpanKindServer, 1)...) {
			want := tt.client
			if s.SpanKind == trace.SpanKindServer {
				want = tt.server
			}
			if got := value(s.Attributes, "error.type"); got != want || s.Status.Description != want || (s.Status.Code == otelcodes.Error) != (want != "") {
				t.Errorf("%v: the %v's span has error.type %q and status %v, want %q", tt.err, s.SpanKind, got, s.Status, want)
			}
			if value(s.Attributes, "rpc.response.status_code") == "" || strings.Contains(fmt.Sprint(s), "hunter2") {
				t.Errorf("%v: %+v", tt.err, s)
			}
		}
	}
}

// The health of a target is asked without a span: the caller's must stay as it is.
func TestAFailedHealthCheckIsNotTheCallersFailure(t *testing.T) {
	w := newWorld(t)
	ctx, caller := w.traces.Tracer("test").Start(t.Context(), "caller")
	_, err := healthpb.NewHealthClient(w.conn).Check(ctx, &healthpb.HealthCheckRequest{Service: "nobody"})
	if status.Code(err) != codes.NotFound {
		t.Fatal(err)
	}
	caller.End()
	all := w.spans.GetSpans()
	if len(all) != 1 || len(all[0].Attributes) != 0 || all[0].Status.Code != otelcodes.Unset {
		t.Errorf("got %+v", all)
	}
}

func TestWhatTheBreakerDecidesIsInTheCallersSpan(t *testing.T) {
	w := newWorld(t)
	w.greets(func(context.Context) error { return fault.Unavailable(time.Second, "away") })
	ctx, caller := w.traces.Tracer("test").Start(t.Context(), "caller")
	for range breaker.Row + 1 {
		w.call(ctx)
	}
	list := greeterpb.NewGreetingServiceClient(w.conn)
	if _, err := list.ListGreetings(ctx, &greeterpb.ListGreetingsRequest{Name: "Ada"}); status.Code(err) != codes.Unavailable {
		t.Errorf("a stream is opened: %v", err)
	}
	w.later.Add(int64(time.Minute))
	w.greets(func(context.Context) error { return nil })
	if err := w.call(ctx); err != nil {
		t.Error(err)
	}
	caller.End()
	var got []string
	for _, s := range w.spans.GetSpans() {
		for _, e := range s.Events {
			got = append(got, s.Name+": "+e.Name+" "+value(e.Attributes, "circuit_breaker.target")+" "+value(e.Attributes, "circuit_breaker.state"))
		}
	}
	want := []string{"caller: circuit_breaker.opened all open", "caller: circuit_breaker.refused all open",
		"caller: circuit_breaker.refused all open", "caller: circuit_breaker.probe all half-open"}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Error(diff)
	}
}
