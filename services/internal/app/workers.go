package app

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"
)

// workers are what a service does beside answering calls.
type workers struct {
	log    *slog.Logger
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu      sync.Mutex
	waiting []func() // added before start
	started bool
}

func newWorkers(log *slog.Logger) *workers {
	ctx, cancel := context.WithCancel(context.Background())
	return &workers{log: log, ctx: ctx, cancel: cancel}
}

func (w *workers) add(name string, fn func(context.Context) error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	run := func() { w.wg.Go(func() { w.keep(name, fn) }) }
	if w.started {
		run()
		return
	}
	w.waiting = append(w.waiting, run)
}

func (w *workers) start() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.started = true
	for _, run := range w.waiting {
		run()
	}
	w.waiting = nil
}

// stop ends all workers and returns when they have ended.
func (w *workers) stop() {
	w.cancel()
	w.wg.Wait()
}

// How long a worker that failed waits until it is started again: longer each
// time, unless it ran well for longer than that.
const (
	firstWait = 100 * time.Millisecond
	mostWait  = 10 * time.Second
)

// keep runs fn until it returns nil or the service stops.
func (w *workers) keep(name string, fn func(context.Context) error) {
	for wait := firstWait; ; wait = min(2*wait, mostWait) {
		start := time.Now()
		err := fn(w.ctx)
		if err == nil || w.ctx.Err() != nil {
			return
		}
		if time.Since(start) > mostWait {
			wait = firstWait
		}
		w.log.Warn("worker failed and is started again", "worker", name, "err", err.Error(), "after", wait.String())
		select {
		case <-w.ctx.Done():
			return
		case <-time.After(wait/2 + rand.N(wait)):
		}
	}
}
