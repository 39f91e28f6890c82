package breaker

import (
	"context"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

// decided returns what the breaker has told of a call that ends with err, and
// lets others be made meanwhile.
func (b *bench) decided(t *testing.T, err error, meanwhile ...func()) []string {
	t.Helper()
	spans := tracetest.NewInMemoryExporter()
	ctx, span := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans)).Tracer("test").Start(t.Context(), "caller")
	b.Do(ctx, func() error {
		for _, fn := range meanwhile {
			fn()
		}
		return err
	})
	span.End()
	var told []string
	for _, e := range spans.GetSpans()[0].Events {
		line := e.Name
		for _, a := range e.Attributes {
			line += " " + a.Value.AsString()
		}
		told = append(told, line)
	}
	return told
}

func TestDecisionsAreEventsOfTheCallersSpan(t *testing.T) {
	b := newBench()
	want := func(got []string, want ...string) {
		t.Helper()
		if diff := cmp.Diff(got, want); diff != "" {
			t.Error(diff)
		}
	}
	want(b.decided(t, nil))
	b.call(Row-1, errOut)
	want(b.decided(t, errOut), "circuit_breaker.opened target open")
	want(b.decided(t, nil), "circuit_breaker.refused target open")
	b.now = b.now.Add(firstOpen)
	want(b.decided(t, errOut), "circuit_breaker.probe target half-open", "circuit_breaker.opened target open")
	b.now = b.now.Add(2 * firstOpen)
	for range Probes - 1 {
		want(b.decided(t, nil), "circuit_breaker.probe target half-open")
	}
	// A probe that takes its time leaves less room for others.
	want(b.decided(t, nil, func() {
		for range Probes {
			if _, err := b.Allow(t.Context()); err != nil {
				want(b.decided(t, nil), "circuit_breaker.refused target half-open")
			}
		}
	}), "circuit_breaker.probe target half-open")
}

// Of many calls that fail at once the breaker is opened by one.
func TestOneCallOpensIt(t *testing.T) {
	b := newBench()
	var mu sync.Mutex
	opened := 0
	var wg sync.WaitGroup
	for range 4 * Row {
		wg.Go(func() {
			for _, e := range b.decided(t, errOut) {
				mu.Lock()
				if e == "circuit_breaker.opened target open" {
					opened++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if opened != 1 {
		t.Errorf("%d calls have opened the breaker", opened)
	}
}

func TestDecisionsThatNobodySeesCostNothing(t *testing.T) {
	b, ctx := newBench(), context.Background()
	bare := testing.AllocsPerRun(100, func() {
		if done, err := b.counts.Allow(); err == nil {
			done(nil)
		}
	})
	allowed := testing.AllocsPerRun(100, func() {
		if done, err := b.Allow(ctx); err == nil {
			done(nil)
		}
	})
	b.call(Row, errOut)
	refused := testing.AllocsPerRun(100, func() { b.Allow(ctx) })
	t.Logf("figure: allocations of a call's breaker without a span: %v allowed (gobreaker alone %v), %v refused", allowed, bare, refused)
	if allowed > bare || refused > 0 {
		t.Error("events that nobody sees are paid for")
	}
}
