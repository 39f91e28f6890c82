package order

import (
	"context"
	"sync"
	"time"

	"github.com/meshmart/meshmart/services/internal/fault"
)

// A watcher is woken by the hub. In case that it was not, since the change is
// another replica's and the broker is away, it looks by itself: after firstLook,
// and as long as nothing happens less and less often.
const (
	firstLook = 5 * time.Second
	mostLook  = 30 * time.Second
)

// Watch calls send with every state that the order has reached after that
// version, and the order as it is by then, and returns nil when no more can
// come by itself. When the service drains it returns UNAVAILABLE; the last
// version sent is where to go on.
func (s *Orders) Watch(ctx context.Context, id string, after int64, send func(Change, Order) error) error {
	woken, leave := s.hub.join(id)
	defer leave()
	for look := firstLook; ; look = min(2*look, mostLook) {
		last, ended, err := s.catchUp(ctx, id, after, send)
		if ended || err != nil {
			return err
		}
		if last > after {
			after, look = last, firstLook
		}
		select {
		case <-woken:
		case <-time.After(jitter(look)):
		case <-s.draining:
			return fault.Unavailable(time.Second, "the service restarts; watch again with after_version=%d", after)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// catchUp sends what has happened after that version. It returns the version
// that it came to, and whether that is the end. There may be changes that came
// while it sent: then we have been woken as well.
func (s *Orders) catchUp(ctx context.Context, id string, after int64, send func(Change, Order) error) (int64, bool, error) {
	state, version, err := s.store.state(ctx, id)
	if err != nil || version <= after {
		return after, err == nil && state.Final(), err
	}
	changes, err := s.store.changes(ctx, id, after)
	if err != nil {
		return after, false, err
	}
	o, err := s.store.order(ctx, id)
	if err != nil {
		return after, false, err
	}
	for _, c := range changes {
		if err := send(c, o); err != nil {
			return after, false, err
		}
		after = c.Version
	}
	return after, o.State.Final() && o.Version <= after, nil
}

// maxWatchers bounds a hub. Who finds no place is never woken, and lives on
// looking by itself.
const maxWatchers = 50_000

// hub wakes those who wait for an order to change.
type hub struct {
	mu      sync.Mutex
	waiting map[string]map[chan Order]bool // by order; no entry is empty
	n       int
}

func newHub() *hub { return &hub{waiting: map[string]map[chan Order]bool{}} }

// join returns a channel that gets something when the order has changed, once
// for any number of changes since it was last read: the order as it is by then,
// where that is known, or one without an id. The caller joins first and looks at
// the order then, so as to miss nothing, and leaves in the end.
func (h *hub) join(id string) (woken <-chan Order, leave func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.n >= maxWatchers {
		return nil, func() {}
	}
	c := make(chan Order, 1)
	if h.waiting[id] == nil {
		h.waiting[id] = map[chan Order]bool{}
	}
	h.waiting[id][c] = true
	h.n++
	return c, func() { h.leave(id, c) }
}

func (h *hub) leave(id string, c chan Order) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.waiting[id], c)
	if len(h.waiting[id]) == 0 {
		delete(h.waiting, id)
	}
	h.n--
}

// wake wakes those who wait for the order, and tells them what it is now, unless
// that is not known; it never blocks.
func (h *hub) wake(id string, now Order) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.waiting[id] {
		select {
		case <-c: // what it was told is out of date
		default:
		}
		c <- now // there is room: nobody else sends
	}
}
