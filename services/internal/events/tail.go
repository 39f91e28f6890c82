package events

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/meshmart/meshmart/services/internal/fault"
)

const (
	// tailPrefetch is how many events a tail has at hand, and how far it may run
	// ahead of a slow watcher.
	tailPrefetch = 64
	// tailIdle is after how long the broker drops the consumer of a tail that
	// vanished without a word.
	tailIdle = 2 * time.Minute
	// establish is how long a caller waits for Ready before it is told to come
	// again later.
	establish = 5 * time.Second
)

// Tail says what to watch. With neither After nor Since it is what happens from
// now on.
type Tail struct {
	// Name is what its consumption is called in the trace of each event. Without
	// one it leaves no span there: it is part of a call, which has a trace itself.
	Name string
	// Subjects may have wildcards and must not overlap.
	Subjects []string
	// After resumes after the event with this Place; the subjects are then of one
	// stream. If the broker has dropped events since, or has lost that stream and
	// has another, Tail returns OUT_OF_RANGE for the field resume_token.
	After Place
	// Since begins with the first event that the broker took at this time or later.
	Since time.Time
	// Ready, if not nil, is called once when no event can be missed any more: what
	// happens after that is delivered, what happened before can be read elsewhere.
	// Tail returns UNAVAILABLE if it does not get that far within seconds;
	// without Ready it waits for the broker as long as ctx allows.
	Ready func()
}

// Tail calls fn with each event, one at a time and in the order of the stream,
// until fn fails or ctx is done, and returns that error. Every tail sees every
// event. It goes on through outages of the broker, and misses nothing by them.
func (b *Bus) Tail(ctx context.Context, t Tail, fn func(ctx context.Context, e Event) error) error {
	streams, err := byStream(t.Subjects)
	if err != nil {
		return fmt.Errorf("tail: %w", err)
	}
	if t.After != (Place{}) && len(streams) != 1 {
		return fmt.Errorf("tail: can't resume several streams at one place")
	}
	if t.After.Sequence == math.MaxUint64 {
		return outOfRange() // its successor is no number
	}
	g, ctx := errgroup.WithContext(ctx)
	var turn sync.Mutex
	waiting := len(streams)
	ready := func() {
		turn.Lock()
		defer turn.Unlock()
		if waiting--; waiting == 0 && t.Ready != nil {
			t.Ready()
		}
	}
	for stream, subjects := range streams {
		r := &reader{bus: b, name: t.Name, stream: stream, subjects: subjects, since: t.Since,
			next: t.After.Sequence + 1, born: t.After.Born, begun: t.After != (Place{})}
		r.ready = sync.OnceFunc(ready)
		if t.Ready != nil {
			r.patience = establish
		}
		r.fn = func(ctx context.Context, e Event) error {
			turn.Lock()
			defer turn.Unlock()
			if ctx.Err() != nil { // fn may have failed for another stream's event
				return ctx.Err()
			}
			return fn(ctx, e)
		}
		g.Go(func() error { return r.run(ctx) })
	}
	return g.Wait()
}

// reader is a tail of one stream: the consumer that it has at the broker is
// short-lived, and made anew where the last one stopped. (The library's own
// ordered consumer does the like, but can't be stopped while it reconnects and
// leaves its last consumer behind at the broker.)
type reader struct {
	bus      *Bus
	name     string // "": it leaves no spans
	stream   string
	subjects []string
	since    time.Time // where to begin, if not zero
	born     int64     // of the stream that next is of
	begun    bool
	next     uint64        // once begun: the first sequence still to be read
	patience time.Duration // to be ready in; 0 is without end
	ready    func()
	fn       func(context.Context, Event) error
}

// watcherError is what fn returned; it ends the tail.
type watcherError struct{ error }

var (
	errGap         = errors.New("the broker left an event out")
	errReconnected = errors.New("the broker was away")
)

func (r *reader) run(ctx context.Context) error {
	trouble := outage{log: r.bus.cfg.Log.With("stream", r.stream), what: "watching"}
	start := time.Now()
	established := func() {
		r.patience = 0
		trouble.over(ctx)
		r.ready()
	}
	for {
		online := r.bus.nextConnect()
		err := r.session(ctx, online, established)
		var done watcherError
		switch {
		case errors.As(err, &done):
			return done.error
		case fault.As(err) != nil:
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, errReconnected): // which the Bus has logged, for all
			continue
		case r.bus.nc.IsClosed():
			return fmt.Errorf("tail of %s: %w", r.stream, nats.ErrConnectionClosed)
		}
		wait := trouble.failed(ctx, err)
		if r.patience > 0 && time.Since(start) > r.patience {
			return fault.Unavailable(time.Second, "events can't be watched at the moment")
		}
		pause(ctx, wait, online)
	}
}

// session reads until something breaks. A reconnect breaks it too: the consumer
// is in the memory of a broker that may have been restarted.
func (r *reader) session(ctx context.Context, reconnect <-chan struct{}, established func()) error {
	cons, err := r.consumer(ctx)
	if err != nil {
		return err
	}
	defer r.drop(ctx, cons.CachedInfo().Name)
	if err := r.inRange(ctx); err != nil {
		return err
	}
	messages, err := cons.Messages(jetstream.PullMaxMessages(tailPrefetch),
		jetstream.PullHeartbeat(heartbeat), jetstream.WithMessagesErrOnMissingHeartbeat(true))
	if err != nil {
		return fmt.Errorf("pull: %w", err)
	}
	defer messages.Stop()
	established()
	next, cancel := untilClosed(ctx, reconnect)
	defer cancel()
	for delivered := uint64(1); ; delivered++ {
		m, err := messages.Next(jetstream.NextContext(next))
		if next.Err() != nil && ctx.Err() == nil {
			return errReconnected
		}
		if err != nil {
			return fmt.Errorf("pull: %w", err)
		}
		if err := r.deliver(ctx, m, delivered); err != nil {
			return err
		}
	}
}

// deliver hands the message to fn if it is the one that is due.
func (r *reader) deliver(ctx context.Context, m jetstream.Msg, due uint64) error {
	e, meta, err := eventOf(m)
	if err != nil {
		return err
	}
	e.Born = r.born
	if meta.Sequence.Consumer != due {
		return errGap
	}
	if err := r.process(ctx, e, m.Headers()); err != nil {
		return watcherError{err}
	}
	r.next, r.begun = e.Sequence+1, true
	return nil
}

// process calls fn, in a span if the tail has a name.
func (r *reader) process(ctx context.Context, e Event, h nats.Header) error {
	if r.name == "" {
		return r.fn(ctx, e)
	}
	ctx, span := r.bus.startProcess(ctx, r.name, e, h, 1)
	err := r.fn(ctx, e)
	endSpan(span, err)
	return err
}

// consumer makes the short-lived consumer that begins where the tail is.
func (r *reader) consumer(ctx context.Context) (jetstream.Consumer, error) {
	if err := r.begin(ctx); err != nil {
		return nil, err
	}
	cfg := jetstream.ConsumerConfig{
		FilterSubjects:    r.subjects,
		AckPolicy:         jetstream.AckNonePolicy,
		DeliverPolicy:     jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:       r.next,
		MemoryStorage:     true,
		Replicas:          1,
		InactiveThreshold: tailIdle,
	}
	if !r.begun {
		cfg.DeliverPolicy, cfg.OptStartSeq, cfg.OptStartTime = jetstream.DeliverByStartTimePolicy, 0, &r.since
	}
	cons, err := r.bus.js.CreateConsumer(ctx, r.stream, cfg)
	if err != nil {
		r.bus.forget(r.stream)
		return nil, fmt.Errorf("make consumer: %w", err)
	}
	return cons, nil
}

// begin fixes where "from now on" is, so that a broken session misses nothing.
func (r *reader) begin(ctx context.Context) error {
	if err := r.bus.ensure(ctx, r.stream); err != nil || r.begun {
		return err
	}
	s, err := r.info(ctx)
	if err != nil {
		return err
	}
	r.born = s.Created.UnixNano()
	if r.since.IsZero() {
		r.next, r.begun = s.State.LastSeq+1, true
	}
	return nil
}

// inRange refuses to begin at an event that the stream has dropped, as the
// watcher would miss it, or never had, as it is another one, or has lost its data
// since. The consumer is there already: what it has yet to deliver is not too late.
func (r *reader) inRange(ctx context.Context) error {
	if !r.begun {
		return nil
	}
	s, err := r.info(ctx)
	if err != nil {
		return err
	}
	if r.born != s.Created.UnixNano() || r.next < s.State.FirstSeq || r.next > s.State.LastSeq+1 {
		return outOfRange()
	}
	return nil
}

func outOfRange() error {
	return fault.OutOfRange("resume_token", "events from there on are not kept any more")
}

func (r *reader) info(ctx context.Context) (*jetstream.StreamInfo, error) {
	s, err := r.bus.js.Stream(ctx, r.stream)
	if err != nil {
		return nil, fmt.Errorf("look at stream %s: %w", r.stream, err)
	}
	return s.CachedInfo(), nil
}

// drop removes the consumer from the broker; if that fails, tailIdle will.
func (r *reader) drop(ctx context.Context, name string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = r.bus.js.DeleteConsumer(ctx, r.stream, name)
}

// untilClosed returns a ctx that is also done when c is closed.
func untilClosed(ctx context.Context, c <-chan struct{}) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		select {
		case <-c:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}
