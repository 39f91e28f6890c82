package rpc

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/meshmart/meshmart/services/internal/fault"
)

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
			return fault.Unavailable(time.Second, "a service that is needed is not available; try again later").GRPCStatus()
		case codes.DeadlineExceeded:
			return status.New(codes.DeadlineExceeded, "a service that is needed did not answer in time")
		case codes.Unimplemented:
			return s.GRPCStatus() // reflection and health answer so
		}
	}
	return status.New(codes.Internal, "internal error")
}
