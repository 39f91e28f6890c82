package inventory

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/meshmart/meshmart/services/internal/db"
	"github.com/meshmart/meshmart/services/internal/db/dbtest"
	"github.com/meshmart/meshmart/tests/bench/procs"
)

// rush is many who reserve at once.
type rush struct {
	*Inventory
	commits atomic.Int64
	orders  atomic.Int64
}

// rushing returns an inventory whose commits are counted.
func rushing(t testing.TB, url string) *rush {
	t.Helper()
	r := &rush{}
	d, err := db.Open(t.Context(), db.Config{URL: url, Schemas: schemas(), MaxConns: 16, Point: func(point string) {
		if strings.HasPrefix(point, "after commit") {
			r.commits.Add(1)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() }) // a test may have done so
	r.Inventory = over(t, d)
	return r
}

// run has clients reserve each for so many orders, of two products of some, and
// returns the processor time that it took, that of the database included, and the
// commits that an order cost.
func (r *rush) run(t *testing.T, ctx context.Context, clients, orders int, products []string) (time.Duration, float64) {
	t.Helper()
	begin, before := used(t), r.commits.Load()
	together(clients, func(client int) {
		for i := range orders {
			id := fmt.Sprintf("order %d", r.orders.Add(1))
			items := []Item{{products[(client+i)%len(products)], 1}}
			if len(products) > 1 {
				items = append(items, Item{products[(client+7*i+1+i%5)%len(products)], 1})
				items = slices.CompactFunc(items, func(a, b Item) bool { return a.ProductID == b.ProductID })
			}
			if err := r.Reserve(ctx, id, items); err != nil {
				t.Errorf("%s: %v", id, err)
			}
		}
	})
	return used(t) - begin, float64(r.commits.Load()-before) / float64(clients*orders)
}

// used is the processor time of this process and of the database that it has started.
func used(t *testing.T) time.Duration {
	t.Helper()
	d, err := procs.CPU(os.Getpid())
	if err != nil {
		t.Skip("processor time: ", err)
	}
	return d
}

// alone is a ctx whose calls are made by themselves.
func alone(ctx context.Context) context.Context {
	return trace.ContextWithSpanContext(ctx, trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1}, TraceFlags: trace.FlagsSampled,
	}))
}

// products makes n known, with plenty of each.
func (r *rush) products(t testing.TB, n int) []string {
	t.Helper()
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("01890000-0000-7000-8000-%012x", i)
		if err := r.store.add(t.Context(), all[i], 1_000_000, r.clock(), r.clock()); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// Without others each commits for itself, at once; with many a commit is for many.
func TestARushSharesItsCommits(t *testing.T) {
	dbtest.EachURL(t, func(t *testing.T, url string) {
		r := rushing(t, url)
		spread := r.products(t, 100)
		for _, load := range []struct {
			name     string
			clients  int
			products []string
			most     float64 // commits for each
		}{
			{"1 client", 1, spread, 1},
			{"16 clients", 16, spread, 1},
			{"256 clients", 256, spread, 0.5},
			{"256 clients want the same", 256, spread[:1], 0.5},
		} {
			t.Run(load.name, func(t *testing.T) {
				var took [2]time.Duration
				var commits float64
				for range 3 {
					for i, ctx := range []context.Context{alone(t.Context()), t.Context()} {
						d, n := r.run(t, ctx, load.clients, max(4, 256/load.clients), load.products)
						took[i], commits = took[i]+d, n
					}
				}
				t.Logf("figure: %s: %.2f of the processor time of one by one, %.3f commits for each", t.Name(),
					took[1].Seconds()/took[0].Seconds(), commits)
				if commits > load.most {
					t.Errorf("%.3f commits for each, want %v at most", commits, load.most)
				}
			})
		}
	})
}

func TestARushIsSoldNoMoreThanThereIs(t *testing.T) {
	dbtest.EachURL(t, func(t *testing.T, url string) {
		r := rushing(t, url)
		stocked, late := r.products(t, 2), fmt.Sprintf("01890000-0000-7000-8000-%012x", 2)
		for _, p := range stocked {
			if _, err := r.Set(t.Context(), SetRequest{ProductID: p, Available: 300}); err != nil {
				t.Fatal(err)
			}
		}
		var sold [2]atomic.Int64
		together(128, func(client int) {
			for i := range 4 {
				items := []Item{{stocked[0], 1}, {stocked[1], int64(1 + i%2)}}
				if client%16 == 0 {
					items = append(items, Item{late, 1})
				}
				switch err := r.Reserve(t.Context(), fmt.Sprintf("o%d.%d", client, i), items); outcome(err) {
				case "OK":
					sold[0].Add(1)
					sold[1].Add(items[1].Quantity)
				case "FailedPrecondition OUT_OF_STOCK", "FailedPrecondition PRODUCT_UNAVAILABLE":
				default:
					t.Error(err)
				}
			}
		})
		for i, p := range stocked {
			n := sold[i].Load()
			check(t, r.Inventory, p, [3]int64{300 - n, n, 0})
		}
		if left := 300 - sold[1].Load(); left > 1 {
			t.Errorf("%d are left, and orders were refused", left)
		}
	})
}
