package db_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"

	"github.com/meshmart/meshmart/services/internal/db"
	"github.com/meshmart/meshmart/services/internal/db/dbtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// stock is a schema whose migrations would show if they ran twice.
func stock() db.Schema {
	return schema("stock", `
		CREATE TABLE stock (sku TEXT PRIMARY KEY, available BIGINT NOT NULL CHECK (available >= 0));
		INSERT INTO stock VALUES ('tea', 25), ('mug', 0);`,
		`UPDATE stock SET available = available * 2;`)
}

func schema(name string, ups ...string) db.Schema {
	files := fstest.MapFS{}
	for i, up := range ups {
		files[fmt.Sprintf("schema/%03d_step.sql", i+1)] = &fstest.MapFile{Data: []byte("-- +goose Up\n" + up)}
	}
	return db.Schema{Name: name, FS: files}
}

func available(t *testing.T, d *db.DB, sku string) (n int64) {
	t.Helper()
	if err := d.Row(t.Context(), `SELECT available FROM stock WHERE sku = $1`, sku).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestValuesComeBackAsTheyWent(t *testing.T) {
	type row struct {
		ID    string
		At    time.Time
		Data  []byte
		Flag  bool
		Empty []byte
		Maybe sql.Null[string]
	}
	want := row{"ä'1", time.Date(2026, 2, 3, 4, 5, 6, 7000, time.UTC), []byte{0, 255}, true, []byte{}, sql.Null[string]{}}
	table := schema("v", `CREATE TABLE v (id TEXT, at BIGINT, data BYTEA, flag BOOLEAN, empty BYTEA NOT NULL, maybe TEXT);`)
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		_, err := d.Exec(t.Context(), `INSERT INTO v VALUES ($1, $2, $3, $4, $5, $6)`,
			want.ID, db.Micros(want.At), want.Data, want.Flag, want.Empty, want.Maybe)
		if err != nil {
			t.Fatal(err)
		}
		var got row
		var at int64
		err = d.Row(t.Context(), `SELECT id, at, data, flag, empty, maybe FROM v WHERE flag AND id = $1`, want.ID).
			Scan(&got.ID, &at, &got.Data, &got.Flag, &got.Empty, &got.Maybe)
		if err != nil {
			t.Fatal(err)
		}
		got.At = db.Time(at)
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Error(diff)
		}
	}, table)
}

func TestPlaceholdersAreNumbered(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		n, err := d.Exec(t.Context(), `UPDATE stock SET available = available - $2 WHERE sku = $1 AND available >= $2`, "tea", 20)
		if err != nil || n != 1 {
			t.Fatalf("update: %d rows, %v", n, err)
		}
		if got := available(t, d, "tea"); got != 30 {
			t.Errorf("%d left, want 30", got)
		}
	}, stock())
}

func TestChangeThatReturnsRows(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		const buy = `UPDATE stock SET available = available - 1 WHERE sku = $1 AND available > 0 RETURNING available`
		var left int64
		if err := d.Row(t.Context(), buy, "tea").Scan(&left); err != nil || left != 49 {
			t.Errorf("one tea: %d left, %v", left, err)
		}
		if err := d.Row(t.Context(), buy, "mug").Scan(&left); !errors.Is(err, sql.ErrNoRows) {
			t.Errorf("no mug: %v, want no rows", err)
		}
		rows, err := d.Query(t.Context(), `UPDATE stock SET available = 7 RETURNING sku`)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for rows.Next() {
			n++
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil || n != 2 {
			t.Errorf("all: %d rows, %v", n, err)
		}
		if got := available(t, d, "mug"); got != 7 {
			t.Errorf("%d mugs, want 7", got)
		}
	}, stock())
}

func TestIsDuplicate(t *testing.T) {
	table := schema("d", `CREATE TABLE d (id TEXT PRIMARY KEY, name TEXT UNIQUE NOT NULL, parent TEXT REFERENCES d);
		INSERT INTO d VALUES ('1', 'one', NULL);`)
	tests := map[string]struct {
		values string
		want   bool
	}{
		"primary key": {`('1', 'two', NULL)`, true},
		"unique":      {`('2', 'one', NULL)`, true},
		"not null":    {`('2', NULL, NULL)`, false},
		"foreign key": {`('2', 'two', '9')`, false},
	}
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		for name, test := range tests {
			_, err := d.Exec(t.Context(), `INSERT INTO d VALUES `+test.values)
			if err == nil {
				t.Fatalf("%s: not refused", name)
			}
			if got := db.IsDuplicate(fmt.Errorf("add: %w", err)); got != test.want {
				t.Errorf("%s: %t, want %t: %v", name, got, test.want, err)
			}
			if db.IsUnavailable(err) {
				t.Errorf("%s: said to be unavailable", name)
			}
		}
	}, table)
}

func TestFiftyItemsForEightyBuyers(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		var sold atomic.Int64
		var buyers sync.WaitGroup
		for range 80 {
			buyers.Go(func() {
				err := d.InTx(t.Context(), func(tx *db.DB) error {
					n, err := tx.Exec(t.Context(), `UPDATE stock SET available = available - 1 WHERE sku = 'tea' AND available > 0`)
					tx.AfterCommit(func() { sold.Add(n) })
					return err
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		buyers.Wait()
		if sold.Load() != 50 || available(t, d, "tea") != 0 {
			t.Errorf("sold %d, left %d; want 50, 0", sold.Load(), available(t, d, "tea"))
		}
	}, stock())
}

func TestReadersDoNotWaitForTheWriter(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		err := d.InTx(t.Context(), func(tx *db.DB) error {
			if _, err := tx.Exec(t.Context(), `UPDATE stock SET available = 1`); err != nil {
				return err
			}
			if out, in := available(t, d, "tea"), available(t, tx, "tea"); out != 50 || in != 1 {
				t.Errorf("outside %d, inside %d; want 50, 1", out, in)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}, stock())
}

func TestWriterGivesUpWithItsContext(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		err := d.InTx(t.Context(), func(tx *db.DB) error {
			if _, err := tx.Exec(t.Context(), `UPDATE stock SET available = 1`); err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			defer cancel()
			err := d.InTx(ctx, func(tx *db.DB) error {
				_, err := tx.Exec(ctx, `UPDATE stock SET available = 2`)
				return err
			})
			if !errors.Is(err, context.DeadlineExceeded) || db.IsUnavailable(err) {
				t.Errorf("second writer: %v, unavailable %t", err, db.IsUnavailable(err))
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := available(t, d, "tea"); got != 1 {
			t.Errorf("%d, want 1", got)
		}
	}, stock())
}

func TestClosedIsUnavailable(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		if err := d.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		_, err := d.Exec(t.Context(), `SELECT 1`)
		for _, err := range []error{err, d.Ready(t.Context()), d.Row(t.Context(), `SELECT 1`).Scan(new(int))} {
			if !db.IsUnavailable(err) {
				t.Errorf("got %v", err)
			}
		}
	})
}
