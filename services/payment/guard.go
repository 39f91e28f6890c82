package payment

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/sony/gobreaker/v2"
	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshmart/meshmart/services/internal/fault"
)

const scope = "github.com/meshmart/meshmart/services/payment"

// When the breaker opens, and for how long.
const (
	breakerRow    = 5                // failures in a row
	breakerMin    = 20               // or of at least so many calls in the window
	breakerShare  = 0.5              // this share
	breakerWindow = 10 * time.Second // counted over
	breakerOpen   = 2 * time.Second  // stays open before it probes
	breakerProbes = 3                // calls let through as a probe
)

// guard is a Processor that bounds and traces each call of another one and, by
// a circuit breaker, leaves it alone while it is out. A decline is an answer;
// a call that its caller gave up says nothing.
type guard struct {
	next    Processor
	timeout time.Duration // of one call
	tracer  trace.Tracer
	breaker *gobreaker.CircuitBreaker[string]
}

type guardConfig struct {
	timeout time.Duration
	log     *slog.Logger
	traces  trace.TracerProvider
	meters  metric.MeterProvider
}

func newGuard(next Processor, cfg guardConfig) *guard {
	g := &guard{next: next, timeout: cfg.timeout, tracer: cfg.traces.Tracer(scope)}
	g.breaker = gobreaker.NewCircuitBreaker[string](gobreaker.Settings{
		Name:        "processor",
		MaxRequests: breakerProbes,
		Interval:    breakerWindow,
		Timeout:     breakerOpen,
		ReadyToTrip: func(c gobreaker.Counts) bool {
			return c.ConsecutiveFailures >= breakerRow ||
				c.Requests >= breakerMin && float64(c.TotalFailures) >= breakerShare*float64(c.Requests)
		},
		OnStateChange: func(name string, from, to gobreaker.State) {
			cfg.log.Warn("circuit breaker", "target", name, "from", from.String(), "to", to.String())
		},
		IsSuccessful: func(err error) bool { return err == nil || errors.As(err, new(*Decline)) },
		IsExcluded:   func(err error) bool { return errors.Is(err, context.Canceled) },
	})
	g.observe(cfg.meters)
	return g
}

// observe reports the state as a gauge, as the breakers of gRPC connections do.
func (g *guard) observe(meters metric.MeterProvider) {
	_, _ = meters.Meter(scope).Int64ObservableGauge("payment.processor.breaker.state",
		metric.WithDescription("State of the circuit breaker of the payment processor: 0 closed, 1 half-open, 2 open."),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			o.Observe(int64(g.breaker.State()))
			return nil
		}))
}

// ready returns UNAVAILABLE while the processor is known to be out. It is asked
// before anything is written.
func (g *guard) ready() error {
	if g.breaker.State() == gobreaker.StateOpen {
		return fault.Unavailable(time.Second, "the payment processor is not available; try again later")
	}
	return nil
}

func (g *guard) Authorize(ctx context.Context, in AuthorizeInput) (string, error) {
	return g.call(ctx, "authorize", in.Key, func(ctx context.Context) (string, error) { return g.next.Authorize(ctx, in) })
}

func (g *guard) Capture(ctx context.Context, c Charge) error {
	_, err := g.call(ctx, "capture", c.Key, func(ctx context.Context) (string, error) { return "", g.next.Capture(ctx, c) })
	return err
}

func (g *guard) Void(ctx context.Context, c Charge) error {
	_, err := g.call(ctx, "void", c.Key, func(ctx context.Context) (string, error) { return "", g.next.Void(ctx, c) })
	return err
}

func (g *guard) Refund(ctx context.Context, c Charge) error {
	_, err := g.call(ctx, "refund", c.Key, func(ctx context.Context) (string, error) { return "", g.next.Refund(ctx, c) })
	return err
}

func (g *guard) call(ctx context.Context, name, key string, fn func(context.Context) (string, error)) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, g.timeout)
	defer cancel()
	ctx, span := g.tracer.Start(ctx, "processor "+name, trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(attribute.String("payment.id", key)))
	defer span.End()
	ref, err := g.breaker.Execute(func() (string, error) { return fn(ctx) })
	var d *Decline
	switch {
	case errors.As(err, &d):
		span.SetAttributes(attribute.String("payment.decline", d.Reason))
	case err != nil:
		span.SetStatus(otelcodes.Error, err.Error())
	}
	return ref, err
}
