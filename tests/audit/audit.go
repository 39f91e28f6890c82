// Package audit checks the books of a shop, in the databases of its services
// and in the streams of its broker, for what must hold whatever was killed, cut
// off or repeated:
//
//   - every order has come to its end,
//   - captured money = completed orders, once each, in the payment service's
//     ledger as in the processor's book,
//   - reserved + sold + available = stocked, and what is sold is what the
//     completed orders say,
//   - every change was announced once, and every announcement applied once by
//     each service that acts on it.
package audit

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// Books are the databases to check, and the broker. They are only read.
type Books struct {
	Order, Payment, Inventory *sql.DB
	Broker                    jetstream.JetStream // nil: events are not checked
}

// Summary is what the books add up to.
type Summary struct {
	Orders   map[string]int   // by state
	Captured map[string]int64 // and not refunded, by currency, in micros of its unit
	Sold     int64            // pieces
	Events   int              // in the streams
	Repeated int              // of them, that the broker has more than once
}

// Pending says what is still under way, such as "order 0190... is PENDING", or
// "" if the shop is at rest: no order, payment or event waits for anything.
func (b Books) Pending(ctx context.Context) (string, error) {
	for _, q := range []struct {
		db        *sql.DB
		what, sql string
	}{
		{b.Order, "order %s is %s", `SELECT id, state FROM orders WHERE due_time IS NOT NULL OR state IN ('PENDING', 'CONFIRMED', 'CANCELLING') LIMIT 1`},
		{b.Payment, "payment %s is %s", `SELECT id, state FROM payments WHERE due_time IS NOT NULL LIMIT 1`},
		{b.Order, "event %s %s is not published", `SELECT id, subject FROM outbox LIMIT 1`},
		{b.Payment, "event %s %s is not published", `SELECT id, subject FROM outbox LIMIT 1`},
		{b.Inventory, "event %s %s is not published", `SELECT id, subject FROM outbox LIMIT 1`},
	} {
		var id, state string
		switch err := q.db.QueryRowContext(ctx, q.sql).Scan(&id, &state); {
		case err == nil:
			return fmt.Sprintf(q.what, id, state), nil
		case !errors.Is(err, sql.ErrNoRows):
			return "", err
		}
	}
	return "", nil
}

// Check returns what the books of a shop at rest add up to, and each violation
// of what must hold. The error is one of reading.
func (b Books) Check(ctx context.Context) (Summary, []string, error) {
	a := &auditor{sum: Summary{Orders: map[string]int{}, Captured: map[string]int64{}}}
	if err := a.read(ctx, b); err != nil {
		return a.sum, nil, fmt.Errorf("read the books: %w", err)
	}
	a.checkOrders()
	a.checkPayments()
	a.checkStock()
	if b.Broker != nil {
		if err := a.checkEvents(ctx, b); err != nil {
			return a.sum, nil, fmt.Errorf("read the streams: %w", err)
		}
	}
	slices.Sort(a.violations)
	return a.sum, a.violations, nil
}

// auditor holds all the books, as they were read.
type auditor struct {
	orders       map[string]*order
	payments     map[string]*payment // by order
	charges      map[string]charge   // of the processor, by key
	reservations map[string]*reservation
	stock        map[string]stock

	sum        Summary
	violations []string
}

func (a *auditor) violated(format string, args ...any) {
	a.violations = append(a.violations, fmt.Sprintf(format, args...))
}

// checkOrders holds each order to its history, its payment and its reservation.
func (a *auditor) checkOrders() {
	for id, o := range a.orders {
		a.sum.Orders[o.state]++
		if o.step != "DONE" || o.due || !slices.Contains([]string{"COMPLETED", "REJECTED", "CANCELLED"}, o.state) {
			a.violated("order %s is not at rest: %s, step %s", id, o.state, o.step)
		}
		if o.token {
			a.violated("order %s still has the token of its card", id)
		}
		if o.total != o.sum {
			a.violated("order %s is of %d %s and its items of %d", id, o.total, o.currency, o.sum)
		}
		a.checkHistory(id, o)
		if o.state == "COMPLETED" {
			a.checkCompleted(id, o)
		} else {
			a.checkUndone(id, o)
		}
	}
}

// histories are the ways of an order to its end.
var histories = []string{
	"PENDING CONFIRMED COMPLETED",
	"PENDING REJECTED",
	"PENDING CANCELLING CANCELLED",
	"PENDING CONFIRMED CANCELLING CANCELLED",
	"PENDING CONFIRMED COMPLETED CANCELLING CANCELLED",
}

// checkHistory: the order has gone one of the ways, versions rise by one from 1,
// and the last state is the order's own.
func (a *auditor) checkHistory(id string, o *order) {
	for i := range o.history {
		if o.versions[i] != int64(i+1) {
			a.violated("order %s has the versions %v", id, o.versions)
		}
	}
	if !slices.Contains(histories, strings.Join(o.history, " ")) {
		a.violated("order %s has the history %v", id, o.history)
	}
	if len(o.history) == 0 || o.history[len(o.history)-1] != o.state || o.version != int64(len(o.history)) {
		a.violated("order %s is %s in version %d, and its history is %v", id, o.state, o.version, o.history)
	}
}

func (a *auditor) checkCompleted(id string, o *order) {
	p := a.payments[id]
	switch {
	case p == nil:
		a.violated("order %s is COMPLETED and has no payment", id)
	case p.state != "CAPTURED" || p.currency != o.currency || p.amount != o.total || p.id != o.paymentID:
		a.violated("order %s is COMPLETED for %d %s, and its payment %s is %s of %d %s", id, o.total, o.currency, p.id, p.state, p.amount, p.currency)
	default:
		a.sum.Captured[o.currency] += o.total
	}
	switch r := a.reservations[id]; {
	case r == nil || r.state != "COMMITTED":
		a.violated("order %s is COMPLETED, and its reservation %s", id, stateOf(r))
	case !slices.Equal(r.items, o.items):
		a.violated("order %s is of %v and has taken %v", id, o.items, r.items)
	}
}

// undone are the states of what an order leaves that came to nothing. Only what
// was confirmed can have been captured or bought.
var undone = map[string][]string{
	"REJECTED":  {"DECLINED", "VOIDED", "RELEASED"},
	"CANCELLED": {"DECLINED", "VOIDED", "RELEASED", "REFUNDED", "RETURNED"},
}

// checkUndone: of an order that came to nothing no money and no stock is kept.
// Its saga has released the stock, so there is a reservation, if only a mark that
// there must be none.
func (a *auditor) checkUndone(id string, o *order) {
	if p := a.payments[id]; p != nil && !slices.Contains(undone[o.state], p.state) {
		a.violated("order %s is %s and its payment %s is %s", id, o.state, p.id, p.state)
	}
	switch r := a.reservations[id]; {
	case r == nil || !slices.Contains(undone[o.state], r.state):
		a.violated("order %s is %s and its reservation %s", id, o.state, stateOf(r))
	case len(r.items) > 0 && !slices.Equal(r.items, o.items):
		a.violated("order %s is of %v and had taken %v", id, o.items, r.items)
	}
}

func stateOf(r *reservation) string {
	if r == nil {
		return "does not exist"
	}
	return "is " + r.state
}

// movements are those that a payment in each state has in the ledger. None are of
// a charge that the processor has declined, or never answered for.
var movements = map[string][][]string{
	"DECLINED": {nil, {"AUTHORIZE"}}, // the latter: its capture was declined
	"CAPTURED": {{"AUTHORIZE", "CAPTURE"}},
	"VOIDED":   {nil, {"AUTHORIZE", "VOID"}},
	"REFUNDED": {{"AUTHORIZE", "CAPTURE", "REFUND"}},
}

// checkPayments holds each payment to its order, the ledger and the processor.
func (a *auditor) checkPayments() {
	completed := map[string]bool{} // by payment
	for id, p := range a.payments {
		completed[p.id] = a.orders[id] != nil && a.orders[id].state == "COMPLETED"
		if a.orders[id] == nil {
			a.violated("payment %s is of an order %s that does not exist", p.id, id)
		}
		slices.Sort(p.ledger)
		if !slices.ContainsFunc(movements[p.state], func(want []string) bool { return slices.Equal(p.ledger, want) }) {
			a.violated("payment %s is %s and the ledger has %v", p.id, p.state, p.ledger)
		}
		if !p.amounts {
			a.violated("payment %s is of %d %s and the ledger says otherwise", p.id, p.amount, p.currency)
		}
		a.checkCharge(p)
	}
	for key, c := range a.charges {
		if _, known := completed[key]; !known {
			a.violated("the processor has %s %d %s of a payment %s that does not exist", c.state, c.amount, c.currency, key)
		}
		if (c.state == "CAPTURED" || c.state == "AUTHORIZED") && !completed[key] {
			a.violated("the processor has %s %d %s of payment %s, which has no order that is COMPLETED", c.state, c.amount, c.currency, key)
		}
	}
}

// charged are the states at the processor of a payment in each state. It declines
// a charge whose answer is lost, and then the payment is voided.
var charged = map[string][]string{
	"DECLINED": {"DECLINED"},
	"CAPTURED": {"CAPTURED"},
	"VOIDED":   {"VOIDED", "DECLINED"},
	"REFUNDED": {"REFUNDED"},
}

func (a *auditor) checkCharge(p *payment) {
	c, ok := a.charges[p.id]
	switch {
	case !ok && p.tombstone: // the processor was never asked
	case !ok || p.tombstone || !slices.Contains(charged[p.state], c.state):
		a.violated("payment %s is %s, and at the processor %q", p.id, p.state, c.state)
	case len(p.ledger) > 0 && p.state == "VOIDED" && c.state != "VOIDED":
		a.violated("payment %s was authorized and is VOIDED, and at the processor %s", p.id, c.state)
	case c.state == "VOIDED" && c.amount == 0 && len(p.ledger) == 0: // voided before it was authorized
	case c.amount != p.amount || c.currency != p.currency:
		a.violated("payment %s is %s of %d %s, and at the processor %s of %d %s", p.id, p.state, p.amount, p.currency, c.state, c.amount, c.currency)
	}
}

// checkStock holds what each product has to what was reserved and sold of it.
func (a *auditor) checkStock() {
	reserved, sold := map[string]int64{}, map[string]int64{}
	for id, r := range a.reservations {
		if a.orders[id] == nil {
			a.violated("a reservation %s is of an order %s that does not exist", r.state, id)
		}
		for _, item := range r.items {
			switch r.state {
			case "RESERVED":
				reserved[item.product] += item.quantity
			case "COMMITTED":
				sold[item.product] += item.quantity
			}
		}
	}
	for id, s := range a.stock {
		if s.available+s.reserved+s.sold != s.stocked || min(s.available, s.reserved, s.sold) < 0 {
			a.violated("stock of %s does not add up: %+v", id, s)
		}
		if s.reserved != reserved[id] || s.sold != sold[id] {
			a.violated("stock of %s is %+v, and the orders have reserved %d and bought %d", id, s, reserved[id], sold[id])
		}
		a.sum.Sold += s.sold
	}
}

func byProduct(a, b item) int { return cmp.Compare(a.product, b.product) }
