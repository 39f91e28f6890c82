package breaker

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric/noop"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

var (
	errOut     = errors.New("out")
	errRefused = errors.New("refused")
	errGone    = errors.New("the caller is gone")
)

// bench is a breaker whose time is the test's.
type bench struct {
	*Breaker
	now time.Time
}

func newBench() *bench {
	b := &bench{now: time.Unix(1_800_000_000, 0)}
	b.Breaker = New(Config{
		Target: "target", Log: slog.New(slog.DiscardHandler), Meters: noop.NewMeterProvider(), Clock: func() time.Time { return b.now },
		Outage:    func(err error) bool { return errors.Is(err, errOut) || errors.Is(err, ErrPanicked) },
		Abandoned: func(err error) bool { return errors.Is(err, errGone) },
	})
	return b
}

// call makes n calls that end with err, and returns how many were let through.
func (b *bench) call(n int, err error) (through int) {
	for range n {
		b.Do(context.Background(), func() error { through++; return err })
	}
	return through
}

// opened returns a breaker that has been open and lets probes through.
func opened(t *testing.T) *bench {
	t.Helper()
	b := newBench()
	b.call(Row, errOut)
	b.now = b.now.Add(firstOpen)
	b.want(t, HalfOpen)
	return b
}

func (b *bench) want(t *testing.T, want State) {
	t.Helper()
	if got := b.State(); got != want {
		t.Errorf("the breaker is %v, want %v", got, want)
	}
}

func TestOpensOnOutagesAlone(t *testing.T) {
	for _, tt := range []struct {
		name  string
		calls []error // one after another, 12 times
		want  State
	}{
		{"outages", []error{errOut}, Open},
		{"half of many", []error{errOut, nil}, Open},
		{"one in three", []error{errOut, nil, nil}, Closed},
		{"refusals", []error{errRefused}, Closed},
		{"abandoned", []error{errGone}, Closed},
		{"outages among abandoned calls", []error{errOut, errGone, errGone}, Open},
		{"outages among refusals", []error{errOut, errRefused, errRefused}, Closed},
	} {
		b := newBench()
		for range 12 {
			for _, err := range tt.calls {
				b.call(1, err)
			}
		}
		if got := b.State(); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestOpenLetsNothingThrough(t *testing.T) {
	b := newBench()
	if n := b.call(3*Row, errOut); n != Row {
		t.Errorf("%d calls reached a target that is out, want %d", n, Row)
	}
	b.now = b.now.Add(firstOpen - 1)
	if n := b.call(10, nil); n != 0 {
		t.Errorf("%d calls were let through while it is open", n)
	}
}

// Each probe leaves its place to another, however it ends.
func TestProbesReleaseTheirPlace(t *testing.T) {
	panicked := errors.New("panic")
	for _, tt := range []struct {
		name string
		err  error
		want State // after as many probes as may be made at once
	}{
		{"success", nil, Closed},
		{"refusal", errRefused, Closed},
		{"abandoned", errGone, HalfOpen},
		{"outage", errOut, Open},
		{"panic", panicked, Open},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := opened(t)
			for range Probes {
				func() {
					defer func() { recover() }()
					b.Do(context.Background(), func() error {
						if tt.err == panicked {
							panic(panicked)
						}
						return tt.err
					})
				}()
			}
			b.want(t, tt.want)
			b.now = b.now.Add(mostOpen)
			if n := b.call(Probes, nil); n != Probes {
				t.Errorf("%d of %d calls were let through afterwards", n, Probes)
			}
			b.want(t, Closed)
		})
	}
}

// A half-open breaker is not held up by any number of calls that were given up.
func TestAbandonedProbesDoNotPileUp(t *testing.T) {
	b := opened(t)
	if n := b.call(100, errGone); n != 100 {
		t.Errorf("%d of 100 calls that are given up were let through", n)
	}
	var done []func(error)
	for range Probes {
		d, err := b.Allow(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		done = append(done, d)
	}
	if _, err := b.Allow(t.Context()); err == nil {
		t.Errorf("a probe more than %d was let through at once", Probes)
	}
	done[0](errGone)
	d, err := b.Allow(t.Context())
	if err != nil {
		t.Fatalf("the place of a call that was given up stays taken: %v", err)
	}
	for _, d := range append(done[1:], d) {
		d(nil)
	}
	b.want(t, Closed)
}

func TestStaysOpenForLongerWhileProbesFail(t *testing.T) {
	b := newBench()
	for range 2 { // the second time it begins anew
		b.call(Row, errOut)
		for _, open := range []time.Duration{firstOpen, 2 * firstOpen, 4 * firstOpen, mostOpen, mostOpen} {
			b.now = b.now.Add(open - 1)
			b.want(t, Open)
			b.now = b.now.Add(1)
			b.want(t, HalfOpen)
			b.call(1, errOut)
		}
		b.now = b.now.Add(mostOpen)
		b.call(Probes, nil)
		b.want(t, Closed)
	}
}

// Whoever is told of changes learns by itself that an open breaker lets calls
// through again, though none is made.
func TestChangesAreTold(t *testing.T) {
	var mu sync.Mutex
	var told []State
	half := make(chan struct{})
	b := New(Config{
		Target: "target", Log: slog.New(slog.DiscardHandler), Meters: noop.NewMeterProvider(),
		Outage: func(error) bool { return true }, Abandoned: func(error) bool { return false },
		Changed: func(_ string, to State) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, to)
			if to == HalfOpen {
				close(half)
			}
		},
	})
	for range Row {
		b.Do(context.Background(), func() error { return errOut })
	}
	<-half
	for range Probes {
		b.Do(context.Background(), func() error { return nil })
	}
	mu.Lock()
	defer mu.Unlock()
	if diff := cmp.Diff(told, []State{Closed, Open, HalfOpen, Closed}); diff != "" {
		t.Error(diff)
	}
}

func TestStateOfEachIsMeasured(t *testing.T) {
	reader := sdkmetric.NewManualReader()
	meters := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
	breakers := map[string]*Breaker{}
	for _, target := range []string{"inventory", "payment"} {
		breakers[target] = New(Config{
			Target: target, Log: slog.New(slog.DiscardHandler), Meters: meters,
			Outage: func(error) bool { return true }, Abandoned: func(error) bool { return false }, Clock: func() time.Time { return time.Unix(0, 0) },
		})
	}
	for range Row {
		breakers["payment"].Do(context.Background(), func() error { return errOut })
	}
	var all metricdata.ResourceMetrics
	if err := reader.Collect(context.Background(), &all); err != nil {
		t.Fatal(err)
	}
	got := map[string]State{}
	for _, p := range all.ScopeMetrics[0].Metrics[0].Data.(metricdata.Gauge[int64]).DataPoints {
		target, _ := p.Attributes.Value(attribute.Key("target"))
		got[target.AsString()] = State(p.Value)
	}
	if diff := cmp.Diff(got, map[string]State{"inventory": Closed, "payment": Open}); diff != "" {
		t.Errorf("%s: %s", all.ScopeMetrics[0].Metrics[0].Name, diff)
	}
}
