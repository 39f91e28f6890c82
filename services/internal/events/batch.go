package events

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/meshmart/meshmart/services/internal/db"
)

// atHand is how many events the consumer has at hand.
func (w *worker) atHand() int {
	if w.consumer.Key != nil || w.consumer.Together {
		return batchSize
	}
	return prefetch
}

// batches handles what is delivered, as much at once as is at hand. It waits for
// nothing to come: who is alone is handled alone.
func (w *worker) batches(ctx context.Context, messages jetstream.MessagesContext) error {
	next, why := w.pump(ctx, messages)
	for {
		m, ok := <-next
		if !ok {
			w.bus.forget(w.stream)
			return fmt.Errorf("pull: %w", <-why)
		}
		batch := w.batch(ctx, m, next)
		switch {
		case ctx.Err() != nil: // we stop; others may have them at once
			for _, d := range batch {
				_ = d.msg.Nak()
			}
		case w.consumer.Key != nil:
			w.sideBySide(ctx, batch)
		default:
			w.together(ctx, batch)
		}
	}
}

// pump has what is delivered in a channel, which it closes when there is a reason to
// end.
func (w *worker) pump(ctx context.Context, messages jetstream.MessagesContext) (<-chan jetstream.Msg, <-chan error) {
	next, why := make(chan jetstream.Msg, batchSize), make(chan error, 1)
	go func() {
		defer close(next)
		for {
			m, err := messages.Next(jetstream.NextContext(ctx))
			if err != nil {
				why <- err
				return
			}
			next <- m
		}
	}()
	return next, why
}

// batch returns what is there already, beginning with m.
func (w *worker) batch(ctx context.Context, m jetstream.Msg, next <-chan jetstream.Msg) []*arrival {
	var batch []*arrival
	for ok := true; ok; {
		if d, is := w.read(ctx, m); is {
			batch = append(batch, d)
		}
		if len(batch) == batchSize {
			break
		}
		select {
		case m, ok = <-next:
		default:
			ok = false
		}
	}
	return batch
}

// sideBySide handles events of different keys at the same time, each in a transaction
// of its own, whose commits the database shares between them.
func (w *worker) sideBySide(ctx context.Context, batch []*arrival) {
	var keys []string
	byKey := map[string][]*arrival{}
	for _, d := range batch {
		key := w.consumer.Key(d.Event)
		if byKey[key] == nil {
			keys = append(keys, key)
		}
		byKey[key] = append(byKey[key], d)
	}
	var others sync.WaitGroup
	for _, key := range keys[min(1, len(keys)):] {
		others.Go(func() { w.inOrder(ctx, key, byKey[key]) })
	}
	if len(keys) > 0 {
		w.inOrder(ctx, keys[0], byKey[keys[0]])
	}
	others.Wait()
}

// inOrder handles the events of a key. One that has been delivered before is likely
// to be known, and to fail as a duplicate: others need not fail with it.
func (w *worker) inOrder(ctx context.Context, key string, events []*arrival) {
	for _, d := range events {
		to := w.consumer.DB
		if d.n == 1 {
			to = to.Of(key)
		}
		w.begin(ctx, d)
		w.finish(ctx, d, w.handle(d, to))
	}
}

// together handles events that follow each other in one transaction. One that was
// delivered before is alone, as it is likely to be known, and to fail as a duplicate;
// and one whose trace is kept, as that tells what was done for it.
func (w *worker) together(ctx context.Context, batch []*arrival) {
	var row []*arrival
	for _, d := range batch {
		w.begin(ctx, d)
		if d.n == 1 && !d.span.SpanContext().IsSampled() {
			row = append(row, d)
			continue
		}
		w.inOne(ctx, row)
		w.finish(ctx, d, w.handle(d, w.consumer.DB))
		row = nil
	}
	w.inOne(ctx, row)
}

// inOne handles the events in one transaction, or each alone if that fails.
func (w *worker) inOne(ctx context.Context, row []*arrival) {
	done := len(row) > 1 && w.handleAll(row) == nil
	for _, d := range row {
		var err error
		if !done {
			err = w.handle(d, w.consumer.DB)
		}
		w.finish(ctx, d, err)
	}
}

// handleAll has the events take effect in one transaction, or none of them.
func (w *worker) handleAll(batch []*arrival) error {
	end := time.Now().Add(handleTime)
	ctx, cancel := context.WithDeadline(batch[0].ctx, end)
	defer cancel()
	return w.consumer.DB.InTx(ctx, func(tx *db.DB) error {
		for _, d := range batch {
			ctx, cancel := context.WithDeadline(d.ctx, end)
			defer cancel()
			if err := w.record(ctx, tx, d.ID); err != nil {
				return err
			}
			if err := w.call(ctx, tx, d.Event); err != nil {
				return err
			}
		}
		return nil
	})
}
