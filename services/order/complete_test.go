package order

import (
	"testing"
	"time"

	"github.com/meshmart/meshmart/services/internal/db"
)

func completed(o Order) bool { return o.State == Completed }
func cancelled(o Order) bool { return o.State == Cancelled }

// The events that complete an order, or the one that confirms it, are lost.
func TestLostNewsAreAskedFor(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		w := newWorld()
		o := place(t, working(t, w.replica(d)))
		if o.step != stepComplete || o.due.IsZero() || w.calls["commit"]+w.calls["capture"] != 0 {
			t.Fatalf("an order that is just confirmed is at %s, due %v, after calls %v", o.step, o.due, w.calls)
		}
		late := working(t, w.late(d))
		o = until(t, late, o.ID, completed)
		w.wants(t, o, Completed, "", "sold", "captured")
		w.told(t, o.ID, Pending, Confirmed, Completed)
		if !o.committed || !o.captured || w.calls["commit"] != 1 || w.calls["capture"] != 1 {
			t.Errorf("noted %v and %v after calls %v", o.committed, o.captured, w.calls)
		}
		hear(t, late, o.ID) // it was a delay only
		w.told(t, o.ID, Pending, Confirmed, Completed)
	})
}

func TestNewsThatComeAreNotAskedFor(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		w := newWorld()
		s := w.replica(d)
		o := place(t, s)
		hear(t, s, o.ID)
		o, err := s.store.order(t.Context(), o.ID)
		if err != nil || o.State != Completed || o.step != stepDone || !o.due.IsZero() {
			t.Errorf("order is %s at %s, due %v: %v", o.State, o.step, o.due, err)
		}
	})
}

// What another service had lost as well, or has given back, can't be completed.
func TestCompletionThatIsRefusedTakesTheOrderBack(t *testing.T) {
	for _, tt := range []struct {
		name         string
		with         func(*world, string)
		reason       string
		stock, money string
	}{
		{"the card", func(w *world, _ string) { w.decline = "CARD_DECLINED" }, reasonPaymentFailed, "released", "declined"},
		{"the stock", func(w *world, id string) { w.stock[id] = "released" }, "ORDER_RELEASED", "released", "void"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			each(t, func(t *testing.T, d *db.DB) {
				w := newWorld()
				o := place(t, w.replica(d))
				tt.with(w, o.ID)
				o = until(t, working(t, w.late(d)), o.ID, cancelled)
				w.wants(t, o, Cancelled, tt.reason, tt.stock, tt.money)
				w.told(t, o.ID, Pending, Confirmed, Cancelling, Cancelled)
			})
		})
	}
}

func TestCrashWhileItIsAskedForIsFinishedByAnother(t *testing.T) {
	for _, point := range []string{"commit", "commit!", "capture", "capture!"} {
		t.Run(point, func(t *testing.T) {
			each(t, func(t *testing.T, d *db.DB) {
				w := newWorld()
				o := place(t, w.replica(d))
				w.crashing(point, 1)
				dead := w.late(d)
				places := make(chan struct{}, 1)
				places <- struct{}{}
				if _, err := dead.resumeDue(t.Context(), places); err != nil {
					t.Fatal(err)
				}
				dead.close()
				if o, err := dead.store.order(t.Context(), o.ID); err != nil || o.State != Confirmed {
					t.Fatalf("it did not crash: order is %s, %v, calls %v", o.State, err, w.calls)
				}
				heir := w.replica(d)
				heir.clock = func() time.Time { return time.Now().Add(3 * newsWithin) }
				o = until(t, working(t, heir), o.ID, completed)
				w.wants(t, o, Completed, "", "sold", "captured")
				w.told(t, o.ID, Pending, Confirmed, Completed)
			})
		})
	}
}

func TestOutageDelaysWhatIsAskedFor(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		w := newWorld()
		o := place(t, w.replica(d))
		failures := map[string]int{"commit": 1, "capture": 1, "capture!": 1}
		w.failing(func(name string) bool { failures[name]--; return failures[name] >= 0 })
		o = until(t, working(t, w.late(d)), o.ID, completed)
		w.wants(t, o, Completed, "", "sold", "captured")
	})
}

// A process that has just started finds leases of a dead one, but no news that
// are late.
func TestHeirsWaitForNews(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		w := newWorld()
		o := place(t, w.replica(d))
		s := w.replica(d)
		if err := s.store.inherit(t.Context(), s.now()); err != nil {
			t.Fatal(err)
		}
		got, err := s.store.order(t.Context(), o.ID)
		if err != nil || !got.due.Equal(o.due) {
			t.Errorf("due %v, was %v: %v", got.due, o.due, err)
		}
	})
}
