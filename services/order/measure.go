package order

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// scrapeTime bounds the question to the database while the metrics are read.
const scrapeTime = time.Second

// underWay is what the sagas are at, at one step.
type underWay struct {
	orders int64
	since  time.Time // when the first of them came to its state
}

// measure makes the instruments of the orders. The database is asked once for
// each time that they are read; while it is away they lack the sagas. All
// replicas tell of the same sagas.
func (s *Orders) measure(meters metric.MeterProvider) error {
	meter := meters.Meter(scope)
	var err error
	if s.decided, err = meter.Int64Counter("orders.decided", metric.WithUnit("{order}"),
		metric.WithDescription("Orders that became COMPLETED, REJECTED or CANCELLED; one that is cancelled after its completion counts as both.")); err != nil {
		return err
	}
	orders, err := meter.Int64ObservableGauge("saga.orders", metric.WithUnit("{order}"),
		metric.WithDescription("Orders that a saga works at, by its step."))
	if err != nil {
		return err
	}
	age, err := meter.Float64ObservableGauge("saga.age", metric.WithUnit("s"),
		metric.WithDescription("For how long the first of the orders at a step has been in its state; 0 if there is none."))
	if err != nil {
		return err
	}
	_, err = meter.RegisterCallback(func(ctx context.Context, to metric.Observer) error {
		ctx, cancel := context.WithTimeout(ctx, scrapeTime)
		defer cancel()
		steps, err := s.store.underWay(ctx)
		if err != nil {
			return nil // the service's readiness says so
		}
		s.observe(steps, func(step Step, n int64, seconds float64) {
			at := metric.WithAttributes(attribute.String("saga.step", string(step)))
			to.ObserveInt64(orders, n, at)
			to.ObserveFloat64(age, seconds, at)
		})
		return nil
	}, orders, age)
	return err
}

// observe tells of every step, also of those at which there is no order, and
// of no other: a newer version's are counted by that version.
func (s *Orders) observe(steps map[Step]underWay, tell func(step Step, n int64, seconds float64)) {
	for _, step := range []Step{stepReserve, stepAuthorize, stepComplete, stepUndoPayment, stepUndoStock} {
		at, seconds := steps[step], 0.0
		if at.orders > 0 {
			seconds = max(0, s.now().Sub(at.since).Seconds())
		}
		tell(step, at.orders, seconds)
	}
}

// count notes an order that has come to an end.
func (s *Orders) count(ctx context.Context, o Order) {
	if o.State.Final() {
		s.decided.Add(ctx, 1, metric.WithAttributes(
			attribute.String("order.state", string(o.State)), attribute.String("order.reason", counted(o.Reason))))
	}
}

// counted returns the reason as it is counted. Other services name reasons too,
// so those that are not known here count as one: metrics must not grow with what
// others say.
func counted(reason string) string {
	switch reason {
	case "", // COMPLETED
		"CANCELLED_BY_USER", "CANCELLED_BY_ADMIN",
		"OUT_OF_STOCK", "PRODUCT_UNAVAILABLE", "ORDER_RELEASED", "INVENTORY_UNAVAILABLE",
		"PAYMENT_UNAVAILABLE", "PAYMENT_REFUSED", "PAYMENT_VOIDED", "PAYMENT_FAILED", "ORDER_VOIDED",
		"CARD_DECLINED", "INVALID_TOKEN", "INSUFFICIENT_FUNDS", "LOST_CARD", "STOLEN_CARD", "EXPIRED_CARD",
		"INCORRECT_CVC", "PROCESSING_ERROR", "FRAUDULENT", "CARD_VELOCITY_EXCEEDED", "AUTHENTICATION_REQUIRED",
		"AMOUNT_TOO_SMALL", "AMOUNT_TOO_LARGE":
		return reason
	}
	return "OTHER"
}
