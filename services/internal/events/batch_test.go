package events

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshmart/meshmart/services/internal/db"
)

// errAwkward is that of an event that fails at first.
var errAwkward = errors.New("awkward")

// sequel is a handler that notes what it is given, by the letter that it begins with.
type sequel struct {
	mu       sync.Mutex
	notes    map[string][]string // of what was committed
	awkward  string              // fails once
	panics   string              // once, too
	attempts int
}

func (s *sequel) handle(done chan<- string) func(ctx context.Context, tx *db.DB, e Event) error {
	return func(ctx context.Context, tx *db.DB, e Event) error {
		text, err := read(e)
		if err != nil {
			return err
		}
		if err := add(ctx, tx, text); err != nil {
			return err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.attempts++
		switch text {
		case s.awkward:
			s.awkward = ""
			return errAwkward
		case s.panics:
			s.panics = ""
			panic(text)
		}
		tx.AfterCommit(func() {
			s.mu.Lock()
			s.notes[text[:1]] = append(s.notes[text[:1]], text)
			s.mu.Unlock()
			done <- text
		})
		return nil
	}
}

// letter is the key of an event.
func letter(e Event) string {
	text, err := read(e)
	if err != nil {
		return ""
	}
	return text[:1]
}

// several has n events of ten keys handled by a consumer that begins when all are
// there, and returns what it has noted.
func several(t *testing.T, d *db.DB, n int, c Consumer, s *sequel) {
	t.Helper()
	bus := newBroker(t).start().bus()
	o := NewOutbox(d, bus)
	for i := range n {
		announce(t, o, "order.created", fmt.Sprintf("%c%03d", 'a'+i%10, i))
	}
	flush(t, o)
	done := make(chan string, n)
	s.notes = map[string][]string{}
	c.Name, c.Subjects, c.DB, c.Handle = "several", []string{"order.*"}, d, s.handle(done)
	stop := consume(t, bus, c)
	for range n {
		receive(t, done)
	}
	stop()
	if got := len(strings.Fields(logged(t, d))); got != n {
		t.Errorf("%d took effect, want %d", got, n)
	}
	var known int
	if err := d.Row(t.Context(), `SELECT COUNT(*) FROM inbox`).Scan(&known); err != nil || known != n {
		t.Errorf("the inbox knows %d, want %d (%v)", known, n, err)
	}
}

// commits returns in how many transactions the inbox was written.
func commits(t *testing.T, d *db.DB) (n int) {
	t.Helper()
	if err := d.Row(t.Context(), `SELECT COUNT(DISTINCT xmin::text) FROM inbox`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func onPostgres(t *testing.T) bool { return strings.HasSuffix(t.Name(), "/postgres") }

func TestEventsOfAKeyAreHandledInOrder(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		const n = 300
		s := &sequel{}
		several(t, d, n, Consumer{Key: letter}, s)
		for key, got := range s.notes {
			for i := 1; i < len(got); i++ {
				if got[i] < got[i-1] {
					t.Errorf("%s: %s came after %s", key, got[i], got[i-1])
				}
			}
		}
		if onPostgres(t) {
			got := commits(t, d)
			if got > n*9/10 { // how many share one depends on how fast the others come
				t.Errorf("%d commits", got)
			}
			t.Logf("figure: %d events of ten keys on PostgreSQL: %d commits", n, got)
		}
	})
}

// One fails and one panics at first: the others of their batch are handled all the
// same, and these when they come again.
func TestAnEventThatFailsAmongOthersComesAgain(t *testing.T) {
	for name, c := range map[string]Consumer{"side by side": {Key: letter}, "together": {Together: true}} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, d *db.DB) {
				several(t, d, 100, c, &sequel{awkward: "c042", panics: "h077"})
			})
		})
	}
}

func TestEventsAtHandAreHandledTogether(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		const n = 200
		s := &sequel{}
		several(t, d, n, Consumer{Together: true}, s)
		for key, got := range s.notes {
			if len(got) != n/10 {
				t.Errorf("%s: %d", key, len(got))
			}
		}
		if s.attempts != n {
			t.Errorf("%d attempts, want %d", s.attempts, n)
		}
		if onPostgres(t) {
			got := commits(t, d)
			if got > n/2 {
				t.Errorf("%d commits", got)
			}
			t.Logf("figure: %d events that are handled together on PostgreSQL: %d commits", n, got)
		}
	})
}

// What was handled before its consumer was lost is delivered once more, among
// others that are new.
func TestDuplicatesAmongOthersTakeNoEffect(t *testing.T) {
	for name, c := range map[string]Consumer{"side by side": {Key: letter}, "together": {Together: true}} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, d *db.DB) {
				bus := newBroker(t).start().bus()
				o := NewOutbox(d, bus)
				announce(t, o, "order.created", "a1", "b1")
				flush(t, o)
				done := make(chan string, 10)
				s := &sequel{notes: map[string][]string{}}
				c.Name, c.Subjects, c.DB, c.Handle = "several", []string{"order.*"}, d, s.handle(done)
				stop := consume(t, bus, c)
				receive(t, done)
				receive(t, done)
				stop()
				deliverAgain(t, bus, o, c, done)
				same(t, logged(t, d), "a1 b1 c")
			})
		})
	}
}

// Each event of a batch has its own span, which ends with what became of it, in the
// trace of who announced it.
func TestEachEventOfABatchHasItsSpan(t *testing.T) {
	for name, c := range map[string]Consumer{"side by side": {Key: letter}, "together": {Together: true}} {
		t.Run(name, func(t *testing.T) {
			d := lite(t)
			spans := tracetest.NewInMemoryExporter()
			traces := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
			bus := newBroker(t).start().bus(func(c *Config) { c.Traces = traces })
			o := NewOutbox(d, bus)
			const n = 20
			for i := range n {
				announce(t, o, "order.created", fmt.Sprintf("%c%d", 'a'+i%3, i))
			}
			flush(t, o)
			done := make(chan string, n)
			s := &sequel{notes: map[string][]string{}}
			c.Name, c.Subjects, c.DB, c.Handle = "several", []string{"order.*"}, d, s.handle(done)
			stop := consume(t, bus, c)
			for range n {
				receive(t, done)
			}
			stop()
			published, processed := map[trace.SpanID]bool{}, 0
			for _, span := range spans.GetSpans() {
				if span.SpanKind == trace.SpanKindProducer {
					published[span.SpanContext.SpanID()] = true
				}
			}
			for _, span := range spans.GetSpans() {
				if span.SpanKind == trace.SpanKindConsumer && published[span.Parent.SpanID()] {
					delete(published, span.Parent.SpanID())
					processed++
				}
			}
			if processed != n {
				t.Errorf("%d spans, want %d", processed, n)
			}
		})
	}
}
