package events

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/trace"
)

// The relay moves rows of the outbox to the broker, a window at a time: it sends
// the whole window, waits for the acknowledgements, deletes the rows that have
// one, and only then takes the next. A crash in between sends a row again, with
// the same id: the broker drops it, or else the inbox of each consumer does.
//
// One replica at a time does so, by a lease on the whole outbox. With a lease on
// each row, two replicas could publish two events of one order side by side and
// in the wrong order, and a crash would hold one back for longer than the next.
const (
	windowSize = 128
	// ackTimeout bounds the wait for the broker to acknowledge an event. One that
	// took longer is sent again, and dropped as the same.
	ackTimeout = 2 * time.Second
	// leaseTime should exceed the time of a window, which is ackTimeout and some
	// statements. After a crash the other replicas wait for the rest of it, so it
	// is short: two that publish at once cost work and harm nothing, for each
	// sends all that is left, in order, and the broker drops what it has.
	leaseTime = 4 * time.Second
	// keptTime is for how long the lease is kept between two windows, where more is to
	// come: so long do the others wait after a crash then.
	keptTime = 500 * time.Millisecond
	// pollEvery is how often the relay looks for rows that it was not woken for:
	// those of a replica that crashed, and of the last run of this one.
	pollEvery = time.Second
	// breath is the least time between two looks, so that where much is committed
	// a window holds more than the first of it. Once one did, it is busyBreath.
	breath     = 5 * time.Millisecond
	busyBreath = 30 * time.Millisecond
)

// errBusy says that another replica has the lease. It publishes our rows too, or
// gives the lease back in a moment.
var errBusy = errors.New("another replica publishes")

var errOffline = errors.New("no connection to the broker")

// row is an event in the outbox.
type row struct {
	id, subject, headers string
	payload              []byte
}

// Run publishes what is committed, at once, until ctx is done. It goes on through
// outages of the database and of the broker and never fails.
func (o *Outbox) Run(ctx context.Context) error {
	trouble := outage{log: o.bus.cfg.Log, what: "publishing"}
	busy := 0
	for ctx.Err() == nil {
		online := o.bus.nextConnect()
		switch err := o.drain(ctx); {
		case err == nil:
			busy = 0
			trouble.over(ctx)
			o.rest(ctx)
		case errors.Is(err, errBusy):
			busy++
			pause(ctx, backoff(busy, 10*time.Millisecond, pollEvery))
		default:
			pause(ctx, trouble.failed(ctx, err), online)
		}
	}
	o.giveBack(ctx)
	return nil
}

// giveBack ends the lease, for other replicas not to wait for it.
func (o *Outbox) giveBack(ctx context.Context) {
	o.turn.Lock()
	defer o.turn.Unlock()
	if o.holds() {
		_ = o.settle(ctx, nil, 0) // or else it ends by itself
	}
}

// rest waits until there may be something to publish. With the lease it looks soon,
// to give that back if there is nothing.
func (o *Outbox) rest(ctx context.Context) {
	o.turn.Lock()
	holds := o.holds()
	o.turn.Unlock()
	if holds {
		pause(ctx, busyBreath)
		return
	}
	pause(ctx, breath)
	pause(ctx, backoff(1, pollEvery, pollEvery), o.wake)
}

// Flush publishes what is in the outbox and returns when it is empty. Its error
// says why it was not before ctx was done; nothing is lost by that.
func (o *Outbox) Flush(ctx context.Context) error {
	for n := 1; ; n++ {
		err := o.drain(ctx)
		if err == nil {
			o.giveBack(ctx)
			return nil
		}
		pause(ctx, backoff(n, 10*time.Millisecond, 200*time.Millisecond))
		if ctx.Err() != nil {
			return fmt.Errorf("flush outbox: %w: %w", ctx.Err(), err)
		}
	}
}

// drain publishes window after window until the outbox is empty, and gives the
// lease back; or keeps it for a moment, where more is to come.
func (o *Outbox) drain(ctx context.Context) error {
	o.turn.Lock()
	defer o.turn.Unlock()
	// Looking costs less than taking the lease, and most of the time there is
	// nothing. It comes after wake was read, so nothing committed is overlooked.
	// What another replica has published since is sent once more, and dropped.
	rows, err := o.oldest(ctx, windowSize)
	switch {
	case err == nil && len(rows) > 0:
	case o.holds():
		return errors.Join(err, o.settle(ctx, nil, 0))
	default:
		return err
	}
	if !o.bus.nc.IsConnected() {
		return errOffline
	}
	if !o.holds() {
		if err := o.lease(ctx); err != nil {
			return err
		}
	}
	for {
		acked, err := o.publish(ctx, rows)
		last := err != nil || len(rows) < windowSize
		if err := errors.Join(err, o.settle(ctx, acked, keep(ctx, len(rows), err))); err != nil || last {
			return err
		}
		if rows, err = o.oldest(ctx, windowSize); err != nil {
			return errors.Join(err, o.settle(ctx, nil, 0))
		}
	}
}

// keep returns for how long the lease is kept after a window of n rows.
func keep(ctx context.Context, n int, err error) time.Duration {
	switch {
	case err == nil && n == windowSize:
		return leaseTime
	case err == nil && n > 1 && ctx.Err() == nil:
		return keptTime
	}
	return 0
}

// publish sends the rows in order and returns the ids of those that the broker
// has. The error is the first of the others'.
func (o *Outbox) publish(ctx context.Context, rows []row) ([]string, error) {
	var first error
	sent := make([]sending, 0, len(rows))
	for _, r := range rows {
		s, err := o.bus.send(ctx, r)
		if err != nil {
			first = err
			break // those after it must not overtake it
		}
		o.bus.cfg.Point.At("after send of ", r.subject)
		sent = append(sent, s)
	}
	acked := make([]string, 0, len(sent))
	for _, s := range sent {
		if err := s.wait(); err == nil {
			o.bus.cfg.Point.At("after publish of ", s.subject)
			acked = append(acked, s.id)
		} else if first == nil {
			first = err
		}
		if errors.Is(first, jetstream.ErrNoStreamResponse) {
			o.bus.forget(streamOf(s.subject))
		}
	}
	return acked, first
}

// sending is a row on its way.
type sending struct {
	row
	ack  jetstream.PubAckFuture
	span trace.Span
}

func (b *Bus) send(ctx context.Context, r row) (sending, error) {
	if err := b.ensure(ctx, streamOf(r.subject)); err != nil {
		return sending{}, fmt.Errorf("publish %s %s: %w", r.subject, r.id, err)
	}
	m := &nats.Msg{Subject: r.subject, Data: r.payload, Header: nats.Header{}}
	m.Header.Set(jetstream.MsgIDHeader, r.id)
	span := b.startPublish(ctx, r, m.Header)
	ack, err := b.js.PublishMsgAsync(m)
	if err != nil {
		endSpan(span, err)
		return sending{}, fmt.Errorf("publish %s %s: %w", r.subject, r.id, err)
	}
	return sending{row: r, ack: ack, span: span}, nil
}

// wait returns nil when the broker has the event, be it from an earlier attempt.
// It does not heed a ctx: it ends with ackTimeout, and at once when the broker
// goes away.
func (s sending) wait() error {
	var err error
	select {
	case <-s.ack.Ok():
	case err = <-s.ack.Err():
		err = fmt.Errorf("publish %s %s: %w", s.subject, s.id, err)
	}
	endSpan(s.span, err)
	return err
}
