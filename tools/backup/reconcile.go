package main

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
)

// What people see of an order that is taken back.
const (
	reason  = "RESTORED"
	message = "the shop was restored from a backup that has a part of this order only; what was paid is given back"
)

// reconcile finds what the databases do not agree on, and has the services see to
// it when they run again: by the row of the order, and by events.
func (c *config) reconcile(ctx context.Context) (err error) {
	b, done, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	entries, err := b.entries(ctx)
	if err != nil {
		return fmt.Errorf("read the books: %w", err)
	}
	m := &mending{config: c, now: time.Now().UTC().Truncate(time.Microsecond), counts: map[string]int{}}
	if err := m.begin(ctx, b); err != nil {
		return err
	}
	defer m.rollback()
	for _, id := range slices.Sorted(maps.Keys(entries)) {
		if err := m.mend(ctx, id, entries[id]); err != nil {
			return fmt.Errorf("order %s: %w", id, err)
		}
	}
	if err := m.catalog(ctx); err != nil {
		return fmt.Errorf("catalog: %w", err)
	}
	for _, what := range slices.Sorted(maps.Keys(m.counts)) {
		c.say("%6d %s", m.counts[what], what)
	}
	c.say("%6d orders were looked at", len(entries))
	if c.dry {
		return nil
	}
	return m.commit()
}

// mending is one transaction for each database. One that is committed alone does no
// harm: the next run finds what is left.
type mending struct {
	*config
	now    time.Time
	counts map[string]int // of what was done

	order, inventory, payment, product *sql.Tx
}

func (m *mending) begin(ctx context.Context, b books) (err error) {
	for _, t := range []struct {
		db *sql.DB
		tx **sql.Tx
	}{{b.order, &m.order}, {b.inventory, &m.inventory}, {b.payment, &m.payment}, {b.product, &m.product}} {
		if *t.tx, err = t.db.BeginTx(ctx, nil); err != nil {
			m.rollback()
			return err
		}
	}
	return nil
}

func (m *mending) all() []*sql.Tx { return []*sql.Tx{m.order, m.inventory, m.payment, m.product} }

func (m *mending) rollback() {
	for _, tx := range m.all() {
		if tx != nil {
			_ = tx.Rollback() // nothing, after a commit
		}
	}
}

func (m *mending) commit() error {
	var errs []error
	for _, tx := range m.all() {
		errs = append(errs, tx.Commit())
	}
	return errors.Join(errs...)
}

// mend does what an order needs.
func (m *mending) mend(ctx context.Context, id string, e *entry) error {
	what := e.verdict()
	var err error
	switch what {
	case adopt:
		err = m.adopt(ctx, id)
	case cancel:
		err = m.cancel(ctx, id, e.revision)
	case undo:
		err = m.restart(ctx, id, e.revision, "UNDO_PAYMENT")
	case again:
		err = m.restart(ctx, id, e.revision, "RESERVE")
	case ahead:
		err = m.restart(ctx, id, e.revision, "AUTHORIZE")
	}
	if err != nil {
		return err
	}
	if what != none {
		m.say("order %s %s: order %q %s, reservation %q, payment %q", id, told[what], e.state, e.step, e.reservation, e.payment)
		m.counts["orders: "+told[what]]++
	}
	for _, subject := range e.announcements() {
		if err := m.announce(ctx, subject, id); err != nil {
			return err
		}
		m.counts["events: "+subject]++
	}
	return nil
}

// restart has a worker take the order up at a step. Of a row that is not as it was
// read any more, nothing is known.
func (m *mending) restart(ctx context.Context, id string, revision int64, step string) error {
	return one(m.order.ExecContext(ctx, `UPDATE orders SET step = $2, attempts = 0, due_time = $3, revision = revision + 1
		WHERE id = $1 AND revision = $4`, id, step, m.now.UnixMicro(), revision))
}

// cancel writes what the order service writes when somebody cancels the order.
func (m *mending) cancel(ctx context.Context, id string, revision int64) error {
	err := one(m.order.ExecContext(ctx, `UPDATE orders SET state = 'CANCELLING', reason = $2, message = $3, version = version + 1, update_time = $4,
			step = 'UNDO_PAYMENT', attempts = 0, due_time = $4, payment_token = '', revision = revision + 1
		WHERE id = $1 AND revision = $5`, id, reason, message, m.now.UnixMicro(), revision))
	if err != nil {
		return err
	}
	err = one(m.order.ExecContext(ctx, `INSERT INTO order_changes (order_id, version, state, reason, change_time)
		SELECT id, version, state, reason, update_time FROM orders WHERE id = $1`, id))
	if err != nil {
		return err
	}
	return m.announce(ctx, "order.cancelling", id)
}

// line is an item of an order.
type line struct {
	product, sku, name, currency string
	quantity, price              int64
}

// adopt enters an order that is newer than the backup of its service, as far as
// the others know it, and cancels it.
func (m *mending) adopt(ctx context.Context, id string) error {
	var payment, user, currency string
	var total int64
	err := m.payment.QueryRowContext(ctx, `SELECT id, user_id, currency, amount FROM payments WHERE order_id = $1 AND user_id <> ''`, id).
		Scan(&payment, &user, &currency, &total)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	lines, err := m.lines(ctx, id)
	if err != nil {
		return err
	}
	if payment == "" {
		for _, l := range lines {
			currency, total = cmp.Or(l.currency, currency), total+l.quantity*l.price
		}
	}
	created := placed(id, m.now).UnixMicro()
	err = one(m.order.ExecContext(ctx, `INSERT INTO orders (id, user_id, request_id, fingerprint, state, reason, message, currency, total, payment_id,
			traceparent, version, create_time, update_time, step, attempts, due_time, payment_token, stock_committed, payment_captured, revision)
		VALUES ($1, $2, $1, $3, 'PENDING', '', '', $4, $5, $6, '', 1, $7, $7, 'RESERVE', 0, NULL, '', FALSE, FALSE, 1)`,
		id, user, []byte{}, currency, total, payment, created))
	if err != nil {
		return err
	}
	err = one(m.order.ExecContext(ctx, `INSERT INTO order_changes (order_id, version, state, reason, change_time) VALUES ($1, 1, 'PENDING', '', $2)`, id, created))
	if err != nil {
		return err
	}
	for i, l := range lines {
		err := one(m.order.ExecContext(ctx, `INSERT INTO order_items (order_id, position, product_id, sku, name, quantity, unit_price)
			VALUES ($1, $2, $3, $4, $5, $6, $7)`, id, i, l.product, l.sku, l.name, l.quantity, l.price))
		if err != nil {
			return err
		}
	}
	return m.cancel(ctx, id, 1)
}

// lines returns what the inventory has reserved for an order, as the catalog has it
// now.
func (m *mending) lines(ctx context.Context, id string) ([]line, error) {
	var lines []line
	err := each(ctx, m.inventory, `SELECT product_id, quantity FROM reservation_items WHERE order_id = $1`, func(scan scanner) error {
		var l line
		err := scan(&l.product, &l.quantity)
		lines = append(lines, l)
		return err
	}, id)
	if err != nil {
		return nil, err
	}
	for i := range lines {
		l := &lines[i]
		err := m.product.QueryRowContext(ctx, `SELECT sku, name, price_currency, price_micros FROM products WHERE id = $1`, l.product).
			Scan(&l.sku, &l.name, &l.currency, &l.price)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return nil, err
		}
	}
	return lines, nil
}

// placed returns when an order was placed, which its id tells.
func placed(id string, now time.Time) time.Time {
	u, err := uuid.Parse(id)
	if err != nil || u.Version() != 7 {
		return now
	}
	return time.Unix(u.Time().UnixTime()).UTC()
}

// one returns an error if a statement failed or did not change one row.
func one(r sql.Result, err error) error {
	if err != nil {
		return err
	}
	n, err := r.RowsAffected()
	if err == nil && n != 1 {
		err = fmt.Errorf("%d rows were changed in place of one", n)
	}
	return err
}
