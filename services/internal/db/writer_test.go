package db_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/meshmart/meshmart/services/internal/db"
	"github.com/meshmart/meshmart/services/internal/db/dbtest"
)

// crowd runs n transactions that have all come before the first one ends, and
// returns what became of each.
func crowd(t *testing.T, d *db.DB, n int, fn func(tx *db.DB, i int) error) []error {
	t.Helper()
	errs := make([]error, n)
	crowdThen(t, d, n, fn, func(i int, err error) { errs[i] = err })
	return errs
}

// crowdThen is crowd, and has then called when a transaction has ended.
func crowdThen(t *testing.T, d *db.DB, n int, fn func(tx *db.DB, i int) error, then func(i int, err error)) {
	t.Helper()
	var all sync.WaitGroup
	err := d.InTx(t.Context(), func(*db.DB) error { // has the turn meanwhile
		var come sync.WaitGroup
		for i := range n {
			come.Add(1)
			all.Go(func() {
				come.Done()
				then(i, d.InTx(t.Context(), func(tx *db.DB) error { return fn(tx, i) }))
			})
		}
		come.Wait()
		return nil
	})
	all.Wait()
	if err != nil {
		t.Fatal(err)
	}
}

func TestTransactionsOfAGroupAreUndoneOneByOne(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		const n = 40
		var seen atomic.Int64
		errs := crowd(t, d, n, func(tx *db.DB, i int) error {
			tx.AfterCommit(func() { seen.Add(1) })
			if err := add(tx, fmt.Sprintf("a%02d", i)); err != nil {
				return err
			}
			switch i % 4 {
			case 1:
				return errRefused
			case 2:
				return add(tx, "tea") // is there
			}
			return nil
		})
		for i, err := range errs {
			ok := map[int]bool{0: err == nil, 1: errors.Is(err, errRefused), 2: db.IsDuplicate(err), 3: err == nil}[i%4]
			if !ok {
				t.Errorf("%d: got %v", i, err)
			}
		}
		var stored, wrong int
		if err := d.Row(t.Context(), `SELECT COUNT(*) FROM stock WHERE sku LIKE 'a%'`).Scan(&stored); err != nil {
			t.Fatal(err)
		}
		for i := range n {
			var there int
			if err := d.Row(t.Context(), `SELECT COUNT(*) FROM stock WHERE sku = $1`, fmt.Sprintf("a%02d", i)).Scan(&there); err != nil {
				t.Fatal(err)
			}
			if want := map[bool]int{true: 1}[errs[i] == nil]; there != want {
				wrong++
			}
		}
		if stored != n/2 || wrong != 0 || seen.Load() != n/2 {
			t.Errorf("%d stored, %d not as told, %d hooks called; want %d", stored, wrong, seen.Load(), n/2)
		}
	}, stock())
}

// What one of a group waits for must not hold up those that have gone.
func TestWhoLeavesAGroupDoesNotKeepItOpen(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		errs := crowd(t, d, 20, func(tx *db.DB, i int) error {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if i%2 == 1 {
				cancel()
			}
			_, err := tx.Exec(ctx, `INSERT INTO stock VALUES ($1, 1)`, fmt.Sprintf("a%02d", i))
			return err
		})
		for i, err := range errs {
			if i%2 == 0 && err != nil || i%2 == 1 && !errors.Is(err, context.Canceled) {
				t.Errorf("%d: got %v", i, err)
			}
		}
		if err := add(d, "b"); err != nil {
			t.Error(err)
		}
	}, stock())
}

// A change by itself, one that returns rows and a transaction take turns with the
// members of a group.
func TestEveryWayToWriteTakesItsTurn(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		const one = `UPDATE stock SET available = available + 1 WHERE sku = 'tea'`
		ways := []func() error{
			func() error { _, err := d.Exec(t.Context(), one); return err },
			func() error { return d.Row(t.Context(), one+` RETURNING available`).Scan(new(int)) },
			func() error { return (&store{d}).claim(t.Context(), "tea") },
			func() error {
				return d.InTx(t.Context(), func(tx *db.DB) error { return tx.Later(t.Context(), one) })
			},
		}
		var all sync.WaitGroup
		for i := range 40 {
			all.Go(func() {
				if err := ways[i%len(ways)](); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if got := available(t, d, "tea"); got != 90 {
			t.Errorf("%d, want 90", got)
		}
	}, stock())
}

// One that fails for what another of its group has done must find that done.
func TestWhoComesSecondSeesTheFirstCommitted(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		var seen [20]int
		var first atomic.Int64
		crowdThen(t, d, len(seen), func(tx *db.DB, _ int) error { return add(tx, "a") }, func(i int, err error) {
			if err == nil {
				first.Add(1)
			}
			if look := d.Row(t.Context(), `SELECT COUNT(*) FROM stock WHERE sku = 'a'`).Scan(&seen[i]); look != nil || seen[i] != 1 {
				t.Errorf("after %v: %d, %v", err, seen[i], look)
			}
		})
		if first.Load() != 1 {
			t.Errorf("%d were first", first.Load())
		}
	}, stock())
}
