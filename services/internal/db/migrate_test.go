package db_test

import (
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/meshmart/meshmart/services/internal/db"
	"github.com/meshmart/meshmart/services/internal/db/dbtest"
)

func TestOpenedTogetherMigratesOnce(t *testing.T) {
	dbtest.EachURL(t, func(t *testing.T, url string) {
		var opens sync.WaitGroup
		for range 8 {
			opens.Go(func() {
				d, err := db.Open(t.Context(), db.Config{URL: url, Schemas: []db.Schema{stock(), schema("other", `CREATE TABLE other (id TEXT);`)}})
				if err != nil {
					t.Error(err)
					return
				}
				if err := d.Close(); err != nil {
					t.Error(err)
				}
			})
		}
		opens.Wait()
		if got := available(t, dbtest.Open(t, url), "tea"); got != 50 {
			t.Errorf("%d, want 50: a migration was run twice", got)
		}
	})
}

func TestNewMigrationsAreAppliedToOldData(t *testing.T) {
	dbtest.EachURL(t, func(t *testing.T, url string) {
		old, release := schema("s", `CREATE TABLE stock (sku TEXT, available BIGINT); INSERT INTO stock VALUES ('tea', 3);`), stock()
		release.Name = "s"
		if err := dbtest.Open(t, url, old).Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := available(t, dbtest.Open(t, url, release), "tea"); got != 6 {
			t.Errorf("%d, want 6", got)
		}
		// A replica of the old release may start beside those of the new one.
		if got := available(t, dbtest.Open(t, url, old), "tea"); got != 6 {
			t.Errorf("%d after the old release, want 6", got)
		}
	})
}

func TestWrongMigrationIsRefused(t *testing.T) {
	tests := map[string]struct {
		schema db.Schema
		want   string
	}{
		"sql":   {schema("bad", `CREATE TABLE ok (id TEXT); CREATE TABEL x (id TEXT);`), "TABEL"},
		"goose": {db.Schema{Name: "bad", FS: fstest.MapFS{"schema/1_x.sql": {Data: []byte(`CREATE TABLE x`)}}}, "1_x.sql"},
		"none":  {db.Schema{Name: "bad", FS: fstest.MapFS{}}, "no migrations"},
	}
	dbtest.EachURL(t, func(t *testing.T, url string) {
		for name, test := range tests {
			d, err := db.Open(t.Context(), db.Config{URL: url, Schemas: []db.Schema{test.schema}})
			if err == nil {
				t.Fatal(name, "opened", d.Close())
			}
			if db.IsUnavailable(err) || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "migrate bad") {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

func TestWrongAddressIsRefused(t *testing.T) {
	for _, url := range []string{"", "mysql://x", "postgres://user:secret@host:port/x", "postgres://h/x?sslmode=maybe", "/proc/none/x.db"} {
		d, err := db.Open(t.Context(), db.Config{URL: url, Schemas: []db.Schema{stock()}})
		if err == nil {
			t.Errorf("%q opened, %v", url, d.Close())
			continue
		}
		if db.IsUnavailable(err) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", url, err)
		}
	}
}

// BenchmarkOpen is the start of a service whose database is migrated.
func BenchmarkOpen(b *testing.B) {
	for name, url := range map[string]func(testing.TB) string{"sqlite": dbtest.SQLite, "postgres": dbtest.Postgres} {
		b.Run(name, func(b *testing.B) {
			cfg := db.Config{URL: url(b), Schemas: []db.Schema{
				stock(), schema("inbox", `CREATE TABLE inbox (id TEXT);`), schema("idem", `CREATE TABLE idem (id TEXT);`),
			}}
			dbtest.Open(b, cfg.URL, cfg.Schemas...)
			for b.Loop() {
				d, err := db.Open(b.Context(), cfg)
				if err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				d.Close()
				b.StartTimer()
			}
		})
	}
}
