package events

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
)

// scrapeTime bounds the question to the database while the metrics are read.
const scrapeTime = time.Second

// measure makes the instruments of the bus.
func (b *Bus) measure() (err error) {
	b.duplicates, err = b.cfg.Meters.Meter(scope).Int64Counter("inbox.duplicates", metric.WithUnit("{event}"),
		metric.WithDescription("Events that were delivered again after they had taken effect, by consumer."))
	return err
}

func byConsumer(c Consumer) metric.MeasurementOption {
	return metric.WithAttributes(semconv.MessagingConsumerGroupName(c.Name))
}

// measure has the lag of the outbox in the metrics. The database is asked once
// for each time that they are read; while it is away they lack the lag. All
// replicas of a service tell of the same outbox.
func (o *Outbox) measure() error {
	meter := o.bus.cfg.Meters.Meter(scope)
	waiting, err := meter.Int64ObservableGauge("outbox.waiting", metric.WithUnit("{event}"),
		metric.WithDescription("Events that are committed and not yet acknowledged by the broker."))
	if err != nil {
		return err
	}
	age, err := meter.Float64ObservableGauge("outbox.age", metric.WithUnit("s"),
		metric.WithDescription("For how long the first of the waiting events has waited; 0 if there is none."))
	if err != nil {
		return err
	}
	_, err = meter.RegisterCallback(func(ctx context.Context, to metric.Observer) error {
		ctx, cancel := context.WithTimeout(ctx, scrapeTime)
		defer cancel()
		n, since, err := o.lag(ctx)
		if err != nil {
			return nil // the service's readiness says so
		}
		to.ObserveInt64(waiting, n)
		to.ObserveFloat64(age, secondsSince(since, o.bus.cfg.Clock()))
		return nil
	}, waiting, age)
	return err
}

// secondsSince returns 0 for the zero time, and where clocks differ.
func secondsSince(t, now time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return max(0, now.Sub(t).Seconds())
}
