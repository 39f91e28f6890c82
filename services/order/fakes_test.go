package order

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/meshmart/meshmart/services/internal/db"
	"github.com/meshmart/meshmart/services/internal/db/dbtest"
	"github.com/meshmart/meshmart/services/internal/events"
	"github.com/meshmart/meshmart/services/internal/fault"
	"github.com/meshmart/meshmart/services/internal/money"
)

var errOutage = errors.New("outage")

// world is what is around the order service: the other services, as far as an
// order can tell, and what was announced. Of each order it knows what is set
// aside, and that an undo refuses what comes after it.
type world struct {
	mu        sync.Mutex
	stock     map[string]string // by order: "reserved", "released"
	money     map[string]string // by order: "authorized", "declined", "captured", "void", "refunded"
	calls     map[string]int    // by name
	busy      map[string]bool   // orders with a call under way
	overlaps  int               // calls for an order that had one under way
	announced map[string][]State

	down    string // the service that is known to be out; "" for none
	soldOut bool
	decline string               // the reason; "" for none
	meters  metric.MeterProvider // nil: nothing is measured
	// at is called with the name of each call before it takes effect, and with
	// the name and "!" after. Its error is the call's. Nil: nothing goes wrong.
	at func(ctx context.Context, name string) error
}

func newWorld() *world {
	return &world{
		stock: map[string]string{}, money: map[string]string{}, calls: map[string]int{},
		busy: map[string]bool{}, announced: map[string][]State{},
	}
}

// call makes an effect, unless something goes wrong before.
func (w *world) call(ctx context.Context, name, id string, effect func() error) error {
	w.mu.Lock()
	w.calls[name]++
	if w.busy[id] {
		w.overlaps++
	}
	w.busy[id] = true
	at := w.at
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		delete(w.busy, id)
		w.mu.Unlock()
	}()
	if at != nil {
		if err := at(ctx, name); err != nil {
			return err
		}
	}
	w.mu.Lock()
	err := effect()
	w.mu.Unlock()
	if at != nil && err == nil {
		err = at(ctx, name+"!")
	}
	return err
}

func (w *world) Products(_ context.Context, ids []string) ([]Product, error) {
	w.mu.Lock()
	w.calls["products"]++
	w.mu.Unlock()
	var ps []Product
	for i, id := range ids {
		ps = append(ps, Product{ID: id, SKU: fmt.Sprint("sku-", i), Name: "Mug", Price: money.Amount{Currency: "EUR", Micros: 2_500_000}})
	}
	return ps, nil
}

func (w *world) Reserve(ctx context.Context, id string, _ []Item) error {
	return w.call(ctx, "reserve", id, func() error {
		switch {
		case w.stock[id] == "released":
			return &refusal{Reason: "ORDER_RELEASED"}
		case w.stock[id] == "" && w.soldOut:
			return &refusal{Reason: "OUT_OF_STOCK", Message: "no more mugs"}
		}
		w.stock[id] = "reserved"
		return nil
	})
}

func (w *world) Release(ctx context.Context, id string) error {
	return w.call(ctx, "release", id, func() error { w.stock[id] = "released"; return nil })
}

func (w *world) Commit(ctx context.Context, id string) error {
	return w.call(ctx, "commit", id, func() error {
		if w.stock[id] == "released" {
			return &refusal{Reason: "ORDER_RELEASED"}
		}
		w.stock[id] = "sold"
		return nil
	})
}

func (w *world) Authorize(ctx context.Context, o Order) (string, error) {
	err := w.call(ctx, "authorize", o.ID, func() error {
		switch {
		case w.money[o.ID] == "void":
			return &refusal{Reason: "ORDER_VOIDED"}
		case o.token == "":
			return errors.New("no token")
		case w.decline != "":
			w.money[o.ID] = "declined"
			return &refusal{Reason: w.decline, Message: "no", Settled: true}
		}
		w.money[o.ID] = "authorized"
		return nil
	})
	return "payment-of-" + o.ID, err
}

func (w *world) Void(ctx context.Context, id string) error {
	return w.call(ctx, "void", id, func() error {
		switch w.money[id] {
		case "captured", "refunded":
			return fault.Refused("CAPTURED", "refund it")
		case "declined":
			return nil
		}
		w.money[id] = "void"
		return nil
	})
}

func (w *world) Refund(ctx context.Context, id string) error {
	return w.call(ctx, "refund", id, func() error { w.money[id] = "refunded"; return nil })
}

func (w *world) Capture(ctx context.Context, id string) error {
	return w.call(ctx, "capture", id, func() error {
		switch {
		case w.decline != "":
			w.money[id] = "declined"
		case w.money[id] == "authorized":
			w.money[id] = "captured"
		}
		if w.money[id] != "captured" {
			return &refusal{Reason: reasonPaymentFailed, Message: "no"}
		}
		return nil
	})
}

// capture is what the payment does when it hears that the order is confirmed.
func (w *world) capture(id string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.money[id] == "authorized" {
		w.money[id] = "captured"
	}
	return w.money[id] == "captured"
}

// failing makes calls fail for as long as fail says so.
func (w *world) failing(fail func(name string) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.at = func(_ context.Context, name string) error {
		if fail(name) {
			return errOutage
		}
		return nil
	}
}

func (w *world) out(service string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.down == service
}

func (w *world) setDown(service string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down = service
}

// called returns how many calls there were.
func (w *world) called() (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.calls {
		n += c
	}
	return n
}

// replica returns an order service in this world, on the database.
func (w *world) replica(d *db.DB) *Orders {
	s := &Orders{
		store: &store{d}, catalog: w, stock: w, payments: w, out: w.out, hub: newHub(), clock: time.Now,
		announce: func(_ context.Context, tx *store, o Order) error {
			tx.afterCommit(func() {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.announced[o.ID] = append(w.announced[o.ID], o.State)
			})
			return nil
		},
		log: slog.New(slog.DiscardHandler), tracer: noop.NewTracerProvider().Tracer(""),
		decideWithin: time.Minute, nudge: make(chan struct{}, 1),
	}
	if w.meters == nil {
		w.meters = metricnoop.NewMeterProvider()
	}
	if err := s.measure(w.meters); err != nil {
		panic(err)
	}
	return s
}

// late returns a replica that finds that all news should have come long ago.
func (w *world) late(d *db.DB) *Orders {
	s := w.replica(d)
	s.clock = func() time.Time { return time.Now().Add(2 * newsWithin) }
	return s
}

// heir returns a replica that finds every lease ended, as if time had passed.
func (w *world) heir(d *db.DB) *Orders {
	s := w.replica(d)
	s.clock = func() time.Time { return time.Now().Add(2 * lease) }
	return s
}

// working runs the replica's worker until the test ends.
func working(t *testing.T, s *Orders) *Orders {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); s.Resume(ctx) }()
	t.Cleanup(func() { cancel(); <-done; s.close() })
	return s
}

func request() Request {
	return Request{
		UserID: "user-1", ID: uuid.NewString(), Fingerprint: []byte("f"), Token: "tok_visa",
		Items: []Item{{ProductID: "product-1", Quantity: 2}, {ProductID: "product-2", Quantity: 1}},
	}
}

// place places an order and fails the test if that can't be.
func place(t *testing.T, s *Orders) Order {
	t.Helper()
	o, err := s.Place(within(t), request())
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// within returns a ctx with more time than anything in these tests takes.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// settled waits until no saga runs the order any more, and returns it.
func settled(t *testing.T, s *Orders, id string) Order {
	t.Helper()
	return until(t, s, id, func(o Order) bool { return o.step == stepDone || o.step == stepComplete })
}

func until(t *testing.T, s *Orders, id string, done func(Order) bool) Order {
	t.Helper()
	ctx := within(t)
	for {
		o, err := s.store.order(ctx, id)
		if err == nil && done(o) {
			return o
		}
		select {
		case <-ctx.Done():
			t.Fatalf("order %s is still %s at %s: %v", id, o.State, o.step, err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// wants checks that the order has ended so, and that the world has as well.
func (w *world) wants(t *testing.T, o Order, state State, reason, stock, money string) {
	t.Helper()
	if o.State != state || o.Reason != reason {
		t.Errorf("order is %s (%s), want %s (%s)", o.State, o.Reason, state, reason)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stock[o.ID] != stock || w.money[o.ID] != money {
		t.Errorf("stock is %q and money %q, want %q and %q", w.stock[o.ID], w.money[o.ID], stock, money)
	}
	if o.step == stepDone && (o.token != "" || !o.due.IsZero()) {
		t.Errorf("an order at rest has the token %q and is due %v", o.token, o.due)
	}
}

// told waits until these states were announced of the order: that is known a
// moment after the order is read so.
func (w *world) told(t *testing.T, id string, want ...State) {
	t.Helper()
	ctx := within(t)
	for {
		w.mu.Lock()
		got := slices.Clone(w.announced[id])
		w.mu.Unlock()
		if len(got) >= len(want) || ctx.Err() != nil {
			if diff := cmp.Diff(got, want); diff != "" {
				t.Errorf("announced: %s", diff)
			}
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// each runs the test on an empty database of each engine.
func each(t *testing.T, fn func(t *testing.T, d *db.DB)) {
	t.Helper()
	dbtest.Each(t, fn, events.Schema, db.Schema{Name: "order", FS: schema})
}
