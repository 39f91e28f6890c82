package payment

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// measure makes the instruments of the payments.
func (s *Payments) measure(meters metric.MeterProvider) (err error) {
	s.moved, err = meters.Meter(scope).Float64Counter("payments.money", metric.WithUnit("{currency}"),
		metric.WithDescription("Money that moved, in units of its currency, by kind of entry in the ledger."))
	return err
}

// count notes the movement of money that led to the payment's state, if there
// was one.
func (s *Payments) count(ctx context.Context, p Payment) {
	if kind := entryOf(p); kind != "" {
		s.moved.Add(ctx, float64(p.Amount.Micros)/1e6, metric.WithAttributes(
			attribute.String("payment.currency", p.Amount.Currency), attribute.String("payment.entry", kind)))
	}
}
