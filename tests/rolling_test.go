package tests

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/meshmart/meshmart/tests/testbed"
)

// TestReplicasAreReplacedUnderLoad replaces every replica of every service, as
// a Deployment with maxSurge 1 and maxUnavailable 0 does it, while customers
// call and watch. No call fails, nothing is repeated, and no change is missed.
//
// That holds as long as DRAIN_DELAY is longer than balancers take to notice
// that a replica is not ready, and than clients keep a connection idle: one that
// sends on a connection at the very moment when it is closed has to repeat, as
// HTTP clients do by themselves (RFC 9112, section 9.3.1).
func TestReplicasAreReplacedUnderLoad(t *testing.T) {
	s := open(t)
	const rate = 40
	before := calm(t, s, rate)

	l := newLoad(s)
	w := newWatchers(t, l)
	replaced := 0
	l.during(t, rate, func() {
		w.start(t.Context())
		defer w.stop()
		for range 2 { // of all services at the same time, as a release comes
			for _, name := range []string{"gateway", "order", "product", "user", "inventory", "payment"} {
				w.replace(t, s.bed.Service(name)[0]) // the oldest
				replaced++
			}
		}
	})
	l.report(t)
	s.audit(t)
	t.Logf("figure: rolling replacement: %d calls at %d/s while %d replicas were replaced, %d failed; p99 %.2f times that before; "+
		"%d watched orders and %d changes of the catalog over streams that went on after %d ends",
		l.calls, rate, replaced, len(l.wrong), float64(l.quantile(.99))/float64(before.quantile(.99)), w.orders, len(w.seen), w.resumed)
}

// calm returns the load of some seconds in which nothing happens, after some
// for the shop to warm up.
func calm(t *testing.T, s *shop, rate int) *load {
	t.Helper()
	newLoad(s).during(t, rate, func() { time.Sleep(3 * time.Second) })
	l := newLoad(s)
	l.during(t, rate, func() { time.Sleep(5 * time.Second) })
	l.report(t)
	return l
}

// replace adds a replica, waits until it is ready, and then ends the old one.
func (w *watchers) replace(t *testing.T, old *testbed.Container) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), hang)
	defer cancel()
	bed := w.load.shop.bed
	name := old.Name[:strings.LastIndexByte(old.Name, '-')]
	fresh, err := bed.Add(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	if err := fresh.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	t.Logf("%s %s takes the place of %s", time.Now().Format("15:04:05.000"), fresh.Name, old.Name)
	switch name {
	case "gateway":
		if err := w.load.shop.gates.add(ctx, fresh); err != nil {
			t.Fatal(err)
		}
		defer w.load.shop.gates.remove(old)
	case "order":
		w.useOrder(t, fresh)
	}
	if err := bed.Retire(ctx, old); err != nil {
		t.Fatal(err)
	}
}

// watchers are those who watch orders and the catalog while replicas go.
type watchers struct {
	load *load
	t    *testing.T

	wg   sync.WaitGroup
	done chan struct{} // closed when they are to end

	mu      sync.Mutex
	order   string   // address of an order replica that stays for a while
	orders  int      // watched to their end
	sent    []string // changes of the catalog, in order
	seen    []string // by who watches it
	resumed int      // streams that went on elsewhere
	midway  int      // of them, those of orders of which something had been seen
}

func newWatchers(t *testing.T, l *load) *watchers {
	w := &watchers{load: l, t: t, done: make(chan struct{})}
	w.useOrder(t, l.shop.bed.Service("order")[0])
	return w
}

// useOrder has the gRPC watcher go to a replica, from the next stream on.
func (w *watchers) useOrder(t *testing.T, c *testbed.Container) {
	t.Helper()
	addr, err := c.GRPC(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.order = addr
}

// start has twelve watch orders over REST and four over gRPC, each one order
// after the other, and one the catalog, which is changed meanwhile.
func (w *watchers) start(ctx context.Context) {
	for i := range 12 {
		w.wg.Go(func() { w.keepOrdering(ctx, i, w.followREST) })
	}
	for i := range 4 {
		w.wg.Go(func() { w.keepOrdering(ctx, i, w.followGRPC) })
	}
	w.wg.Go(func() { w.changeCatalog(ctx) })
	w.wg.Go(func() { w.followCatalog(ctx) })
}

// stop lets each see its last order to the end.
func (w *watchers) stop() {
	close(w.done)
	w.wg.Wait()
	if w.midway == 0 {
		w.t.Error("no watched order had to be watched elsewhere: nothing was tested")
	}
}

func (w *watchers) stopped() bool {
	select {
	case <-w.done:
		return true
	default:
		return false
	}
}

// keepOrdering places orders and follows each through all its versions.
func (w *watchers) keepOrdering(ctx context.Context, i int, follow func(context.Context, *history) error) {
	ctx, cancel := context.WithTimeout(ctx, 5*hang)
	defer cancel()
	for ; !w.stopped(); i++ {
		id, err := w.load.place(ctx, i)
		if err != nil {
			continue // it is counted
		}
		h := &history{order: id}
		for !h.ended {
			if err := follow(ctx, h); err != nil {
				w.t.Errorf("watch order %s after version %d: %v", id, h.version, err)
				break
			}
			if !h.ended {
				w.note(&w.resumed)
			}
			if !h.ended && h.version > 0 {
				w.note(&w.midway)
			}
		}
		if h.ended && h.state != "COMPLETED" {
			w.t.Errorf("the stream of order %s ended when it was %s", id, h.state)
		}
		w.note(&w.orders)
	}
}

func (w *watchers) note(n *int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	*n++
}
