package product

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/meshmart/meshmart/services/internal/db"
	"github.com/meshmart/meshmart/services/internal/db/dbtest"
	"github.com/meshmart/meshmart/services/internal/money"
)

func TestReplaceTakesOnlyTheVersionBefore(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s, now := &store{d}, db.Time(1_000_000)
		details := Details{Name: "Mug", Category: "kitchen", Price: money.Amount{Currency: "EUR", Micros: 5_000_000}}
		first, err := Draft{SKU: "MUG", Details: details}.product(now)
		if err != nil {
			t.Fatal(err)
		}
		if fresh, err := s.insert(t.Context(), first); !fresh || err != nil {
			t.Fatalf("insert = %v, %v", fresh, err)
		}
		cup := details
		cup.Name = "Cup"
		second := first.next(cup, now.Add(time.Second))
		for _, want := range []bool{true, false} {
			if done, err := s.replace(t.Context(), second); done != want || err != nil {
				t.Errorf("replace = %v, %v, want %v", done, err, want)
			}
		}
		got, err := s.find(t.Context(), first.ID)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(second, got); diff != "" {
			t.Errorf("product (-want +got):\n%s", diff)
		}
		if again, err := s.insert(t.Context(), Product{ID: newID(), SKU: "MUG"}); again || err != nil {
			t.Errorf("insert of a taken sku = %v, %v", again, err)
		}
	}, db.Schema{Name: "product", FS: schema})
}
