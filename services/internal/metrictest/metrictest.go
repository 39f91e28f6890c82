// Package metrictest reads in a test what is measured.
package metrictest

import (
	"context"
	"strings"
	"testing"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// Values returns the gauges and the counts of whole numbers, by name and the values
// of their attributes, as "saga.orders RESERVE".
func Values(t testing.TB, reader sdkmetric.Reader) map[string]float64 {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := reader.Collect(context.Background(), &all); err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, m := range all.ScopeMetrics[0].Metrics {
		switch data := m.Data.(type) {
		case metricdata.Gauge[int64]:
			add(got, m.Name, data.DataPoints)
		case metricdata.Gauge[float64]:
			add(got, m.Name, data.DataPoints)
		case metricdata.Sum[int64]:
			add(got, m.Name, data.DataPoints)
		}
	}
	return got
}

func add[N int64 | float64](to map[string]float64, name string, points []metricdata.DataPoint[N]) {
	for _, p := range points {
		key := name
		for _, a := range p.Attributes.ToSlice() {
			key += " " + a.Value.AsString()
		}
		to[strings.TrimSpace(key)] = float64(p.Value)
	}
}
