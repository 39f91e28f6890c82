package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/meshmart/meshmart/tests/audit"
)

// balance waits for the shop to come to rest, and checks the books.
func (r *run) balance(ctx context.Context) error {
	books, done, err := openBooks(ctx)
	if err != nil {
		return fmt.Errorf("open the books: %w", err)
	}
	defer done()
	began := time.Now()
	err = until(ctx, 100*time.Millisecond, func() error {
		pending, err := books.Pending(ctx)
		if err == nil && pending != "" {
			err = fmt.Errorf("%s", pending)
		}
		return err
	})
	if err != nil {
		r.report.violated("books: after %v in peace: %v", hang, err)
	}
	r.report.Rest = time.Since(began)
	var wrong []string
	for began := time.Now(); ; time.Sleep(500 * time.Millisecond) { // the last events may still be on their way
		if r.report.Books, wrong, err = books.Check(ctx); err != nil {
			return err
		}
		if len(wrong) == 0 || time.Since(began) > 15*time.Second {
			break
		}
	}
	r.report.Violations = append(r.report.Violations, wrong...)
	return r.promised(ctx, books.Order)
}

// promised holds what the customers were told to the books: each order is there.
func (r *run) promised(ctx context.Context, orders *sql.DB) error {
	rows, err := orders.QueryContext(ctx, `SELECT id FROM orders`)
	if err != nil {
		return fmt.Errorf("read the orders: %w", err)
	}
	defer rows.Close()
	kept := map[string]bool{}
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return fmt.Errorf("read the orders: %w", err)
		}
		kept[id] = true
	}
	r.report.Promised = len(r.customers.orders)
	for _, o := range r.customers.orders {
		if !kept[o.ID] {
			r.report.violated("books: order %s was accepted, and is not there", o.ID)
		}
	}
	r.report.Checked = rows.Err() == nil
	return rows.Err()
}

// openBooks opens what an audit reads. The caller calls done, unless it fails.
func openBooks(ctx context.Context) (books audit.Books, done func(), err error) {
	var closers []func()
	done = func() {
		for _, fn := range slices.Backward(closers) {
			fn()
		}
	}
	defer func() {
		if err != nil {
			done()
		}
	}()
	server, stop, err := forward(ctx, "svc/postgres", "5432")
	if err != nil {
		return books, done, err
	}
	closers = append(closers, stop)
	for service, db := range map[string]**sql.DB{"order": &books.Order, "payment": &books.Payment, "inventory": &books.Inventory} {
		address, err := databaseURL(ctx, service, server)
		if err != nil {
			return books, done, err
		}
		if *db, err = sql.Open("pgx", address); err != nil {
			return books, done, err
		}
		closers = append(closers, func() { _ = (*db).Close() }) // it was only read
	}
	broker, stop, err := forward(ctx, "svc/nats", "4222")
	if err != nil {
		return books, done, err
	}
	closers = append(closers, stop)
	nc, err := nats.Connect("nats://" + broker)
	if err != nil {
		return books, done, fmt.Errorf("broker: %w", err)
	}
	closers = append(closers, nc.Close)
	books.Broker, err = jetstream.New(nc)
	return books, done, err
}

// databaseURL is what the service has in its Secret, at another address.
func databaseURL(ctx context.Context, service, server string) (string, error) {
	name, err := kubectl(ctx, "-n", shopSpace, "get", "deployment", service, "-o",
		`jsonpath={.spec.template.spec.containers[?(@.name=="service")].env[?(@.name=="DATABASE_URL")].valueFrom.secretKeyRef.name}`)
	if err != nil {
		return "", err
	}
	var secret struct{ Data map[string][]byte }
	text, err := kubectl(ctx, "-n", shopSpace, "get", "secret", string(name), "-o", "json")
	if err != nil {
		return "", err
	}
	if err := json.Unmarshal(text, &secret); err != nil {
		return "", err
	}
	u, err := url.Parse(string(secret.Data[service]))
	if err != nil {
		return "", fmt.Errorf("DATABASE_URL of %s: not an address", service) // which would tell the password
	}
	u.Host = server
	return u.String(), nil
}
