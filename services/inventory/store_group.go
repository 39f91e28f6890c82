package inventory

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/meshmart/meshmart/services/internal/db"
)

// most bounds the values or rows of one statement.
const most = 128

// isOutage reports whether the database was away, or too busy, and nothing was done.
func isOutage(err error) bool { return db.IsUnavailable(err) }

// impatient has the transaction fail if it would wait long for what another has locked.
func (s *store) impatient(ctx context.Context) { s.db.Impatient(ctx) }

// claim records orders in these states, and returns those that were not known. "" is
// none. A concurrent transaction with one of them is waited for.
func (s *store) claim(ctx context.Context, claims map[string]state, now time.Time) ([]string, error) {
	var rows [][]any
	for _, id := range slices.Sorted(maps.Keys(claims)) {
		if claims[id] != "" {
			rows = append(rows, []any{id, string(claims[id])})
		}
	}
	var fresh []string
	for some := range slices.Chunk(rows, most) {
		table, args := s.db.Values([]string{"TEXT", "TEXT"}, some)
		micros := "CAST($" + strconv.Itoa(len(args)+1) + " AS BIGINT)"
		ids, err := column[string](s.db.Query(ctx, `INSERT INTO reservations (order_id, state, create_time, update_time)
			SELECT column1, column2, `+micros+`, `+micros+` FROM `+table+` WHERE column1 IS NOT NULL
			ON CONFLICT DO NOTHING RETURNING order_id`, append(args, db.Micros(now))...))
		if err != nil {
			return nil, fmt.Errorf("record reservations: %w", err)
		}
		fresh = append(fresh, ids...)
	}
	return fresh, nil
}

// column reads rows of one column.
func column[T any](rows *db.Rows, err error) ([]T, error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []T
	for rows.Next() {
		var one T
		if err := rows.Scan(&one); err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, rows.Err()
}

// in calls read with each row of a query for the rows of some ids, which ends in an IN
// list. What ends the query follows the list.
func (s *store) in(ctx context.Context, query string, ids []string, end string, read func(scan func(...any) error) error) error {
	for some := range slices.Chunk(ids, most) {
		places, args := db.In(some)
		if err := s.rows(ctx, query+" ("+places+")"+end, args, read); err != nil {
			return err
		}
	}
	return nil
}

func (s *store) rows(ctx context.Context, query string, args []any, read func(scan func(...any) error) error) error {
	rows, err := s.db.Query(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := read(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

// lockReservations returns the states of those orders that are known. They stay so.
func (s *store) lockReservations(ctx context.Context, ids []string) (map[string]state, error) {
	states := map[string]state{}
	err := s.in(ctx, `SELECT order_id, state FROM reservations WHERE order_id IN`, ids, ` ORDER BY order_id`+s.db.ForUpdate(),
		func(scan func(...any) error) error {
			var id string
			var st state
			err := scan(&id, &st)
			states[id] = st
			return err
		})
	if err != nil {
		return nil, fmt.Errorf("lock %d reservations: %w", len(ids), err)
	}
	return states, nil
}

// itemsOf returns what was reserved for each order, in the order of the products.
func (s *store) itemsOf(ctx context.Context, ids []string) (map[string][]Item, error) {
	items := map[string][]Item{}
	err := s.in(ctx, `SELECT order_id, product_id, quantity FROM reservation_items WHERE order_id IN`, ids, "",
		func(scan func(...any) error) error {
			var id string
			var it Item
			err := scan(&id, &it.ProductID, &it.Quantity)
			items[id] = append(items[id], it)
			return err
		})
	for id := range items {
		if err == nil {
			items[id], err = canonical(items[id])
		}
	}
	if err != nil {
		return nil, fmt.Errorf("items of %d orders: %w", len(ids), err)
	}
	return items, nil
}

// lockStocks returns the stock of those products that are known. It stays so.
func (s *store) lockStocks(ctx context.Context, ids []string) ([]Stock, error) {
	var all []Stock
	err := s.in(ctx, `SELECT `+stockColumns+` FROM stock WHERE product_id IN`, ids, ` ORDER BY product_id`+s.db.ForUpdate(),
		func(scan func(...any) error) error {
			st, err := scanStock(scan)
			all = append(all, st)
			return err
		})
	if err != nil {
		return nil, fmt.Errorf("lock stock of %d products: %w", len(ids), err)
	}
	return all, nil
}

// lockCounted locks the stock of counts, which are stored in their own order: before
// their source, as a connection that was lost may still be storing some of it.
func (s *store) lockCounted(ctx context.Context, counts []Count) error {
	ids := map[string]bool{}
	for _, c := range counts {
		ids[c.ProductID] = true
	}
	_, err := s.lockStocks(ctx, slices.Sorted(maps.Keys(ids)))
	return err
}

// moveStocks writes stock that was locked, as far as its items were moved.
func (s *store) moveStocks(ctx context.Context, all []*shelf, now time.Time) error {
	for some := range slices.Chunk(all, most) {
		rows := make([][]any, len(some))
		for i, n := range some {
			rows[i] = []any{
				n.ProductID, n.Available - n.was.Available, n.Reserved - n.was.Reserved, n.Sold - n.was.Sold, n.Version - n.was.Version,
			}
		}
		table, args := s.db.Values([]string{"TEXT", "BIGINT", "BIGINT", "BIGINT", "BIGINT"}, rows)
		err := s.db.Later(ctx, `UPDATE stock SET available = available + column2, reserved = reserved + column3, sold = sold + column4,
			version = version + column5, update_time = $`+strconv.Itoa(len(args)+1)+`
			FROM `+table+` WHERE product_id = column1`, append(args, db.Micros(now))...)
		if err != nil {
			return fmt.Errorf("move stock of %d products: %w", len(some), err)
		}
	}
	return nil
}

// setReservations moves orders that were locked to a state.
func (s *store) setReservations(ctx context.Context, ids []string, st state, now time.Time) error {
	for some := range slices.Chunk(ids, most) {
		places, args := db.In(some)
		n := len(args)
		err := s.db.Later(ctx, fmt.Sprintf(`UPDATE reservations SET state = $%d, update_time = $%d WHERE order_id IN (%s)`, n+1, n+2, places),
			append(args, string(st), db.Micros(now))...)
		if err != nil {
			return fmt.Errorf("make %d reservations %s: %w", len(some), st, err)
		}
	}
	return nil
}

// forget takes back the record of orders that were claimed, and then refused.
func (s *store) forget(ctx context.Context, ids []string) error {
	for some := range slices.Chunk(ids, most) {
		places, args := db.In(some)
		if err := s.db.Later(ctx, `DELETE FROM reservations WHERE order_id IN (`+places+`)`, args...); err != nil {
			return fmt.Errorf("forget %d reservations: %w", len(some), err)
		}
	}
	return nil
}

// addAllItems records what was reserved.
func (s *store) addAllItems(ctx context.Context, all []*change) error {
	var rows [][]any
	for _, c := range all {
		for _, it := range c.items {
			rows = append(rows, []any{c.orderID, it.ProductID, it.Quantity})
		}
	}
	for some := range slices.Chunk(rows, most) {
		table, args := s.db.Values([]string{"TEXT", "TEXT", "BIGINT"}, some)
		err := s.db.Later(ctx, `INSERT INTO reservation_items (order_id, product_id, quantity)
			SELECT column1, column2, column3 FROM `+table+` WHERE column1 IS NOT NULL`, args...)
		if err != nil {
			return fmt.Errorf("record %d items: %w", len(some), err)
		}
	}
	return nil
}
