package order

import (
	"context"
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
	go func() {
		ended <- s.Watch(ctx, id, after, func(c Change, o Order) error {
			if o.ID != id || o.Version < c.Version {
				return errOutage
			}
			got <- c.State
			return nil
		})
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
		if len(s.hub.waiting) != 0 || s.hub.n != 0 {
			t.Errorf("the hub still has %d watchers of %d orders", s.hub.n, len(s.hub.waiting))
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

func TestFullHubTakesNobody(t *testing.T) {
	h := newHub()
	h.n = maxWatchers
	woken, leave := h.join("a")
	leave()
	select {
	case <-woken:
		t.Error("woken by nobody")
	case <-time.After(time.Millisecond):
	}
	if h.n != maxWatchers || len(h.waiting) != 0 {
		t.Errorf("%d watchers of %d orders", h.n, len(h.waiting))
	}
}

func reasonOf(err error) string { return fault.Reason(err) }
