package audit

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
)

type item struct {
	product  string
	quantity int64
}

type order struct {
	state, step, currency, paymentID string
	total, version                   int64
	sum                              int64 // of the items' prices
	due, token                       bool
	items                            []item
	history                          []string // of states
	versions                         []int64  // of the history
}

type payment struct {
	id, state, currency string
	amount              int64
	ledger              []string // kinds of movement
	amounts             bool     // each movement is of the payment's amount
	tombstone           bool     // there never was a payment, only its refusal
}

type charge struct {
	state, currency string
	amount          int64
}

type reservation struct {
	state string
	items []item
}

type stock struct{ available, reserved, sold, stocked int64 }

func (a *auditor) read(ctx context.Context, b Books) error {
	a.orders, a.payments, a.charges = map[string]*order{}, map[string]*payment{}, map[string]charge{}
	a.reservations, a.stock = map[string]*reservation{}, map[string]stock{}
	for _, fn := range []func() error{
		func() error { return a.readOrders(ctx, b.Order) },
		func() error { return a.readPayments(ctx, b.Payment) },
		func() error { return a.readInventory(ctx, b.Inventory) },
	} {
		if err := fn(); err != nil {
			return err
		}
	}
	return nil
}

func (a *auditor) readOrders(ctx context.Context, db *sql.DB) error {
	err := each(ctx, db, `SELECT id, state, step, currency, payment_id, total, version, due_time IS NOT NULL, payment_token <> '' FROM orders`, func(scan scanner) error {
		var id string
		o := &order{}
		err := scan(&id, &o.state, &o.step, &o.currency, &o.paymentID, &o.total, &o.version, &o.due, &o.token)
		a.orders[id] = o
		return err
	})
	if err != nil {
		return err
	}
	err = each(ctx, db, `SELECT order_id, product_id, quantity, unit_price FROM order_items`, func(scan scanner) error {
		var id string
		var i item
		var price int64
		err := scan(&id, &i.product, &i.quantity, &price)
		if o := a.orders[id]; err == nil && o != nil {
			o.items = append(o.items, i)
			o.sum += i.quantity * price
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, o := range a.orders {
		slices.SortFunc(o.items, byProduct)
	}
	return each(ctx, db, `SELECT order_id, version, state FROM order_changes ORDER BY order_id, version`, func(scan scanner) error {
		var id, state string
		var version int64
		err := scan(&id, &version, &state)
		if o := a.orders[id]; err == nil && o != nil {
			o.history, o.versions = append(o.history, state), append(o.versions, version)
		}
		return err
	})
}

func (a *auditor) readPayments(ctx context.Context, db *sql.DB) error {
	byID := map[string]*payment{}
	err := each(ctx, db, `SELECT id, order_id, state, currency, amount, user_id = '' FROM payments`, func(scan scanner) error {
		var order string
		p := &payment{amounts: true}
		err := scan(&p.id, &order, &p.state, &p.currency, &p.amount, &p.tombstone)
		a.payments[order], byID[p.id] = p, p
		return err
	})
	if err != nil {
		return err
	}
	err = each(ctx, db, `SELECT payment_id, kind, currency, amount FROM ledger`, func(scan scanner) error {
		var id, kind, currency string
		var amount int64
		if err := scan(&id, &kind, &currency, &amount); err != nil {
			return err
		}
		p := byID[id]
		p.ledger = append(p.ledger, kind)
		p.amounts = p.amounts && p.currency == currency && p.amount == amount
		return nil
	})
	if err != nil {
		return err
	}
	return each(ctx, db, `SELECT key, state, currency, amount FROM processor_charges`, func(scan scanner) error {
		var key string
		var c charge
		err := scan(&key, &c.state, &c.currency, &c.amount)
		a.charges[key] = c
		return err
	})
}

func (a *auditor) readInventory(ctx context.Context, db *sql.DB) error {
	err := each(ctx, db, `SELECT product_id, available, reserved, sold, stocked FROM stock`, func(scan scanner) error {
		var id string
		var s stock
		err := scan(&id, &s.available, &s.reserved, &s.sold, &s.stocked)
		a.stock[id] = s
		return err
	})
	if err != nil {
		return err
	}
	err = each(ctx, db, `SELECT order_id, state FROM reservations`, func(scan scanner) error {
		var id string
		r := &reservation{}
		err := scan(&id, &r.state)
		a.reservations[id] = r
		return err
	})
	if err != nil {
		return err
	}
	err = each(ctx, db, `SELECT order_id, product_id, quantity FROM reservation_items`, func(scan scanner) error {
		var id string
		var i item
		err := scan(&id, &i.product, &i.quantity)
		if r := a.reservations[id]; err == nil && r != nil {
			r.items = append(r.items, i)
		}
		return err
	})
	for _, r := range a.reservations {
		slices.SortFunc(r.items, byProduct)
	}
	return err
}

type scanner = func(...any) error

func each(ctx context.Context, db *sql.DB, query string, fn func(scanner) error) error {
	rows, err := db.QueryContext(ctx, query)
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
