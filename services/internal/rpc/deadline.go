package rpc

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/meshmart/meshmart/services/internal/policy"
)

// What a caller keeps of its own time when it calls on: enough to still answer
// in time when the callee does not.
const (
	minShave = 5 * time.Millisecond
	maxShave = 100 * time.Millisecond
)

// budget gives a call its deadline: the callee's timeout by its contract, or
// what is left of the caller's own time less a little, if that is sooner. A
// budget that is spent is refused here, before anything is sent.
func budget(ctx context.Context, p *policy.Policy) (context.Context, context.CancelFunc, error) {
	limit := time.Duration(0)
	if p != nil {
		limit = p.Timeout
	}
	if end, ok := ctx.Deadline(); ok {
		left := time.Until(end)
		left -= min(max(left/50, minShave), maxShave)
		if left <= 0 {
			return nil, nil, status.Error(codes.DeadlineExceeded, "no time left for this call")
		}
		if limit == 0 || left < limit {
			limit = left
		}
	}
	if limit == 0 {
		ctx, cancel := context.WithCancel(ctx)
		return ctx, cancel, nil
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	return ctx, cancel, nil
}
