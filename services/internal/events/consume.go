package events

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"

	"github.com/meshmart/meshmart/services/internal/db"
)

const (
	// prefetch is how many events a replica has at hand, so that it need not wait
	// for the broker between two. They are lost to others for ackWait if it dies.
	prefetch = 16
	// batchSize is prefetch for those that handle several at once. There may be as
	// many again on their way.
	batchSize = 64
	// ackWait is after how long the broker delivers an event again that nobody
	// answered for: so long does a crash hold up what the replica had at hand. A
	// slow handler is waited for by the second delivery, in the inbox. Time runs
	// for all that is at hand, so handlers should take less than ackWait/prefetch.
	ackWait = 3 * time.Second
	// ackWaitAlone is ackWait where there is one process and no other that could
	// still be at it: the next one to start need not wait.
	ackWaitAlone = time.Second
	// handleTime is the time that a handler may take.
	handleTime = 30 * time.Second
	// maxPending bounds the events in the hands of all replicas, those that wait
	// for another attempt included: when nothing works, deliveries stop.
	maxPending = 512
	// heartbeat is how often an idle broker says that it is still there; after
	// two that are missing the consumer is set up again.
	heartbeat = 3 * time.Second
	// patience is after how many deliveries of one event a warning becomes an error.
	patience = 20
)

// Consumer is one that acts on events.
type Consumer struct {
	// Name is the same in all replicas, which share the events between them, and
	// does not change: a new name begins with the oldest event there is.
	Name string
	// Subjects may have wildcards, "order.*", and must not overlap. They may span
	// streams; then each stream has its own order and handlers run side by side.
	Subjects []string
	// DB has the inbox (Schema) and whatever Handle changes.
	DB *db.DB
	// Handle acts on e in tx, the transaction that records it in the inbox: what
	// it changes there happens once. What it does elsewhere must bear repetition,
	// and what it waits for keeps the transaction open. An error, or a panic,
	// undoes tx and has e delivered again, later each time and without end; e may
	// then come after its successors. ErrMalformed drops e instead. It may be called
	// with an event that was handled before: then tx fails with its first answer.
	Handle func(ctx context.Context, tx *db.DB, e Event) error
	// Key may tell which rows Handle touches for e, such as those of an order's id,
	// as DB.Of wants it; "" if that is not to be told. Events at hand with different
	// keys are then handled side by side, those of one key in their order.
	Key func(e Event) string
	// Together has the events at hand handled in one transaction, one after the
	// other, and alone if that fails. Handle must lock rows in such an order that no
	// two of those transactions wait for each other (see db.Gatherer).
	Together bool
}

func (c Consumer) check() (map[string][]string, error) {
	if c.Name == "" || strings.ContainsAny(c.Name, ".*> /\\\t\r\n") {
		return nil, fmt.Errorf("consumer %q: not a name of letters, digits, - and _", c.Name)
	}
	streams, err := byStream(c.Subjects)
	if err != nil {
		return nil, fmt.Errorf("consumer %s: %w", c.Name, err)
	}
	return streams, nil
}

// Consume has c handle events until ctx is done, and then returns nil. It goes on
// through outages of the broker and of the database; its only errors are a
// malformed Consumer and a closed Bus. One replica handles the events of a stream
// one after the other, in their order unless one fails.
func (b *Bus) Consume(ctx context.Context, c Consumer) error {
	streams, err := c.check()
	if err != nil {
		return err
	}
	b.duplicates.Add(ctx, 0, byConsumer(c)) // a rate needs the series before the first one
	g, ctx := errgroup.WithContext(ctx)
	for stream, subjects := range streams {
		w := &worker{
			bus: b, consumer: c, stream: stream, subjects: subjects,
			log: b.cfg.Log.With("consumer", c.Name, "stream", stream),
		}
		g.Go(func() error { return w.run(ctx) })
	}
	g.Go(func() error { b.pruneInbox(ctx, c); return nil })
	return g.Wait()
}

// worker consumes one stream.
type worker struct {
	bus      *Bus
	consumer Consumer
	stream   string
	subjects []string
	log      *slog.Logger
}

// run holds a session with the broker, and another one when it breaks.
func (w *worker) run(ctx context.Context) error {
	trouble := outage{log: w.log, what: "consuming"}
	for ctx.Err() == nil {
		online := w.bus.nextConnect()
		err := w.session(ctx, &trouble)
		if w.bus.nc.IsClosed() && ctx.Err() == nil {
			return fmt.Errorf("consumer %s: %w", w.consumer.Name, nats.ErrConnectionClosed)
		}
		if ctx.Err() == nil {
			pause(ctx, trouble.failed(ctx, err), online)
		}
	}
	return nil
}

// session sets the durable consumer up and handles what it delivers. It outlives
// a reconnect: what is at hand is still to be handled, and the library asks for
// more. It ends when the broker does not know the consumer any more.
func (w *worker) session(ctx context.Context, trouble *outage) error {
	if err := w.bus.ensure(ctx, w.stream); err != nil {
		return err
	}
	cons, err := w.bus.js.CreateOrUpdateConsumer(ctx, w.stream, jetstream.ConsumerConfig{
		Durable:        w.consumer.Name,
		FilterSubjects: w.subjects,
		AckPolicy:      jetstream.AckExplicitPolicy,
		AckWait:        w.ackWait(),
		MaxAckPending:  maxPending,
		MaxDeliver:     -1,
	})
	if err != nil {
		w.bus.forget(w.stream)
		return fmt.Errorf("make consumer: %w", err)
	}
	messages, err := cons.Messages(jetstream.PullMaxMessages(w.atHand()), jetstream.PullHeartbeat(heartbeat))
	if err != nil {
		return fmt.Errorf("pull: %w", err)
	}
	defer handBack(messages)
	trouble.over(ctx)
	if w.atHand() > prefetch {
		return w.batches(ctx, messages)
	}
	for {
		m, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			w.bus.forget(w.stream)
			return fmt.Errorf("pull: %w", err)
		}
		w.process(ctx, m)
	}
}

func (w *worker) ackWait() time.Duration {
	if w.consumer.DB.Exclusive() {
		return ackWaitAlone
	}
	return w.bus.ackWait
}

// handBack ends the session and returns the events at hand to the broker, for
// another replica to have them at once rather than after ackWait.
func handBack(messages jetstream.MessagesContext) {
	messages.Drain()
	defer messages.Stop()
	for {
		m, err := messages.Next(jetstream.NextMaxWait(time.Second))
		if err != nil {
			return
		}
		_ = m.Nak()
	}
}

// arrival is an event that was delivered.
type arrival struct {
	Event
	msg jetstream.Msg
	n   uint64 // how often
	// While it is handled:
	ctx  context.Context
	span trace.Span
}

// process handles one delivery.
func (w *worker) process(ctx context.Context, m jetstream.Msg) {
	if d, ok := w.read(ctx, m); ok {
		w.begin(ctx, d)
		w.finish(ctx, d, w.handle(d, w.consumer.DB))
	}
}

// read reports false for what is no event.
func (w *worker) read(ctx context.Context, m jetstream.Msg) (*arrival, bool) {
	e, meta, err := eventOf(m)
	if err != nil {
		w.log.ErrorContext(ctx, "message is not from a stream", "subject", m.Subject(), "err", err.Error())
		return nil, false
	}
	return &arrival{Event: e, msg: m, n: meta.NumDelivered}, true
}

// begin begins the span of a delivery.
func (w *worker) begin(ctx context.Context, d *arrival) {
	w.bus.cfg.Point.At("before handling ", d.Subject, " by ", w.consumer.Name)
	ctx, d.span = w.bus.startProcess(ctx, w.consumer.Name, d.Event, d.msg.Headers(), d.n)
	d.ctx = w.bus.cfg.Point.In(ctx, w.consumer.Name, " of ", d.Subject)
}

// finish tells the broker what became of a delivery. That the answer may get lost
// does not matter: the inbox knows.
func (w *worker) finish(ctx context.Context, d *arrival, err error) {
	endSpan(d.span, err)
	log := w.log.With("subject", d.Subject, "event", d.ID, "delivery", d.n)
	logCtx := trace.ContextWithSpan(ctx, d.span)
	switch {
	case err == nil:
		w.bus.cfg.Point.At("before ack of ", d.Subject, " by ", w.consumer.Name)
		err = d.msg.Ack()
	case ctx.Err() != nil: // we stop; it is not the event's fault
		err = d.msg.Nak()
	case errors.Is(err, ErrMalformed):
		log.ErrorContext(logCtx, "event is dropped", "err", err.Error())
		err = d.msg.TermWithReason("malformed")
	default:
		delay := retryDelay(err, d.n)
		log.Log(logCtx, severity(d.n), "event is handled again later", "in", delay.String(), "err", err.Error())
		err = d.msg.NakWithDelay(delay)
	}
	if err != nil {
		log.DebugContext(logCtx, "answer to the broker is lost", "err", err.Error())
	}
}

// handle has the event take effect in a transaction of to, unless it has already.
func (w *worker) handle(d *arrival, to *db.DB) error {
	ctx, cancel := context.WithTimeout(d.ctx, handleTime)
	defer cancel()
	err := to.InTx(ctx, func(tx *db.DB) error {
		if err := w.record(ctx, tx, d.ID); err != nil {
			return err
		}
		return w.call(ctx, tx, d.Event)
	})
	if db.IsDuplicate(err) { // of the event, or of something that the handler adds
		known, look := w.recorded(ctx, d.ID)
		if look == nil && known {
			w.bus.duplicates.Add(ctx, 1, byConsumer(w.consumer))
			d.span.SetAttributes(attribute.Bool("inbox.duplicate", true))
			err = nil
		}
	}
	return err
}

// call turns a panic of the handler into an error: one bad event must not bring
// down the process, and again after each restart.
func (w *worker) call(ctx context.Context, tx *db.DB, e Event) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic in the handler of %s: %v\n%s", e.Subject, p, debug.Stack())
		}
	}()
	return w.consumer.Handle(ctx, tx, e)
}

// retryDelay is how long after its n-th delivery an event comes again. If the
// database is away all events fail, so none is made to wait long for it.
func retryDelay(err error, n uint64) time.Duration {
	most := 30 * time.Second
	if db.IsUnavailable(err) {
		most = 2 * time.Second
	}
	return backoff(int(min(n, patience)), 100*time.Millisecond, most)
}

func severity(deliveries uint64) slog.Level {
	if deliveries < patience {
		return slog.LevelWarn
	}
	return slog.LevelError
}
