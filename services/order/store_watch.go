package order

import (
	"context"
	"fmt"

	"github.com/meshmart/meshmart/services/internal/db"
)

// history returns an order with the states that it has reached, or errUnknown.
func (s *store) history(ctx context.Context, id string) (history, error) {
	o, err := s.order(ctx, id)
	if err != nil {
		return history{}, err
	}
	all, err := s.withChanges(ctx, []Order{o})
	if err != nil {
		return history{}, err
	}
	return all[0], nil
}

// histories returns those of the orders that there are.
func (s *store) histories(ctx context.Context, ids []string) ([]history, error) {
	orders, err := s.orders(ctx, ids)
	if err != nil {
		return nil, err
	}
	if err := s.fillItems(ctx, orders); err != nil {
		return nil, err
	}
	return s.withChanges(ctx, orders)
}

// orders returns those of the orders that there are, without their items.
func (s *store) orders(ctx context.Context, ids []string) (found []Order, err error) {
	in, args := db.In(ids)
	rows, err := s.db.Query(ctx, `SELECT `+orderColumns+` FROM orders WHERE id IN (`+in+`)`, args...)
	if err != nil {
		return nil, fmt.Errorf("orders: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		o, err := scanOrder(rows)
		if err != nil {
			return nil, fmt.Errorf("orders: %w", err)
		}
		found = append(found, o)
	}
	return found, rows.Err()
}

// withChanges adds the states that the orders have reached, up to the one that
// each was read with: what has come since is told the next time.
func (s *store) withChanges(ctx context.Context, orders []Order) ([]history, error) {
	all, byID, ids := make([]history, len(orders)), map[string]*history{}, make([]string, len(orders))
	for i, o := range orders {
		all[i].order, ids[i] = o, o.ID
		byID[o.ID] = &all[i]
	}
	if len(ids) == 0 {
		return nil, nil
	}
	in, args := db.In(ids)
	rows, err := s.db.Query(ctx, `SELECT order_id, version, state, reason, change_time FROM order_changes
		WHERE order_id IN (`+in+`) ORDER BY order_id, version`, args...)
	if err != nil {
		return nil, fmt.Errorf("history of orders: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		var c Change
		var us int64
		if err := rows.Scan(&id, &c.Version, &c.State, &c.Reason, &us); err != nil {
			return nil, fmt.Errorf("history of orders: %w", err)
		}
		c.Time = db.Time(us)
		if h := byID[id]; c.Version <= h.order.Version {
			h.changes = append(h.changes, c)
		}
	}
	return all, rows.Err()
}

// versions returns the versions of those of the orders that there are.
func (s *store) versions(ctx context.Context, ids []string) (map[string]int64, error) {
	in, args := db.In(ids)
	rows, err := s.db.Query(ctx, `SELECT id, version FROM orders WHERE id IN (`+in+`)`, args...)
	if err != nil {
		return nil, fmt.Errorf("versions of orders: %w", err)
	}
	defer rows.Close()
	all := make(map[string]int64, len(ids))
	for rows.Next() {
		var id string
		var v int64
		if err := rows.Scan(&id, &v); err != nil {
			return nil, fmt.Errorf("versions of orders: %w", err)
		}
		all[id] = v
	}
	return all, rows.Err()
}
