package order

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/meshmart/meshmart/services/internal/db"
)

// store keeps orders, with their items and their history.
type store struct {
	db *db.DB
}

func (s *store) inTx(ctx context.Context, fn func(tx *store) error) error {
	return s.db.InTx(ctx, func(tx *db.DB) error { return fn(&store{tx}) })
}

// of returns the store for work on one order, and no other: in a crowd it shares its
// commits with that on others.
func (s *store) of(id string) *store { return &store{s.db.Of(id)} }

// isDuplicate reports whether something was there already.
func isDuplicate(err error) bool { return db.IsDuplicate(err) }

func (s *store) afterCommit(fn func()) { s.db.AfterCommit(fn) }

// orderColumns are what scanOrder reads.
const orderColumns = `id, user_id, state, reason, message, currency, total, payment_id, traceparent, version,
	create_time, update_time, step, attempts, due_time, payment_token, stock_committed, payment_captured, revision`

// row is a row that can be read.
type row interface {
	Scan(dest ...any) error
}

// scanOrder reads an order without its items, and more columns after its own.
func scanOrder(r row, more ...any) (Order, error) {
	var o Order
	var created, updated int64
	var due sql.NullInt64
	err := r.Scan(append([]any{
		&o.ID, &o.UserID, &o.State, &o.Reason, &o.Message, &o.Total.Currency, &o.Total.Micros, &o.PaymentID, &o.Trace, &o.Version,
		&created, &updated, &o.step, &o.attempts, &due, &o.token, &o.committed, &o.captured, &o.revision,
	}, more...)...)
	if errors.Is(err, sql.ErrNoRows) {
		return Order{}, errUnknown
	}
	if err != nil {
		return Order{}, err
	}
	o.CreateTime, o.UpdateTime = db.Time(created), db.Time(updated)
	if due.Valid {
		o.due = db.Time(due.Int64)
	}
	return o, nil
}

// dueTime is the column due_time: NULL for an order at rest.
func dueTime(t time.Time) sql.NullInt64 {
	return sql.NullInt64{Int64: db.Micros(t), Valid: !t.IsZero()}
}

// order returns the order, or errUnknown.
func (s *store) order(ctx context.Context, id string) (Order, error) {
	o, err := scanOrder(s.db.Row(ctx, `SELECT `+orderColumns+` FROM orders WHERE id = $1`, id))
	if err != nil {
		return Order{}, fmt.Errorf("order %s: %w", id, err)
	}
	return s.withItems(ctx, o)
}

// byRequest returns the order that a request of the user made, and what the
// fingerprint of that request was; or errUnknown.
func (s *store) byRequest(ctx context.Context, userID, requestID string) (Order, []byte, error) {
	var fingerprint []byte
	o, err := scanOrder(s.db.Row(ctx, `SELECT `+orderColumns+`, fingerprint FROM orders
		WHERE user_id = $1 AND request_id = $2`, userID, requestID), &fingerprint)
	if err != nil {
		return Order{}, nil, fmt.Errorf("order of request %s: %w", requestID, err)
	}
	o, err = s.withItems(ctx, o)
	return o, fingerprint, err
}

// add inserts the order with its items. If the user's request has made one
// already, the transaction fails as a duplicate, at the latest when it is committed.
func (s *store) add(ctx context.Context, o Order, r Request) error {
	err := s.db.Later(ctx, `INSERT INTO orders (`+orderColumns+`, request_id, fingerprint)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21)`,
		o.ID, o.UserID, o.State, o.Reason, o.Message, o.Total.Currency, o.Total.Micros, o.PaymentID, o.Trace, o.Version,
		db.Micros(o.CreateTime), db.Micros(o.UpdateTime), o.step, o.attempts, dueTime(o.due), o.token, o.committed, o.captured, o.revision,
		r.ID, r.Fingerprint)
	if err != nil {
		return fmt.Errorf("add order %s: %w", o.ID, err)
	}
	return s.addItems(ctx, o)
}

// addItems inserts all items at once.
func (s *store) addItems(ctx context.Context, o Order) error {
	var values []string
	var args []any
	for i, item := range o.Items {
		values = append(values, "("+places(len(args), 7)+")")
		args = append(args, o.ID, i, item.ProductID, item.SKU, item.Name, item.Quantity, item.UnitPrice.Micros)
	}
	err := s.db.Later(ctx, `INSERT INTO order_items (order_id, position, product_id, sku, name, quantity, unit_price)
		VALUES `+strings.Join(values, ", "), args...)
	if err != nil {
		return fmt.Errorf("add items of order %s: %w", o.ID, err)
	}
	return nil
}

// places returns n placeholders, numbered from after those that are there.
func places(after, n int) string {
	marks := make([]string, n)
	for i := range marks {
		marks[i] = fmt.Sprintf("$%d", after+i+1)
	}
	return strings.Join(marks, ", ")
}

// save writes what may change of an order, if the row is still the one that was
// read: errOvertaken otherwise. It returns the order with its new revision.
func (s *store) save(ctx context.Context, o Order) (Order, error) {
	n, err := s.db.Exec(ctx, `UPDATE orders SET state = $3, reason = $4, message = $5, payment_id = $6, version = $7, update_time = $8,
			step = $9, attempts = $10, due_time = $11, payment_token = $12, stock_committed = $13, payment_captured = $14,
			revision = revision + 1
		WHERE id = $1 AND revision = $2`,
		o.ID, o.revision, o.State, o.Reason, o.Message, o.PaymentID, o.Version, db.Micros(o.UpdateTime),
		o.step, o.attempts, dueTime(o.due), o.token, o.committed, o.captured)
	if err != nil {
		return Order{}, fmt.Errorf("save order %s: %w", o.ID, err)
	}
	if n == 0 {
		return Order{}, fmt.Errorf("save order %s: %w", o.ID, errOvertaken)
	}
	o.revision++
	return o, nil
}

// note adds the news to a CONFIRMED order and returns it, without items; for one
// that is not, it reports false. With all the news there are, the order is
// COMPLETED. Of two notes at once, the second waits for the transaction of the
// first and sees both.
func (s *store) note(ctx context.Context, id string, news progress, now time.Time) (Order, bool, error) {
	const all = `(stock_committed OR $2) AND (payment_captured OR $3)`
	o, err := scanOrder(s.db.Row(ctx, `UPDATE orders SET stock_committed = stock_committed OR $2,
			payment_captured = payment_captured OR $3, revision = revision + 1,
			state = CASE WHEN `+all+` THEN $5 ELSE state END,
			version = CASE WHEN `+all+` THEN version + 1 ELSE version END,
			update_time = CASE WHEN `+all+` THEN $6 ELSE update_time END,
			step = CASE WHEN `+all+` THEN $7 ELSE step END,
			due_time = CASE WHEN `+all+` THEN NULL ELSE due_time END
		WHERE id = $1 AND state = $4 RETURNING `+orderColumns,
		id, news.committed, news.captured, Confirmed, Completed, db.Micros(now), stepDone))
	if errors.Is(err, errUnknown) {
		return Order{}, false, nil
	}
	if err != nil {
		return Order{}, false, fmt.Errorf("note progress of order %s: %w", id, err)
	}
	return o, true, nil
}

// addChange adds the order's state to its history.
func (s *store) addChange(ctx context.Context, o Order) error {
	err := s.db.Later(ctx, `INSERT INTO order_changes (order_id, version, state, reason, change_time) VALUES ($1, $2, $3, $4, $5)`,
		o.ID, o.Version, o.State, o.Reason, db.Micros(o.UpdateTime))
	if err != nil {
		return fmt.Errorf("add to the history of order %s: %w", o.ID, err)
	}
	return nil
}
