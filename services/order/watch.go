package order

import (
	"context"
	"fmt"
	"time"

	"github.com/meshmart/meshmart/services/internal/apart"
	"github.com/meshmart/meshmart/services/internal/fault"
)

// Watcher is who follows an order. Nothing of it is called twice at a time.
type Watcher struct {
	// After is the version that was seen last. It rises with what is sent.
	After int64
	// May returns an error if the order is not for this watcher to see.
	May func(Order) error
	// Send gets every state that the order has reached after that version, and the
	// order as it was by then or later.
	Send func(Change, *Order) error
}

// Watch tells w what becomes of the order, and returns nil when no more can come
// by itself. When the service drains it returns UNAVAILABLE.
//
// There may be ten thousand who wait here. So what they need for a moment only is
// done apart, and the order is read once for all of them, by Tell.
func (s *Orders) Watch(ctx context.Context, id string, w Watcher) (err error) {
	heard := s.hub.follow(id)
	defer s.hub.unfollow(id)
	ended := false
	apart.Run(func() { ended, err = s.catchUp(ctx, id, &w) })
	for !ended && err == nil {
		select {
		case <-heard.told:
			apart.Run(func() { ended, err = w.hear(&heard.history) })
			heard = heard.next
		case <-s.draining:
			return fault.Unavailable(time.Second, "the service restarts; watch again with after_version=%d", w.After)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return err
}

// catchUp tells what has happened before, to who follows the order already: what
// happens from now on is heard.
func (s *Orders) catchUp(ctx context.Context, id string, w *Watcher) (ended bool, err error) {
	for {
		h, err := s.store.history(ctx, id)
		if err != nil {
			return false, err
		}
		if err := w.May(h.order); err != nil {
			return false, err
		}
		if ended, err := w.hear(&h); ended || err != nil || !s.hub.behind(h.order) {
			return ended, err
		}
	}
}

// hear sends what is new of h, and reports whether that is the end.
func (w *Watcher) hear(h *history) (ended bool, err error) {
	for _, c := range h.changes {
		if c.Version <= w.After {
			continue
		}
		if err := w.Send(c, &h.order); err != nil {
			return false, err
		}
		w.After = c.Version
	}
	return h.order.State.Final() && h.order.Version <= w.After, nil
}

const (
	// tellEvery is how often Tell looks at the watched orders by itself: what another
	// replica has changed while the broker is away is heard of by nobody.
	tellEvery = 5 * time.Second
	// tellWithin bounds a read for all watchers, so that one that hangs is not all
	// that they ever get.
	tellWithin = 5 * time.Second
	// mostTold is how many orders are read at once.
	mostTold = 128
)

// Tell tells those who watch orders what has become of them, until ctx is done.
func (s *Orders) Tell(ctx context.Context) error {
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	for {
		if err := s.tell(ctx); err != nil {
			return err
		}
		select {
		case <-s.hub.nudge:
		case <-tick.C:
			if err := s.look(ctx); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// tell reads the orders that have changed, and publishes them.
func (s *Orders) tell(ctx context.Context) error {
	for {
		ids := s.hub.takeStale(mostTold)
		if ids == nil {
			return nil
		}
		all, err := readWithin(ctx, ids, s.store.histories)
		if err != nil {
			s.hub.stir(ids...) // they are still to be told
			return fmt.Errorf("read for watchers: %w", err)
		}
		for _, h := range all {
			s.hub.publish(h)
		}
	}
}

// look finds out which of the watched orders have changed.
func (s *Orders) look(ctx context.Context) error {
	known := s.hub.following()
	for len(known) > 0 {
		ids := known[:min(mostTold, len(known))]
		known = known[len(ids):]
		versions, err := readWithin(ctx, ids, s.store.versions)
		if err != nil {
			return fmt.Errorf("look for watchers: %w", err)
		}
		for id, v := range versions {
			s.hub.changed(id, v)
		}
	}
	return nil
}

func readWithin[T any](ctx context.Context, ids []string, read func(context.Context, []string) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, tellWithin)
	defer cancel()
	return read(ctx, ids)
}
