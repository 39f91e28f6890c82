package inventory

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/meshmart/meshmart/services/internal/db"
	"github.com/meshmart/meshmart/services/internal/db/dbtest"
	"github.com/meshmart/meshmart/services/internal/events"
)

// FuzzHear has the inventory act on any bytes as each event that it listens to:
// an event takes effect or is malformed, since any other error would bring it
// back for ever, and the stock adds up.
func FuzzHear(f *testing.F) {
	d := dbtest.Open(f, dbtest.SQLite(f), schemas()...)
	inv := over(f, d)
	l := newListener(inv, slog.New(slog.DiscardHandler))
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
