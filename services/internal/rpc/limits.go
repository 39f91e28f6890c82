package rpc

import (
	"context"
	"net"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	meshpb "github.com/meshmart/meshmart/proto/mesh/v1"
	"github.com/meshmart/meshmart/services/internal/auth"
	"github.com/meshmart/meshmart/services/internal/fault"
	"github.com/meshmart/meshmart/services/internal/policy"
)

// maxBuckets bounds the memory of the limits however many callers there are.
const maxBuckets = 10_000

// limits holds the token buckets of the RPCs' rates.
type limits struct {
	clock func() time.Time

	mu      sync.Mutex
	buckets map[bucketKey]*rate.Limiter
}

type bucketKey struct{ method, caller string }

func newLimits(clock func() time.Time) *limits {
	return &limits{clock: clock, buckets: map[bucketKey]*rate.Limiter{}}
}

// take takes a token for one call, or refuses it with the time to wait.
func (l *limits) take(ctx context.Context, p *policy.Policy, who *auth.Principal) error {
	if p.Rate == nil {
		return nil
	}
	key := bucketKey{method: p.Method}
	if p.Rate.GetKey() == meshpb.RateKey_RATE_KEY_CALLER {
		if p.Access == meshpb.Access_ACCESS_PUBLIC {
			who = nil // or a token of anybody's would be a bucket of one's own
		}
		key.caller = caller(ctx, who)
	}
	now := l.clock()
	r := l.bucket(key, p.Rate, now).ReserveN(now, 1)
	wait := r.DelayFrom(now)
	if r.OK() && wait == 0 {
		return nil
	}
	r.CancelAt(now)
	return fault.Exhausted(max(wait, time.Millisecond), "too many calls; try again in %v", max(wait, time.Millisecond).Round(time.Millisecond))
}

func (l *limits) bucket(key bucketKey, r *meshpb.Rate, now time.Time) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.buckets[key]
	if b == nil {
		if len(l.buckets) >= maxBuckets {
			l.sweep(now)
		}
		b = rate.NewLimiter(rate.Limit(r.GetPerSecond()), int(r.GetBurst()))
		l.buckets[key] = b
	}
	return b
}

// sweep forgets the buckets that are full again: a new one is the same. If a
// flood of callers leaves none, all are forgotten, which only lets calls pass.
func (l *limits) sweep(now time.Time) {
	for k, b := range l.buckets {
		if b.TokensAt(now) >= float64(b.Burst()) {
			delete(l.buckets, k)
		}
	}
	if len(l.buckets) >= maxBuckets {
		clear(l.buckets)
	}
}

// caller names who shares a bucket: the user, or the address that the gateway
// has seen (the last entry of x-forwarded-for: the ones before it are the
// client's own claim), or the peer's.
func caller(ctx context.Context, who *auth.Principal) string {
	if who != nil {
		return who.Subject
	}
	if via := metadata.ValueFromIncomingContext(ctx, "x-forwarded-for"); len(via) > 0 {
		hops := strings.Split(via[len(via)-1], ",")
		return strings.TrimSpace(hops[len(hops)-1])
	}
	if p, ok := peer.FromContext(ctx); ok && p.Addr != nil {
		if host, _, err := net.SplitHostPort(p.Addr.String()); err == nil {
			return host
		}
		return p.Addr.String()
	}
	return ""
}
