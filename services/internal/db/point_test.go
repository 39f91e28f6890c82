package db_test

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/meshmart/meshmart/services/internal/db"
	"github.com/meshmart/meshmart/services/internal/db/dbtest"
	"github.com/meshmart/meshmart/services/internal/effect"
	"github.com/meshmart/meshmart/services/internal/faultpoint"
	"github.com/meshmart/meshmart/services/internal/idem"
)

const more = `UPDATE stock SET available = available + 1 WHERE sku = $1`

// store is what a service's is: its own names for the ways into the package.
type store struct{ d *db.DB }

func (s *store) inTx(ctx context.Context, fn func(tx *store) error) error {
	return s.d.InTx(ctx, func(tx *db.DB) error { return fn(&store{tx}) })
}

func (s *store) one(ctx context.Context, sku string) (n int64, err error) {
	return n, s.d.Row(ctx, more+` RETURNING available`, sku).Scan(&n)
}

func (s *store) increase(ctx context.Context, sku string) error {
	_, err := s.one(ctx, sku)
	return err
}

func (s *store) claim(ctx context.Context, sku string) error {
	rows, err := s.d.Query(ctx, more+` RETURNING available`, sku)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
	}
	return rows.Err()
}

// warehouse is who uses the store.
type warehouse struct{ *store }

func (w *warehouse) exec(ctx context.Context, sku string) error {
	_, err := w.d.Exec(ctx, more, sku)
	return err
}

func (w *warehouse) count(ctx context.Context, sku string) error {
	return w.inTx(ctx, func(tx *store) error { return tx.increase(ctx, sku) })
}

func (w *warehouse) claimed(ctx context.Context, sku string) error {
	return w.inTx(ctx, func(tx *store) error { return tx.claim(ctx, sku) })
}

func (w *warehouse) once(ctx context.Context, sku string) error {
	return func() error {
		_, err := idem.Do(ctx, w.d, idem.Key{}, func(tx *db.DB) (int64, error) { return (&store{tx}).one(ctx, sku) })
		return err
	}()
}

func (w *warehouse) undone(ctx context.Context, sku string) error {
	return w.inTx(ctx, func(tx *store) error {
		if err := tx.inTx(ctx, func(tx *store) error {
			return errors.Join(tx.increase(ctx, sku), errRefused)
		}); !errors.Is(err, errRefused) {
			return err
		}
		return nil
	})
}

func (w *warehouse) refused(ctx context.Context, sku string) error {
	err := w.inTx(ctx, func(tx *store) error { return errors.Join(tx.increase(ctx, sku), errRefused) })
	if errors.Is(err, errRefused) {
		return nil
	}
	return err
}

func (w *warehouse) read(ctx context.Context, sku string) error {
	return w.inTx(ctx, func(tx *store) error {
		return tx.d.Row(ctx, `SELECT available FROM stock WHERE sku = $1`, sku).Scan(new(int64))
	})
}

// TestPointsAreMetWhereSomethingLasts runs each change in a call of its own: one
// that finds its row and, if it is to change nothing then, one that does not.
func TestPointsAreMetWhereSomethingLasts(t *testing.T) {
	changes := []struct {
		do   func(w *warehouse, ctx context.Context, sku string) error
		want []string
	}{
		{(*warehouse).exec, []string{"after write of (*warehouse).exec in call"}},
		{func(w *warehouse, ctx context.Context, sku string) error { return w.increase(ctx, sku) }, []string{"after write of (*store).increase in call"}},
		{func(w *warehouse, ctx context.Context, sku string) error { return w.claim(ctx, sku) }, []string{"after write of (*store).claim in call"}},
		{(*warehouse).count, []string{"before commit of (*warehouse).count in call", "after commit of (*warehouse).count in call"}},
		{(*warehouse).claimed, []string{"before commit of (*warehouse).claimed in call", "after commit of (*warehouse).claimed in call"}},
		{(*warehouse).once, []string{"before commit of (*warehouse).once in call", "after commit of (*warehouse).once in call"}},
		{(*warehouse).undone, nil},
		{(*warehouse).refused, nil},
		{(*warehouse).read, nil},
	}
	dbtest.EachURL(t, func(t *testing.T, url string) {
		var met []string
		hook := faultpoint.Hook(func(p string) { met = append(met, p) })
		w := &warehouse{&store{open(t, url, hook)}}
		for i, c := range changes {
			met = nil
			ctx := effect.Track(hook.In(t.Context(), "call"))
			if err := c.do(w, ctx, "tea"); err != nil {
				t.Fatal(i, err)
			}
			if diff := cmp.Diff(c.want, met); diff != "" || effect.Noted(ctx) != (c.want != nil) {
				t.Errorf("%d: an effect: %v (-want +got)\n%s", i, effect.Noted(ctx), diff)
			}
			met = nil
			ctx = effect.Track(t.Context())
			_ = c.do(w, ctx, "nothing of this name") // some find that an error
			if met != nil || effect.Noted(ctx) {
				t.Errorf("%d of no row: points %q, an effect: %v", i, met, effect.Noted(ctx))
			}
		}
	})
}

func open(t *testing.T, url string, hook faultpoint.Hook) *db.DB {
	t.Helper()
	d, err := db.Open(t.Context(), db.Config{URL: url, Schemas: []db.Schema{stock()}, Point: hook})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// A change that is undone before its commit is no effect yet, and one that the
// commit was seen of is.
func TestEffectComesWithTheCommit(t *testing.T) {
	dbtest.EachURL(t, func(t *testing.T, url string) {
		ctx := effect.Track(t.Context())
		var before, after bool
		var d *db.DB
		d = open(t, url, func(p string) {
			switch p {
			case "before commit of TestEffectComesWithTheCommit":
				before = effect.Noted(ctx)
			case "after commit of TestEffectComesWithTheCommit":
				after = effect.Noted(ctx) && available(t, d, "tea") == 51
			}
		})
		if err := d.InTx(ctx, func(tx *db.DB) error { _, err := tx.Exec(ctx, more, "tea"); return err }); err != nil {
			t.Fatal(err)
		}
		if before || !after {
			t.Errorf("noted before the commit: %v; noted and seen after it: %v", before, after)
		}
	})
}
