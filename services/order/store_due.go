package order

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/meshmart/meshmart/services/internal/db"
)

// nextDue returns when the next order is due; it reports false if all are at
// rest.
func (s *store) nextDue(ctx context.Context) (time.Time, bool, error) {
	var due int64
	err := s.db.Row(ctx, `SELECT due_time FROM orders WHERE due_time IS NOT NULL ORDER BY due_time LIMIT 1`).Scan(&due)
	if errors.Is(err, sql.ErrNoRows) {
		return time.Time{}, false, nil
	}
	if err != nil {
		return time.Time{}, false, fmt.Errorf("next order that is due: %w", err)
	}
	return db.Time(due), true, nil
}

// claim returns orders that are due, at most so many, the longest due first. They
// are leased to the caller: nobody else gets them before the lease has passed.
//
// The condition stands twice: of two replicas whose inner SELECTs find the same
// rows, the second waits for the first to commit and then finds, by the outer
// condition, that they are not due any more.
func (s *store) claim(ctx context.Context, now time.Time, lease time.Duration, limit int) ([]Order, error) {
	if limit == 0 {
		return nil, nil
	}
	rows, err := s.db.Query(ctx, `UPDATE orders SET due_time = $2, revision = revision + 1
		WHERE due_time <= $1 AND id IN (SELECT id FROM orders WHERE due_time <= $1 ORDER BY due_time LIMIT $3)
		RETURNING `+orderColumns, db.Micros(now), db.Micros(now.Add(lease)), limit)
	if err != nil {
		return nil, fmt.Errorf("claim orders: %w", err)
	}
	orders, err := scanOrders(rows)
	if err != nil {
		return nil, fmt.Errorf("claim orders: %w", err)
	}
	return orders, s.fillItems(ctx, orders)
}

const underWayQuery = `SELECT step, COUNT(*), MIN(update_time) FROM orders WHERE due_time IS NOT NULL GROUP BY step`

// underWay returns what the sagas are at, by step.
func (s *store) underWay(ctx context.Context) (map[Step]underWay, error) {
	rows, err := s.db.Query(ctx, underWayQuery)
	if err != nil {
		return nil, fmt.Errorf("orders under way: %w", err)
	}
	defer rows.Close()
	steps := map[Step]underWay{}
	for rows.Next() {
		var step Step
		var at underWay
		var since int64
		if err := rows.Scan(&step, &at.orders, &since); err != nil {
			return nil, fmt.Errorf("orders under way: %w", err)
		}
		at.since = db.Time(since)
		steps[step] = at
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("orders under way: %w", err)
	}
	return steps, nil
}

func scanOrders(rows *db.Rows) ([]Order, error) {
	defer rows.Close()
	var orders []Order
	for rows.Next() {
		o, err := scanOrder(rows)
		if err != nil {
			return nil, err
		}
		orders = append(orders, o)
	}
	return orders, rows.Err()
}

// inherit makes all orders due that a saga works at, whatever their lease: for a
// process that knows that the one which leased them is dead. Those that wait for
// news were leased by nobody.
func (s *store) inherit(ctx context.Context, now time.Time) error {
	_, err := s.db.Exec(ctx, `UPDATE orders SET due_time = $1, revision = revision + 1 WHERE due_time > $1 AND step <> $2`,
		db.Micros(now), stepComplete)
	if err != nil {
		return fmt.Errorf("inherit orders: %w", err)
	}
	return nil
}
