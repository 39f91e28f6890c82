package events

import (
	"context"
	"sync"
	"testing"

	"github.com/meshmart/meshmart/services/internal/db"
)

// facts is what is known of one event, in the order in which it becomes so.
type facts struct {
	Outbox, Stream, Inbox, Acked int
}

// TestPointsAreWhereTheirNamesSay looks, at each point, at what a crash there would
// leave behind.
func TestPointsAreWhereTheirNamesSay(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		br := newBroker(t).start()
		eye := br.bus()
		if err := eye.ensure(t.Context(), "ORDER"); err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		seen := map[string]facts{}
		look := func() facts {
			return facts{rows(t, d, "outbox"), stored(t, eye), rows(t, d, "inbox"), acked(t, eye)}
		}
		bus := br.bus(func(c *Config) {
			c.Point = func(p string) {
				f := look()
				mu.Lock()
				defer mu.Unlock()
				seen[p] = f
			}
		})
		o := NewOutbox(d, bus)
		announce(t, o, "order.created", "a")
		flush(t, o)
		done := make(chan string, 1)
		stop := consume(t, bus, ledger(d, done))
		receive(t, done)
		stop()
		sent := seen["after send of order.created"]
		sent.Stream = 0 // it is on its way, and may be there
		seen["after send of order.created"] = sent
		same(t, seen, map[string]facts{
			"after send of order.created":             {Outbox: 1},
			"after publish of order.created":          {Outbox: 1, Stream: 1},
			"before handling order.created by ledger": {Stream: 1},
			"before ack of order.created by ledger":   {Stream: 1, Inbox: 1},
		})
		eventually(t, "the event is answered for", func() bool { return look() == facts{Stream: 1, Inbox: 1, Acked: 1} })
	})
}

func rows(t *testing.T, d *db.DB, table string) (n int) {
	t.Helper()
	if err := d.Row(context.Background(), `SELECT COUNT(*) FROM `+table).Scan(&n); err != nil {
		t.Error(err)
	}
	return n
}

// acked returns how many events the ledger has answered for.
func acked(t *testing.T, b *Bus) int {
	t.Helper()
	c, err := b.js.Consumer(context.Background(), "ORDER", "ledger")
	if err != nil {
		return 0 // it is not there yet
	}
	return int(c.CachedInfo().AckFloor.Stream)
}

// stored returns how many events the stream has.
func stored(t *testing.T, b *Bus) int {
	t.Helper()
	s, err := b.js.Stream(context.Background(), "ORDER")
	if err != nil {
		t.Error(err)
		return 0
	}
	return int(s.CachedInfo().State.Msgs)
}
