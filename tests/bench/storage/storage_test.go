package storage

import (
	"context"
	"database/sql"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestOrdersAreStored does a few on SQLite, both ways, and counts the rows: the
// statements are those of the services' own tables.
func TestOrdersAreStored(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bare.db")
	s, err := SQLite(t.Context(), path, "../../..", 3)
	if err != nil {
		t.Fatal(err)
	}
	const clients, each = 4, 5
	for _, do := range []func(context.Context) error{s.Alone, s.Grouped} {
		g, ctx := errgroup.WithContext(t.Context())
		for range clients {
			g.Go(func() error {
				for range each {
					if err := do(ctx); err != nil {
						return err
					}
				}
				return nil
			})
		}
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	const done = 2 * clients * each
	s.Close()
	pool, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	for query, want := range map[string]int{
		`SELECT COUNT(*) FROM orders WHERE state = 'CONFIRMED' AND step = 'DONE'`: done,
		`SELECT COUNT(*) FROM payments WHERE state = 'AUTHORIZED'`:                done,
		`SELECT SUM(reserved) FROM stock`:                                         done,
		`SELECT COUNT(*) FROM outbox`:                                             4 * done,
		`SELECT COUNT(*) FROM ledger`:                                             done,
	} {
		var got int
		if err := pool.QueryRow(query).Scan(&got); err != nil || got != want {
			t.Errorf("%s: got %d, %v; want %d", query, got, err, want)
		}
	}
}
