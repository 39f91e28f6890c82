package drive

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// stalls answers in a millisecond, but for the first call after half a second:
// that one takes a second.
func stalls(began time.Time) Call {
	var stalled atomic.Bool
	return func(context.Context, int) error {
		if time.Since(began) >= 500*time.Millisecond && stalled.CompareAndSwap(false, true) {
			time.Sleep(time.Second)
		}
		time.Sleep(time.Millisecond)
		return nil
	}
}

// A server that says nothing for one second of three has kept a third of its
// callers waiting, half a second on average. A closed loop sees one slow call.
func TestOpenLoopCorrectsForAStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		open := Open(t.Context(), 1, 100, 3*time.Second, stalls(time.Now()))
		closed := Closed(t.Context(), 1, 3*time.Second, stalls(time.Now()))
		if open.Calls != 300 {
			t.Errorf("open: %d calls, want 300", open.Calls)
		}
		if got := open.Latency.Quantile(0.8); got < 300*time.Millisecond || got > time.Second {
			t.Errorf("open: a fifth of the calls waited %v or longer, want some 400 ms", got)
		}
		if got := closed.Latency.Quantile(0.99); got > 2*time.Millisecond {
			t.Errorf("closed: p99 is %v, want a millisecond: it does not see the stall", got)
		}
	})
}

func TestOpenLoopCallsAtItsRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := Open(t.Context(), 4, 50, 2*time.Second, func(context.Context, int) error { return nil })
		if l.Calls != 100 || l.Took < 1900*time.Millisecond || l.Took > 2*time.Second {
			t.Errorf("%d calls in %v, want 100 in 2 s", l.Calls, l.Took)
		}
	})
}

func TestFailuresAreCountedApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		errOdd := errors.New("odd")
		l := Closed(t.Context(), 2, time.Second, func(_ context.Context, client int) error {
			time.Sleep(100 * time.Millisecond)
			if client == 1 {
				return errOdd
			}
			return nil
		})
		if l.Calls != 10 || l.Failed != 10 || !errors.Is(l.Err, errOdd) || l.Latency.Count() != 10 {
			t.Errorf("%d calls, %d failed with %v, %d latencies; want 10 each", l.Calls, l.Failed, l.Err, l.Latency.Count())
		}
		if got := l.PerSecond(); got != 10 {
			t.Errorf("%v per second, want 10", got)
		}
	})
}

func TestLoopsEndWithTheirContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if l := Open(ctx, 1, 0.1, time.Hour, func(context.Context, int) error { return nil }); l.Took > time.Second {
			t.Errorf("it went on for %v", l.Took)
		}
	})
}
