package tests

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/meshmart/meshmart/tests/testbed"
)

// streams are those whose events orders are completed by.
var streams = []string{"ORDER", "PAYMENT", "STOCK"}

// TestBrokerLeaderIsLost takes away the broker that leads the stream of orders
// while orders flow, and gives it back. Orders go on being completed by the two
// that are left, and no event is lost or applied twice.
func TestBrokerLeaderIsLost(t *testing.T) {
	s := open(t)
	for _, tt := range []struct {
		name       string
		hurt, heal func(*testbed.Container, context.Context) error
	}{
		{"killed", (*testbed.Container).Kill, (*testbed.Container).Start},
		{"frozen", (*testbed.Container).Pause, (*testbed.Container).Resume},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), hang)
			defer cancel()
			l := newLoad(s)
			var lost time.Time
			var back time.Duration
			l.during(t, 20, func() {
				s.waitCompleted(t, ctx, time.Now(), 10)
				leader := s.leader(t, ctx)
				lost = time.Now()
				if err := tt.hurt(leader, ctx); err != nil {
					t.Fatal(err)
				}
				s.waitCompleted(t, ctx, lost, 20)
				given := time.Now()
				if err := tt.heal(leader, ctx); err != nil {
					t.Error(err)
				}
				s.waitInSync(t, ctx)
				back = time.Since(given)
			})
			l.report(t)
			s.audit(t)
			t.Logf("figure: leader of a stream %s under load: %d orders, none completed for %.1f s after it; in sync %.1f s after it was back",
				tt.name, len(l.orders), s.longestGap(t, lost).Seconds(), back.Seconds())
		})
	}
}

// jetStream connects to the first broker that answers.
func (s *shop) jetStream(ctx context.Context) (jetstream.JetStream, func(), error) {
	var errs []error
	for _, b := range s.bed.Brokers() {
		url, err := b.BrokerURL(ctx)
		if err == nil {
			var nc *nats.Conn
			if nc, err = nats.Connect(url, nats.Timeout(time.Second)); err == nil {
				js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(2*time.Second))
				return js, nc.Close, err
			}
		}
		errs = append(errs, err)
	}
	return nil, nil, errors.Join(errs...)
}

// cluster tells who keeps a stream.
func (s *shop) cluster(ctx context.Context, stream string) (*jetstream.ClusterInfo, error) {
	js, done, err := s.jetStream(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	of, err := js.Stream(ctx, stream)
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", stream, err)
	}
	return of.CachedInfo().Cluster, nil
}

// leader returns the broker that leads the stream of orders.
func (s *shop) leader(t *testing.T, ctx context.Context) *testbed.Container {
	t.Helper()
	c, err := s.cluster(ctx, streams[0])
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(s.bed.Brokers(), func(b *testbed.Container) bool { return b.Name == c.Leader })
	if i < 0 || len(c.Replicas) != 2 {
		t.Fatalf("the stream is kept by %+v", c)
	}
	return s.bed.Brokers()[i]
}

// waitInSync returns when every stream is kept by three brokers that have all
// of it.
func (s *shop) waitInSync(t *testing.T, ctx context.Context) {
	t.Helper()
	err := until(ctx, func() error {
		for _, name := range streams {
			c, err := s.cluster(ctx, name)
			if err != nil {
				return err
			}
			for _, p := range c.Replicas {
				if p.Offline || !p.Current || p.Lag > 0 {
					return fmt.Errorf("stream %s: %s is behind: %+v", name, p.Name, *p)
				}
			}
			if c.Leader == "" || len(c.Replicas) != 2 {
				return fmt.Errorf("stream %s is kept by %+v", name, c)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// completions returns when orders were completed, since then.
func (s *shop) completions(ctx context.Context, since time.Time) (at []time.Time, err error) {
	db, err := s.bed.OpenDatabase(ctx, "order")
	if err != nil {
		return nil, err
	}
	defer db.Close()
	rows, err := db.QueryContext(ctx, `SELECT change_time FROM order_changes WHERE state = 'COMPLETED' AND change_time > $1 ORDER BY 1`, since.UnixMicro())
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var micros int64
		if err := rows.Scan(&micros); err != nil {
			return nil, err
		}
		at = append(at, time.UnixMicro(micros))
	}
	return at, rows.Err()
}

// waitCompleted returns when so many orders were completed since then.
func (s *shop) waitCompleted(t *testing.T, ctx context.Context, since time.Time, n int) {
	t.Helper()
	err := until(ctx, func() error {
		at, err := s.completions(ctx, since)
		if err == nil && len(at) < n {
			err = fmt.Errorf("%d orders were completed in %v, want %d", len(at), time.Since(since).Round(time.Second), n)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// longestGap returns for how long no order was completed, since then.
func (s *shop) longestGap(t *testing.T, since time.Time) time.Duration {
	t.Helper()
	at, err := s.completions(t.Context(), since)
	if err != nil {
		t.Fatal(err)
	}
	var most time.Duration
	for _, next := range at {
		most = max(most, next.Sub(since))
		since = next
	}
	return most
}
