package payment

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/meshmart/meshmart/services/internal/db"
)

// store keeps payments and the ledger.
type store struct {
	db *db.DB
}

func (s *store) inTx(ctx context.Context, fn func(tx *store) error) error {
	return s.db.InTx(ctx, func(tx *db.DB) error { return fn(&store{tx}) })
}

// of returns the store for work on what belongs to one order, and nothing else: in a
// crowd it shares its commits with that of others.
func (s *store) of(orderID string) *store { return &store{s.db.Of(orderID)} }

// unavailable reports whether err is an outage of the database.
func unavailable(err error) bool { return db.IsUnavailable(err) }

const paymentColumns = `id, order_id, user_id, state, currency, amount, reason, message, processor_ref,
	version, create_time, update_time, attempts, trace`

func scanPayment(scan func(...any) error) (Payment, error) {
	var p Payment
	var created, updated int64
	err := scan(&p.ID, &p.OrderID, &p.UserID, &p.State, &p.Amount.Currency, &p.Amount.Micros, &p.Reason, &p.Message,
		&p.ProcessorRef, &p.Version, &created, &updated, &p.attempts, &p.trace)
	p.Created, p.Updated = db.Time(created), db.Time(updated)
	return p, err
}

// one runs a statement that returns a payment; it reports false if there is none.
func (s *store) one(ctx context.Context, what, query string, args ...any) (Payment, bool, error) {
	p, err := scanPayment(s.db.Row(ctx, query, args...).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return Payment{}, false, nil
	}
	if err != nil {
		return Payment{}, false, fmt.Errorf("%s: %w", what, err)
	}
	return p, true, nil
}

func (s *store) byOrder(ctx context.Context, orderID string) (Payment, bool, error) {
	return s.one(ctx, "payment of order "+orderID, `SELECT `+paymentColumns+` FROM payments WHERE order_id = $1`, orderID)
}

func (s *store) byID(ctx context.Context, id string) (Payment, bool, error) {
	return s.one(ctx, "payment "+id, `SELECT `+paymentColumns+` FROM payments WHERE id = $1`, id)
}

// add stores a payment, or returns the one that the order has, and false.
func (s *store) add(ctx context.Context, p Payment) (kept Payment, added bool, err error) {
	n, err := s.db.Of(p.OrderID).Exec(ctx, `INSERT INTO payments (`+paymentColumns+`)
		VALUES ($1, $2, $3, $4, $5, $6, '', '', '', $7, $8, $9, 0, '') ON CONFLICT (order_id) DO NOTHING`,
		p.ID, p.OrderID, p.UserID, p.State, p.Amount.Currency, p.Amount.Micros,
		p.Version, db.Micros(p.Created), db.Micros(p.Updated))
	if err != nil {
		return Payment{}, false, fmt.Errorf("add payment of order %s: %w", p.OrderID, err)
	}
	if n == 1 {
		p.Created, p.Updated = db.Time(db.Micros(p.Created)), db.Time(db.Micros(p.Updated))
		return p, true, nil
	}
	kept, _, err = s.byOrder(ctx, p.OrderID) // payments are never deleted
	return kept, false, err
}

// begin moves the payment from the state in which it was read into that of a
// change under way, unless somebody else has moved it. It returns the payment
// as it is then.
func (s *store) begin(ctx context.Context, p Payment, w wish) (Payment, error) {
	now, ok, err := s.of(p.OrderID).one(ctx, "begin "+string(w.to)+" of payment "+p.ID, `
		UPDATE payments SET state = $3, due_time = $4, attempts = 0, trace = $5 WHERE id = $1 AND state = $2
		RETURNING `+paymentColumns, p.ID, p.State, w.to, db.Micros(w.due), w.trace)
	if err == nil && !ok {
		now, _, err = s.byID(ctx, p.ID)
	}
	return now, err
}

// beginCapture is begin for the capture of an order's payment, if that is
// AUTHORIZED; it reports false if it is not.
func (s *store) beginCapture(ctx context.Context, orderID string, w wish) (Payment, bool, error) {
	return s.one(ctx, "begin capture of order "+orderID, `
		UPDATE payments SET state = $3, due_time = $4, attempts = 0, trace = $5 WHERE order_id = $1 AND state = $2
		RETURNING `+paymentColumns, orderID, authorized, w.to, db.Micros(w.due), w.trace)
}

// settle moves the payment on from the state in which it was read. If somebody
// else has done so it reports false. It returns the payment as it is then.
func (s *store) settle(ctx context.Context, p Payment, r result, now time.Time) (Payment, bool, error) {
	next, ok, err := s.one(ctx, "settle payment "+p.ID, `
		UPDATE payments SET state = $3, reason = $4, message = $5,
			processor_ref = CASE WHEN $6 = '' THEN processor_ref ELSE $6 END,
			due_time = NULL, attempts = 0, version = version + 1, update_time = $7
		WHERE id = $1 AND state = $2
		RETURNING `+paymentColumns, p.ID, p.State, r.state, r.decline.Reason, r.decline.Message, r.ref, db.Micros(now))
	if err == nil && !ok {
		next, _, err = s.byID(ctx, p.ID)
	}
	return next, ok, err
}

// postpone has the worker try the change again at that time.
func (s *store) postpone(ctx context.Context, p Payment, due time.Time) error {
	_, err := s.db.Of(p.OrderID).Exec(ctx, `UPDATE payments SET due_time = $3, attempts = attempts + 1 WHERE id = $1 AND state = $2`,
		p.ID, p.State, db.Micros(due))
	if err != nil {
		return fmt.Errorf("postpone payment %s: %w", p.ID, err)
	}
	return nil
}

// claim returns at most n changes that are due, and leaves them to the caller
// until the time given. Of two callers each gets others.
func (s *store) claim(ctx context.Context, n int, now, until time.Time) (claimed []Payment, err error) {
	err = s.inTx(ctx, func(tx *store) error {
		claimed = nil
		rows, err := tx.db.Query(ctx, `
			UPDATE payments SET due_time = $1
			WHERE due_time <= $2 AND id IN (SELECT id FROM payments WHERE due_time <= $2 ORDER BY due_time LIMIT $3)
			RETURNING `+paymentColumns, db.Micros(until), db.Micros(now), n)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			p, err := scanPayment(rows.Scan)
			if err != nil {
				return err
			}
			claimed = append(claimed, p)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("claim payments: %w", err)
	}
	return claimed, nil
}

// nextDue returns when the next change is due, and false if none is under way.
func (s *store) nextDue(ctx context.Context) (time.Time, bool, error) {
	var due sql.Null[int64]
	if err := s.db.Row(ctx, `SELECT MIN(due_time) FROM payments WHERE due_time IS NOT NULL`).Scan(&due); err != nil {
		return time.Time{}, false, fmt.Errorf("next payment that is due: %w", err)
	}
	return db.Time(due.V), due.Valid, nil
}

// enter adds a movement of the payment's whole amount to the ledger.
func (s *store) enter(ctx context.Context, id string, p Payment, kind string) error {
	err := s.db.Later(ctx, `INSERT INTO ledger (id, payment_id, kind, currency, amount, create_time)
		VALUES ($1, $2, $3, $4, $5, $6)`, id, p.ID, kind, p.Amount.Currency, p.Amount.Micros, db.Micros(p.Updated))
	if err != nil {
		return fmt.Errorf("enter %s of payment %s: %w", kind, p.ID, err)
	}
	return nil
}

// inherit makes all changes due that are under way, whoever had claimed them:
// for a process that knows that the one which did is dead.
func (s *store) inherit(ctx context.Context, now time.Time) error {
	if _, err := s.db.Exec(ctx, `UPDATE payments SET due_time = $1 WHERE due_time > $1`, db.Micros(now)); err != nil {
		return fmt.Errorf("inherit payments: %w", err)
	}
	return nil
}
