package payment

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/meshmart/meshmart/services/internal/db"
)

// stripeBook is what the adapter to Stripe keeps of its charges, in transactions
// of its own.
type stripeBook struct {
	db *db.DB
}

// stripeCharge is a line of the book.
type stripeCharge struct {
	Intent string // "": it was voided before it had one
	Voided bool
}

func (b *stripeBook) one(ctx context.Context, key, query string, args ...any) (stripeCharge, bool, error) {
	var c stripeCharge
	err := b.db.Row(ctx, query, args...).Scan(&c.Intent, &c.Voided)
	if errors.Is(err, sql.ErrNoRows) {
		return stripeCharge{}, false, nil
	}
	if err != nil {
		return stripeCharge{}, false, fmt.Errorf("stripe's charge %s: %w", key, err)
	}
	return c, true, nil
}

// charge returns the charge of the key; it reports false if there is none.
func (b *stripeBook) charge(ctx context.Context, key string) (stripeCharge, bool, error) {
	return b.one(ctx, key, `SELECT intent, voided FROM stripe_charges WHERE key = $1`, key)
}

// open enters the intent that a charge is going to be, and returns the charge as it
// is then: it may have had another intent, or be voided.
func (b *stripeBook) open(ctx context.Context, key, intent string, now time.Time) (stripeCharge, error) {
	return b.enter(ctx, key, intent, false, now)
}

// void marks the charge, whether there is one or not, and returns it. The intent
// is for a charge that has none.
func (b *stripeBook) void(ctx context.Context, key, intent string, now time.Time) (stripeCharge, error) {
	return b.enter(ctx, key, intent, true, now)
}

func (b *stripeBook) enter(ctx context.Context, key, intent string, voided bool, now time.Time) (stripeCharge, error) {
	c, _, err := b.one(ctx, key, `
		INSERT INTO stripe_charges (key, intent, voided, create_time) VALUES ($1, $2, $3, $4)
		ON CONFLICT (key) DO UPDATE SET voided = stripe_charges.voided OR excluded.voided,
			intent = CASE WHEN stripe_charges.intent = '' THEN excluded.intent ELSE stripe_charges.intent END
		RETURNING intent, voided`, key, intent, voided, db.Micros(now))
	return c, err
}

// hear notes a webhook; it reports false if it came before.
func (s *store) hear(ctx context.Context, e stripeEvent, paymentID string, now time.Time) (bool, error) {
	n, err := s.db.Exec(ctx, `INSERT INTO stripe_events (id, type, payment_id, create_time) VALUES ($1, $2, $3, $4)
		ON CONFLICT (id) DO NOTHING`, e.ID, e.Type, paymentID, db.Micros(now))
	if err != nil {
		return false, fmt.Errorf("note webhook %s: %w", e.ID, err)
	}
	return n == 1, nil
}

// forget drops the webhooks that came before that time.
func (s *store) forget(ctx context.Context, before time.Time) error {
	if _, err := s.db.Exec(ctx, `DELETE FROM stripe_events WHERE create_time < $1`, db.Micros(before)); err != nil {
		return fmt.Errorf("forget webhooks: %w", err)
	}
	return nil
}
