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

func TestACallWhoseTraceIsKeptReadsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, r := newShelf()
		defer busy(r)()
		ctx := trace.ContextWithSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{
			TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1}, TraceFlags: trace.FlagsSampled,
		}))
		if got, _, err := r.Get(ctx, "b"); got != 2 || err != nil {
			t.Errorf("got %d, %v", got, err)
		}
		if s.ctxs[parallel] != ctx {
			t.Error("the read is not in the trace of who asked")
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
