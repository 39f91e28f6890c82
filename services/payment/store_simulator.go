package payment

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/meshmart/meshmart/services/internal/db"
	"github.com/meshmart/meshmart/services/internal/money"
)

// book is what the simulated processor knows, in transactions of its own.
type book struct {
	db *db.DB
}

// charge is a line of the book.
type charge struct {
	Key, Ref       string
	State          state // authorized, declined, captured, voided or refunded
	Amount         money.Amount
	Reason         string // of declined
	CaptureDecline string // with which a capture will be declined; "" if it won't
}

// add enters a charge, or returns the one that the key has.
func (b *book) add(ctx context.Context, c charge, now time.Time) (charge, error) {
	n, err := b.db.Of(c.Key).Exec(ctx, `
		INSERT INTO processor_charges (key, ref, state, currency, amount, reason, capture_decline, create_time, update_time)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8) ON CONFLICT (key) DO NOTHING`,
		c.Key, c.Ref, c.State, c.Amount.Currency, c.Amount.Micros, c.Reason, c.CaptureDecline, db.Micros(now))
	if err != nil {
		return charge{}, fmt.Errorf("enter charge %s: %w", c.Key, err)
	}
	if n == 1 {
		return c, nil
	}
	return b.charge(ctx, c.Key)
}

// charge returns the charge of the key; an empty one if there is none.
func (b *book) charge(ctx context.Context, key string) (charge, error) {
	c, _, err := b.one(ctx, key, `SELECT `+chargeColumns+` FROM processor_charges WHERE key = $1`, key)
	return c, err
}

const chargeColumns = `ref, state, currency, amount, reason, capture_decline`

// one runs a statement that returns the charge of the key; it reports false if it
// returns none.
func (b *book) one(ctx context.Context, key, query string, args ...any) (charge, bool, error) {
	c := charge{Key: key}
	err := b.db.Of(key).Row(ctx, query, args...).
		Scan(&c.Ref, &c.State, &c.Amount.Currency, &c.Amount.Micros, &c.Reason, &c.CaptureDecline)
	if errors.Is(err, sql.ErrNoRows) {
		return c, false, nil
	}
	if err != nil {
		return charge{}, false, fmt.Errorf("charge %s: %w", key, err)
	}
	return c, true, nil
}

// move takes the charge from one state to another, if it is in the first, and
// returns it as it is then. A capture that is to be declined is declined.
func (b *book) move(ctx context.Context, key string, from, to state, now time.Time) (charge, error) {
	c, moved, err := b.one(ctx, key, `
		UPDATE processor_charges SET update_time = $5,
			state = CASE WHEN $3 = 'CAPTURED' AND capture_decline <> '' THEN 'DECLINED' ELSE $4 END,
			reason = CASE WHEN $3 = 'CAPTURED' THEN capture_decline ELSE reason END
		WHERE key = $1 AND state = $2 RETURNING `+chargeColumns, key, from, to, to, db.Micros(now))
	if err != nil {
		return charge{}, fmt.Errorf("make it %s: %w", to, err)
	}
	if moved {
		return c, nil
	}
	return b.charge(ctx, key)
}
