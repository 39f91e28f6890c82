package inventory

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/grpc/codes"

	"github.com/meshmart/meshmart/services/internal/db"
	"github.com/meshmart/meshmart/services/internal/db/dbtest"
	"github.com/meshmart/meshmart/services/internal/events"
	"github.com/meshmart/meshmart/services/internal/fault"
	"github.com/meshmart/meshmart/services/internal/idem"
)

const (
	mug = "01890000-0000-7000-8000-00000000000a" // 10 at first
	pen = "01890000-0000-7000-8000-00000000000b" // 5 at first
	old = "01890000-0000-7000-8000-00000000000c" // 5, discontinued
	hat = "01890000-0000-7000-8000-00000000000d" // not known
)

// each runs a test on both engines, with an inventory of mugs and pens.
func each(t *testing.T, fn func(t *testing.T, inv *Inventory)) {
	t.Helper()
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		fn(t, stocked(t, d))
	}, schemas()...)
}

func schemas() []db.Schema {
	return []db.Schema{idem.Schema, events.Schema, {Name: "inventory", FS: schema}}
}

// over returns an inventory on a database, whose clock stands.
func over(t testing.TB, d *db.DB) *Inventory {
	t.Helper()
	bus, err := events.Connect(events.Config{URL: "nats://127.0.0.1:1"}) // nobody there: the outbox keeps all
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { bus.Close() })
	now := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
	inv := &Inventory{store: &store{d}, events: &announcer{events.NewOutbox(d, bus)}, clock: func() time.Time { return now }}
	inv.writes.Parallel = d.Parallel()
	return inv
}

// stocked returns an inventory of mugs and pens.
func stocked(t testing.TB, d *db.DB) *Inventory {
	t.Helper()
	inv := over(t, d)
	for id, n := range map[string]int64{mug: 10, pen: 5, old: 5} {
		if err := inv.store.add(t.Context(), id, n, inv.clock(), inv.clock()); err != nil {
			t.Fatal(err)
		}
	}
	if err := inv.store.discontinue(t.Context(), old, inv.clock(), inv.clock()); err != nil {
		t.Fatal(err)
	}
	return inv
}

// check compares what there is: available, reserved, sold.
func check(t *testing.T, inv *Inventory, productID string, want [3]int64) {
	t.Helper()
	s, err := inv.store.stock(t.Context(), productID)
	if err != nil {
		t.Fatal(err)
	}
	if got := [3]int64{s.Available, s.Reserved, s.Sold}; got != want || s.Stocked != want[0]+want[1]+want[2] {
		t.Errorf("available, reserved, sold of %s: %v of %d; want %v", productID, got, s.Stocked, want)
	}
}

// announced returns the subjects in the outbox, in order.
func announced(t *testing.T, inv *Inventory) []string {
	t.Helper()
	rows, err := inv.store.db.Query(t.Context(), `SELECT subject FROM outbox ORDER BY id`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var all []string
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	return all
}

// outcome is a fault's code and reason, such as "FailedPrecondition OUT_OF_STOCK".
func outcome(err error) string {
	if f := fault.As(err); f != nil {
		return f.Code().String() + " " + f.Reason()
	}
	if err != nil {
		return err.Error()
	}
	return "OK"
}

func TestReserveIsAllOrNothing(t *testing.T) {
	tests := []struct {
		name  string
		items []Item
		want  string
		mugs  [3]int64
	}{
		{"one item", []Item{{mug, 3}}, "OK", [3]int64{7, 3, 0}},
		{"all of it", []Item{{mug, 10}}, "OK", [3]int64{0, 10, 0}},
		{"several", []Item{{pen, 5}, {mug, 1}}, "OK", [3]int64{9, 1, 0}},
		{"too many", []Item{{mug, 11}}, "FailedPrecondition OUT_OF_STOCK", [3]int64{10, 0, 0}},
		{"too many of the second", []Item{{mug, 3}, {pen, 6}}, "FailedPrecondition OUT_OF_STOCK", [3]int64{10, 0, 0}},
		{"not known", []Item{{mug, 3}, {hat, 1}}, "FailedPrecondition PRODUCT_UNAVAILABLE", [3]int64{10, 0, 0}},
		{"discontinued", []Item{{mug, 3}, {old, 1}}, "FailedPrecondition PRODUCT_UNAVAILABLE", [3]int64{10, 0, 0}},
		{"twice the same", []Item{{mug, 3}, {mug, 1}}, "InvalidArgument INVALID_FIELD", [3]int64{10, 0, 0}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			each(t, func(t *testing.T, inv *Inventory) {
				err := inv.Reserve(t.Context(), "o1", tt.items)
				if got := outcome(err); got != tt.want {
					t.Errorf("got %s (%v), want %s", got, err, tt.want)
				}
				check(t, inv, mug, tt.mugs)
				events := announced(t, inv)
				if want := tt.want == "OK"; slices.Contains(events, "stock.reserved") != want {
					t.Errorf("announced %v", events)
				}
			})
		})
	}
}

func TestOutOfStockSaysHowManyAreLeft(t *testing.T) {
	each(t, func(t *testing.T, inv *Inventory) {
		err := fault.As(inv.Reserve(t.Context(), "o1", []Item{{pen, 6}}))
		if err == nil || err.Error() != "only 5 of "+pen+" are left" {
			t.Fatalf("got %v", err)
		}
		details := err.GRPCStatus().Proto().String()
		for _, want := range []string{pen, `"available"`, `"5"`} {
			if !strings.Contains(details, strings.Trim(want, `"`)) {
				t.Errorf("%s is not in %s", want, details)
			}
		}
	})
}

// Every sequence of calls for one order that takes 4 of 10 mugs.
func TestOrdersPassTheirStates(t *testing.T) {
	const refused = "FailedPrecondition ORDER_RELEASED"
	tests := []struct {
		steps  string
		last   string
		mugs   [3]int64
		events []string // less the "stock."
	}{
		{"reserve", "OK", [3]int64{6, 4, 0}, []string{"reserved"}},
		{"reserve reserve", "OK", [3]int64{6, 4, 0}, []string{"reserved"}},
		{"reserve commit", "OK", [3]int64{6, 0, 4}, []string{"reserved", "committed"}},
		{"reserve commit commit", "OK", [3]int64{6, 0, 4}, []string{"reserved", "committed"}},
		{"reserve commit reserve", "OK", [3]int64{6, 0, 4}, []string{"reserved", "committed"}},
		{"reserve release", "OK", [3]int64{10, 0, 0}, []string{"reserved", "released"}},
		{"reserve release release", "OK", [3]int64{10, 0, 0}, []string{"reserved", "released"}},
		{"reserve release reserve", refused, [3]int64{10, 0, 0}, []string{"reserved", "released"}},
		{"reserve release commit", refused, [3]int64{10, 0, 0}, []string{"reserved", "released"}},
		{"reserve commit release", "OK", [3]int64{10, 0, 0}, []string{"reserved", "committed", "released"}},
		{"reserve commit release release", "OK", [3]int64{10, 0, 0}, []string{"reserved", "committed", "released"}},
		{"reserve commit release commit", refused, [3]int64{10, 0, 0}, []string{"reserved", "committed", "released"}},
		{"reserve commit release reserve", refused, [3]int64{10, 0, 0}, []string{"reserved", "committed", "released"}},
		{"release", "OK", [3]int64{10, 0, 0}, nil},
		{"release release", "OK", [3]int64{10, 0, 0}, nil},
		{"release reserve", refused, [3]int64{10, 0, 0}, nil},
		{"release commit", refused, [3]int64{10, 0, 0}, nil},
		{"commit", refused, [3]int64{10, 0, 0}, nil},
		{"commit reserve", "OK", [3]int64{6, 4, 0}, []string{"reserved"}},
	}
	each(t, func(t *testing.T, inv *Inventory) {
		before := 0
		for i, tt := range tests {
			order := fmt.Sprintf("o%d", i)
			var err error
			for step := range strings.FieldsSeq(tt.steps) {
				switch step {
				case "reserve":
					err = inv.Reserve(t.Context(), order, []Item{{mug, 4}})
				case "commit":
					err = inv.Commit(t.Context(), order)
				case "release":
					err = inv.Release(t.Context(), order)
				}
			}
			if got := outcome(err); got != tt.last {
				t.Errorf("%s: %s, want %s", tt.steps, got, tt.last)
			}
			check(t, inv, mug, tt.mugs)
			all := announced(t, inv)
			var got []string
			for _, subject := range all[before:] {
				got = append(got, strings.TrimPrefix(subject, "stock."))
			}
			if diff := cmp.Diff(tt.events, got); diff != "" {
				t.Errorf("%s: events:\n%s", tt.steps, diff)
			}
			if err := inv.Release(t.Context(), order); err != nil { // ten mugs for the next
				t.Fatal(err)
			}
			before = len(announced(t, inv))
		}
	})
}

func TestReserveOfOtherItemsForTheSameOrderIsRefused(t *testing.T) {
	each(t, func(t *testing.T, inv *Inventory) {
		if err := inv.Reserve(t.Context(), "o1", []Item{{pen, 1}, {mug, 2}}); err != nil {
			t.Fatal(err)
		}
		if err := inv.Reserve(t.Context(), "o1", []Item{{mug, 2}, {pen, 1}}); err != nil {
			t.Errorf("in another order: %v", err)
		}
		f := fault.As(inv.Reserve(t.Context(), "o1", []Item{{mug, 3}, {pen, 1}}))
		if f == nil || f.Code() != codes.InvalidArgument || f.Fields()[0].Field != "items" || f.Fields()[0].Reason != "ORDER_ID_REUSED" {
			t.Errorf("another quantity: %v", f)
		}
		check(t, inv, mug, [3]int64{8, 2, 0})
	})
}

// together calls fn n times at once.
func together(n int, fn func(i int)) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() { <-start; fn(i) })
	}
	close(start)
	wg.Wait()
}

func TestConcurrentCallsForOneOrderTakeEffectOnce(t *testing.T) {
	each(t, func(t *testing.T, inv *Inventory) {
		steps := []struct {
			call func(context.Context) error
			want [3]int64
		}{
			{func(ctx context.Context) error { return inv.Reserve(ctx, "o1", []Item{{mug, 3}, {pen, 1}}) }, [3]int64{7, 3, 0}},
			{func(ctx context.Context) error { return inv.Commit(ctx, "o1") }, [3]int64{7, 0, 3}},
			{func(ctx context.Context) error { return inv.Release(ctx, "o1") }, [3]int64{10, 0, 0}},
		}
		for _, s := range steps {
			together(8, func(int) {
				if err := s.call(t.Context()); err != nil {
					t.Error(err)
				}
			})
			check(t, inv, mug, s.want)
		}
		if diff := cmp.Diff([]string{"stock.reserved", "stock.committed", "stock.released"}, announced(t, inv)); diff != "" {
			t.Error(diff)
		}
	})
}

func TestTenMugsForFortyOrders(t *testing.T) {
	each(t, func(t *testing.T, inv *Inventory) {
		var got, soldOut atomic.Int64
		together(40, func(i int) {
			switch err := inv.Reserve(t.Context(), fmt.Sprintf("o%d", i), []Item{{mug, 1}}); outcome(err) {
			case "OK":
				got.Add(1)
			case "FailedPrecondition OUT_OF_STOCK":
				soldOut.Add(1)
			default:
				t.Error(err)
			}
		})
		if got.Load() != 10 || soldOut.Load() != 30 {
			t.Errorf("%d got one and %d did not; want 10 and 30", got.Load(), soldOut.Load())
		}
		check(t, inv, mug, [3]int64{0, 10, 0})
	})
}

// Whichever of Reserve and Release comes first, nothing stays reserved.
func TestReserveRacingReleaseLeavesNothingReserved(t *testing.T) {
	each(t, func(t *testing.T, inv *Inventory) {
		for i := range 20 {
			order := fmt.Sprintf("o%d", i)
			together(2, func(i int) {
				var err error
				if i == 0 {
					err = inv.Reserve(t.Context(), order, []Item{{pen, 1}, {mug, 2}})
				} else {
					err = inv.Release(t.Context(), order)
				}
				if o := outcome(err); o != "OK" && o != "FailedPrecondition ORDER_RELEASED" {
					t.Error(err)
				}
			})
			check(t, inv, mug, [3]int64{10, 0, 0})
		}
	})
}

// What can't be announced must not happen.
func TestChangeWithoutItsEventIsUndone(t *testing.T) {
	each(t, func(t *testing.T, inv *Inventory) {
		if err := inv.Reserve(t.Context(), "o1", []Item{{mug, 4}}); err != nil {
			t.Fatal(err)
		}
		if _, err := inv.store.db.Exec(t.Context(), `DROP TABLE outbox`); err != nil {
			t.Fatal(err)
		}
		_, set := inv.Set(t.Context(), SetRequest{ProductID: mug, Available: 1})
		_, adjust := inv.Adjust(t.Context(), AdjustRequest{ProductID: mug, Delta: 1})
		_, sync := inv.Sync(t.Context(), []Count{{"a", 1, mug, 1}})
		for i, err := range []error{
			inv.Reserve(t.Context(), "o2", []Item{{mug, 1}}), inv.Commit(t.Context(), "o1"), inv.Release(t.Context(), "o1"), set, adjust, sync,
		} {
			if err == nil || fault.As(err) != nil {
				t.Errorf("change %d: %v", i, err)
			}
		}
		check(t, inv, mug, [3]int64{6, 4, 0})
		if st, err := inv.store.reservation(t.Context(), "o1"); st != stateReserved || err != nil {
			t.Errorf("the order is %s, %v", st, err)
		}
	})
}

// Orders that want the same products, repeat themselves and change their mind,
// while administrators count: the books must balance at the end.
func TestBooksBalanceAfterATumult(t *testing.T) {
	each(t, func(t *testing.T, inv *Inventory) {
		orders := []string{"o0", "o1", "o2", "o3", "o4", "o5"}
		together(12, func(worker int) {
			for i := range 12 {
				order := orders[(worker*5+i*7)%len(orders)]
				var err error
				switch (worker + i) % 5 {
				case 0, 1:
					err = inv.Reserve(t.Context(), order, []Item{{pen, 1}, {mug, 2}})
				case 2:
					err = inv.Commit(t.Context(), order)
				case 3:
					err = inv.Release(t.Context(), order)
				case 4:
					_, err = inv.Set(t.Context(), SetRequest{ProductID: mug, Available: 8})
				}
				if err != nil && fault.As(err) == nil {
					t.Error(err)
				}
			}
		})
		want := map[state]int64{}
		for _, o := range orders {
			st, err := inv.store.reservation(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			want[st]++
		}
		for id, quantity := range map[string]int64{mug: 2, pen: 1} {
			s, err := inv.store.stock(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			got := [2]int64{s.Reserved, s.Sold}
			if want := [2]int64{quantity * want[stateReserved], quantity * want[stateCommitted]}; got != want {
				t.Errorf("reserved and sold of %s: %v, want %v", id, got, want)
			}
			if s.Available+s.Reserved+s.Sold != s.Stocked {
				t.Errorf("%+v does not add up", s)
			}
		}
	})
}

var ignoreTimes = cmpopts.IgnoreFields(Stock{}, "Created", "Updated")
