// Package drive makes calls, as fast as clients can (closed loop) or at a rate
// that does not wait for the answers (open loop), and measures how long each took.
package drive

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/meshmart/meshmart/tests/bench/stats"
)

// Call makes one call, as the client of that number, from 0.
type Call func(ctx context.Context, client int) error

// Load is what a loop has done.
type Load struct {
	Calls   int64 // that ended well
	Failed  int64
	Err     error // of the first that failed
	Took    time.Duration
	Latency *stats.Histogram // of the calls that ended well
}

// PerSecond is the throughput.
func (l *Load) PerSecond() float64 {
	if l.Took <= 0 {
		return 0
	}
	return float64(l.Calls) / l.Took.Seconds()
}

// Closed has each client call again as soon as it has its answer, for d. It tells
// what a system can do, and little of latency: who waits does not call.
func Closed(ctx context.Context, clients int, d time.Duration, call Call) *Load {
	began := time.Now()
	return loop(clients, began, func(client int, t *tally) {
		for ctx.Err() == nil && time.Since(began) < d {
			start := time.Now()
			t.ended(call(ctx, client), time.Since(start))
		}
	})
}

// Open makes rate calls a second for d, each at its time, by as many clients as
// may wait at once. A latency counts from when the call was due: one that could
// not be made in time, as all clients waited, has been waiting itself
// (coordinated omission). A system that can't keep up ends late. However low the
// rate, one call is made.
func Open(ctx context.Context, clients int, rate float64, d time.Duration, call Call) *Load {
	began := time.Now()
	total := max(1, int64(rate*d.Seconds()))
	var next atomic.Int64
	return loop(clients, began, func(client int, t *tally) {
		for ctx.Err() == nil {
			i := next.Add(1) - 1
			if i >= total {
				return
			}
			due := began.Add(time.Duration(float64(i) / rate * float64(time.Second)))
			if !wait(ctx, due) {
				return
			}
			t.ended(call(ctx, client), time.Since(due))
		}
	})
}

// wait returns at a time, and reports whether ctx is not done.
func wait(ctx context.Context, until time.Time) bool {
	d := time.Until(until)
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// tally is what one client counts; nobody else writes it.
type tally struct {
	calls, failed int64
	err           error
	latency       *stats.Histogram
}

func (t *tally) ended(err error, after time.Duration) {
	if err != nil {
		t.failed++
		if t.err == nil {
			t.err = err
		}
		return
	}
	t.calls++
	t.latency.Record(after)
}

// loop runs clients to their end and adds up what they count.
func loop(clients int, began time.Time, run func(client int, t *tally)) *Load {
	tallies := make([]tally, clients)
	var wg sync.WaitGroup
	for i := range tallies {
		tallies[i].latency = stats.NewHistogram()
		wg.Go(func() { run(i, &tallies[i]) })
	}
	wg.Wait()
	l := &Load{Took: time.Since(began), Latency: stats.NewHistogram()}
	for i := range tallies {
		t := &tallies[i]
		l.Calls += t.calls
		l.Failed += t.failed
		if l.Err == nil {
			l.Err = t.err
		}
		l.Latency.Add(t.latency)
	}
	return l
}
