package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/meshmart/meshmart/tests/testbed"
)

// held are orders that were under way when something was killed.
type held []string

// underWay returns the orders that a saga works at; none where nobody can ask.
func (c *campaign) underWay(ctx context.Context) held {
	if c.cfg.Engine != testbed.Postgres {
		return nil // the database is in a container of its service's
	}
	ids, err := c.undecided(ctx, `SELECT id FROM orders WHERE due_time IS NOT NULL`)
	if err != nil {
		return nil // it was the database that was killed
	}
	return ids
}

// watchRecovery notes how long after the kill all those orders were decided.
func (c *campaign) watchRecovery(ctx context.Context, killed time.Time, ids held) {
	query := `SELECT id FROM orders WHERE due_time IS NOT NULL AND id IN ('` + strings.Join(ids, `', '`) + `')`
	for deadline := killed.Add(restWithin); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		left, err := c.undecided(ctx, query)
		if err == nil && len(left) == 0 {
			c.mu.Lock()
			c.report.recovered = append(c.report.recovered, time.Since(killed))
			c.mu.Unlock()
			return
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.report.violated("%v after a kill some of the orders %v are still under way", restWithin, ids)
}

func (c *campaign) undecided(ctx context.Context, query string) (held, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	db, err := c.bed.OpenDatabase(ctx, "order") // its port changes when it is started again
	if err != nil {
		return nil, err
	}
	defer db.Close()
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return nil, fmt.Errorf("orders under way: %w", err)
	}
	defer rows.Close()
	var ids held
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}
