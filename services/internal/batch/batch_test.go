package batch

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
)

// shelf is a database that takes a while, and remembers what it was asked.
type shelf struct {
	mu    sync.Mutex
	kept  map[string]int
	asked [][]string
	ctxs  []context.Context
	fail  error
}

const takes = 10 * time.Millisecond

// read sees what is there when it begins.
func (s *shelf) read(ctx context.Context, keys []string) (map[string]int, error) {
	s.mu.Lock()
	s.asked, s.ctxs = append(s.asked, keys), append(s.ctxs, ctx)
	seen, err := maps.Clone(s.kept), s.fail
	s.mu.Unlock()
	if slices.Contains(keys, "boom") {
		panic("boom")
	}
	select {
	case <-time.After(takes):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return seen, err
}

func (s *shelf) put(key string, value int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept[key] = value
}

func newShelf() (*shelf, *Reader[string, int]) {
	s := &shelf{kept: map[string]int{"a": 1, "b": 2}}
	return s, &Reader[string, int]{Read: s.read}
}

// busy has as many reads begin as there may be, and returns what waits for them.
func busy(r *Reader[string, int]) (wait func()) {
	var wg sync.WaitGroup
	for range parallel {
		wg.Go(func() { r.Get(context.Background(), "a") })
		synctest.Wait()
	}
	return wg.Wait
}

func TestNobodyIsAnsweredByAReadThatHadBegun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, r := newShelf()
		defer busy(r)()
		s.put("a", 7)
		if got, ok, err := r.Get(t.Context(), "a"); got != 7 || !ok || err != nil {
			t.Errorf("after the change: %d, %v, %v", got, ok, err)
		}
	})
}

func TestThoseWhoWaitAreReadForTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, r := newShelf()
		defer busy(r)()
		var wg sync.WaitGroup
		for i := range 3 * Most {
			key, want := "a", 1
			if i%2 == 1 {
				key, want = "b", 2
			}
			wg.Go(func() {
				if got, ok, err := r.Get(t.Context(), key); got != want || !ok || err != nil {
					t.Errorf("%s: %d, %v, %v", key, got, ok, err)
				}
			})
		}
		wg.Wait()
		if n := len(s.asked) - parallel; n > 4 {
			t.Errorf("%d reads for %d calls", n, 3*Most)
		}
		for _, keys := range s.asked {
			if slices.Sort(keys); len(slices.Compact(slices.Clone(keys))) != len(keys) {
				t.Errorf("keys are asked for twice: %v", keys)
			}
		}
	})
}

func TestOneWhoIsAloneReadsWithTheirOwnContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, r := newShelf()
		ctx, cancel := context.WithCancel(t.Context())
		go func() { time.Sleep(takes / 2); cancel() }()
		if _, _, err := r.Get(ctx, "a"); !errors.Is(err, context.Canceled) {
			t.Errorf("who left got %v", err)
		}
		if s.ctxs[0] != ctx {
			t.Error("the read had another context")
		}
		if _, ok, err := r.Get(t.Context(), "c"); ok || err != nil {
			t.Errorf("what is not there: %v, %v", ok, err)
		}
	})
}

func TestWhoLeavesLeavesTheOthersTheirAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, r := newShelf()
		defer busy(r)()
		ctx, cancel := context.WithTimeout(t.Context(), takes/2)
		defer cancel()
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, _, err := r.Get(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("who left got %v", err)
			}
		})
		synctest.Wait() // it is the first of its group
		patient, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if got, _, err := r.Get(patient, "b"); got != 2 || err != nil {
			t.Errorf("who stayed got %d, %v", got, err)
		}
		wg.Wait()
	})
}

func TestAReadThatNobodyWaitsForEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, r := newShelf()
		defer busy(r)()
		ctx, cancel := context.WithTimeout(t.Context(), takes+takes/2)
		defer cancel()
		r.Get(ctx, "b")
		synctest.Wait()
		if err := s.ctxs[parallel].Err(); err == nil {
			t.Error("the read goes on")
		}
	})
}

func TestWhoReadsForOthersMayLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, r := newShelf()
		ctx, cancel := context.WithTimeout(t.Context(), takes/2)
		defer cancel()
		var wg sync.WaitGroup
		defer wg.Wait()
		r.running = parallel // others are about to read
		g, _ := r.join(t.Context(), "b")
		r.running = 0
		began := time.Now()
		if _, _, err := r.Get(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > takes/2 {
			t.Errorf("who left after %v got %v", time.Since(began), err)
		}
		<-g.done
		if g.found["b"] != 2 || g.err != nil {
			t.Errorf("who stayed got %v, %v", g.found, g.err)
		}
	})
}

// A read is in one kept trace, whose tree is as if it had been made for that alone;
// the spans of the other calls tell which.
func TestKeptTracesTellOfTheReadTheyShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, r := newShelf()
		wait := busy(r)
		spans := tracetest.NewSpanRecorder()
		tracer := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)).Tracer("")
		var wg sync.WaitGroup
		wg.Go(func() { r.Get(t.Context(), "a") }) // not kept
		synctest.Wait()
		for _, name := range []string{"first", "second"} {
			wg.Go(func() {
				ctx, span := tracer.Start(t.Context(), name)
				defer span.End()
				r.Get(ctx, "b")
			})
			synctest.Wait()
		}
		wg.Wait()
		wait()
		first, second := spans.Started()[0], spans.Started()[1]
		if got := trace.SpanContextFromContext(s.ctxs[parallel]); !got.Equal(first.SpanContext()) || len(s.ctxs) != parallel+1 {
			t.Errorf("%d reads, the last in %v, want %v", len(s.ctxs), got, first.SpanContext())
		}
		if len(first.Links()) != 0 || len(second.Links()) != 1 || !second.Links()[0].SpanContext.Equal(first.SpanContext()) {
			t.Errorf("links of the first %v, of the second %v", first.Links(), second.Links())
		}
	})
}

func TestAFailureIsEverybodys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, r := newShelf()
		wait := busy(r)
		s.fail = errors.New("away")
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				if _, _, err := r.Get(t.Context(), "a"); !errors.Is(err, s.fail) {
					t.Errorf("got %v", err)
				}
			})
		}
		wg.Wait()
		wait()
		s.fail = nil
		wait = busy(r)
		if _, _, err := r.Get(t.Context(), "boom"); err == nil || !strings.Contains(err.Error(), "boom") {
			t.Errorf("a read that panics: %v", err)
		}
		wait()
		if got, _, err := r.Get(t.Context(), "b"); got != 2 || err != nil {
			t.Errorf("after it: %d, %v", got, err)
		}
	})
}
