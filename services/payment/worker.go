package payment

import (
	"context"
	"sync"
	"time"

	"github.com/meshmart/meshmart/services/internal/traceparent"
)

const (
	// workers is how many changes one replica sees through at once.
	workers = 32
	// lookEvery is how often the worker looks for changes that it was not woken
	// for: those that another replica has left behind.
	lookEvery = time.Second
)

// worker sees the changes through that are under way and that nobody waits for:
// the captures of confirmed orders, and whatever a crash or an outage of the
// processor has interrupted. The replicas share them: who claims one has it for
// the time of the lease, so what a dead replica had claimed is soon another's.
type worker struct {
	payments *Payments
	bell     chan struct{} // holds one ring
	handed   chan claim    // changes that this replica has begun
}

// claim is a change that nobody else takes up before it is due.
type claim struct {
	payment Payment
	due     time.Time
}

func newWorker() *worker {
	return &worker{bell: make(chan struct{}, 1), handed: make(chan claim, 8*workers)}
}

// hand is how a change comes to this worker without a look at the database. It is
// due when its lease ends: if this replica dies, another finds it then. While
// there is no room it is due at once, for whoever looks first.
func (w *worker) hand() (due time.Time, begun func(Payment)) {
	now := w.payments.clock()
	if len(w.handed) == cap(w.handed) {
		return now, func(Payment) { w.wake() }
	}
	due = now.Add(w.payments.lease)
	return due, func(p Payment) {
		select {
		case w.handed <- claim{p, due}:
		default: // others were faster; it waits for its lease to end
		}
	}
}

// wake has the worker look for work; it never blocks.
func (w *worker) wake() {
	select {
	case w.bell <- struct{}{}:
	default: // it is going to look anyway
	}
}

// run works until ctx is done, and then finishes what it has begun.
func (w *worker) run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	busy := make(chan struct{}, workers)
	wg.Go(func() { w.serve(ctx, &wg) })
	for ctx.Err() == nil {
		claimed, err := w.claim(ctx, cap(busy)-len(busy))
		if err != nil && ctx.Err() == nil {
			w.payments.log.WarnContext(ctx, "payments under way are not looked at", "err", err.Error())
		}
		for _, p := range claimed {
			busy <- struct{}{}
			wg.Go(func() {
				w.finish(ctx, p)
				<-busy
				w.wake() // there is a place
			})
		}
		if len(claimed) == 0 {
			w.rest(ctx, err)
		}
	}
	return nil
}

// serve finishes what it is handed, as many at once as it may. What it has not
// begun when ctx is done, or when it is due, it leaves to whoever finds it then.
func (w *worker) serve(ctx context.Context, wg *sync.WaitGroup) {
	busy := make(chan struct{}, workers)
	for {
		select {
		case h := <-w.handed:
			busy <- struct{}{}
			if !w.payments.clock().Before(h.due) {
				<-busy
				continue
			}
			wg.Go(func() {
				w.finish(ctx, h.payment)
				<-busy
			})
		case <-ctx.Done():
			return
		}
	}
}

// claim takes at most n changes that are due.
func (w *worker) claim(ctx context.Context, n int) ([]Payment, error) {
	if n == 0 {
		return nil, nil
	}
	now := w.payments.clock()
	return w.payments.store.claim(ctx, n, now, now.Add(w.payments.lease))
}

// finish is not stopped by a shutdown: the processor's own time limit bounds it.
func (w *worker) finish(ctx context.Context, p Payment) {
	ctx = traceparent.Restore(context.WithoutCancel(ctx), p.trace)
	if _, err := w.payments.finish(ctx, p); err != nil {
		w.payments.log.WarnContext(ctx, "payment is tried again", "payment", p.ID, "order", p.OrderID,
			"state", string(p.State), "attempts", p.attempts+1, "err", err.Error())
	}
}

// rest waits until there may be something to do.
func (w *worker) rest(ctx context.Context, failed error) {
	wait := lookEvery
	if failed == nil {
		if due, ok, err := w.payments.store.nextDue(ctx); err == nil && ok {
			wait = min(wait, max(due.Sub(w.payments.clock()), time.Millisecond))
		}
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-w.bell:
	case <-timer.C:
	}
}
