package inventory

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/meshmart/meshmart/services/internal/fault"
	"github.com/meshmart/meshmart/services/internal/idem"
)

func TestSetMovesStockedByTheDifference(t *testing.T) {
	each(t, func(t *testing.T, inv *Inventory) {
		if err := inv.Reserve(t.Context(), "o1", []Item{{mug, 3}}); err != nil {
			t.Fatal(err)
		}
		for _, n := range []int64{100, 0} {
			s, err := inv.Set(t.Context(), SetRequest{ProductID: mug, Available: n})
			if err != nil {
				t.Fatal(err)
			}
			if s.Available != n || s.Reserved != 3 || s.Stocked != n+3 {
				t.Errorf("set to %d: %+v", n, s)
			}
			check(t, inv, mug, [3]int64{n, 3, 0})
		}
	})
}

func TestSetAddsAProductThatWasNotHeardOf(t *testing.T) {
	each(t, func(t *testing.T, inv *Inventory) {
		got, err := inv.Set(t.Context(), SetRequest{ProductID: hat, Available: 7})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(Stock{ProductID: hat, Available: 7, Stocked: 7, Version: 1}, got, ignoreTimes); diff != "" {
			t.Error(diff)
		}
		if err := inv.Reserve(t.Context(), "o1", []Item{{hat, 7}}); err != nil {
			t.Error(err)
		}
	})
}

func TestSetChecksTheETag(t *testing.T) {
	each(t, func(t *testing.T, inv *Inventory) {
		const stale = "Aborted STALE_ETAG"
		tests := []struct{ product, etag, want string }{
			{mug, "1", "OK"},
			{mug, "1", stale},
			{mug, "2", "OK"},
			{mug, "3x", stale},
			{mug, "0", stale},
			{hat, "0", stale},
			{hat, "1", stale},
		}
		for _, tt := range tests {
			_, err := inv.Set(t.Context(), SetRequest{ProductID: tt.product, Available: 4, ETag: tt.etag})
			if got := outcome(err); got != tt.want {
				t.Errorf("%s with etag %s: %s, want %s", tt.product, tt.etag, got, tt.want)
			}
		}
	})
}

func TestCountsThatAreTooLargeNameTheField(t *testing.T) {
	each(t, func(t *testing.T, inv *Inventory) {
		sellMany(t, inv)
		_, set := inv.Set(t.Context(), SetRequest{ProductID: mug, Available: maxAvailable})
		_, setIf := inv.Set(t.Context(), SetRequest{ProductID: mug, Available: maxAvailable, ETag: "7"})
		_, counted := inv.Sync(t.Context(), []Count{{"w", 1, mug, maxAvailable}})
		_, add := inv.Adjust(t.Context(), AdjustRequest{ProductID: mug, Delta: maxAvailable})
		_, more := inv.Adjust(t.Context(), AdjustRequest{ProductID: pen, Delta: maxAvailable - 4})
		for field, errs := range map[string][]error{"available": {set, setIf, counted}, "delta": {add, more}} {
			for i, err := range errs {
				if f := fault.As(err); f == nil || len(f.Fields()) != 1 || f.Fields()[0].Field != field {
					t.Errorf("%s, case %d: %v", field, i, err)
				}
			}
		}
	})
}

// sellMany brings the mugs to version 7, with more than a billion sold.
func sellMany(t *testing.T, inv *Inventory) {
	t.Helper()
	for i := range 2 {
		order := fmt.Sprintf("large %d", i)
		if _, err := inv.Set(t.Context(), SetRequest{ProductID: mug, Available: 600_000_000}); err != nil {
			t.Fatal(err)
		}
		if err := inv.Reserve(t.Context(), order, []Item{{mug, 600_000_000}}); err != nil {
			t.Fatal(err)
		}
		if err := inv.Commit(t.Context(), order); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAdjust(t *testing.T) {
	each(t, func(t *testing.T, inv *Inventory) {
		tests := []struct {
			product string
			delta   int64
			want    string
			left    int64
		}{
			{mug, 5, "OK", 15},
			{mug, -15, "OK", 0},
			{mug, -1, "FailedPrecondition NOT_ENOUGH", 0},
			{mug, maxAvailable, "OK", maxAvailable},
			{mug, 1, "InvalidArgument INVALID_FIELD", maxAvailable},
			{hat, 1, "NotFound NOT_FOUND", 0},
		}
		for _, tt := range tests {
			s, err := inv.Adjust(t.Context(), AdjustRequest{ProductID: tt.product, Delta: tt.delta})
			if got := outcome(err); got != tt.want || err == nil && s.Available != tt.left {
				t.Errorf("%+d: %s with %d, want %s with %d", tt.delta, got, s.Available, tt.want, tt.left)
			}
		}
		check(t, inv, mug, [3]int64{maxAvailable, 0, 0})
	})
}

func TestConcurrentAdjustWithOneRequestIDAddsOnce(t *testing.T) {
	each(t, func(t *testing.T, inv *Inventory) {
		req := AdjustRequest{ProductID: mug, Delta: 5, Key: idem.Key{Scope: "test", ID: "r1", Fingerprint: []byte{1}}}
		replies := make([]Stock, 8)
		together(len(replies), func(i int) {
			s, err := inv.Adjust(t.Context(), req)
			if err != nil {
				t.Error(err)
			}
			replies[i] = s
		})
		for _, r := range replies {
			if diff := cmp.Diff(replies[0], r); diff != "" {
				t.Error(diff)
			}
		}
		check(t, inv, mug, [3]int64{15, 0, 0})
		if got := len(announced(t, inv)); got != 1 {
			t.Errorf("%d events, want 1", got)
		}
	})
}

func TestSyncStoresACountOnce(t *testing.T) {
	each(t, func(t *testing.T, inv *Inventory) {
		done, err := inv.Sync(t.Context(), []Count{
			{"a", 1, mug, 20}, {"a", 2, pen, 30}, {"b", 1, mug, 21}, // each source has its own numbers
			{"a", 2, mug, 99}, {"a", 1, mug, 98}, // sent again
			{"a", 7, hat, 3}, // with a gap, of a product that is new
			{"a", 6, old, 1}, // late
		})
		if err != nil {
			t.Fatal(err)
		}
		var applied []bool
		for _, d := range done {
			applied = append(applied, d.Applied)
		}
		if diff := cmp.Diff([]bool{true, true, true, false, false, true, false}, applied); diff != "" {
			t.Error(diff)
		}
		if got := done[3].Stock; got.Available != 21 {
			t.Errorf("the reply to a repetition has %+v", got)
		}
		check(t, inv, mug, [3]int64{21, 0, 0})
		check(t, inv, hat, [3]int64{3, 0, 0})
		if got := len(announced(t, inv)); got != 4 {
			t.Errorf("%d events, want 4", got)
		}
	})
}

func TestSyncKeepsWhatWasBeforeARefusal(t *testing.T) {
	each(t, func(t *testing.T, inv *Inventory) {
		sellMany(t, inv)
		counts := []Count{{"a", 1, pen, 1}, {"a", 2, mug, maxAvailable}, {"a", 3, pen, 3}}
		done, err := inv.Sync(t.Context(), counts)
		if len(done) != 1 || outcome(err) != "InvalidArgument INVALID_FIELD" {
			t.Fatalf("%d done, %v", len(done), err)
		}
		check(t, inv, pen, [3]int64{1, 0, 0})
		counts[1].Available = 2
		done, err = inv.Sync(t.Context(), counts) // the refused one is not taken for stored
		if err != nil || len(done) != 3 || done[0].Applied || !done[1].Applied || !done[2].Applied {
			t.Errorf("again: %+v, %v", done, err)
		}
	})
}

func TestConcurrentSyncOfOneSourceNeverGoesBack(t *testing.T) {
	each(t, func(t *testing.T, inv *Inventory) {
		together(4, func(int) {
			for i := range int64(10) {
				if _, err := inv.Sync(t.Context(), []Count{{"a", i + 1, mug, i + 1}, {"a", i + 1, pen, 0}}); err != nil {
					t.Error(err)
				}
			}
		})
		check(t, inv, mug, [3]int64{10, 0, 0})
		check(t, inv, pen, [3]int64{5, 0, 0})
	})
}
