package rpc

import (
	"context"
	"errors"
	"slices"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/meshmart/meshmart/services/internal/effect"
	"github.com/meshmart/meshmart/services/internal/fault"
)

// reasonNeeded is that of an outage further down. By it the caller's breaker
// knows that the service itself works, and goes on calling it for all else.
const reasonNeeded = "NEEDED_SERVICE_OUT"

// visible returns what the caller may learn of a handler's error: a fault as it
// is, the end of the call's own time, an outage further down as UNAVAILABLE,
// and INTERNAL for anything else. The cause stays on this side, for the log.
func visible(ctx context.Context, err error, outage func(error) bool) *status.Status {
	if f := fault.As(err); f != nil {
		return f.GRPCStatus()
	}
	if ctx.Err() != nil {
		return status.FromContextError(ctx.Err())
	}
	if outage != nil && outage(err) {
		return fault.Unavailable(time.Second, "the database is not available; try again later").GRPCStatus()
	}
	var s interface{ GRPCStatus() *status.Status }
	if errors.As(err, &s) {
		switch s.GRPCStatus().Code() {
		case codes.Unavailable:
			return fault.Out(reasonNeeded, time.Second, "a service that is needed is not available; try again later").GRPCStatus()
		case codes.DeadlineExceeded:
			return because(codes.DeadlineExceeded, reasonNeeded, "a service that is needed did not answer in time")
		case codes.Unimplemented:
			return s.GRPCStatus() // reflection and health answer so
		}
	}
	return status.New(codes.Internal, "internal error")
}

// truthful returns the outcome of a call as the caller is told it. A code that a
// mesh retries says that nothing was done. If something may have been, the
// handler has a defect, which the log is told of, and the caller that the outcome
// is not known: INTERNAL, which nobody repeats unasked, with the reason
// OUTCOME_UNKNOWN.
//
// It is for unary RPCs. A stream has its effects one by one and confirms each, and
// no mesh repeats it: when it is cut off by UNAVAILABLE, as at a shutdown, its
// client opens it again and goes on after what was confirmed.
func (c *call) truthful(st *status.Status) *status.Status {
	if c.policy == nil || c.policy.Streaming || !effect.Noted(c.ctx) ||
		st.Code() != codes.Unavailable && !slices.Contains(c.policy.RetryOn, st.Code()) {
		return st
	}
	c.server.cfg.Log.ErrorContext(c.ctx, "handler says that nothing was done, and something was", "method", c.method, "code", codeName(st.Code()))
	text := "it is not known whether the request took effect: repeat it to learn the outcome"
	if c.policy.RequestID != nil {
		text = "it is not known whether the request took effect: repeat it with the same request_id to learn the outcome"
	}
	return because(codes.Internal, "OUTCOME_UNKNOWN", text)
}

// because returns a status that tells its reason to machines.
func because(code codes.Code, reason, text string) *status.Status {
	st := status.New(code, text)
	if s, err := st.WithDetails(&errdetails.ErrorInfo{Reason: reason, Domain: fault.Domain}); err == nil {
		return s
	}
	return st
}
