package rpc

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/sony/gobreaker/v2"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/meshmart/meshmart/services/internal/fault"
)

// When a breaker opens, and for how long.
const (
	breakerRow    = 5                // outages in a row
	breakerMin    = 20               // or of at least so many calls in the window
	breakerShare  = 0.5              // this share
	breakerWindow = 10 * time.Second // counted over
	breakerOpen   = 5 * time.Second  // stays open before it probes
	breakerProbes = 3                // calls let through as a probe
)

// breaker stops calls to a target that is out: it answers at once in place of
// waiting, and gives the target time to come back. Only signs of an outage
// count; a refusal is an answer, and a call that its caller gave up says nothing.
type breaker struct {
	name string
	cb   *gobreaker.TwoStepCircuitBreaker[any]
}

func newBreaker(name string, log *slog.Logger, meters metric.MeterProvider) *breaker {
	b := &breaker{name: name}
	b.cb = gobreaker.NewTwoStepCircuitBreaker[any](gobreaker.Settings{
		Name:        name,
		MaxRequests: breakerProbes,
		Interval:    breakerWindow,
		Timeout:     breakerOpen,
		ReadyToTrip: func(c gobreaker.Counts) bool {
			return c.ConsecutiveFailures >= breakerRow ||
				c.Requests >= breakerMin && float64(c.TotalFailures) >= breakerShare*float64(c.Requests)
		},
		OnStateChange: func(name string, from, to gobreaker.State) {
			log.Warn("circuit breaker", "target", name, "from", from.String(), "to", to.String())
		},
		IsSuccessful: func(err error) bool { return !outage(err) },
		IsExcluded:   abandoned,
	})
	b.observe(meters)
	return b
}

// observe reports the state as a gauge: 0 closed, 1 half-open, 2 open.
func (b *breaker) observe(meters metric.MeterProvider) {
	_, _ = meters.Meter("github.com/meshmart/meshmart/services/internal/rpc").Int64ObservableGauge(
		"rpc.client.breaker.state",
		metric.WithDescription("State of the circuit breaker: 0 closed, 1 half-open, 2 open."),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			o.Observe(int64(b.cb.State()), metric.WithAttributes(attribute.String("target", b.name)))
			return nil
		}))
}

func (b *breaker) allow() (func(error), error) {
	done, err := b.cb.Allow()
	if err != nil {
		return nil, status.Errorf(codes.Unavailable, "%s: %v", b.name, err)
	}
	return done, nil
}

// outage reports whether err says that the target is not working.
func outage(err error) bool {
	switch status.Code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Internal, codes.Unknown, codes.DataLoss:
		return true
	}
	return false
}

func abandoned(err error) bool {
	return status.Code(err) == codes.Canceled || errors.Is(err, context.Canceled)
}

// watchedStream tells the breaker how the stream began: with a message, with
// its end, or given up by the caller before either.
type watchedStream struct {
	grpc.ClientStream
	cancel context.CancelFunc
	single bool // the reply is one message, after which nothing is read
	once   sync.Once
	done   func(error)
	stop   func() bool
}

func newWatchedStream(s grpc.ClientStream, desc *grpc.StreamDesc, done func(error), cancel context.CancelFunc) *watchedStream {
	w := &watchedStream{ClientStream: s, done: done, cancel: cancel, single: !desc.ServerStreams}
	w.stop = context.AfterFunc(s.Context(), func() { w.report(s.Context().Err()) })
	return w
}

func (w *watchedStream) report(err error) { w.once.Do(func() { w.done(err) }) }

func (w *watchedStream) RecvMsg(m any) error {
	err := w.ClientStream.RecvMsg(m)
	if errors.Is(err, io.EOF) {
		w.report(nil)
	} else {
		w.report(err)
	}
	if err != nil || w.single {
		w.stop()
		w.cancel()
	}
	return fromStream(err)
}

// fromStream returns the fault that ended a stream; io.EOF and nil stay so.
func fromStream(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return fault.FromStatus(err)
}
