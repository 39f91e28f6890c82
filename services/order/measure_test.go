package order

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"

	"github.com/meshmart/meshmart/services/internal/db"
	"github.com/meshmart/meshmart/services/internal/metrictest"
)

func TestSagasUnderWayAreMeasuredByStep(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		w := newWorld()
		reader := sdkmetric.NewManualReader()
		w.meters = sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
		s := w.replica(d)
		first := unstarted(t, s)
		unstarted(t, s)
		hear(t, s, place(t, s).ID) // comes to rest
		confirmed := place(t, s)   // waits for news
		now := confirmed.UpdateTime.Add(90 * time.Second)
		s.clock = func() time.Time { return now }
		got := metrictest.Values(t, reader)
		want := map[string]float64{
			"orders.decided  COMPLETED": 1,
			"saga.orders RESERVE":       2, "saga.age RESERVE": now.Sub(first.UpdateTime).Seconds(),
			"saga.orders COMPLETE": 1, "saga.age COMPLETE": 90, "saga.orders AUTHORIZE": 0, "saga.age AUTHORIZE": 0,
			"saga.orders UNDO_PAYMENT": 0, "saga.age UNDO_PAYMENT": 0, "saga.orders UNDO_STOCK": 0, "saga.age UNDO_STOCK": 0,
		}
		if diff := cmp.Diff(got, want); diff != "" {
			t.Error(diff)
		}
	})
}

// Without the index each scrape would read all orders that there ever were.
func TestSagasUnderWayAreFoundByTheirIndex(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		if strings.HasSuffix(t.Name(), "postgres") {
			t.Skip("PostgreSQL scans a table as small as a test's; its planner knows the same partial index")
		}
		var id, parent, unused int
		var plan string
		err := d.Row(t.Context(), `EXPLAIN QUERY PLAN `+underWayQuery).Scan(&id, &parent, &unused, &plan)
		if err != nil || !strings.Contains(plan, "orders_due") {
			t.Errorf("%q, %v", plan, err)
		}
	})
}

func TestOrdersAreCountedByTheirEnd(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		w := newWorld()
		reader := sdkmetric.NewManualReader()
		w.meters = sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
		s := w.replica(d)
		place(t, s) // CONFIRMED is no end
		for i := range 3 {
			w.decline = fmt.Sprintf("A_REASON_OF_THE_BANK_%d", i)
			place(t, s)
		}
		w.soldOut = true
		place(t, s)
		got := metrictest.Values(t, reader)
		for name := range got {
			if !strings.HasPrefix(name, "orders.decided") {
				delete(got, name)
			}
		}
		want := map[string]float64{"orders.decided OTHER REJECTED": 3, "orders.decided OUT_OF_STOCK REJECTED": 1}
		if diff := cmp.Diff(got, want); diff != "" {
			t.Error(diff)
		}
	})
}
