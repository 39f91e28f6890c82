package rpc

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

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

// guard is the circuit breaker of one target. Only signs of an outage count; a
// refusal is an answer, and a call that its caller gave up says nothing.
type guard struct {
	name    string
	breaker *breaker.Breaker
}

func newGuard(cfg ClientConfig) *guard {
	b := breaker.Config{Target: cfg.Name, Outage: outage, Abandoned: abandoned, Log: cfg.Log, Meters: cfg.Meters}
	if cfg.Breaker == nil {
		return &guard{cfg.Name, breaker.New(b)}
	}
	return &guard{cfg.Name, cfg.Breaker(b)}
}

func (g *guard) allow() (func(error), error) {
	done, err := g.breaker.Allow()
	if err != nil {
		return nil, status.Errorf(codes.Unavailable, "%s: %v", g.name, err)
	}
	return done, nil
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

// watchedStream tells the breaker how the stream began: with a message, with
// its end, or given up by the caller before either.
type watchedStream struct {
	grpc.ClientStream // nil until it is open
	cancel            context.CancelFunc
	single            bool // the reply is one message, after which nothing is read
	once              sync.Once
	done              func(error)
	stop              func() bool
}

func newWatchedStream(ctx context.Context, desc *grpc.StreamDesc, done func(error), cancel context.CancelFunc) *watchedStream {
	w := &watchedStream{done: done, cancel: cancel, single: !desc.ServerStreams}
	w.stop = context.AfterFunc(ctx, func() { w.report(ctx.Err()) })
	time.AfterFunc(silence, func() { w.report(context.Canceled) })
	return w
}

func (w *watchedStream) report(err error) { w.once.Do(func() { w.done(err) }) }

func (w *watchedStream) end() {
	w.stop()
	w.cancel()
}

func (w *watchedStream) RecvMsg(m any) error {
	err := w.ClientStream.RecvMsg(m)
	if errors.Is(err, io.EOF) {
		w.report(nil)
	} else {
		w.report(err)
	}
	if err != nil || w.single {
		w.end()
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
