package rpc

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/meshmart/meshmart/services/internal/breaker"
	"github.com/meshmart/meshmart/services/internal/fault"
)

// breakerOpen is how long a breaker stays open before it probes.
const breakerOpen = 5 * time.Second

// guard is the circuit breaker of one target. Only signs of an outage count; a
// refusal is an answer, and a call that its caller gave up says nothing.
type guard struct {
	name string
	cb   *breaker.Breaker
}

func newGuard(cfg ClientConfig) *guard {
	return &guard{cfg.Name, breaker.New(breaker.Config{
		Target: cfg.Name, Open: breakerOpen, Outage: outage, Abandoned: abandoned, Log: cfg.Log, Meters: cfg.Meters,
	})}
}

func (g *guard) allow() (func(error), error) {
	done, err := g.cb.Allow()
	if err != nil {
		return nil, status.Errorf(codes.Unavailable, "%s: %v", g.name, err)
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
