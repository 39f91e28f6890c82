package payment

import (
	"context"
	"errors"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshmart/meshmart/services/internal/breaker"
	"github.com/meshmart/meshmart/services/internal/failure"
	"github.com/meshmart/meshmart/services/internal/fault"
)

const scope = "github.com/meshmart/meshmart/services/payment"

// guard is a Processor that bounds and traces each call of another one and, by
// a circuit breaker, leaves it alone while it is out. A decline is an answer;
// a call that its caller gave up says nothing.
type guard struct {
	next    Processor
	timeout time.Duration // of one call
	tracer  trace.Tracer
	breaker *breaker.Breaker
}

type guardConfig struct {
	timeout time.Duration
	traces  trace.TracerProvider
	breaker func(breaker.Config) *breaker.Breaker
}

func newGuard(next Processor, cfg guardConfig) *guard {
	return &guard{
		next: next, timeout: cfg.timeout, tracer: cfg.traces.Tracer(scope),
		breaker: cfg.breaker(breaker.Config{
			Target:    "processor",
			Outage:    isOutage,
			Abandoned: func(err error) bool { return errors.Is(err, context.Canceled) },
		}),
	}
}

// isOutage reports whether the processor could not do what it was asked for. A refusal
// of just that, be it a decision on the charge or none, is an answer: one customer's
// request must not keep the others from paying.
func isOutage(err error) bool {
	return !errors.As(err, new(*Decline)) && !refusedWith(err, http.StatusBadRequest, http.StatusPaymentRequired, http.StatusNotFound)
}

// ready returns UNAVAILABLE while the processor is known to be out. It is asked
// before anything is written.
func (g *guard) ready(ctx context.Context) error {
	if g.breaker.State() == breaker.Open {
		breaker.Refused(ctx, g.breaker.Target(), breaker.Open)
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
	ref, err := g.guarded(ctx, fn)
	var d *Decline
	switch {
	case errors.As(err, &d):
		span.SetAttributes(attribute.String("payment.decline", d.Reason))
	default:
		failure.Mark(span, err)
	}
	return ref, err
}

func (g *guard) guarded(ctx context.Context, fn func(context.Context) (string, error)) (ref string, err error) {
	err = g.breaker.Do(ctx, func() (err error) {
		ref, err = fn(ctx)
		return err
	})
	return ref, err
}
