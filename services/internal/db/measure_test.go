package db_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/meshmart/meshmart/services/internal/db"
	"github.com/meshmart/meshmart/services/internal/db/dbtest"
)

func TestConnectionsAreMeasuredUntilTheDatabaseIsClosed(t *testing.T) {
	reader := sdkmetric.NewManualReader()
	d, err := db.Open(t.Context(), db.Config{URL: dbtest.SQLite(t), MaxConns: 3,
		Meters: sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))})
	if err != nil {
		t.Fatal(err)
	}
	err = d.InTx(t.Context(), func(*db.DB) error {
		got := measured(t, reader)
		want := map[string]int64{"reads max": 3, "reads used": 0, "writes max": 1, "writes idle": 0, "writes used": 1}
		delete(got, "reads idle") // the start may have used one or not
		if diff := cmp.Diff(got, want); diff != "" {
			t.Error(diff)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := measured(t, reader); got["writes idle"] != 1 || got["writes used"] != 0 {
		t.Errorf("after the transaction: %v", got)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if got := measured(t, reader); len(got) != 0 {
		t.Errorf("after the end: %v", got)
	}
}

// measured returns the connections by pool and state, and how many there may be.
func measured(t *testing.T, reader sdkmetric.Reader) map[string]int64 {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	got := map[string]int64{}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			for _, p := range m.Data.(metricdata.Sum[int64]).DataPoints {
				pool, _ := p.Attributes.Value("db.client.connection.pool.name")
				state, ok := p.Attributes.Value("db.client.connection.state")
				if !ok {
					got[pool.AsString()+" max"] = p.Value
					continue
				}
				got[pool.AsString()+" "+state.AsString()] = p.Value
			}
		}
	}
	return got
}
