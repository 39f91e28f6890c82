package events

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/meshmart/meshmart/services/internal/db"
)

// kept returns what the stream has, as "sequence:text".
func kept(t *testing.T, b *Bus, stream string) []string {
	t.Helper()
	s, err := b.js.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for seq := s.CachedInfo().State.FirstSeq; seq <= s.CachedInfo().State.LastSeq; seq++ {
		m, err := s.GetMsg(t.Context(), seq)
		if err != nil {
			t.Fatal(err)
		}
		text, err := read(Event{Data: m.Data})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, fmt.Sprintf("%d:%s", seq, text))
	}
	return all
}

func left(t *testing.T, o *Outbox) int {
	t.Helper()
	rows, err := o.oldest(t.Context(), 1000)
	if err != nil {
		t.Fatal(err)
	}
	return len(rows)
}

func TestAddIsUndoneWithItsTransaction(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		o := NewOutbox(d, newBroker(t).bus())
		undo := errors.New("undo")
		err := d.InTx(t.Context(), func(tx *db.DB) error {
			if err := o.Add(t.Context(), tx, "order.created", wrapperspb.String("a")); err != nil {
				t.Fatal(err)
			}
			return undo
		})
		if !errors.Is(err, undo) {
			t.Fatal(err)
		}
		same(t, []int{left(t, o), len(o.wake)}, []int{0, 0})
		announce(t, o, "order.created", "b")
		same(t, []int{left(t, o), len(o.wake)}, []int{1, 1})
	})
}

func TestAddRefusesWhatTheBrokerWould(t *testing.T) {
	d := lite(t)
	o := NewOutbox(d, newBroker(t).bus())
	for _, subject := range []string{"", "order", "order.", ".created", "order.*", "order.>", "Order.created", "order created", "order.a\nb"} {
		if err := o.Add(t.Context(), d, subject, &emptypb.Empty{}); err == nil {
			t.Errorf("%q: got nil, want an error", subject)
		}
	}
	if err := o.Add(t.Context(), d, "order.created", wrapperspb.String(strings.Repeat("x", maxEvent))); err == nil {
		t.Error("too large: got nil, want an error")
	}
	if err := o.Add(t.Context(), d, "order.created", &emptypb.Empty{}); err != nil {
		t.Error("empty: ", err)
	}
	same(t, left(t, o), 1)
}

func TestRelayPublishesInOrderAndEmptiesTheOutbox(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		bus := newBroker(t).start().bus()
		o := NewOutbox(d, bus)
		var want []string
		for i := range 2*windowSize + 3 {
			text := fmt.Sprint(1000 - i) // not in the order of the ids by itself
			announce(t, o, "order.created", text)
			want = append(want, fmt.Sprintf("%d:%s", i+1, text))
		}
		flush(t, o)
		same(t, kept(t, bus, "ORDER"), want)
		same(t, left(t, o), 0)
	})
}

func TestEventsWaitForABrokerThatIsAway(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		br := newBroker(t).start()
		bus, watcher := br.bus(), br.bus()
		o := NewOutbox(d, bus)
		got := make(chan string, 10)
		background(t, context.Canceled, func(ctx context.Context) error {
			return watcher.Tail(ctx, Tail{Subjects: []string{"order.*"}, Since: time.Unix(1, 0)}, texts(got))
		})
		background(t, nil, o.Run)
		announce(t, o, "order.created", "a")
		same(t, receive(t, got), "a")
		br.stop()
		announce(t, o, "order.created", "b", "c")
		br.start()
		same(t, []string{receive(t, got), receive(t, got)}, []string{"b", "c"})
		br.stop()
		br.start()
		announce(t, o, "order.created", "d")
		same(t, receive(t, got), "d")
		flush(t, o)
		same(t, kept(t, bus, "ORDER"), []string{"1:a", "2:b", "3:c", "4:d"})
	})
}

func texts(got chan<- string) func(context.Context, Event) error {
	return func(_ context.Context, e Event) error {
		text, err := read(e)
		got <- text
		return err
	}
}

func TestCrashBetweenPublishAndDeleteLosesAndDoublesNothing(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		br := newBroker(t).start()
		now := time.Now()
		clock := func(c *Config) { c.Clock = func() time.Time { return now } }
		dead := NewOutbox(d, br.bus(clock))
		announce(t, dead, "order.created", "a", "b", "c")
		if err := dead.lease(t.Context()); err != nil {
			t.Fatal(err)
		}
		rows, err := dead.oldest(t.Context(), 2)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := dead.publish(t.Context(), rows); err != nil {
			t.Fatal(err)
		}

		bus := br.bus(clock)
		next := NewOutbox(d, bus)
		if err := next.drain(t.Context()); !errors.Is(err, errBusy) {
			t.Errorf("during the lease: got %v, want %v", err, errBusy)
		}
		now = now.Add(leaseTime + time.Millisecond)
		flush(t, next)
		same(t, kept(t, bus, "ORDER"), []string{"1:a", "2:b", "3:c"})
		if err := dead.settle(t.Context(), nil, leaseTime); !errors.Is(err, errBusy) {
			t.Errorf("a replica that was taken for dead: got %v, want %v", err, errBusy)
		}
	})
}

// A drain that the database has cut off leaves its lease behind: the same replica
// goes on under it, and waits for nobody. So does the next drain after one that
// came to its end.
func TestTheSameReplicaDrainsAgainUnderItsLease(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		br := newBroker(t).start()
		bus := br.bus()
		o, other := NewOutbox(d, bus), NewOutbox(d, br.bus())
		announce(t, o, "order.created", "a", "b")
		if err := o.lease(t.Context()); err != nil {
			t.Fatal(err)
		}
		rows, err := o.oldest(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := o.publish(t.Context(), rows); err != nil { // and is not settled
			t.Fatal(err)
		}
		if err := other.drain(t.Context()); !errors.Is(err, errBusy) {
			t.Errorf("another replica: got %v, want %v", err, errBusy)
		}
		for _, next := range []string{"c", "d"} {
			if err := o.drain(t.Context()); err != nil {
				t.Errorf("the same replica, before %s: %v", next, err)
			}
			announce(t, o, "order.created", next)
		}
		if err := other.drain(t.Context()); err != nil { // nobody holds it any more
			t.Error(err)
		}
		same(t, kept(t, bus, "ORDER"), []string{"1:a", "2:b", "3:c", "4:d"})
		same(t, left(t, o), 0)
	})
}

func TestReplicasPublishEachEventOnce(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		br := newBroker(t).start()
		bus := br.bus()
		got := make(chan string, 100)
		background(t, context.Canceled, func(ctx context.Context) error {
			return bus.Tail(ctx, Tail{Subjects: []string{"order.*"}, Since: time.Unix(1, 0)}, texts(got))
		})
		a, b := NewOutbox(d, br.bus()), NewOutbox(d, br.bus())
		background(t, nil, a.Run)
		background(t, nil, b.Run)
		for i := range 20 {
			announce(t, []*Outbox{a, b}[i%2], "order.created", fmt.Sprint(i))
		}
		for i := range 20 {
			same(t, receive(t, got), fmt.Sprint(i))
		}
		flush(t, a)
		same(t, len(kept(t, bus, "ORDER")), 20)
	})
}

func TestFlushTellsWhatItWaitedFor(t *testing.T) {
	o := NewOutbox(lite(t), newBroker(t).bus())
	flush(t, o) // empty: nothing to wait for
	announce(t, o, "order.created", "a")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if err := o.Flush(ctx); !errors.Is(err, errOffline) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want %v and %v", err, errOffline, context.DeadlineExceeded)
	}
	same(t, left(t, o), 1)
}

func TestAStreamThatWasDeletedIsMadeAgain(t *testing.T) {
	bus := newBroker(t).start().bus()
	o := NewOutbox(lite(t), bus)
	announce(t, o, "order.created", "a")
	flush(t, o)
	if err := bus.js.DeleteStream(t.Context(), "ORDER"); err != nil {
		t.Fatal(err)
	}
	announce(t, o, "order.created", "b")
	flush(t, o)
	same(t, kept(t, bus, "ORDER"), []string{"1:b"})
}

func TestStreamsAreBroughtUpToDate(t *testing.T) {
	br := newBroker(t).start()
	for _, limit := range []int64{0, 1 << 20, 1 << 20} { // the third finds it as it should be
		bus := br.bus(func(c *Config) { c.MaxBytes = limit })
		if err := bus.ensure(t.Context(), "ORDER"); err != nil {
			t.Fatal(err)
		}
		s, err := bus.js.Stream(t.Context(), "ORDER")
		if err != nil {
			t.Fatal(err)
		}
		c := s.CachedInfo().Config
		same(t, []any{c.Subjects, c.MaxAge, c.MaxBytes, c.Duplicates, c.Storage, c.Discard, c.Replicas},
			[]any{[]string{"order.>"}, 7 * 24 * time.Hour, bus.cfg.MaxBytes, 2 * time.Minute, jetstream.FileStorage, jetstream.DiscardOld, 1})
	}
}
