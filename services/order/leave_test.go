package order

import (
	"context"
	"errors"
	"testing"

	"github.com/meshmart/meshmart/services/internal/db"
)

// A client that leaves stops what has not happened yet. From the moment that the
// order is stored its saga goes on without the client, whatever step it is in: no
// worker runs here that could take the order up.
func TestClientThatLeavesDoesNotStopTheSaga(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		for _, at := range []string{"reserve", "reserve!", "authorize", "authorize!"} {
			w := newWorld()
			s := w.replica(d)
			ctx, leave := context.WithCancel(within(t))
			left := make(chan struct{})
			w.at = func(call context.Context, name string) error {
				if name == at {
					leave()
					<-left // Place has returned
				}
				return call.Err()
			}
			o, err := s.Place(ctx, request())
			if err != nil || o.State != Pending {
				t.Fatalf("at %s: %s, %v", at, o.State, err)
			}
			close(left)
			o = settled(t, s, o.ID)
			w.wants(t, o, Confirmed, "", "reserved", "authorized")
			if w.calls["reserve"] != 1 || w.calls["authorize"] != 1 {
				t.Errorf("at %s: calls %v", at, w.calls)
			}
		}
	})
}

func TestClientThatLeavesBeforeTheOrderIsStoredHasNone(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		w := newWorld()
		s := w.replica(d)
		ctx, leave := context.WithCancel(within(t))
		s.catalog = leaving{w, leave}
		if o, err := s.Place(ctx, request()); !errors.Is(err, context.Canceled) {
			t.Errorf("got %s and %v, want %v", o.State, err, context.Canceled)
		}
		s.close()
		if _, due, err := s.store.nextDue(t.Context()); due || err != nil || w.calls["reserve"] != 0 {
			t.Errorf("an order is there: %v, error %v, calls %v", due, err, w.calls)
		}
	})
}

// leaving is a catalog whose client leaves as soon as it knows the prices.
type leaving struct {
	*world
	leave func()
}

func (l leaving) Products(ctx context.Context, ids []string) ([]Product, error) {
	l.leave()
	return l.world.Products(ctx, ids)
}
