package order

import (
	"context"
	"time"

	"github.com/meshmart/meshmart/services/internal/traceparent"
)

const (
	// maxResumed is how many orders a replica takes up at once.
	maxResumed = 32
	// lookEvery is how often a worker looks for orders that are due: those whose
	// process has died, or that another replica has put off. Of its own ones it
	// knows.
	lookEvery = 500 * time.Millisecond
)

// Resume takes up the sagas that are due, until ctx is done: those that wait for
// another attempt, and those that a crash has left. Of several replicas one gets
// each order. It begins at once, for there may be a crash behind us.
func (s *Orders) Resume(ctx context.Context) error {
	free := make(chan struct{}, maxResumed)
	for range maxResumed {
		free <- struct{}{}
	}
	for failed := false; ctx.Err() == nil; {
		wait, err := s.resumeDue(ctx, free)
		if err != nil && !failed && ctx.Err() == nil { // one line for an outage, however long
			s.log.WarnContext(ctx, "orders that are due can't be taken up", "err", err.Error())
		}
		if failed = err != nil; failed {
			wait = jitter(time.Second)
		}
		select {
		case <-ctx.Done():
		case <-s.nudge:
		case <-time.After(wait):
		}
	}
	return nil
}

// resumeDue takes up as many orders as are due and there are places free, and
// returns how long there will be nothing more to do, as far as we know.
func (s *Orders) resumeDue(ctx context.Context, free chan struct{}) (time.Duration, error) {
	due, ok, err := s.store.nextDue(ctx)
	if err != nil || !ok {
		return jitter(lookEvery), err
	}
	if wait := due.Sub(s.now()); wait > 0 {
		return min(wait, jitter(lookEvery)), nil
	}
	places := s.take(ctx, free)
	orders, err := s.store.claim(ctx, s.now(), lease, places)
	for range places - len(orders) {
		free <- struct{}{}
	}
	for _, o := range orders {
		s.running.Go(func() {
			defer func() { free <- struct{}{} }()
			s.resume(context.WithoutCancel(ctx), o)
		})
	}
	return 0, err
}

// take returns how many places it has taken: one at least, unless ctx is done.
func (s *Orders) take(ctx context.Context, free <-chan struct{}) (n int) {
	select {
	case <-free:
		n++
	case <-ctx.Done():
		return 0
	}
	for {
		select {
		case <-free:
			n++
		default:
			return n
		}
	}
}

// resume goes on with an order, in the trace that it was placed in.
func (s *Orders) resume(ctx context.Context, o Order) {
	ctx, span := s.span(traceparent.Restore(ctx, o.Trace), o, "resume")
	defer span.End()
	s.run(ctx, o)
}

// wakeWorker has the worker look again when the next order is due; it never
// blocks.
func (s *Orders) wakeWorker() {
	select {
	case s.nudge <- struct{}{}:
	default: // it is awake already
	}
}

// close lets the sagas that run in this process end the step that they are at.
func (s *Orders) close() error {
	s.closing.Store(true)
	s.running.Wait()
	return nil
}
