package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	orderpb "github.com/meshmart/meshmart/proto/order/v1"
	"github.com/meshmart/meshmart/tests/bench/procs"
)

// An order whose stock is never sold and whose payment is never taken, as nobody
// has announced it: those who watch it wait, until it is cancelled.
var addWaiting = []string{
	`INSERT INTO orders (id, user_id, request_id, fingerprint, state, reason, message, currency, total, payment_id, traceparent, version,
		create_time, update_time, step, attempts, due_time, payment_token, stock_committed, payment_captured, revision)
		SELECT '%[1]s', $2::text, '%[1]s', '\x00', 'CONFIRMED', '', '', 'EUR', 14900000, '', '', 1, 1, 1, 'DONE', 0, NULL, '', FALSE, FALSE, 1 WHERE $1::int = 1`,
	`INSERT INTO order_items (order_id, position, product_id, sku, name, quantity, unit_price) VALUES ('%[1]s', 0, '%[1]s', 'A', 'A', 1, 14900000)`,
	`INSERT INTO order_changes (order_id, version, state, reason, change_time) VALUES ('%[1]s', 1, 'CONFIRMED', '', 1)`,
}

// streamsPerConn is how many streams share a connection: a gateway has a few.
const streamsPerConn = 500

// watchers opens 1, 10, 100 streams and so on of an order that stays as it is,
// looks at the memory, and changes the order.
func (b *bench) watchers(ctx context.Context) error {
	t := b.targets[onPostgres]
	if t == nil {
		b.leaveOut("watchers: they are measured on PostgreSQL")
		return nil
	}
	user, err := subject(t.tokens[0])
	if err != nil {
		return err
	}
	before := b.orderRSS()
	for n := 1; n <= b.cfg.Streams; n *= 10 {
		b.say("watchers: %d streams", n)
		id := uuid.Must(uuid.NewV7()).String()
		var fill []string
		for _, s := range addWaiting {
			fill = append(fill, fmt.Sprintf(s, id))
		}
		if err := b.rig.Postgres.Fill(ctx, "bench_order", fill, 1, user); err != nil {
			return err
		}
		w, err := b.watch(ctx, t, id, n, before)
		if err != nil {
			return fmt.Errorf("%d streams: %w", n, err)
		}
		b.results.Watchers = append(b.results.Watchers, w)
	}
	return nil
}

func (b *bench) orderRSS() int64 {
	total := int64(0)
	for _, p := range b.rig.Started("order") {
		total += procs.RSS(p.PID)
	}
	return total
}

// watchLimit bounds how long anything here may take.
const watchLimit = time.Minute

// watch opens n streams and measures them.
func (b *bench) watch(ctx context.Context, t *target, id string, n int, before int64) (Watched, error) {
	ctx, cancel := context.WithTimeout(signed(ctx, t.tokens[0]), watchLimit)
	defer cancel()
	ccs, shut, err := t.dial("order", perConn*((n+streamsPerConn-1)/streamsPerConn))
	if err != nil {
		return Watched{}, err
	}
	defer shut()
	streams := make([]grpc.ServerStreamingClient[orderpb.WatchOrderResponse], n)
	err = inParallel(n, func(i int) error {
		var err error
		streams[i], err = orderpb.NewOrderServiceClient(ccs[i%len(ccs)]).WatchOrder(ctx, &orderpb.WatchOrderRequest{Id: id})
		if err == nil {
			_, err = streams[i].Recv() // as it is
		}
		return err
	})
	if err != nil {
		return Watched{}, fmt.Errorf("open: %w", err)
	}
	w := Watched{Streams: n, PerStream: max(0, b.orderRSS()-before) / int64(n)}
	w.Reached, err = reached(ctx, streams, func() error {
		_, err := orderpb.NewOrderServiceClient(ccs[0]).CancelOrder(ctx, &orderpb.CancelOrderRequest{Id: id})
		return err
	})
	return w, err
}

// reached makes a change, and returns how many milliseconds later every stream
// had news of it.
func reached(ctx context.Context, streams []grpc.ServerStreamingClient[orderpb.WatchOrderResponse], change func() error) (float64, error) {
	var began time.Time
	var mu sync.Mutex
	var last time.Duration
	var g errgroup.Group
	waiting := make(chan struct{})
	for _, s := range streams {
		g.Go(func() error {
			<-waiting
			if _, err := s.Recv(); err != nil {
				return fmt.Errorf("wait for the change: %w", err)
			}
			mu.Lock()
			defer mu.Unlock()
			last = max(last, time.Since(began))
			return nil
		})
	}
	began = time.Now()
	close(waiting)
	g.Go(change)
	err := g.Wait()
	return float64(last.Microseconds()) / 1000, errors.Join(err, ctx.Err())
}

// inParallel calls fn for 0 to n-1, some at a time.
func inParallel(n int, fn func(int) error) error {
	var g errgroup.Group
	g.SetLimit(64)
	for i := range n {
		g.Go(func() error { return fn(i) })
	}
	return g.Wait()
}

// subject is whose token it is.
func subject(token string) (string, error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return "", errors.New("the token is no JWT")
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return "", fmt.Errorf("read the token: %w", err)
	}
	var claims struct{ Sub string }
	err = json.Unmarshal(text, &claims)
	return claims.Sub, err
}
