package inventory

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	orderpb "github.com/meshmart/meshmart/proto/order/v1"
	"github.com/meshmart/meshmart/services/internal/db"
	"github.com/meshmart/meshmart/services/internal/db/dbtest"
	"github.com/meshmart/meshmart/services/internal/events"
	"github.com/meshmart/meshmart/services/internal/fault"
)

// Two replicas reserve, sell, give back and count the same products, each in an order
// of its own. A deadlock would cost them the second after which PostgreSQL looks for one.
func TestReplicasDoNotWaitForEachOther(t *testing.T) {
	url := dbtest.Postgres(t)
	replicas := []*rush{rushing(t, url), rushing(t, url)}
	products := replicas[0].products(t, 6)
	backwards := slices.Clone(products)
	slices.Reverse(backwards)
	together(24, func(client int) {
		for i := range 20 {
			err := replicas[client%2].mixed(t.Context(), client, i, [][]string{products, backwards}[client%2])
			if err != nil && fault.As(err) == nil {
				t.Error(err)
			}
		}
	})
	for _, p := range products {
		s, err := replicas[0].store.stock(t.Context(), p)
		if err != nil || s.Available+s.Reserved+s.Sold != s.Stocked {
			t.Errorf("%+v does not add up: %v", s, err)
		}
	}
	for _, r := range replicas {
		if err := r.store.db.Close(); err != nil {
			t.Error(err)
		}
	}
	if n := deadlocks(t, dbtest.Open(t, url)); n > 0 {
		t.Errorf("%d deadlocks", n)
	}
}

// deadlocks returns how many there were. Connections tell of theirs when they end.
func deadlocks(t *testing.T, d *db.DB) int {
	t.Helper()
	for {
		var n, others int
		err := d.Row(t.Context(), `SELECT (SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()),
			(SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid())`).Scan(&n, &others)
		if err != nil {
			t.Fatal(err)
		}
		if others == 0 {
			return n
		}
	}
}

// mixed does something with several products, in that order.
func (r *rush) mixed(ctx context.Context, client, i int, products []string) error {
	first := (client + i) % (len(products) - 2)
	id := func(n int) string { return fmt.Sprintf("o%d.%d", (client/2+n)%8, i) }
	switch (client + i) % 5 {
	case 0, 1:
		var items []Item
		for _, p := range products[first : first+3] {
			items = append(items, Item{p, 1})
		}
		return r.Reserve(ctx, id(0), items)
	case 2:
		return r.Release(ctx, id(1))
	case 3:
		var counts []Count
		for _, p := range products {
			counts = append(counts, Count{fmt.Sprint(client), int64(i + 1), p, 1000})
		}
		_, err := r.Sync(ctx, counts)
		return err
	}
	err := r.hear(ctx, "order.confirmed", id(3), id(2), id(1))
	for n := 3; n > 0 && err != nil; n-- { // as the bus does if they can't be handled together
		if again := r.hear(ctx, "order.confirmed", id(n)); again != nil {
			return again
		}
	}
	return nil
}

// hear has the inventory handle events of orders in one transaction.
func (v *Inventory) hear(ctx context.Context, subject string, orders ...string) error {
	l := newListener(v, slog.New(slog.DiscardHandler))
	return v.store.db.InTx(ctx, func(tx *db.DB) error {
		for _, id := range orders {
			data, err := proto.Marshal(&orderpb.OrderConfirmed{Order: &orderpb.Order{Id: id}}) // the same in all of them
			if err != nil {
				return err
			}
			if err := l.handle(ctx, tx, events.Event{Subject: subject, Data: data}); err != nil {
				return err
			}
		}
		return nil
	})
}

// Whoever changes the stock of several products locks it in their order: while one
// waits for the first, nobody has to wait for the last.
func TestStockIsLockedInTheOrderOfTheProducts(t *testing.T) {
	url := dbtest.Postgres(t)
	r := rushing(t, url)
	p := r.products(t, 2)
	for name, change := range map[string]func(context.Context) error{
		"a group of reservations": func(ctx context.Context) error {
			r.together(ctx, []*change{
				{ctx: ctx, verb: reserving, orderID: "g2", items: []Item{{p[1], 1}}}, {ctx: ctx, verb: reserving, orderID: "g1", items: []Item{{p[0], 1}}},
			})
			return nil
		},
		"several orders heard of": func(ctx context.Context) error { return r.hear(ctx, "order.confirmed", "o2", "o1") },
		"counts": func(ctx context.Context) error {
			_, err := r.Sync(ctx, []Count{{"a", 1, p[1], 9}, {"a", 2, p[0], 9}})
			return err
		},
		"several products heard of": func(ctx context.Context) error {
			l := newListener(r.Inventory, slog.New(slog.DiscardHandler))
			return r.store.db.InTx(ctx, func(tx *db.DB) error {
				for _, id := range []string{p[1], p[0]} {
					if err := l.products.Add(ctx, tx, offer{id: id, asOf: r.clock().Add(time.Hour)}); err != nil {
						return err
					}
				}
				return nil
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			for i, id := range []string{"o1", "o2"} {
				if err := r.Reserve(t.Context(), id, []Item{{p[i], 1}}); err != nil {
					t.Fatal(err)
				}
			}
			ended := make(chan error, 1)
			err := r.store.inTx(t.Context(), func(tx *store) error {
				if _, err := tx.lockStocks(t.Context(), p[:1]); err != nil {
					ended <- nil
					return err
				}
				go func() { ended <- change(t.Context()) }()
				for n := 0; n == 0 && len(ended) == 0; {
					// Not in tx, which would see the same each time.
					if err := r.store.db.Row(t.Context(), `SELECT COUNT(*) FROM pg_stat_activity
						WHERE wait_event_type = 'Lock' AND datname = current_database()`).Scan(&n); err != nil {
						return err
					}
				}
				_, err := tx.db.Exec(t.Context(), `SELECT 1 FROM stock WHERE product_id = $1 FOR UPDATE NOWAIT`, p[1])
				return err
			})
			if err != nil {
				t.Errorf("the last product: %v", err)
			}
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}
