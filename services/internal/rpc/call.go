package rpc

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/meshmart/meshmart/services/internal/auth"
	"github.com/meshmart/meshmart/services/internal/effect"
)

// call is one call on its way through the server.
type call struct {
	*route
	server *Server
	ctx    context.Context
	cancel context.CancelFunc
	start  time.Time
	again  int  // how often it was made before, as far as that is told
	traced bool // it has a span
	unread bool // its request could not be read

	// A handler may have returned while a goroutine of its stream still receives.
	received, sent atomic.Int64
}

// begin bounds the call by its policy's timeout, or by the caller's deadline if
// that is sooner.
func (s *Server) begin(ctx context.Context, r *route) *call {
	c := &call{route: r, server: s, cancel: func() {}, start: time.Now(), again: resends(ctx)}
	s.took(ctx)
	ctx, c.traced = s.traces.arrived(ctx, r.method)
	if c.traced {
		sayResends(ctx, c.again)
	}
	c.ctx = effect.Track(s.cfg.Point.In(ctx, r.name))
	if c.policy == nil || c.policy.Timeout == 0 {
		return c
	}
	end := c.start.Add(c.policy.Timeout)
	if callers, ok := ctx.Deadline(); !ok || end.Before(callers) {
		c.ctx, c.cancel = context.WithDeadline(c.ctx, end)
	}
	return c
}

// admit lets the call in, or says why not: it has a policy, time left, a place
// in the rate limit, and a caller who may.
func (c *call) admit() error {
	if c.policy == nil {
		return fmt.Errorf("%s has no policy", c.method)
	}
	if err := c.ctx.Err(); err != nil {
		return err
	}
	principal, err := c.server.authenticate(c.ctx, c.policy)
	if err != nil {
		return err
	}
	if principal != nil {
		c.ctx = auth.With(c.ctx, principal)
	}
	return c.server.limits.take(c.ctx, c.policy, principal)
}

// run calls fn and turns a panic into an error, logged with its stack.
func (c *call) run(fn func() (any, error)) (reply any, err error) {
	defer func() {
		if p := recover(); p != nil {
			c.server.cfg.Log.ErrorContext(c.ctx, "panic", "method", c.method, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			reply, err = nil, fmt.Errorf("panic: %v", p)
		}
	}()
	return fn()
}

// end counts the call, writes its one line, ends its span and returns what the
// caller is told.
func (c *call) end(err error) error {
	st := c.outcome(err)
	told := st.Err()
	c.tell(st.Code(), err)
	if c.traced {
		c.server.traces.answered(c.ctx, told)
	}
	c.server.cfg.Point.At("before reply of ", c.name)
	return told
}

// tell counts the call, and writes its line.
func (c *call) tell(code codes.Code, err error) {
	took := time.Since(c.start)
	if c.calls != nil {
		c.calls.record(c.ctx, took, code)
	}
	c.line(code, took, err)
}

// outcome is what the caller may learn of err.
func (c *call) outcome(err error) *status.Status {
	switch {
	case err == nil:
		return nil // stands for OK
	case c.unread:
		return status.Convert(err) // gRPC's own words
	}
	return c.truthful(visible(c.ctx, err, c.server.cfg.Outage))
}

// line writes the call's line. Its time is whole microseconds: slog has
// encoding/json write a float, which would be a twentieth of what a call costs.
func (c *call) line(code codes.Code, took time.Duration, err error) {
	h, at := c.lines(code), level(code)
	if !h.Enabled(c.ctx, at) {
		return
	}
	r := slog.NewRecord(c.start.Add(took), at, "call", 0)
	r.AddAttrs(slog.Int64("us", took.Microseconds()))
	if p, ok := auth.From(c.ctx); ok {
		r.AddAttrs(slog.String("user", p.Subject))
	}
	if c.policy != nil && c.policy.Streaming {
		r.AddAttrs(slog.Int64("received", c.received.Load()), slog.Int64("sent", c.sent.Load()))
	}
	if c.again > 0 {
		r.AddAttrs(slog.Int("attempt", c.again+1))
	}
	if err != nil {
		r.AddAttrs(slog.String("err", err.Error()))
	}
	h.Handle(c.ctx, r) // as slog does: a line that can't be written is nobody's failure
}

// level is how much an outcome should worry whoever runs the service.
func level(c codes.Code) slog.Level {
	switch c {
	case codes.Internal, codes.Unknown, codes.DataLoss, codes.Unimplemented:
		return slog.LevelError
	case codes.Unavailable, codes.DeadlineExceeded, codes.ResourceExhausted:
		return slog.LevelWarn
	}
	return slog.LevelInfo
}

func validate(m any) error {
	msg, ok := m.(proto.Message)
	if !ok {
		return nil
	}
	return Validate(msg)
}
