package rpc

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc"
)

// gone is a stream whose client has left.
type gone struct {
	grpc.ServerStream
	ctx context.Context
}

func (g gone) Context() context.Context { return g.ctx }
func (g gone) RecvMsg(any) error        { return g.ctx.Err() }

// A handler may ask again, as one does that takes an error for the end of a message.
func TestReceivingAfterTheEndReturns(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s := &Server{cfg: ServerConfig{Draining: make(chan struct{})}}
	g := &guardedStream{ServerStream: gone{ctx: ctx}, call: &call{server: s}, long: true}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 5 {
			if g.receive(nil) == nil {
				t.Error("a message came from nobody")
			}
		}
	}()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Fatal("it waits for who has left")
	}
}
