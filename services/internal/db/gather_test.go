package db_test

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/meshmart/meshmart/services/internal/db"
	"github.com/meshmart/meshmart/services/internal/db/dbtest"
)

func TestWhatIsGatheredIsDoneAtOnceBeforeTheCommit(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		var got [][]string
		fail := false
		g := &db.Gatherer[string]{Flush: func(ctx context.Context, tx *db.DB, all []string) error {
			got = append(got, all)
			if fail {
				return errors.New("no")
			}
			_, err := tx.Exec(ctx, `CREATE TABLE `+all[0]+` (id TEXT)`)
			return err
		}}
		add := func(tx *db.DB, items ...string) {
			for _, it := range items {
				if err := g.Add(t.Context(), tx, it); err != nil {
					t.Error(err)
				}
			}
		}
		err := d.InTx(t.Context(), func(tx *db.DB) error {
			add(tx, "a", "b")
			undone := errors.New("undone")
			if err := tx.InTx(t.Context(), func(tx *db.DB) error { add(tx, "c"); return undone }); !errors.Is(err, undone) {
				t.Error(err)
			}
			return tx.InTx(t.Context(), func(tx *db.DB) error { add(tx, "d"); return nil })
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := g.Add(t.Context(), d, "e"); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([][]string{{"a", "b", "d"}, {"e"}}, got); diff != "" {
			t.Error(diff)
		}
		if _, err := d.Exec(t.Context(), `DROP TABLE a`); err != nil {
			t.Errorf("what was done at the end does not last: %v", err)
		}
		fail = true
		err = d.InTx(t.Context(), func(tx *db.DB) error {
			add(tx, "f")
			_, err := tx.Exec(t.Context(), `CREATE TABLE g (id TEXT)`)
			return err
		})
		if _, left := d.Exec(t.Context(), `DROP TABLE g`); err == nil || left == nil {
			t.Errorf("a failure at the end undoes nothing: %v, %v", err, left)
		}
	})
}

func TestValues(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		if _, err := d.Exec(t.Context(), `CREATE TABLE things (id TEXT PRIMARY KEY, n BIGINT, data BYTEA)`); err != nil {
			t.Fatal(err)
		}
		rows := [][]any{{"a", int64(1), []byte{0, 0xff}}, {"b", int64(-2), nil}, {"3", int64(1) << 40, []byte("7")}}
		table, args := d.Values([]string{"TEXT", "BIGINT", "BYTEA"}, rows)
		if len(args) != 12 {
			t.Errorf("%d arguments, want those of 4 rows", len(args))
		}
		n, err := d.Exec(t.Context(), `INSERT INTO things (id, n, data) SELECT column1, column2, column3 FROM `+table+` WHERE column1 IS NOT NULL`, args...)
		if n != 3 || err != nil {
			t.Fatal(n, err)
		}
		for _, want := range rows {
			var n int64
			var data []byte
			if err := d.Row(t.Context(), `SELECT n, data FROM things WHERE id = $1`, want[0]).Scan(&n, &data); err != nil {
				t.Error(err)
			}
			if wantData, _ := want[2].([]byte); n != want[1] || string(data) != string(wantData) || (data == nil) != (wantData == nil) {
				t.Errorf("%v: %d, %v", want, n, data)
			}
		}
	})
}
