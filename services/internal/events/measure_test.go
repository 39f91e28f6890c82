package events

import (
	"testing"
	"time"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"

	"github.com/meshmart/meshmart/services/internal/db"
	"github.com/meshmart/meshmart/services/internal/metrictest"
)

func TestTheLagOfTheOutboxIsMeasured(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		now, reader := time.Now().Truncate(time.Microsecond), sdkmetric.NewManualReader()
		o := NewOutbox(d, newBroker(t).start().bus(func(c *Config) {
			c.Clock = func() time.Time { return now }
			c.Meters = sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
		}))
		same(t, metrictest.Values(t, reader), map[string]float64{"outbox.waiting": 0, "outbox.age": 0})
		announce(t, o, "order.created", "a")
		now = now.Add(20 * time.Second)
		announce(t, o, "order.created", "b")
		now = now.Add(5 * time.Second)
		same(t, metrictest.Values(t, reader), map[string]float64{"outbox.waiting": 2, "outbox.age": 25})
		now = now.Add(-time.Minute) // as another replica's clock may be
		same(t, metrictest.Values(t, reader), map[string]float64{"outbox.waiting": 2, "outbox.age": 0})
		flush(t, o)
		same(t, metrictest.Values(t, reader), map[string]float64{"outbox.waiting": 0, "outbox.age": 0})
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
		same(t, metrictest.Values(t, reader)["inbox.duplicates ledger"], 0.0)
		deliverAgain(t, bus, o, c, done)
		same(t, metrictest.Values(t, reader)["inbox.duplicates ledger"], 2.0)
	})
}
