package inventory

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	orderpb "github.com/meshmart/meshmart/proto/order/v1"
	"github.com/meshmart/meshmart/services/internal/db"
	"github.com/meshmart/meshmart/services/internal/db/dbtest"
	"github.com/meshmart/meshmart/services/internal/effect"
	"github.com/meshmart/meshmart/services/internal/events"
	"github.com/meshmart/meshmart/services/internal/fault"
)

// Changes that are made together have the outcome that they would have one after the
// other, whatever they are.
func TestAGroupDoesWhatOneAfterTheOtherWould(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		grouped, single := stocked(t, d), stocked(t, dbtest.Open(t, dbtest.SQLite(t), schemas()...))
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		r := rand.New(rand.NewPCG(seed, 0))
		for round := range 60 {
			set := SetRequest{ProductID: pick(r, mug, pen, old, hat), Available: r.Int64N(12)}
			for _, inv := range []*Inventory{grouped, single} {
				if _, err := inv.Set(t.Context(), set); err != nil && round > 0 {
					t.Fatal(err)
				}
			}
			group := wishes(t.Context(), r, round/6)
			var want, got []string
			for _, c := range group {
				ctx := effect.Track(t.Context())
				want = append(want, c.told(ctx, single.alone(ctx, c)))
			}
			for i, err := range grouped.together(t.Context(), group) {
				got = append(got, group[i].told(group[i].ctx, err))
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("round %d: outcomes (-one after the other +group):\n%s", round, diff)
			}
			if diff := cmp.Diff(books(t, single), books(t, grouped)); diff != "" {
				t.Fatalf("round %d: after %v (-one after the other +group):\n%s", round, got, diff)
			}
		}
	}, schemas()...)
}

// wishes returns changes for a few orders, of which each comes several times.
func wishes(ctx context.Context, r *rand.Rand, round int) []*change {
	group := make([]*change, 1+r.IntN(24))
	for i := range group {
		c := &change{ctx: effect.Track(ctx), verb: verb(r.IntN(3)), orderID: fmt.Sprintf("o%d.%d", round, r.IntN(12))}
		if c.verb == reserving {
			for _, p := range []string{mug, pen, old, hat} {
				if often := map[string]int{mug: 9, pen: 5, old: 1, hat: 3}[p]; r.IntN(10) < often {
					c.items = append(c.items, Item{p, 1 + r.Int64N(3)})
				}
			}
			if c.items == nil {
				c.items = []Item{{mug, 1}}
			}
		}
		group[i] = c
	}
	return group
}

func pick(r *rand.Rand, some ...string) string { return some[r.IntN(len(some))] }

// alone makes a change by itself.
func (v *Inventory) alone(ctx context.Context, c *change) error {
	switch c.verb {
	case reserving:
		return v.Reserve(ctx, c.orderID, c.items)
	case committing:
		return v.Commit(ctx, c.orderID)
	}
	return v.Release(ctx, c.orderID)
}

// told says how a change was answered, and whether it counts as having had an effect.
func (c *change) told(ctx context.Context, err error) string {
	details := ""
	if f := fault.As(err); f != nil {
		details = fmt.Sprint(f.Error(), f.GRPCStatus().Proto())
	}
	return fmt.Sprint(c.verb, c.orderID, c.items, outcome(err), details, effect.Noted(ctx))
}

// books returns all that an inventory has stored, but for the ids of events.
func books(t *testing.T, inv *Inventory) []string {
	t.Helper()
	var all []string
	for _, q := range []string{
		`SELECT product_id || ' ' || available || ' ' || reserved || ' ' || sold || ' ' || stocked || ' ' || version || ' ' || update_time FROM stock ORDER BY product_id`,
		`SELECT order_id || ' ' || state || ' ' || create_time || ' ' || update_time FROM reservations ORDER BY order_id`,
		`SELECT order_id || ' ' || product_id || ' ' || quantity FROM reservation_items ORDER BY order_id, product_id`,
	} {
		rows, err := column[string](inv.store.db.Query(t.Context(), q))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, rows...)
	}
	rows, err := inv.store.db.Query(t.Context(), `SELECT subject, payload FROM outbox ORDER BY id`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var subject string
		var payload []byte
		if err := rows.Scan(&subject, &payload); err != nil {
			t.Fatal(err)
		}
		all = append(all, fmt.Sprintf("%s %x", subject, payload))
	}
	return all
}

// A group of which nothing was done says so, and all are told when that is an outage.
func TestAGroupThatFails(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		inv := stocked(t, d)
		group := func() []*change {
			return []*change{
				{ctx: effect.Track(t.Context()), verb: reserving, orderID: "o1", items: []Item{{mug, 1}}},
				{ctx: effect.Track(t.Context()), verb: releasing, orderID: "o2"},
			}
		}
		if _, err := d.Exec(t.Context(), `ALTER TABLE outbox RENAME TO box`); err != nil {
			t.Fatal(err)
		}
		failed := group()
		if errs := inv.together(t.Context(), failed); errs != nil || effect.Noted(failed[0].ctx) {
			t.Errorf("what can't be announced: %v", errs)
		}
		check(t, inv, mug, [3]int64{10, 0, 0})
		if _, err := d.Exec(t.Context(), `ALTER TABLE box RENAME TO outbox`); err != nil {
			t.Fatal(err)
		}
		done := group()
		if errs := inv.together(t.Context(), done); !slices.Equal(errs, []error{nil, nil}) || !effect.Noted(done[0].ctx) {
			t.Errorf("as it was: %v", errs)
		}
		check(t, inv, mug, [3]int64{9, 1, 0})
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		errs := inv.together(t.Context(), group())
		if len(errs) != 2 || !isOutage(errs[0]) || !isOutage(errs[1]) {
			t.Errorf("without a database: %v", errs)
		}
	}, schemas()...)
}

// Several events in one transaction do what each would in its own.
func TestEventsInOneTransaction(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		inv := stocked(t, d)
		for _, id := range []string{"a", "b", "c"} {
			if err := inv.Reserve(t.Context(), id, []Item{{pen, 1}, {mug, 2}}); err != nil {
				t.Fatal(err)
			}
		}
		l := newListener(inv, slog.New(slog.DiscardHandler))
		heard := func(tx *db.DB, subject, id string) error {
			data, err := proto.Marshal(&orderpb.OrderConfirmed{Order: &orderpb.Order{Id: id}})
			if err != nil {
				return err
			}
			return l.handle(t.Context(), tx, events.Event{Subject: subject, Data: data})
		}
		err := d.InTx(t.Context(), func(tx *db.DB) error {
			for _, e := range [][2]string{
				{"order.confirmed", "c"}, {"order.confirmed", "a"}, {"order.cancelled", "b"}, {"order.confirmed", "b"},
				{"order.cancelled", "a"}, {"order.confirmed", "unheard of"}, {"order.rejected", "new"},
			} {
				if err := heard(tx, e[0], e[1]); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		check(t, inv, mug, [3]int64{8, 0, 2})
		check(t, inv, pen, [3]int64{4, 0, 1})
		want := []string{"stock.committed", "stock.committed", "stock.released", "stock.released"}
		if diff := cmp.Diff(want, announced(t, inv)[3:]); diff != "" {
			t.Error(diff)
		}
		if got := outcome(inv.Reserve(t.Context(), "new", []Item{{mug, 1}})); got != "FailedPrecondition ORDER_RELEASED" {
			t.Errorf("reservation after the rejection: %s", got)
		}
	}, schemas()...)
}
