package order

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	"github.com/meshmart/meshmart/services/internal/db"
	"github.com/meshmart/meshmart/services/internal/fault"
)

// watching watches the order in the background; what it was sent comes over the
// first channel, how it ended over the second.
func watching(ctx context.Context, s *Orders, id string, after int64) (<-chan State, <-chan error) {
	got, ended := make(chan State, 100), make(chan error, 1)
	ctx, cancel := context.WithCancel(ctx)
	go s.Tell(ctx)
	go func() {
		defer cancel()
		ended <- s.Watch(ctx, id, Watcher{After: after, May: func(Order) error { return nil }, Send: func(c Change, o *Order) error {
			if o.ID != id || o.Version < c.Version {
				return errOutage
			}
			got <- c.State
			return nil
		}})
		close(got)
	}()
	return got, ended
}

func all(got <-chan State) (states []State) {
	for st := range got {
		states = append(states, st)
	}
	return states
}

func TestWatchSeesEveryState(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		s := newWorld().replica(d)
		o := unstarted(t, s)
		got, ended := watching(within(t), s, o.ID, 0)
		if first := <-got; first != Pending {
			t.Errorf("first is %s", first)
		}
		s.start(t.Context(), o)
		if next := <-got; next != Confirmed {
			t.Errorf("next is %s", next)
		}
		hear(t, s, o.ID)
		if diff := cmp.Diff(all(got), []State{Completed}); diff != "" {
			t.Error(diff)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}

		for after, want := range [][]State{{Pending, Confirmed, Completed}, {Confirmed, Completed}, {Completed}, nil, nil} {
			got, ended := watching(within(t), s, o.ID, int64(after))
			if diff := cmp.Diff(all(got), want); diff != "" {
				t.Errorf("after %d: %s", after, diff)
			}
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
		if len(s.hub.waiting) != 0 || s.hub.n != 0 || len(s.hub.watched) != 0 || len(s.hub.stale) != 0 {
			t.Errorf("the hub still has %d who wait for %d orders, and %d that are watched", s.hub.n, len(s.hub.waiting), len(s.hub.watched))
		}
	})
}

func TestWatchHearsOfOtherReplicas(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		w := newWorld()
		here, there := w.replica(d), w.replica(d)
		o := unstarted(t, there)
		got, _ := watching(within(t), here, o.ID, 0)
		<-got
		there.start(t.Context(), o)
		there.running.Wait()
		here.hub.wake(o.ID, Order{}) // as the event does
		if next := <-got; next != Confirmed {
			t.Errorf("next is %s", next)
		}
	})
}

func TestWatchEndsWhenTheServiceDrains(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		s := newWorld().replica(d)
		draining := make(chan struct{})
		s.draining = draining
		got, ended := watching(within(t), s, unstarted(t, s).ID, 0)
		<-got
		close(draining)
		if err := <-ended; fault.Code(err) != codes.Unavailable {
			t.Errorf("got %v", err)
		}

		s.draining = nil
		ctx, cancel := context.WithCancel(t.Context())
		got, ended = watching(ctx, s, unstarted(t, s).ID, 0)
		<-got
		cancel()
		if err := <-ended; err != context.Canceled {
			t.Errorf("got %v", err)
		}
	})
}

func TestWatchFindsOutWhatNobodyTells(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		w := newWorld()
		here, there := w.replica(d), w.replica(d)
		o := unstarted(t, there)
		got, _ := watching(within(t), here, o.ID, 0)
		<-got
		there.start(t.Context(), o)
		there.running.Wait()
		if err := here.look(t.Context()); err != nil { // as Tell does from time to time
			t.Fatal(err)
		}
		if next := <-got; next != Confirmed {
			t.Errorf("next is %s", next)
		}
	})
}

func TestWatchIsOverForWhoMayNotSeeTheOrder(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		s := newWorld().replica(d)
		err := s.Watch(within(t), unstarted(t, s).ID, Watcher{
			May:  func(Order) error { return errUnknown },
			Send: func(Change, *Order) error { t.Error("sent"); return nil },
		})
		if !errors.Is(err, errUnknown) || len(s.hub.watched) != 0 {
			t.Errorf("got %v, and %d orders are watched", err, len(s.hub.watched))
		}
	})
}

func TestAnOrderIsReadOnceForAllWhoWatchIt(t *testing.T) {
	h := newHub()
	first := h.follow("a")
	for range 100 {
		if h.follow("a") != first {
			t.Fatal("others hear other news")
		}
	}
	if h.behind(Order{ID: "a", Version: 1}) {
		t.Error("the first to read is behind")
	}
	h.wake("a", Order{ID: "a", Version: 2})
	h.wake("a", Order{Version: 2}) // as the event says again
	h.wake("b", Order{})           // whom nobody follows
	if diff := cmp.Diff(h.takeStale(10), []string{"a"}); diff != "" {
		t.Error(diff)
	}
	h.publish(history{order: Order{ID: "a", Version: 2}})
	<-first.told
	if first.order.Version != 2 {
		t.Errorf("told of version %d", first.order.Version)
	}
	h.wake("a", Order{Version: 2})
	h.publish(history{order: Order{ID: "a", Version: 2}})
	if ids := h.takeStale(10); ids != nil {
		t.Errorf("%v is read again", ids)
	}
	select {
	case <-first.next.told:
		t.Error("told of nothing new")
	default:
	}
}

// One reads the order before it changes, and another after that.
func TestWhoeverHasReadTooEarlyReadsAgain(t *testing.T) {
	for _, lateFirst := range []bool{false, true} {
		h := newHub()
		early := h.follow("a")
		late := h.follow("a")
		if lateFirst {
			if h.behind(Order{ID: "a", Version: 2}) || !h.behind(Order{ID: "a", Version: 1}) {
				t.Error("the one who is behind does not learn of it")
			}
			continue
		}
		if h.behind(Order{ID: "a", Version: 1}) || h.behind(Order{ID: "a", Version: 2}) {
			t.Error("nobody is behind yet")
		}
		if diff := cmp.Diff(h.takeStale(10), []string{"a"}); diff != "" {
			t.Error(diff)
		}
		h.publish(history{order: Order{ID: "a", Version: 2}})
		<-early.told
		<-late.told
	}
}

func TestFullHubTakesNobody(t *testing.T) {
	h := newHub()
	h.n = maxWaiting
	woken, leave := h.join("a")
	leave()
	select {
	case <-woken:
		t.Error("woken by nobody")
	case <-time.After(time.Millisecond):
	}
	if h.n != maxWaiting || len(h.waiting) != 0 {
		t.Errorf("%d watchers of %d orders", h.n, len(h.waiting))
	}
}

func reasonOf(err error) string { return fault.Reason(err) }
