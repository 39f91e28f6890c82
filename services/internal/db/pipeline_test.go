package db_test

import (
	"context"
	"errors"
	"testing"

	"github.com/meshmart/meshmart/services/internal/db"
	"github.com/meshmart/meshmart/services/internal/db/dbtest"
	"github.com/meshmart/meshmart/services/internal/effect"
)

func later(tx *db.DB, sku string) error {
	return tx.Later(context.Background(), `INSERT INTO stock VALUES ($1, 1)`, sku)
}

// What is left for later is there for the next statement, and for nobody if it or
// anything after it fails.
func TestLaterIsBeforeWhatComesNext(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		err := d.InTx(t.Context(), func(tx *db.DB) error {
			if err := errors.Join(later(tx, "a"), later(tx, "b")); err != nil {
				return err
			}
			if got := skus(t, tx); got != "a b" {
				t.Errorf("found %q", got)
			}
			return later(tx, "c")
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx := effect.Track(t.Context())
		for name, next := range map[string]func(tx *db.DB) error{
			"commit":    func(*db.DB) error { return nil },
			"statement": func(tx *db.DB) error { return add(tx, "e") },
			"query":     func(tx *db.DB) error { return tx.Row(ctx, `SELECT 1`).Scan(new(int)) },
			"later":     func(tx *db.DB) error { return later(tx, "e") },
			"joined":    func(tx *db.DB) error { return tx.InTx(ctx, func(tx *db.DB) error { return later(tx, "e") }) },
		} {
			err := d.InTx(ctx, func(tx *db.DB) error {
				tx.AfterCommit(func() { t.Error("hook called") })
				if err := errors.Join(later(tx, "d"), later(tx, "tea")); err != nil { // there is tea
					return err
				}
				return next(tx)
			})
			if !db.IsDuplicate(err) || db.IsUnavailable(err) || effect.Noted(ctx) {
				t.Errorf("before a %s: got %v, an effect: %v", name, err, effect.Noted(ctx))
			}
		}
		if got := skus(t, d); got != "a b c" {
			t.Errorf("stored %q, want a b c", got)
		}
	}, stock())
}

// The answer to a transaction that was sent as one is lost: it may be committed.
func TestLostAnswerToEverythingAtOnceLeavesTheOutcomeOpen(t *testing.T) {
	way, url := newDoor(t, dbtest.Postgres(t))
	way.open()
	d := dbtest.Open(t, url, stock())
	ctx := effect.Track(t.Context())
	run := func(sku string) error {
		return d.InTx(ctx, func(tx *db.DB) error { return later(tx, sku) })
	}
	if err := run("a"); err != nil { // prepared
		t.Fatal(err)
	}
	ctx = effect.Track(t.Context())
	way.swallow.Store(true)
	if err := run("b"); err == nil || db.IsUnavailable(err) || !effect.Noted(ctx) {
		t.Errorf("got %v, an effect: %v", err, effect.Noted(ctx))
	}
	if got := skus(t, d); got != "a b" {
		t.Errorf("stored %q, want a b", got)
	}
}
