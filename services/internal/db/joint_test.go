package db_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/meshmart/meshmart/services/internal/db"
	"github.com/meshmart/meshmart/services/internal/db/dbtest"
	"github.com/meshmart/meshmart/services/internal/effect"
)

// hold keeps all writers busy until release is called.
func hold(t *testing.T, d *db.DB) (release func()) {
	t.Helper()
	var all, busy sync.WaitGroup
	free := make(chan struct{})
	for i := range db.JointWriters {
		busy.Add(1)
		all.Go(func() {
			err := d.Of(fmt.Sprint("busy", i)).InTx(context.Background(), func(*db.DB) error {
				busy.Done()
				<-free
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	busy.Wait()
	return func() { close(free); all.Wait() }
}

// queued has n calls wait in line before any of them can go on, and returns when
// all have ended.
func queued(t *testing.T, d *db.DB, n int, call func(i int)) {
	t.Helper()
	release := hold(t, d)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { call(i) })
	}
	for d.InLine() < n {
		time.Sleep(time.Millisecond)
	}
	release()
	all.Wait()
}

// share runs n transactions, each by a key of its own, that come while all writers
// are busy, and returns what became of each.
func share(t *testing.T, d *db.DB, n int, fn func(tx *db.DB, i int) error) []error {
	t.Helper()
	errs := make([]error, n)
	queued(t, d, n, func(i int) {
		errs[i] = d.Of(fmt.Sprint("key", i)).InTx(context.Background(), func(tx *db.DB) error { return fn(tx, i) })
	})
	return errs
}

// commits returns in how many transactions the rows were written that begin with prefix.
func commits(t *testing.T, d *db.DB, prefix string) (transactions, rows int) {
	t.Helper()
	err := d.Row(t.Context(), `SELECT COUNT(DISTINCT xmin::text), COUNT(*) FROM stock WHERE sku LIKE $1`, prefix+"%").Scan(&transactions, &rows)
	if err != nil {
		t.Fatal(err)
	}
	return transactions, rows
}

// The answers of one round have columns of different types: each is read by its own.
func TestRowsOfASharedTransactionKeepTheirTypes(t *testing.T) {
	d := dbtest.Open(t, dbtest.Postgres(t), stock())
	const n = 12
	for i := range n {
		if _, err := d.Exec(t.Context(), `INSERT INTO stock VALUES ($1, 1)`, fmt.Sprintf("sku%05d", i)); err != nil {
			t.Fatal(err)
		}
	}
	queued(t, d, n, func(i int) {
		sku := fmt.Sprintf("sku%05d", i)
		var text string
		number := int64(8)
		returning := []string{"sku", "available", "sku, available", "available, sku"}[i%4]
		dest := [][]any{{&text}, {&number}, {&text, &number}, {&number, &text}}[i%4]
		err := d.Of(sku).Row(t.Context(), `UPDATE stock SET available = 8 WHERE sku = $1 RETURNING `+returning, sku).Scan(dest...)
		if err != nil || number != 8 || text != sku && i%4 != 1 {
			t.Errorf("%s: got %q and %d of %s, %v", sku, text, number, returning, err)
		}
	})
	if tx, rows := commits(t, d, "sku"); tx != 1 || rows != n {
		t.Errorf("%d rows by %d transactions", rows, tx)
	}
}

// A transaction that reads, changes and leaves something for later, and others like
// it, have few commits between them.
func TestTransactionsOfKeysShareTheirCommit(t *testing.T) {
	d := dbtest.Open(t, dbtest.Postgres(t), stock())
	const n = 60
	var mu sync.Mutex
	told := 0
	errs := share(t, d, n, func(tx *db.DB, i int) error {
		sku := fmt.Sprintf("a%02d", i)
		tx.AfterCommit(func() {
			mu.Lock()
			defer mu.Unlock()
			if available(t, d, sku) == 3 {
				told++
			}
		})
		var number int64
		var name string
		return errors.Join(
			add(tx, sku),
			later(tx, sku+" later"),
			tx.Row(t.Context(), `UPDATE stock SET available = 3 WHERE sku = $1 RETURNING sku, available`, sku).Scan(&name, &number),
			expect(name == sku && number == 3, "got %s %d", name, number),
			expect(strings.Contains(skus(t, tx), sku+" "+sku+" later"), "does not see its own rows"))
	})
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	transactions, rows := commits(t, d, "a")
	if rows != 2*n || transactions > db.JointWriters {
		t.Errorf("%d rows in %d transactions", rows, transactions)
	}
	if told != n {
		t.Errorf("%d of %d hooks were called once the rows could be seen", told, n)
	}
	t.Logf("figure: %d transactions of a key each on PostgreSQL: %d commits", n, transactions)
}

func expect(ok bool, format string, args ...any) error {
	if ok {
		return nil
	}
	return fmt.Errorf(format, args...)
}

// Some fail by an error of their own, some by a statement, and one panics: what they
// did is undone, what the others did lasts, and each learns what became of it.
func TestWhoFailsInASharedTransactionFailsAlone(t *testing.T) {
	d := dbtest.Open(t, dbtest.Postgres(t), stock())
	const n = 30
	for _, fails := range []struct {
		name  string
		fn    func(tx *db.DB, sku string) error
		fault func(error) bool
	}{
		{"with an error", func(tx *db.DB, sku string) error { return errors.Join(add(tx, sku), errRefused) },
			func(err error) bool { return errors.Is(err, errRefused) }},
		{"before it has done anything", func(*db.DB, string) error { return errRefused },
			func(err error) bool { return errors.Is(err, errRefused) }},
		{"with a statement", func(tx *db.DB, sku string) error { return errors.Join(add(tx, sku), add(tx, "tea")) }, db.IsDuplicate},
		{"with one for later", func(tx *db.DB, sku string) error { return errors.Join(later(tx, sku), later(tx, "tea")) }, db.IsDuplicate},
		{"and does not say so", func(tx *db.DB, sku string) error { _ = add(tx, "tea"); return add(tx, sku) },
			func(err error) bool { return err != nil }},
		{"in a part of it", func(tx *db.DB, sku string) error {
			return tx.InTx(t.Context(), func(tx *db.DB) error { return errors.Join(add(tx, sku), errRefused) })
		}, func(err error) bool { return errors.Is(err, errRefused) }},
	} {
		t.Run(fails.name, func(t *testing.T) {
			prefix := strings.ReplaceAll(fails.name, " ", "_")
			errs := share(t, d, n, func(tx *db.DB, i int) error {
				sku := fmt.Sprintf("%s%02d", prefix, i)
				if i%10 == 5 {
					tx.AfterCommit(func() { t.Error("hook called") })
					return fails.fn(tx, sku)
				}
				return add(tx, sku)
			})
			for i, err := range errs {
				if failed := i%10 == 5; failed && !fails.fault(err) || !failed && err != nil {
					t.Errorf("%d: got %v", i, err)
				}
			}
			if _, rows := commits(t, d, prefix); rows != n-3 {
				t.Errorf("%d rows, want %d", rows, n-3)
			}
		})
	}
}

func TestWhoPanicsInASharedTransactionFailsAlone(t *testing.T) {
	d := dbtest.Open(t, dbtest.Postgres(t), stock())
	var panicked any
	queued(t, d, 10, func(i int) {
		defer func() {
			if p := recover(); p != nil {
				panicked = p
			}
		}()
		err := d.Of(fmt.Sprint(i)).InTx(context.Background(), func(tx *db.DB) error {
			if err := add(tx, fmt.Sprint("q", i)); err != nil || i != 4 {
				return err
			}
			panic("q4")
		})
		if err != nil {
			t.Error(err)
		}
	})
	if panicked != "q4" {
		t.Errorf("got the panic %v", panicked)
	}
	if _, rows := commits(t, d, "q"); rows != 9 {
		t.Errorf("%d rows, want 9", rows)
	}
}

func TestWhoLeavesTheLineIsGone(t *testing.T) {
	d := dbtest.Open(t, dbtest.Postgres(t), stock())
	release := hold(t, d)
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan error)
	go func() { gone <- d.Of("gone").InTx(ctx, func(tx *db.DB) error { return add(tx, "gone") }) }()
	for d.InLine() == 0 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	release()
	if got := skus(t, d); got != "" {
		t.Errorf("stored %q", got)
	}
}

// Of those who share, one whose context ends before it has done anything has done
// nothing; what another has begun by then is done. The rest do not care.
func TestContextsThatEndInASharedTransaction(t *testing.T) {
	d := dbtest.Open(t, dbtest.Postgres(t), stock())
	const n = 8
	errs := share(t, d, n, func(tx *db.DB, i int) error {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		insert := func(sku string) error {
			_, err := tx.Exec(ctx, `INSERT INTO stock VALUES ($1, 1)`, fmt.Sprint(sku, i))
			return err
		}
		if i == 0 {
			cancel()
		}
		if err := insert("e"); err != nil {
			return err
		}
		if i == 1 {
			cancel()
		}
		return insert("f")
	})
	for i, err := range errs {
		if left := i == 0; left != errors.Is(err, context.Canceled) || !left && err != nil {
			t.Errorf("%d: got %v", i, err)
		}
	}
	if got := len(strings.Fields(skus(t, d))); got != 2*(n-1) {
		t.Errorf("%d rows, want %d", got, 2*(n-1))
	}
}

// What belongs to one key is done in the order in which it came, and each sees
// what was done before it.
func TestWorkOfOneKeyIsDoneInOrder(t *testing.T) {
	d := dbtest.Open(t, dbtest.Postgres(t), stock())
	release := hold(t, d)
	var all sync.WaitGroup
	var order []int
	for i := range 10 {
		all.Go(func() {
			err := d.Of("tea").InTx(t.Context(), func(tx *db.DB) error {
				order = append(order, i)
				if got := available(t, tx, "tea"); got != int64(50+i) {
					t.Errorf("%d sees %d", i, got)
				}
				_, err := tx.Exec(t.Context(), `UPDATE stock SET available = available + 1 WHERE sku = 'tea'`)
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
		for d.InLine() <= i {
			time.Sleep(time.Millisecond)
		}
	}
	release()
	all.Wait()
	if !slices.IsSorted(order) || len(order) != 10 {
		t.Errorf("got %v", order)
	}
}

// Changes by themselves share as well, and one that finds nothing is told so.
func TestChangesByThemselvesShare(t *testing.T) {
	d := dbtest.Open(t, dbtest.Postgres(t), stock())
	const n = 20
	queued(t, d, n, func(i int) {
		sku := fmt.Sprintf("s%02d", i)
		var err error
		var got string
		switch i % 4 {
		case 0:
			var changed int64
			changed, err = d.Of(sku).Exec(t.Context(), `INSERT INTO stock VALUES ($1, 1)`, sku)
			err = errors.Join(err, expect(changed == 1, "%d rows", changed))
		case 1:
			err = d.Of(sku).Row(t.Context(), `INSERT INTO stock VALUES ($1, 1) RETURNING sku`, sku).Scan(&got)
			err = errors.Join(err, expect(got == sku, "got %q", got))
		case 2:
			err = d.Of(sku).Row(t.Context(), `UPDATE stock SET available = 1 WHERE sku = $1 RETURNING sku`, sku).Scan(&got)
			err = expect(errors.Is(err, sql.ErrNoRows), "got %v", err)
		case 3:
			var changed int64
			changed, err = d.Of(sku).Exec(t.Context(), `UPDATE stock SET available = 1 WHERE sku = $1`, sku)
			err = errors.Join(err, expect(changed == 0, "%d rows", changed))
		}
		if err != nil {
			t.Errorf("%d: %v", i, err)
		}
	})
	transactions, rows := commits(t, d, "s")
	if rows != n/2 || transactions > db.JointWriters {
		t.Errorf("%d rows in %d transactions", rows, transactions)
	}
}

// Two replicas lock the same rows against their order, which only work that holds
// more than its key says can do: they go on, and nothing is lost.
func TestSharedTransactionsOfTwoReplicasDoNotWaitForEachOther(t *testing.T) {
	url := dbtest.Postgres(t)
	one, two := dbtest.Open(t, url, stock()), dbtest.Open(t, url)
	var both sync.WaitGroup
	for n, d := range []*db.DB{one, two} {
		both.Go(func() {
			errs := share(t, d, 2, func(tx *db.DB, i int) error {
				sku := []string{"tea", "mug"}[(i+n)%2]
				_, err := tx.Exec(t.Context(), `UPDATE stock SET available = available + 1 WHERE sku = $1`, sku)
				return err
			})
			if err := errors.Join(errs...); err != nil {
				t.Error(err)
			}
		})
	}
	both.Wait()
	if tea, mug := available(t, one, "tea"), available(t, one, "mug"); tea != 52 || mug != 2 {
		t.Errorf("%d tea and %d mugs, want 52 and 2", tea, mug)
	}
}

// The answer to the commit is lost: nobody is told that it was done, nor that it
// was not.
func TestLostCommitOfAllIsUnknownToAll(t *testing.T) {
	way, url := newDoor(t, dbtest.Postgres(t))
	way.open()
	d, err := db.Open(t.Context(), db.Config{URL: url, Schemas: []db.Schema{stock()}, MaxConns: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	prepared(t, d, 2)
	release := hold(t, d)
	var all sync.WaitGroup
	for i := range 5 {
		all.Go(func() {
			ctx := effect.Track(t.Context())
			err := d.Of(fmt.Sprint(i)).InTx(ctx, func(tx *db.DB) error {
				tx.AfterCommit(func() { t.Error("hook called") })
				return later(tx, fmt.Sprint("lost", i))
			})
			if err == nil || db.IsUnavailable(err) || !effect.Noted(ctx) {
				t.Errorf("got %v, an effect: %v", err, effect.Noted(ctx))
			}
		})
	}
	for d.InLine() < 5 {
		time.Sleep(time.Millisecond)
	}
	way.swallow.Store(true)
	release()
	all.Wait()
	if _, rows := commits(t, d, "lost"); rows != 5 {
		t.Errorf("%d rows, want 5", rows)
	}
}

// prepared has the statements of a shared transaction that inserts prepared on n
// connections.
func prepared(t *testing.T, d *db.DB, n int) {
	t.Helper()
	var meet, all sync.WaitGroup
	meet.Add(n)
	for i := range n {
		all.Go(func() {
			err := d.InTx(t.Context(), func(tx *db.DB) error {
				_, err := tx.Exec(t.Context(), db.JointLock)
				meet.Done()
				meet.Wait()
				return errors.Join(err, later(tx, fmt.Sprint("prepared", i)))
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

// Before the commit nothing was done, and a connection that is lost then is no reason
// to fail.
func TestLostConnectionBeforeTheCommitIsTriedAlone(t *testing.T) {
	d := dbtest.Open(t, dbtest.Postgres(t), stock())
	var once sync.Once
	errs := share(t, d, 10, func(tx *db.DB, i int) error {
		if err := add(tx, fmt.Sprint("x", i)); err != nil {
			return err
		}
		if i == 3 {
			once.Do(func() {
				// its own connection
				_ = tx.Row(t.Context(), `SELECT pg_terminate_backend(pg_backend_pid())`).Scan(new(bool))
			})
		}
		return nil
	})
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
	if _, rows := commits(t, d, "x"); rows != 10 {
		t.Errorf("%d rows, want 10", rows)
	}
}

// With one client nothing is shared, and nothing costs more than without a key.
func TestOneClientHasItsTransactionAlone(t *testing.T) {
	d := dbtest.Open(t, dbtest.Postgres(t), stock())
	for i := range 5 {
		if err := d.Of("one").InTx(t.Context(), func(tx *db.DB) error { return add(tx, fmt.Sprint("o", i)) }); err != nil {
			t.Fatal(err)
		}
	}
	if transactions, _ := commits(t, d, "o"); transactions != 5 {
		t.Errorf("%d transactions, want 5", transactions)
	}
	run := func(d *db.DB) func() {
		return func() {
			err := d.InTx(t.Context(), func(tx *db.DB) error {
				_, err := tx.Exec(t.Context(), `UPDATE stock SET available = 1 WHERE sku = 'tea'`)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	with, without := testing.AllocsPerRun(50, run(d.Of("one"))), testing.AllocsPerRun(50, run(d))
	if with > without+10 {
		t.Errorf("%.0f allocations, %.0f without a key", with, without)
	}
}
