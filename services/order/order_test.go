package order

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/meshmart/meshmart/services/internal/db"
	"github.com/meshmart/meshmart/services/internal/fault"
	"github.com/meshmart/meshmart/services/internal/money"
)

func TestPlaceDecides(t *testing.T) {
	for _, tt := range []struct {
		name          string
		with          func(*world)
		state         State
		reason        string
		stock, money  string
		wantAnnounced []State
	}{
		{"good", func(*world) {}, Confirmed, "", "reserved", "authorized", []State{Pending, Confirmed}},
		{"sold out", func(w *world) { w.soldOut = true }, Rejected, "OUT_OF_STOCK", "released", "", []State{Pending, Rejected}},
		{"declined", func(w *world) { w.decline = "EXPIRED_CARD" }, Rejected, "EXPIRED_CARD", "released", "declined", []State{Pending, Rejected}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			each(t, func(t *testing.T, d *db.DB) {
				w := newWorld()
				tt.with(w)
				s := w.replica(d)
				o := place(t, s)
				w.wants(t, o, tt.state, tt.reason, tt.stock, tt.money)
				if want := (money.Amount{Currency: "EUR", Micros: 7_500_000}); o.Total != want || len(o.Items) != 2 || o.Version != 2 {
					t.Errorf("total %v of %d items in version %d", o.Total, len(o.Items), o.Version)
				}
				w.told(t, o.ID, tt.wantAnnounced...)
				if w.calls["void"] != 0 {
					t.Error("nothing was authorized, and yet it was voided")
				}
			})
		})
	}
}

func TestSameRequestsAtOnceMakeOneOrder(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		w := newWorld()
		replicas := []*Orders{w.replica(d), w.replica(d)}
		r := request()
		var wg sync.WaitGroup
		orders := make([]Order, 8)
		for i := range orders {
			wg.Go(func() {
				o, err := replicas[i%2].Place(within(t), r)
				if err != nil {
					t.Error(err)
				}
				orders[i] = o
			})
		}
		wg.Wait()
		for _, o := range orders {
			if o.ID != orders[0].ID || o.State != Confirmed {
				t.Errorf("order %s is %s, want %s confirmed", o.ID, o.State, orders[0].ID)
			}
		}
		if w.calls["authorize"] != 1 || w.calls["reserve"] != 1 {
			t.Errorf("calls: %v", w.calls)
		}
		r.UserID = "user-2"
		if o, err := replicas[0].Place(within(t), r); err != nil || o.ID == orders[0].ID {
			t.Errorf("another user's request with the same id: order %s, %v", o.ID, err)
		}
	})
}

func TestReusedRequestIDIsRefused(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		s := newWorld().replica(d)
		r := request()
		if _, err := s.Place(within(t), r); err != nil {
			t.Fatal(err)
		}
		r.Fingerprint = []byte("other")
		_, err := s.Place(within(t), r)
		f := fault.As(err)
		if f == nil || len(f.Fields()) != 1 || f.Fields()[0].Field != "request_id" || f.Fields()[0].Reason != "REQUEST_ID_REUSED" {
			t.Errorf("got %v", err)
		}
	})
}

func TestPlaceReturnsPendingWhenTimeIsUp(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		w := newWorld()
		release := make(chan struct{})
		w.at = func(_ context.Context, name string) error {
			if name == "authorize" {
				<-release
			}
			return nil
		}
		s := w.replica(d)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		o, err := s.Place(ctx, request())
		if err != nil || o.State != Pending || ctx.Err() != nil {
			t.Errorf("order is %s, error %v, time left: %v", o.State, err, ctx.Err() == nil)
		}
		close(release)
		w.wants(t, settled(t, s, o.ID), Confirmed, "", "reserved", "authorized")
	})
}

func TestNothingHappensBeforePricesAreKnown(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		w := newWorld()
		s := w.replica(d)
		for name, c := range map[string]prices{
			"outage":   {err: errOutage},
			"mixed":    {list: []money.Amount{{Currency: "EUR", Micros: 1}, {Currency: "USD", Micros: 1}}},
			"overflow": {list: []money.Amount{{Currency: "EUR", Micros: 1 << 62}, {Currency: "EUR", Micros: 1}}},
		} {
			s.catalog = c
			_, err := s.Place(within(t), request())
			if f := fault.As(err); name == "outage" != errors.Is(err, errOutage) || name != "outage" && (f == nil || f.Fields()[0].Field != "items") {
				t.Errorf("%s: %v", name, err)
			}
		}
		if _, due, err := s.store.nextDue(t.Context()); due || err != nil || len(w.calls) != 0 {
			t.Errorf("an order is there: %v, error %v, calls %v", due, err, w.calls)
		}
	})
}

// prices is a catalog.
type prices struct {
	list []money.Amount
	err  error
}

func (p prices) Products(_ context.Context, ids []string) ([]Product, error) {
	var ps []Product
	for i, price := range p.list {
		ps = append(ps, Product{ID: ids[i], Price: price})
	}
	return ps, p.err
}

func TestCompletesWhenStockAndPaymentAreThrough(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		w := newWorld()
		s := w.replica(d)
		committed := func(tx *store, id string) error { return s.noteCommitted(t.Context(), tx, id) }
		captured := func(tx *store, id string) error { return s.noteCaptured(t.Context(), tx, id) }
		for _, news := range [][]func(*store, string) error{
			{committed, captured}, {captured, committed}, {captured, captured, committed, captured, committed},
		} {
			o := place(t, s)
			for i, n := range news {
				if err := s.store.inTx(t.Context(), func(tx *store) error { return n(tx, o.ID) }); err != nil {
					t.Fatal(err)
				}
				if got, _ := s.store.order(t.Context(), o.ID); i == 0 && got.State != Confirmed {
					t.Errorf("after one of two it is %s", got.State)
				}
			}
			w.wants(t, settled(t, s, o.ID), Completed, "", "reserved", "authorized")
			w.told(t, o.ID, Pending, Confirmed, Completed)
		}
	})
}

func TestNewsAtOnceCompletes(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		w := newWorld()
		s := w.replica(d)
		for range 20 {
			o := place(t, s)
			var wg sync.WaitGroup
			for _, note := range []func(context.Context, *store, string) error{s.noteCommitted, s.noteCaptured} {
				wg.Go(func() {
					if err := s.store.inTx(t.Context(), func(tx *store) error { return note(t.Context(), tx, o.ID) }); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			if got, err := s.store.order(t.Context(), o.ID); err != nil || got.State != Completed {
				t.Fatalf("order is %s, %v", got.State, err)
			}
		}
	})
}

func TestNewsOfOrdersThatAreNotConfirmed(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		w := newWorld()
		s := w.replica(d)
		captured := func(id string) error {
			return s.store.inTx(t.Context(), func(tx *store) error { return s.noteCaptured(t.Context(), tx, id) })
		}
		if err := captured("unknown"); err != nil {
			t.Errorf("unknown: %v", err)
		}
		w.decline = "CARD_DECLINED"
		rejected := place(t, s)
		refusedCapture := func(tx *store) error { return s.captureRefused(t.Context(), tx, rejected.ID, "no") }
		if err := errors.Join(captured(rejected.ID), s.store.inTx(t.Context(), refusedCapture)); err != nil {
			t.Errorf("rejected: %v", err)
		}
		if got, _ := s.store.order(t.Context(), rejected.ID); got.State != Rejected || got.Version != rejected.Version {
			t.Errorf("rejected became %s", got.State)
		}
		pending := unstarted(t, s)
		if err := captured(pending.ID); err == nil {
			t.Error("an order that is not decided must hear of it again later")
		}
		w.decline = ""
		decided := place(t, s) // between a look that found it PENDING and this one
		if err := s.store.inTx(t.Context(), func(tx *store) error { return s.unwanted(t.Context(), tx, decided.ID) }); err == nil {
			t.Error("an order that was decided meanwhile must hear of it again")
		}
	})
}

// unstarted adds an order whose saga has not begun, as if its process had died.
func unstarted(t *testing.T, s *Orders) Order {
	t.Helper()
	r := request()
	o, err := s.draft(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if added, err := s.add(t.Context(), o, r); err != nil || !added {
		t.Fatal(added, err)
	}
	return o
}
