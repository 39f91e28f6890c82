package events

import (
	"context"
	"fmt"
	"time"

	"github.com/meshmart/meshmart/services/internal/db"
)

const (
	// inboxKept is for how long the inbox knows an event: as long as a stream may
	// deliver it, and a day for clocks that differ.
	inboxKept = Retention + 24*time.Hour
	// pruneBatch bounds the rows of one DELETE, so that it does not hold up the
	// transactions of handlers.
	pruneBatch = 2000
)

// record notes in tx that the consumer has handled the event. If it had before,
// the transaction fails as a duplicate, at the latest when it is committed. Of two
// replicas that record the same event at once, the second waits for the
// transaction of the first.
func (w *worker) record(ctx context.Context, tx *db.DB, id string) error {
	err := tx.Later(ctx, `INSERT INTO inbox (consumer, id, create_time) VALUES ($1, $2, $3)`,
		w.consumer.Name, id, db.Micros(w.bus.cfg.Clock()))
	if err != nil {
		return fmt.Errorf("record %s in the inbox: %w", id, err)
	}
	return nil
}

// recorded reports whether the consumer has handled the event.
func (w *worker) recorded(ctx context.Context, id string) (bool, error) {
	var n int
	err := w.consumer.DB.Row(ctx, `SELECT COUNT(*) FROM inbox WHERE consumer = $1 AND id = $2`, w.consumer.Name, id).Scan(&n)
	if err != nil {
		return false, fmt.Errorf("look for %s in the inbox: %w", id, err)
	}
	return n > 0, nil
}

// pruneInbox forgets, a minute after the start and then hourly, the events that
// can't come again.
func (b *Bus) pruneInbox(ctx context.Context, c Consumer) {
	for wait := time.Minute; ; wait = time.Hour {
		pause(ctx, backoff(1, wait, wait))
		if ctx.Err() != nil {
			return
		}
		n, err := b.forgetHandled(ctx, c)
		if err != nil {
			b.cfg.Log.WarnContext(ctx, "inbox is not pruned", "consumer", c.Name, "err", err.Error())
			continue
		}
		b.cfg.Log.DebugContext(ctx, "inbox is pruned", "consumer", c.Name, "events", n)
	}
}

// forgetHandled deletes what the inbox needs no more and returns how many.
func (b *Bus) forgetHandled(ctx context.Context, c Consumer) (int64, error) {
	before := db.Micros(b.cfg.Clock().Add(-inboxKept))
	var total int64
	for {
		n, err := c.DB.Exec(ctx, `DELETE FROM inbox WHERE consumer = $1 AND id IN (
			SELECT id FROM inbox WHERE consumer = $2 AND create_time < $3 ORDER BY create_time LIMIT $4)`,
			c.Name, c.Name, before, pruneBatch)
		if err != nil {
			return total, fmt.Errorf("prune inbox: %w", err)
		}
		if total += n; n < pruneBatch {
			return total, nil
		}
	}
}
