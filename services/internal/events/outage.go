package events

import (
	"context"
	"log/slog"
	"math/bits"
	"time"
)

// outage spaces out the attempts at something that keeps failing, and logs
// fewer of them the longer it lasts.
type outage struct {
	log  *slog.Logger
	what string
	n    int // failures in a row
}

// failed notes a failure and returns how long to wait before the next attempt.
func (o *outage) failed(ctx context.Context, err error) time.Duration {
	o.n++
	level := slog.LevelDebug
	if bits.OnesCount(uint(o.n)) == 1 { // 1, 2, 4, 8 ...
		level = slog.LevelWarn
	}
	if ctx.Err() == nil {
		o.log.Log(ctx, level, o.what+" is interrupted", "attempt", o.n, "err", err.Error())
	}
	return backoff(o.n, 50*time.Millisecond, 5*time.Second)
}

// over notes a success.
func (o *outage) over(ctx context.Context) {
	if o.n > 0 {
		o.log.InfoContext(ctx, o.what+" goes on", "attempts", o.n)
	}
	o.n = 0
}
