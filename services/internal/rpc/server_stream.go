package rpc

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/meshmart/meshmart/services/internal/apart"
	"github.com/meshmart/meshmart/services/internal/fault"
)

// guardedStream validates what comes in and counts both directions.
type guardedStream struct {
	grpc.ServerStream
	call *call
	long bool // the client may send for as long as it likes

	// A pump receives where a shutdown must not wait; nil: there is none yet.
	asks    chan any
	answers chan error
	left    bool // nobody waits any more for what comes
}

func (g *guardedStream) Context() context.Context { return g.call.ctx }

func (g *guardedStream) RecvMsg(m any) error {
	if g.long {
		return g.take(m)
	}
	return g.takeApart(m)
}

// takeApart receives the one request of a stream that may wait for long after it.
func (g *guardedStream) takeApart(m any) (err error) {
	apart.Run(func() { err = g.take(m) })
	return err
}

func (g *guardedStream) take(m any) error {
	if err := g.receive(m); err != nil {
		return err
	}
	g.call.received.Add(1)
	return validate(m)
}

// idleAtDrain is how long a shutdown waits for the next message of a stream.
const idleAtDrain = 500 * time.Millisecond

// receive waits for the next message, and at a shutdown no longer than for one
// that is on its way: a client that says nothing would hold up the others. What
// it has sent was taken or is sent again, as its contract says.
func (g *guardedStream) receive(m any) error {
	if !g.long || g.call.server.cfg.Draining == nil {
		return g.ServerStream.RecvMsg(m)
	}
	if g.left {
		return errStops
	}
	if g.asks == nil {
		g.asks, g.answers = make(chan any, 1), make(chan error, 1)
		go g.pump()
	}
	select {
	case g.asks <- m:
	case <-g.ServerStream.Context().Done(): // and nobody takes what is asked for
		return g.answered(nil, false)
	}
	select {
	case err, ok := <-g.answers:
		return g.answered(err, ok)
	case <-g.call.server.cfg.Draining:
	}
	select {
	case err, ok := <-g.answers:
		return g.answered(err, ok)
	case <-time.After(idleAtDrain):
		g.left = true // the answer that may still come is to this one
		return errStops
	}
}

var errStops = fault.Unavailable(time.Second, "this server stops: open the stream again")

// answered returns the answer of the pump; one that has ended has none.
func (g *guardedStream) answered(err error, ok bool) error {
	if !ok {
		return status.FromContextError(g.ServerStream.Context().Err()).Err()
	}
	return err
}

// pump receives what is asked for, in one goroutine for all messages of the stream:
// one for each would treble what a message costs. It ends with the stream.
func (g *guardedStream) pump() {
	defer close(g.answers)
	for ended := g.ServerStream.Context().Done(); ; {
		select {
		case m := <-g.asks:
			g.answers <- g.ServerStream.RecvMsg(m)
		case <-ended:
			return
		}
	}
}

func (g *guardedStream) SendMsg(m any) error {
	err := g.ServerStream.SendMsg(m)
	if err == nil {
		g.call.sent.Add(1)
	}
	return err
}
