package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// books are the databases that know of orders, and the catalog.
type books struct{ order, inventory, payment, product *sql.DB }

// open opens them all, when no service uses them. The caller calls done.
func (c *config) open(ctx context.Context) (b books, done func() error, err error) {
	var closers []func() error
	done = func() error {
		var errs []error
		for _, fn := range closers {
			errs = append(errs, fn())
		}
		return errors.Join(errs...)
	}
	for _, o := range []struct {
		service string
		db      **sql.DB
	}{{"order", &b.order}, {"inventory", &b.inventory}, {"payment", &b.payment}, {"product", &b.product}} {
		db, closer, err := c.database(o.service).alone(ctx)
		if err != nil {
			return b, nil, errors.Join(err, done())
		}
		*o.db, closers = db, append(closers, closer)
	}
	return b, done, nil
}

// entries returns what is known of each order.
func (b books) entries(ctx context.Context) (map[string]*entry, error) {
	all := map[string]*entry{}
	of := func(id string) *entry {
		if all[id] == nil {
			all[id] = &entry{}
		}
		return all[id]
	}
	err := each(ctx, b.order, `SELECT id, state, step, stock_committed, payment_captured, revision FROM orders`, func(scan scanner) error {
		var id string
		var e entry
		err := scan(&id, &e.state, &e.step, &e.committed, &e.captured, &e.revision)
		all[id] = &e
		return err
	})
	if err != nil {
		return nil, err
	}
	err = each(ctx, b.inventory, `SELECT order_id, state FROM reservations`, func(scan scanner) error {
		var id, state string
		err := scan(&id, &state)
		of(id).reservation = state
		return err
	})
	if err != nil {
		return nil, err
	}
	err = each(ctx, b.payment, `SELECT order_id, state FROM payments`, func(scan scanner) error {
		var id, state string
		err := scan(&id, &state)
		of(id).payment = state
		return err
	})
	return all, err
}

type scanner = func(...any) error

// querier is a database or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// each calls fn with each row, and then closes them.
func each(ctx context.Context, db querier, query string, fn func(scanner) error, args ...any) error {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return fmt.Errorf("%s: %w", query, err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := fn(rows.Scan); err != nil {
			return fmt.Errorf("%s: %w", query, err)
		}
	}
	return rows.Err()
}
