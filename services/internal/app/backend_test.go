package app

import (
	"context"
	"runtime"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/meshmart/meshmart/services/internal/app/otlptest"
)

// TestABackendThatIsOutHurtsNoCall makes calls at full rate while their telemetry
// can't be sent: next to nothing of it may be felt by them, by the memory or by
// the shutdown.
func TestABackendThatIsOutHurtsNoCall(t *testing.T) {
	answering := func(answer func(context.Context) error) string {
		endpoint, _ := otlptest.Answering(t, answer)
		return endpoint
	}
	for _, tt := range []struct {
		name, endpoint string
		lost           string // what the log says of it; "" for nothing
	}{
		{"refuses connections", otlptest.Refusing(t), "connection refused"},
		{"never answers a connection", otlptest.Silent(t), ""},
		{"never answers a batch", answering(func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }), ""},
		{"is unavailable", answering(func(context.Context) error { return status.Error(codes.Unavailable, "not now") }), "not now"},
		{"is full", answering(func(context.Context) error { return status.Error(codes.ResourceExhausted, "no space") }), "no space"},
		{"is slow", answering(func(ctx context.Context) error {
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
			return ctx.Err()
		}), ""},
	} {
		t.Run(tt.name, func(t *testing.T) { testOutage(t, tt.endpoint, tt.lost) })
	}
}

func testOutage(t *testing.T, endpoint, lost string) {
	const calls, rounds = 1200, 3 // more spans than a queue holds, each time
	log, began := &notable{}, time.Now()
	with, stop := start(t, map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_METRICS_EXPORTER": "prometheus,otlp", "OTEL_LOGS_EXPORTER": "otlp",
	}, log)
	without := dialed(t, nil, &notable{})
	with.calls(t, calls)
	without.calls(t, calls)
	before := heap() // with full queues: one span more and they have to drop
	var took, would time.Duration
	for range rounds {
		turn := time.Now()
		with.calls(t, calls)
		took += time.Since(turn)
		turn = time.Now()
		without.calls(t, calls)
		would += time.Since(turn)
	}
	grown := float64(heap()) - float64(before)
	t.Parallel() // they stop together
	down := stop()
	rate := would.Seconds() / took.Seconds()
	const spans = 2 * calls * rounds // a client's and a server's each
	t.Logf("figure: a telemetry backend that %s: %.2f of the calls per second without one; the heap is %.1f MiB larger after %d spans; the service stops in %.1f s",
		t.Name()[strings.LastIndex(t.Name(), "/")+1:], rate, grown/(1<<20), spans, down.Seconds())
	if rate < 0.1 { // a call that waits for a backend takes seconds
		t.Errorf("%.2f of the calls per second without a backend", rate)
	}
	if perSpan := grown / spans; perSpan > 400 { // a span that is kept takes more than 1 KiB
		t.Errorf("%.0f bytes are kept for each span", perSpan)
	}
	if down > 4*closeTimeout {
		t.Errorf("the service stops after %v", down)
	}
	most := 3 * (1 + int(time.Since(began)/tellEvery)) // of traces, metrics and logs
	if lines := log.String(); !strings.Contains(lines, lost) || strings.Count(lines, `"msg":"telemetry is lost`) > most {
		t.Errorf("of %q the log says:\n%s", lost, lines)
	}
}

// heap is how many bytes are in use after a collection.
func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
