package events

import (
	"context"
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/meshmart/meshmart/services/internal/fault"
)

// tail watches with t until stop, or else the end of the test, and returns once
// it is established.
func tail(t *testing.T, b *Bus, spec Tail, got chan<- string) (stop func()) {
	t.Helper()
	ready := make(chan struct{})
	spec.Ready = func() { close(ready) }
	stop = background(t, context.Canceled, func(ctx context.Context) error { return b.Tail(ctx, spec, texts(got)) })
	receive(t, ready)
	return stop
}

func TestTailSeesWhatHappensFromNowOn(t *testing.T) {
	bus := newBroker(t).start().bus()
	o := NewOutbox(lite(t), bus)
	got := make(chan string, 10)
	announce(t, o, "order.created", "before")
	flush(t, o)
	tail(t, bus, Tail{Subjects: []string{"order.created"}}, got)
	announce(t, o, "order.confirmed", "another")
	announce(t, o, "order.created", "a", "b")
	flush(t, o)
	same(t, []string{receive(t, got), receive(t, got)}, []string{"a", "b"})
}

func TestTailResumes(t *testing.T) {
	bus := newBroker(t).start().bus()
	o := NewOutbox(lite(t), bus)
	announce(t, o, "order.created", "a", "b", "c")
	flush(t, o)
	enough := errors.New("enough")
	var last Event
	err := bus.Tail(t.Context(), Tail{Subjects: []string{"order.*"}, Since: time.Unix(1, 0)}, func(_ context.Context, e Event) error {
		last = e
		return enough
	})
	if !errors.Is(err, enough) {
		t.Fatal(err)
	}
	same(t, last.Sequence, uint64(1))
	got := make(chan string, 10)
	tail(t, bus, Tail{Subjects: []string{"order.*"}, After: last.Place}, got)
	same(t, []string{receive(t, got), receive(t, got)}, []string{"b", "c"})
	tail(t, bus, Tail{Subjects: []string{"order.*"}, After: Place{last.Born, 3}}, got) // nothing is missed yet
	announce(t, o, "order.created", "d")
	flush(t, o)
	same(t, []string{receive(t, got), receive(t, got)}, []string{"d", "d"})
}

func TestTailDoesNotResumeWhereEventsAreMissing(t *testing.T) {
	bus := newBroker(t).start().bus()
	o := NewOutbox(lite(t), bus)
	announce(t, o, "order.created", "a", "b", "c")
	flush(t, o)
	s, err := bus.js.Stream(t.Context(), "ORDER")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	born := s.CachedInfo().Created.UnixNano()
	for _, after := range []Place{{born, 1}, {born, 2}, {born, 4}, {born, math.MaxUint64 - 1}, {born, math.MaxUint64}, {born + 1, 3}, {0, 3}} {
		err := bus.Tail(t.Context(), Tail{Subjects: []string{"order.*"}, After: after}, nil)
		if fault.Code(err) != codes.OutOfRange || fault.As(err).Fields()[0].Field != "resume_token" {
			t.Errorf("after %v: got %v, want OUT_OF_RANGE for resume_token", after, err)
		}
	}
	tail(t, bus, Tail{Subjects: []string{"order.*"}, After: Place{born, 3}}, nil)
}

func TestTailDoesNotResumeInAStreamThatWasMadeAnew(t *testing.T) {
	bus := newBroker(t).start().bus()
	o := NewOutbox(lite(t), bus)
	announce(t, o, "order.created", "a", "b")
	flush(t, o)
	enough := errors.New("enough")
	var first Event
	err := bus.Tail(t.Context(), Tail{Subjects: []string{"order.*"}, Since: time.Unix(1, 0)}, func(_ context.Context, e Event) error {
		first = e
		return enough
	})
	if !errors.Is(err, enough) {
		t.Fatal(err)
	}
	if err := bus.js.DeleteStream(t.Context(), "ORDER"); err != nil {
		t.Fatal(err)
	}
	bus.forget("ORDER")
	announce(t, o, "order.created", "c", "d", "e") // it has got that far again
	flush(t, o)
	err = bus.Tail(t.Context(), Tail{Subjects: []string{"order.*"}, After: first.Place}, func(_ context.Context, e Event) error {
		return fmt.Errorf("resumed with %s", e.Data)
	})
	if fault.Code(err) != codes.OutOfRange {
		t.Errorf("got %v, want OUT_OF_RANGE", err)
	}
}

func TestTailMissesNothingWhileTheBrokerIsAway(t *testing.T) {
	br := newBroker(t).start()
	bus := br.bus()
	o := NewOutbox(lite(t), br.bus())
	background(t, nil, o.Run)
	fresh, old := make(chan string, 100), make(chan string, 100)
	tail(t, bus, Tail{Subjects: []string{"order.*"}}, fresh)
	tail(t, bus, Tail{Subjects: []string{"order.*"}, Since: time.Unix(1, 0)}, old)
	for i := range 3 {
		br.stop()
		announce(t, o, "order.created", fmt.Sprint(i))
		br.start()
		announce(t, o, "order.created", fmt.Sprint(i))
		for range 2 {
			same(t, []string{receive(t, fresh), receive(t, old)}, []string{fmt.Sprint(i), fmt.Sprint(i)})
		}
	}
}

func TestTailOfSeveralStreams(t *testing.T) {
	bus := newBroker(t).start().bus()
	o := NewOutbox(lite(t), bus)
	got := make(chan string, 10)
	tail(t, bus, Tail{Subjects: []string{"order.*", "stock.*"}}, got)
	announce(t, o, "order.created", "a")
	flush(t, o)
	same(t, receive(t, got), "a")
	announce(t, o, "stock.changed", "b")
	flush(t, o)
	same(t, receive(t, got), "b")
	if err := bus.Tail(t.Context(), Tail{Subjects: []string{"order.*", "stock.*"}, After: Place{1, 1}}, nil); err == nil {
		t.Error("two streams after one sequence: got nil, want an error")
	}
}

func TestTailsLeaveNothingBehind(t *testing.T) {
	bus := newBroker(t).start().bus()
	o := NewOutbox(lite(t), bus)
	got := make(chan string, 1000)
	var stops []func()
	for range 100 {
		stops = append(stops, tail(t, bus, Tail{Subjects: []string{"order.*"}}, got))
	}
	announce(t, o, "order.created", "a")
	flush(t, o)
	for range stops {
		receive(t, got)
	}
	for _, stop := range stops {
		stop()
	}
	s, err := bus.js.Stream(t.Context(), "ORDER")
	if err != nil {
		t.Fatal(err)
	}
	same(t, s.CachedInfo().State.Consumers, 0)
	same(t, bus.nc.NumSubscriptions() < 5, true)
}

func TestConsumersThatTheBrokerForgetsAreMadeAgain(t *testing.T) {
	d := lite(t)
	bus := newBroker(t).start().bus()
	o := NewOutbox(d, bus)
	got, done := make(chan string, 10), make(chan string, 10)
	tail(t, bus, Tail{Subjects: []string{"order.*"}}, got)
	consume(t, bus, ledger(d, done))
	announce(t, o, "order.created", "a")
	flush(t, o)
	same(t, []string{receive(t, got), receive(t, done)}, []string{"a", "a"})
	s, err := bus.js.Stream(t.Context(), "ORDER")
	if err != nil {
		t.Fatal(err)
	}
	for name := range s.ConsumerNames(t.Context()).Name() {
		if err := s.DeleteConsumer(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	announce(t, o, "order.created", "b")
	flush(t, o)
	same(t, []string{receive(t, got), receive(t, done)}, []string{"b", "b"})
	same(t, logged(t, d), "a b")
}

func TestTailIsUnavailableToThoseWhoWaitForIt(t *testing.T) {
	bus := newBroker(t).bus()
	r := &reader{bus: bus, stream: "ORDER", subjects: []string{"order.*"}, patience: time.Millisecond}
	if err := r.run(t.Context()); fault.Code(err) != codes.Unavailable {
		t.Errorf("got %v, want UNAVAILABLE", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := bus.Tail(ctx, Tail{Subjects: []string{"order.*"}}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}
