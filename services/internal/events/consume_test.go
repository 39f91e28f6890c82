package events

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/meshmart/meshmart/services/internal/db"
)

// ledger consumes order.* into the table log and tells of each attempt.
func ledger(d *db.DB, attempts chan<- string) Consumer {
	return Consumer{Name: "ledger", Subjects: []string{"order.*"}, DB: d,
		Handle: func(ctx context.Context, tx *db.DB, e Event) error {
			text, err := read(e)
			if err != nil {
				return err
			}
			tx.AfterCommit(func() { attempts <- text })
			return add(ctx, tx, text)
		}}
}

// consume runs c until stop, or else the end of the test.
func consume(t *testing.T, b *Bus, c Consumer) (stop func()) {
	t.Helper()
	return background(t, nil, func(ctx context.Context) error { return b.Consume(ctx, c) })
}

// deliverAgain has c get all events once more, and then "c", which is new: without
// its consumer the broker knows nothing of what was handled.
func deliverAgain(t *testing.T, b *Bus, o *Outbox, c Consumer, done <-chan string) {
	t.Helper()
	if err := b.js.DeleteConsumer(t.Context(), "ORDER", c.Name); err != nil {
		t.Fatal(err)
	}
	announce(t, o, "order.created", "c")
	flush(t, o)
	consume(t, b, c)
	same(t, receive(t, done), "c")
}

func TestAnEventDeliveredTwiceTakesEffectOnce(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		bus := newBroker(t).start().bus()
		o := NewOutbox(d, bus)
		done := make(chan string, 10)
		c := ledger(d, done)
		stop := consume(t, bus, c)
		announce(t, o, "order.created", "a", "b")
		flush(t, o)
		same(t, []string{receive(t, done), receive(t, done)}, []string{"a", "b"})
		stop()
		deliverAgain(t, bus, o, c, done)
		same(t, logged(t, d), "a b c")
	})
}

func TestAFailedEventComesAgain(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		bus := newBroker(t).start().bus()
		o := NewOutbox(d, bus)
		done := make(chan string, 10)
		c := ledger(d, done)
		handle, failures := c.Handle, 2
		c.Handle = func(ctx context.Context, tx *db.DB, e Event) error {
			if err := handle(ctx, tx, e); err != nil || failures == 0 {
				return err
			}
			if failures--; failures == 0 {
				panic("out of paper")
			}
			return errors.New("try again")
		}
		consume(t, bus, c)
		announce(t, o, "order.created", "a")
		flush(t, o)
		same(t, receive(t, done), "a")
		same(t, logged(t, d), "a") // the attempts that failed left nothing
	})
}

func TestAMalformedEventIsDropped(t *testing.T) {
	d := lite(t)
	bus := newBroker(t).start().bus()
	o := NewOutbox(d, bus)
	done := make(chan string, 10)
	if err := bus.ensure(t.Context(), "ORDER"); err != nil {
		t.Fatal(err)
	}
	if _, err := bus.js.Publish(t.Context(), "order.created", []byte("\xff not a message")); err != nil {
		t.Fatal(err)
	}
	announce(t, o, "order.created", "a")
	flush(t, o)
	stop := consume(t, bus, ledger(d, done))
	same(t, receive(t, done), "a")
	stop()
	eventually(t, "every event is answered for", func() bool { return unanswered(t, bus) == 0 })
}

// eventually waits for what the broker does in its own time: it reads an answer
// and acts on it later.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not after 20 s: %s", what)
		}
	}
}

// unanswered returns how many events the ledger has neither handled nor refused.
func unanswered(t *testing.T, b *Bus) int {
	t.Helper()
	c, err := b.js.Consumer(t.Context(), "ORDER", "ledger")
	if err != nil {
		t.Fatal(err)
	}
	return c.CachedInfo().NumAckPending + int(c.CachedInfo().NumPending)
}

func TestEventsOfAStreamAreHandledInOrder(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		bus := newBroker(t).start().bus()
		o := NewOutbox(d, bus)
		done := make(chan string, 10)
		background(t, nil, o.Run)
		consume(t, bus, ledger(d, done))
		n := 2*prefetch + 5
		go func() {
			for i := range n {
				announce(t, o, fmt.Sprintf("order.step%d", i%3), fmt.Sprint(i))
			}
		}()
		for i := range n {
			if got := receive(t, done); got != fmt.Sprint(i) {
				t.Fatalf("got %s, want %d", got, i)
			}
		}
	})
}

func TestConsumeWaitsForTheBroker(t *testing.T) {
	d := lite(t)
	br := newBroker(t)
	bus := br.bus()
	o := NewOutbox(d, bus)
	done := make(chan string, 10)
	background(t, nil, o.Run)
	consume(t, bus, ledger(d, done))
	announce(t, o, "order.created", "a")
	br.start()
	same(t, receive(t, done), "a")
	br.stop()
	announce(t, o, "order.created", "b")
	br.start()
	same(t, receive(t, done), "b")
	same(t, logged(t, d), "a b")
}

func TestReplicasShareTheEvents(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		br := newBroker(t).start()
		done := make(chan string, 300)
		o := NewOutbox(d, br.bus())
		var want []string
		for i := range 200 {
			announce(t, o, "order.created", fmt.Sprintf("%03d", i))
			want = append(want, fmt.Sprintf("%03d", i))
		}
		flush(t, o)
		consume(t, br.bus(), ledger(d, done))
		consume(t, br.bus(), ledger(d, done))
		for range want {
			receive(t, done)
		}
		same(t, logged(t, d), strings.Join(want, " "))
	})
}

// What is not handed back comes again after ackWait, which is longer here than
// anybody waits.
func TestAConsumerThatStopsHandsBackWhatItHas(t *testing.T) {
	d := lite(t)
	br := newBroker(t).start()
	patient := func() *Bus {
		bus := br.bus()
		bus.ackWait = time.Hour
		return bus
	}
	o := NewOutbox(d, br.bus())
	for i := range 10 {
		announce(t, o, "order.created", fmt.Sprint(i))
	}
	flush(t, o)
	stuck := make(chan struct{}, 1)
	slow := ledger(d, nil)
	slow.Handle = func(ctx context.Context, _ *db.DB, _ Event) error {
		stuck <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	}
	stop := consume(t, patient(), slow)
	receive(t, stuck)
	stop()
	done := make(chan string, 10)
	consume(t, patient(), ledger(d, done))
	for n := 0; n < 10 && !t.Failed(); n++ {
		receive(t, done)
	}
	same(t, logged(t, d), "0 1 2 3 4 5 6 7 8 9")
}

func TestConsumeSpansStreams(t *testing.T) {
	d := lite(t)
	bus := newBroker(t).start().bus()
	o := NewOutbox(d, bus)
	done := make(chan string, 10)
	c := ledger(d, done)
	c.Subjects = []string{"order.created", "order.cancelled", "payment.>"}
	consume(t, bus, c)
	announce(t, o, "order.created", "a")
	announce(t, o, "order.confirmed", "not for us")
	announce(t, o, "payment.captured", "b")
	announce(t, o, "order.cancelled", "c")
	flush(t, o)
	for range 3 {
		receive(t, done)
	}
	same(t, logged(t, d), "a b c")
}

func TestConsumeRefusesAMalformedConsumer(t *testing.T) {
	bus := newBroker(t).bus()
	for _, c := range []Consumer{
		{Subjects: []string{"order.*"}},
		{Name: "a.b", Subjects: []string{"order.*"}},
		{Name: "a"},
		{Name: "a", Subjects: []string{"*.created"}},
		{Name: "a", Subjects: []string{"order.>.x"}},
	} {
		if err := bus.Consume(t.Context(), c); err == nil {
			t.Errorf("%q %q: got nil, want an error", c.Name, c.Subjects)
		}
	}
}

func TestConsumeEndsWithItsBus(t *testing.T) {
	d := lite(t)
	bus := newBroker(t).start().bus()
	done := make(chan string, 1)
	o := NewOutbox(d, bus)
	announce(t, o, "order.created", "a")
	flush(t, o)
	ended := make(chan error, 1)
	go func() { ended <- bus.Consume(t.Context(), ledger(d, done)) }()
	receive(t, done)
	bus.Close()
	if err := receive(t, ended); !errors.Is(err, nats.ErrConnectionClosed) {
		t.Errorf("got %v, want %v", err, nats.ErrConnectionClosed)
	}
}

func TestTheInboxForgetsWhatCannotComeAgain(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		now := time.Now()
		bus := newBroker(t).bus(func(c *Config) { c.Clock = func() time.Time { return now } })
		w := &worker{bus: bus, consumer: Consumer{Name: "ledger", DB: d}}
		record := func(id string) bool {
			err := w.record(t.Context(), d, id)
			if err != nil && !db.IsDuplicate(err) {
				t.Fatal(err)
			}
			return err == nil
		}
		for i := range pruneBatch + 1 {
			record(fmt.Sprint(i))
		}
		now = now.Add(inboxKept)
		same(t, []bool{record("new"), record("0")}, []bool{true, false})
		now = now.Add(time.Millisecond)
		n, err := bus.forgetHandled(t.Context(), w.consumer)
		if err != nil {
			t.Fatal(err)
		}
		same(t, n, int64(pruneBatch+1))
		same(t, []bool{record("new"), record("0")}, []bool{false, true})
	})
}

func TestTheTraceGoesOnThroughOutboxAndBroker(t *testing.T) {
	d := lite(t)
	spans := tracetest.NewInMemoryExporter()
	traces := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	bus := newBroker(t).start().bus(func(c *Config) { c.Traces = traces })
	o := NewOutbox(d, bus)
	handling := make(chan trace.SpanContext, 1)
	stop := consume(t, bus, Consumer{Name: "ledger", Subjects: []string{"order.*"}, DB: d,
		Handle: func(ctx context.Context, _ *db.DB, _ Event) error {
			handling <- trace.SpanContextFromContext(ctx)
			return nil
		}})
	ctx, root := traces.Tracer("test").Start(t.Context(), "confirm")
	err := d.InTx(ctx, func(tx *db.DB) error { return o.Add(ctx, tx, "order.confirmed", wrapperspb.String("a")) })
	if err != nil {
		t.Fatal(err)
	}
	root.End()
	flush(t, o)
	inside := receive(t, handling)
	stop()

	byName := map[string]tracetest.SpanStub{}
	for _, s := range spans.GetSpans() {
		byName[s.Name] = s
	}
	publish, process := byName["publish order.confirmed"], byName["process order.confirmed"]
	same(t, publish.Parent.SpanID(), root.SpanContext().SpanID())
	same(t, process.Parent.SpanID(), publish.SpanContext.SpanID())
	same(t, inside.SpanID(), process.SpanContext.SpanID())
	same(t, inside.TraceID(), root.SpanContext().TraceID())
	same(t, []trace.SpanKind{publish.SpanKind, process.SpanKind}, []trace.SpanKind{trace.SpanKindProducer, trace.SpanKindConsumer})
	attrs := map[string]string{}
	for _, a := range process.Attributes {
		attrs[string(a.Key)] = a.Value.String()
	}
	if attrs["messaging.message.id"] == "" {
		t.Error("no messaging.message.id")
	}
	delete(attrs, "messaging.message.id")
	same(t, attrs, map[string]string{
		"messaging.system":              "nats",
		"messaging.destination.name":    "order.confirmed",
		"messaging.message.body.size":   "3",
		"messaging.operation.name":      "process",
		"messaging.operation.type":      "process",
		"messaging.consumer.group.name": "ledger",
	})
}

func TestBackoffGrowsToItsLimit(t *testing.T) {
	for n, want := range []time.Duration{10, 10, 20, 40, 80, 100, 100} {
		want *= time.Millisecond
		got := backoff(n, 10*time.Millisecond, 100*time.Millisecond)
		if got < want*8/10 || got > want*12/10 {
			t.Errorf("%d: got %v, want about %v", n, got, want)
		}
	}
	if got := backoff(1000, time.Millisecond, time.Second); got < 800*time.Millisecond {
		t.Errorf("1000: got %v, want about 1s", got)
	}
}
