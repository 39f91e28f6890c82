package inventory

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/meshmart/meshmart/services/internal/db"
	"github.com/meshmart/meshmart/services/internal/db/dbtest"
	"github.com/meshmart/meshmart/services/internal/events"
	"github.com/meshmart/meshmart/services/internal/idem"
)

// FuzzHear has the inventory act on any bytes as each event that it listens to:
// an event takes effect or is malformed, since any other error would bring it
// back for ever, and the stock adds up.
func FuzzHear(f *testing.F) {
	d := dbtest.Open(f, dbtest.SQLite(f), idem.Schema, events.Schema, db.Schema{Name: "inventory", FS: schema})
	bus, err := events.Connect(events.Config{URL: "nats://127.0.0.1:1"}) // nobody there: the outbox keeps all
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { bus.Close() })
	now := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
	inv := &Inventory{store: &store{d}, events: &announcer{events.NewOutbox(d, bus)}, clock: func() time.Time { return now }}
	l := &listener{inv: inv, log: slog.New(slog.DiscardHandler)}
	f.Fuzz(func(t *testing.T, kind uint8, data []byte) {
		anew(t, inv)
		e := events.Event{ID: "e", Subject: heard()[int(kind)%len(heard())], Data: data}
		err := d.InTx(t.Context(), func(tx *db.DB) error { return l.handle(t.Context(), tx, e) })
		if err != nil && !errors.Is(err, events.ErrMalformed) {
			t.Errorf("%s %q: %v", e.Subject, data, err)
		}
		rows, err := d.Query(t.Context(), "SELECT product_id FROM stock WHERE available < 0 OR reserved < 0 OR sold < 0 OR available + reserved + sold <> stocked")
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		if rows.Next() {
			t.Errorf("after %s %q the stock does not add up", e.Subject, data)
		}
	})
}

// anew begins with ten mugs of which an order has three.
func anew(t *testing.T, inv *Inventory) {
	t.Helper()
	for _, table := range []string{"reservation_items", "reservations", "stock", "outbox"} {
		if _, err := inv.store.db.Exec(t.Context(), "DELETE FROM "+table); err != nil {
			t.Fatal(err)
		}
	}
	if err := inv.store.add(t.Context(), mug, 10, time.Unix(0, 0), inv.clock()); err != nil {
		t.Fatal(err)
	}
	if err := inv.Reserve(t.Context(), order, []Item{{mug, 3}}); err != nil {
		t.Fatal(err)
	}
}
