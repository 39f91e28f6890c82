package inventory

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/meshmart/meshmart/services/internal/db"
)

// place is where stock can be: a column of its table.
type place string

const (
	available place = "available"
	reserved  place = "reserved"
	sold      place = "sold"
)

// addReservation records the order in that state, and reports false if it is
// known. A concurrent transaction with the same order is waited for.
func (s *store) addReservation(ctx context.Context, orderID string, st state, now time.Time) (bool, error) {
	n, err := s.db.Exec(ctx, `INSERT INTO reservations (order_id, state, create_time, update_time) VALUES ($1, $2, $3, $3)
		ON CONFLICT DO NOTHING`, orderID, st, db.Micros(now))
	if err != nil {
		return false, fmt.Errorf("record reservation of %s: %w", orderID, err)
	}
	return n == 1, nil
}

// recordReservation is addReservation for an order that is hardly ever known: then
// the transaction fails as a duplicate, at the latest when it is committed.
func (s *store) recordReservation(ctx context.Context, orderID string, now time.Time) error {
	err := s.db.Later(ctx, `INSERT INTO reservations (order_id, state, create_time, update_time) VALUES ($1, $2, $3, $3)`,
		orderID, stateReserved, db.Micros(now))
	if err != nil {
		return fmt.Errorf("record reservation of %s: %w", orderID, err)
	}
	return nil
}

// isDuplicate reports whether something was there already.
func isDuplicate(err error) bool { return db.IsDuplicate(err) }

// setReservation moves the order from one state to another, and reports false
// if it was not in the first.
func (s *store) setReservation(ctx context.Context, orderID string, from, to state, now time.Time) (bool, error) {
	n, err := s.db.Exec(ctx, `UPDATE reservations SET state = $3, update_time = $4 WHERE order_id = $1 AND state = $2`,
		orderID, from, to, db.Micros(now))
	if err != nil {
		return false, fmt.Errorf("make reservation of %s %s: %w", orderID, to, err)
	}
	return n == 1, nil
}

// reservation returns the state of the order's reservation, "" if it has none.
func (s *store) reservation(ctx context.Context, orderID string) (state, error) {
	var st state
	err := s.db.Row(ctx, `SELECT state FROM reservations WHERE order_id = $1`, orderID).Scan(&st)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return "", fmt.Errorf("reservation of %s: %w", orderID, err)
	}
	return st, nil
}

func (s *store) addItems(ctx context.Context, orderID string, items []Item) error {
	args, values := []any{orderID}, make([]string, len(items))
	for i, it := range items {
		args = append(args, it.ProductID, it.Quantity)
		values[i] = fmt.Sprintf("($1, $%d, $%d)", 2*i+2, 2*i+3)
	}
	err := s.db.Later(ctx, `INSERT INTO reservation_items (order_id, product_id, quantity) VALUES `+strings.Join(values, ", "), args...)
	if err != nil {
		return fmt.Errorf("record items of %s: %w", orderID, err)
	}
	return nil
}

// items returns what was reserved for the order, in the order of the products.
func (s *store) items(ctx context.Context, orderID string) ([]Item, error) {
	rows, err := s.db.Query(ctx, `SELECT product_id, quantity FROM reservation_items WHERE order_id = $1`, orderID)
	if err != nil {
		return nil, fmt.Errorf("items of %s: %w", orderID, err)
	}
	defer rows.Close()
	var items []Item
	for rows.Next() {
		var it Item
		if err := rows.Scan(&it.ProductID, &it.Quantity); err != nil {
			return nil, fmt.Errorf("items of %s: %w", orderID, err)
		}
		items = append(items, it)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("items of %s: %w", orderID, err)
	}
	return canonical(items) // not ORDER BY: a server's collation may differ from ours
}

// take moves an item from available to reserved, and reports false if there is
// too little of it or it is not sold.
func (s *store) take(ctx context.Context, it Item, now time.Time) (bool, error) {
	n, err := s.db.Exec(ctx, `
		UPDATE stock SET available = available - $2, reserved = reserved + $2, version = version + 1, update_time = $3
		WHERE product_id = $1 AND available >= $2 AND NOT discontinued`, it.ProductID, it.Quantity, db.Micros(now))
	if err != nil {
		return false, fmt.Errorf("reserve %d of %s: %w", it.Quantity, it.ProductID, err)
	}
	return n == 1, nil
}

// move moves an item that was taken on to another place. There is such a product:
// reservation_items refers to it.
func (s *store) move(ctx context.Context, it Item, from, to place, now time.Time) error {
	err := s.db.Later(ctx, fmt.Sprintf(`
		UPDATE stock SET %[1]s = %[1]s - $2, %[2]s = %[2]s + $2, version = version + 1, update_time = $3
		WHERE product_id = $1`, from, to), it.ProductID, it.Quantity, db.Micros(now))
	if err != nil {
		return fmt.Errorf("move %d of %s from %s to %s: %w", it.Quantity, it.ProductID, from, to, err)
	}
	return nil
}
