package events

import (
	"context"
	"testing"
	"time"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/meshmart/meshmart/services/internal/db"
)

// gathered returns what is measured, by name; with the consumer, if there is one.
func gathered(t *testing.T, reader sdkmetric.Reader) map[string]float64 {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := reader.Collect(context.Background(), &all); err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, m := range all.ScopeMetrics[0].Metrics {
		switch data := m.Data.(type) {
		case metricdata.Gauge[int64]:
			got[m.Name] = float64(data.DataPoints[0].Value)
		case metricdata.Gauge[float64]:
			got[m.Name] = data.DataPoints[0].Value
		case metricdata.Sum[int64]:
			consumer, _ := data.DataPoints[0].Attributes.Value("messaging.consumer.group.name")
			got[m.Name+" "+consumer.AsString()] = float64(data.DataPoints[0].Value)
		}
	}
	return got
}

func TestTheLagOfTheOutboxIsMeasured(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		now, reader := time.Now().Truncate(time.Microsecond), sdkmetric.NewManualReader()
		o := NewOutbox(d, newBroker(t).start().bus(func(c *Config) {
			c.Clock = func() time.Time { return now }
			c.Meters = sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
		}))
		same(t, gathered(t, reader), map[string]float64{"outbox.waiting": 0, "outbox.age": 0})
		announce(t, o, "order.created", "a")
		now = now.Add(20 * time.Second)
		announce(t, o, "order.created", "b")
		now = now.Add(5 * time.Second)
		same(t, gathered(t, reader), map[string]float64{"outbox.waiting": 2, "outbox.age": 25})
		now = now.Add(-time.Minute) // as another replica's clock may be
		same(t, gathered(t, reader), map[string]float64{"outbox.waiting": 2, "outbox.age": 0})
		flush(t, o)
		same(t, gathered(t, reader), map[string]float64{"outbox.waiting": 0, "outbox.age": 0})
	})
}

func TestDuplicatesAreCountedByConsumer(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		reader := sdkmetric.NewManualReader()
		bus := newBroker(t).start().bus(func(c *Config) { c.Meters = sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)) })
		o := NewOutbox(d, bus)
		done := make(chan string, 10)
		c := ledger(d, done)
		stop := consume(t, bus, c)
		announce(t, o, "order.created", "a", "b")
		flush(t, o)
		same(t, []string{receive(t, done), receive(t, done)}, []string{"a", "b"})
		stop()
		same(t, gathered(t, reader)["inbox.duplicates ledger"], 0.0)
		// Without its consumer the broker knows nothing of what was handled.
		if err := bus.js.DeleteConsumer(t.Context(), "ORDER", c.Name); err != nil {
			t.Fatal(err)
		}
		announce(t, o, "order.created", "c")
		flush(t, o)
		consume(t, bus, c)
		same(t, receive(t, done), "c")
		same(t, gathered(t, reader)["inbox.duplicates ledger"], 2.0)
	})
}
