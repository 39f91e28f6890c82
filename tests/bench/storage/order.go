// Package storage is the yardstick of what is durable: a bare database that
// carries out the statements of an order, and nothing else.
package storage

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"
)

// statement is one that changes something.
type statement struct {
	text string
	args []any
}

// transaction is committed as a whole. Two of them that change the same row say
// so by its key, so that those who do several at once do them in one order.
type transaction struct {
	key        string
	statements []statement
}

// One order, to its decision: what the services write for it, each transaction
// as they have it (services/order/store.go, services/inventory/store*.go,
// services/payment/store*.go), and in the same order. What they read is left out,
// and what becomes of the events.
const (
	addOrder = `INSERT INTO orders (id, user_id, state, reason, message, currency, total, payment_id, traceparent, version,
		create_time, update_time, step, attempts, due_time, payment_token, stock_committed, payment_captured, revision, request_id, fingerprint)
		VALUES ($1, $2, 'PENDING', '', '', 'EUR', $3, '', $4, 1, $5, $5, 'RESERVE', 0, $6, 'tok_visa', FALSE, FALSE, 1, $7, $8)`
	addItem = `INSERT INTO order_items (order_id, position, product_id, sku, name, quantity, unit_price)
		VALUES ($1, 0, $2, 'BENCH-000001', 'Halden Stoneware Mug 000001', 1, $3)`
	addChange      = `INSERT INTO order_changes (order_id, version, state, reason, change_time) VALUES ($1, $2, $3, '', $4)`
	addEvent       = `INSERT INTO outbox (id, subject, payload, headers, create_time) VALUES ($1, $2, $3, $4, $5)`
	addReservation = `INSERT INTO reservations (order_id, state, create_time, update_time) VALUES ($1, 'RESERVED', $2, $2)`
	take           = `UPDATE stock SET available = available - 1, reserved = reserved + 1, version = version + 1, update_time = $2
		WHERE product_id = $1 AND available >= 1 AND NOT discontinued`
	addReserved = `INSERT INTO reservation_items (order_id, product_id, quantity) VALUES ($1, $2, 1)`
	saveOrder   = `UPDATE orders SET state = $3, version = $4, update_time = $5, step = $6, due_time = $7, revision = revision + 1
		WHERE id = $1 AND revision = $2`
	addPayment = `INSERT INTO payments (id, order_id, user_id, state, currency, amount, reason, message, processor_ref, version,
		create_time, update_time, attempts, trace) VALUES ($1, $2, $3, 'PENDING', 'EUR', $4, '', '', '', 1, $5, $5, 0, '') ON CONFLICT (order_id) DO NOTHING`
	addCharge = `INSERT INTO processor_charges (key, ref, state, currency, amount, reason, capture_decline, create_time, update_time)
		VALUES ($1, $2, 'AUTHORIZED', 'EUR', $3, '', '', $4, $4) ON CONFLICT (key) DO NOTHING`
	savePayment = `UPDATE payments SET state = 'AUTHORIZED', processor_ref = $2, due_time = NULL, attempts = 0, version = version + 1, update_time = $3
		WHERE id = $1 AND state = 'PENDING'`
	addEntry = `INSERT INTO ledger (id, payment_id, kind, currency, amount, create_time) VALUES ($1, $2, 'AUTHORIZE', 'EUR', $3, $4)`
	addStock = `INSERT INTO stock (product_id, available, reserved, sold, stocked, discontinued, version, create_time, update_time)
		VALUES ($1, 1000000000, 0, 0, 1000000000, FALSE, 1, 0, 0)`
)

// price is what an order costs, in micros.
const price = 14_900_000

// order returns the transactions of a new order of a product.
func order(user, product string) []transaction {
	now := time.Now().UnixMicro()
	id, payment, trace := newID(), newID(), "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
	event := func(subject string) statement {
		return statement{addEvent, []any{newID(), subject, payload, `{"traceparent":"` + trace + `"}`, now}}
	}
	due := time.Now().Add(5 * time.Second).UnixMicro()
	return []transaction{
		{"", []statement{
			{addOrder, []any{id, user, price, trace, now, due, uuid.NewString(), payload[:32]}}, {addItem, []any{id, product, price}},
			{addChange, []any{id, 1, "PENDING", now}}, event("order.created"),
		}},
		{product, []statement{
			{addReservation, []any{id, now}}, {take, []any{product, now}}, {addReserved, []any{id, product}}, event("inventory.reserved"),
		}},
		{"", []statement{{saveOrder, []any{id, 1, "PENDING", 1, now, "AUTHORIZE", due}}}},
		{"", []statement{{addPayment, []any{payment, id, user, price, now}}}},
		{"", []statement{{addCharge, []any{payment, "ch_" + payment, price, now}}}},
		{"", []statement{
			{savePayment, []any{payment, "ch_" + payment, now}}, {addEntry, []any{newID(), payment, price, now}}, event("payment.authorized"),
		}},
		{"", []statement{
			{saveOrder, []any{id, 2, "CONFIRMED", 2, now, "DONE", nil}}, {addChange, []any{id, 2, "CONFIRMED", now}}, event("order.confirmed"),
		}},
	}
}

// payload is as long as an event of an order.
var payload = []byte(strings.Repeat("event of an order ", 20))

func newID() string { return uuid.Must(uuid.NewV7()).String() }

// schema returns the statements that make the services' tables.
func schema(root string) ([]string, error) {
	var all []string
	for _, dir := range []string{"services/order", "services/inventory", "services/payment", "services/internal/events"} {
		files, err := filepath.Glob(filepath.Join(root, dir, "schema", "*.sql"))
		if err != nil || len(files) == 0 {
			return nil, fmt.Errorf("%s has no schema: %w", dir, err)
		}
		for _, name := range files {
			text, err := os.ReadFile(name)
			if err != nil {
				return nil, err
			}
			_, up, _ := strings.Cut(string(text), "-- +goose Up")
			up, _, _ = strings.Cut(up, "-- +goose Down")
			all = append(all, up)
		}
	}
	return all, nil
}
