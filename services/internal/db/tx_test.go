package db_test

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/meshmart/meshmart/services/internal/db"
	"github.com/meshmart/meshmart/services/internal/db/dbtest"
)

var errRefused = errors.New("refused")

func add(tx *db.DB, sku string) error {
	_, err := tx.Exec(context.Background(), `INSERT INTO stock VALUES ($1, 1)`, sku)
	return err
}

// skus returns what the tests have added.
func skus(t *testing.T, d *db.DB) string {
	t.Helper()
	rows, err := d.Query(t.Context(), `SELECT sku FROM stock WHERE sku NOT IN ('tea', 'mug') ORDER BY sku`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var all []string
	for rows.Next() {
		var sku string
		if err := rows.Scan(&sku); err != nil {
			t.Fatal(err)
		}
		all = append(all, sku)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return strings.Join(all, " ")
}

func TestInTxCommitsOrUndoes(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		var calls []string
		run := func(sku string, result error) error {
			return d.InTx(t.Context(), func(tx *db.DB) error {
				tx.AfterCommit(func() { calls = append(calls, sku+" sees "+skus(t, d)) })
				return errors.Join(add(tx, sku), result)
			})
		}
		if err := run("a", nil); err != nil {
			t.Error(err)
		}
		if err := run("b", errRefused); !errors.Is(err, errRefused) {
			t.Errorf("got %v, want refused", err)
		}
		if got := skus(t, d); got != "a" {
			t.Errorf("stored %q, want a", got)
		}
		if diff := cmp.Diff([]string{"a sees a"}, calls); diff != "" {
			t.Error(diff)
		}
	}, stock())
}

func TestPanicUndoes(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic was swallowed")
				}
			}()
			_ = d.InTx(t.Context(), func(tx *db.DB) error {
				if err := add(tx, "a"); err != nil {
					t.Error(err)
				}
				return tx.InTx(t.Context(), func(*db.DB) error { panic("bug") })
			})
		}()
		if err := add(d, "b"); err != nil { // the writer is free again
			t.Error(err)
		}
		if got := skus(t, d); got != "b" {
			t.Errorf("stored %q, want b", got)
		}
	}, stock())
}

func TestInTxJoins(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		var hooks []string
		err := d.InTx(t.Context(), func(tx *db.DB) error {
			inner := func(sku string, result error) error {
				return tx.InTx(t.Context(), func(tx *db.DB) error {
					tx.AfterCommit(func() { hooks = append(hooks, sku) })
					return errors.Join(add(tx, sku), result)
				})
			}
			if err := inner("a", nil); err != nil {
				t.Error(err)
			}
			if err := inner("b", errRefused); !errors.Is(err, errRefused) {
				t.Errorf("got %v, want refused", err)
			}
			if err := inner("a", nil); !db.IsDuplicate(err) {
				t.Errorf("got %v, want duplicate", err)
			}
			return inner("c", nil) // PostgreSQL, too, goes on after the failed statement
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := skus(t, d); got != "a c" {
			t.Errorf("stored %q, want a c", got)
		}
		if diff := cmp.Diff([]string{"a", "c"}, hooks); diff != "" {
			t.Error(diff)
		}
	}, stock())
}

func TestOuterErrorUndoesWhatJoined(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		err := d.InTx(t.Context(), func(tx *db.DB) error {
			err := tx.InTx(t.Context(), func(tx *db.DB) error {
				tx.AfterCommit(func() { t.Error("hook called") })
				return add(tx, "a")
			})
			return errors.Join(err, errRefused)
		})
		if !errors.Is(err, errRefused) || skus(t, d) != "" {
			t.Errorf("got %v and stored %q", err, skus(t, d))
		}
	}, stock())
}

func TestCancelledTransactionIsUndone(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		err := d.InTx(ctx, func(tx *db.DB) error {
			if err := add(tx, "a"); err != nil {
				return err
			}
			cancel()
			return nil
		})
		if !errors.Is(err, context.Canceled) || db.IsUnavailable(err) {
			t.Errorf("got %v, unavailable %t", err, db.IsUnavailable(err))
		}
		if err := add(d, "b"); err != nil {
			t.Error(err)
		}
		if got := skus(t, d); got != "b" {
			t.Errorf("stored %q, want b", got)
		}
	}, stock())
}

// Two transactions that want the same rows in another order: PostgreSQL gives
// up one of them, which then is to run again.
func TestDeadlockIsRetried(t *testing.T) {
	d := dbtest.Open(t, dbtest.Postgres(t), stock())
	var meet, both sync.WaitGroup
	meet.Add(2)
	take := func(first, second string) {
		met := false
		err := d.InTx(t.Context(), func(tx *db.DB) error {
			const one = `UPDATE stock SET available = available + 1 WHERE sku = $1`
			if _, err := tx.Exec(t.Context(), one, first); err != nil {
				return err
			}
			if !met {
				met = true
				meet.Done()
				meet.Wait()
			}
			_, err := tx.Exec(t.Context(), one, second)
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	both.Go(func() { take("tea", "mug") })
	both.Go(func() { take("mug", "tea") })
	both.Wait()
	if got := available(t, d, "tea"); got != 52 {
		t.Errorf("%d, want 52", got)
	}
}

func TestBusyIsRetriedAFewTimes(t *testing.T) {
	path := dbtest.SQLite(t)
	d := dbtest.Open(t, path, stock())
	other, err := sql.Open("sqlite", "file:"+path+"?_txlock=immediate")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	run := func(busyTimes int) (calls int, err error) {
		err = d.InTx(t.Context(), func(tx *db.DB) error {
			if calls++; calls > busyTimes {
				return add(tx, "a")
			}
			_, err := other.BeginTx(t.Context(), nil) // busy: the lock is ours
			return err
		})
		return calls, err
	}
	if calls, err := run(100); calls != 5 || !db.IsUnavailable(err) {
		t.Errorf("always busy: %d calls, %v", calls, err)
	}
	if calls, err := run(2); calls != 3 || err != nil {
		t.Errorf("busy twice: %d calls, %v", calls, err)
	}
}
