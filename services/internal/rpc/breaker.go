package rpc

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"go.opentelemetry.io/otel/metric/noop"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/meshmart/meshmart/services/internal/breaker"
	"github.com/meshmart/meshmart/services/internal/fault"
)

// silence is how long a stream says nothing until its beginning counts neither
// way: one that waits for something to happen must not keep a probe's place.
const silence = time.Second

// reconnect is how often a connection is tried while the target is away. gRPC's
// own 2 minutes would keep callers out long after the target is back.
func reconnect() grpc.ConnectParams {
	return grpc.ConnectParams{
		Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
		MinConnectTimeout: 3 * time.Second,
	}
}

// guard is the circuit breaker of one target, and counts the calls that it lets
// through. Only signs of an outage count for the breaker; a refusal is an answer,
// and a call that its caller gave up says nothing.
type guard struct {
	name    string
	breaker *breaker.Breaker
	witness witness
	traces  tracing  // the zero value: they are traced elsewhere, or not
	calls   *measure // nil: they are not measured
}

func newGuard(cfg ClientConfig) (*guard, error) {
	g := &guard{name: cfg.Name, witness: witness{cfg.Point}}
	if cfg.Meters == nil {
		cfg.Meters = noop.NewMeterProvider() // for the breaker
	} else {
		var err error
		if g.calls, err = measureClient(cfg.Meters, cfg.Name); err != nil {
			return nil, err
		}
	}
	b := breaker.Config{Target: cfg.Name, Outage: outage, Abandoned: abandoned, Log: cfg.Log, Meters: cfg.Meters}
	if cfg.Breaker == nil {
		cfg.Breaker = breaker.New
	}
	g.breaker = cfg.Breaker(b)
	return g, nil
}

// allow is the breaker's, whose decisions are told on the span of ctx.
func (g *guard) allow(ctx context.Context) (func(error), error) {
	done, err := g.breaker.Allow(ctx)
	if err != nil {
		return nil, status.Errorf(codes.Unavailable, "%s: %v", g.name, err)
	}
	return done, nil
}

// count counts a call that began at start and has ended with err.
func (g *guard) count(ctx context.Context, method string, start time.Time, err error) {
	if g.calls != nil {
		g.calls.of(method).record(ctx, time.Since(start), ended(err))
	}
}

// outage reports whether err says that the target is not working. One that says
// which other part of the shop is out works itself: were it not asked any more,
// whatever else it does would be out too.
func outage(err error) bool {
	switch status.Code(err) {
	case codes.Unavailable, codes.DeadlineExceeded:
		return !fault.Elsewhere(err)
	case codes.Internal, codes.Unknown, codes.DataLoss:
		return true
	}
	return false
}

func abandoned(err error) bool {
	return status.Code(err) == codes.Canceled || errors.Is(err, context.Canceled)
}

// watchedStream tells the breaker how the stream began, with a message, with its
// end, or given up by the caller before either; and whoever else asks how it ended.
type watchedStream struct {
	grpc.ClientStream      // nil until it is open
	single            bool // the reply is one message, after which nothing is read
	begun, ended      sync.Once
	done              func(error) // the breaker's
	over              func(error) // told of the end, nil for a good one
	stop              func() bool
}

func newWatchedStream(ctx context.Context, desc *grpc.StreamDesc, done, over func(error)) *watchedStream {
	w := &watchedStream{done: done, over: over, single: !desc.ServerStreams}
	w.stop = context.AfterFunc(ctx, func() { w.report(ctx.Err()); w.close(ctx.Err()) })
	time.AfterFunc(silence, func() { w.report(context.Canceled) })
	return w
}

func (w *watchedStream) report(err error) { w.begun.Do(func() { w.done(err) }) }

func (w *watchedStream) close(err error) { w.ended.Do(func() { w.over(err) }) }

func (w *watchedStream) end(err error) {
	w.stop()
	w.close(err)
}

func (w *watchedStream) RecvMsg(m any) error {
	err := w.ClientStream.RecvMsg(m)
	outcome := err
	if errors.Is(err, io.EOF) {
		outcome = nil
	}
	w.report(outcome)
	if err != nil || w.single {
		w.end(outcome)
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
