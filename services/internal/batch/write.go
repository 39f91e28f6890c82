package batch

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"

	"go.opentelemetry.io/otel/trace"

	"github.com/meshmart/meshmart/services/internal/effect"
)

// Writer has changes that come at the same time made at once, in one transaction:
// most of what a small one costs is the way to the database and to its disk. It is
// safe for concurrent use.
type Writer[M any] struct {
	// Parallel is how many run at once before others wait, to be made together; one at
	// least.
	Parallel int

	mu      sync.Mutex
	running int
	waiting []*member[M] // in the order of their coming
}

// Together makes 2 to Most changes in the order of their coming, and returns what
// became of each; or nil if nothing was done, then each is made alone. ctx has the
// values of the first of them, and is done when all have left.
type Together[M any] func(ctx context.Context, all []M) []error

// member is one who waits.
type member[M any] struct {
	ctx    context.Context
	change M
	turn   chan struct{} // closed when the rest is known
	alone  bool          // it is to make its change itself
	leads  bool          // and has a place among those who run
	err    error

	begun  bool // guarded by the writer's mu, as the next
	left   bool
	others *party
}

// party is how many of a group are left.
type party struct {
	n      int // guarded by the writer's mu
	ctx    context.Context
	cancel context.CancelFunc
}

// Do makes a change. Whoever finds few who run makes it at once, by alone; who comes
// meanwhile waits for their turn, and if they are several it is made by together. A
// call whose trace is kept makes it alone in any case: its trace tells what was done
// for it, and not for others. Who leaves while it is being made does not know what
// becomes of it.
func (w *Writer[M]) Do(ctx context.Context, change M, alone func() error, together Together[M]) error {
	if trace.SpanContextFromContext(ctx).IsSampled() {
		return alone()
	}
	m := w.join(ctx, change)
	if m != nil {
		select {
		case <-m.turn:
		case <-ctx.Done():
			if w.leave(m) {
				return ctx.Err()
			}
			<-m.turn
		}
		if !m.alone {
			return m.err
		}
	}
	if m == nil || m.leads {
		defer w.next(together)
	}
	return alone()
}

// join returns the caller as one who waits, or nil if it may run.
func (w *Writer[M]) join(ctx context.Context, change M) *member[M] {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.running < max(w.Parallel, 1) {
		w.running++
		return nil
	}
	m := &member[M]{ctx: ctx, change: change, turn: make(chan struct{})}
	w.waiting = append(w.waiting, m)
	return m
}

// leave reports whether the member may go: not if it was told to run, as others wait
// for it. What is being made for it may last.
func (w *Writer[M]) leave(m *member[M]) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case !m.begun:
		m.left = true
	case m.others == nil:
		return false
	default:
		effect.Note(m.ctx)
		if m.others.n--; m.others.n == 0 {
			m.others.cancel()
		}
	}
	return true
}

// next has those run who have come meanwhile, and does not wait for several.
func (w *Writer[M]) next(together Together[M]) {
	all := w.pop()
	switch len(all) {
	case 0:
	case 1:
		all[0].lead()
	default:
		go func() {
			for ; len(all) > 1; all = w.pop() {
				w.run(all, together)
			}
			if len(all) == 1 {
				all[0].lead()
			}
		}()
	}
}

// lead gives the place to a member that makes its change itself.
func (m *member[M]) lead() {
	m.alone, m.leads = true, true
	close(m.turn)
}

// pop returns those whose turn it is. If nobody waits the place is free.
func (w *Writer[M]) pop() []*member[M] {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []*member[M]
	n := 0
	for ; n < len(w.waiting) && len(all) < Most; n++ {
		if m := w.waiting[n]; !m.left {
			m.begun = true
			all = append(all, m)
		}
	}
	w.waiting = w.waiting[n:]
	if len(all) == 0 {
		w.running--
	}
	if len(all) > 1 {
		others := &party{n: len(all)}
		others.ctx, others.cancel = context.WithCancel(context.WithoutCancel(all[0].ctx))
		for _, m := range all {
			m.others = others
		}
	}
	return all
}

// run makes the changes of a group.
func (w *Writer[M]) run(all []*member[M], together Together[M]) {
	defer all[0].others.cancel()
	changes := make([]M, len(all))
	for i, m := range all {
		changes[i] = m.change
	}
	errs := tell(all[0].others.ctx, changes, together)
	for i, m := range all {
		if errs == nil {
			m.alone = true
		} else {
			m.err = errs[i]
		}
		close(m.turn)
	}
}

// tell calls together, and tells all of its panic: it is nobody's goroutine, and the
// process goes on.
func tell[M any](ctx context.Context, changes []M, together Together[M]) (errs []error) {
	defer func() {
		if p := recover(); p != nil {
			err := fmt.Errorf("write: panic: %v\n%s", p, debug.Stack())
			errs = make([]error, len(changes))
			for i := range errs {
				errs[i] = err
			}
		}
	}()
	return together(ctx, changes)
}
