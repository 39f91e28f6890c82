package events

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/meshmart/meshmart/services/internal/db"
)

// Each delivery is a span, which tells the how manieth it is and how the one
// before has failed, in no words of the event.
func TestADeliveryThatIsRepeatedSaysSo(t *testing.T) {
	d := lite(t)
	spans := tracetest.NewInMemoryExporter()
	traces := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	bus := newBroker(t).start().bus(func(c *Config) { c.Traces = traces })
	o := NewOutbox(d, bus)
	handled, n := make(chan bool, 1), 0
	stop := consume(t, bus, Consumer{Name: "ledger", Subjects: []string{"order.*"}, DB: d,
		Handle: func(_ context.Context, _ *db.DB, e Event) error {
			if n++; n < 3 {
				return fmt.Errorf("can't enter %q: %w", e.Data, errors.New("hunter2 is not known"))
			}
			handled <- true
			return nil
		}})
	if err := d.InTx(t.Context(), func(tx *db.DB) error { return o.Add(t.Context(), tx, "order.confirmed", wrapperspb.String("hunter2")) }); err != nil {
		t.Fatal(err)
	}
	flush(t, o)
	receive(t, handled)
	stop()
	var got []string
	for _, s := range spans.GetSpans() {
		if strings.Contains(fmt.Sprint(s), "hunter2") {
			t.Errorf("%s holds what the event holds: %+v", s.Name, s)
		}
		if s.Name != "process order.confirmed" {
			continue
		}
		line := s.Status.Code.String()
		for _, a := range s.Attributes {
			if a.Key == deliveries || a.Key == "error.type" {
				line += " " + a.Value.String()
			}
		}
		got = append(got, line)
	}
	failed := codes.Error.String()
	same(t, got, []string{failed + " *errors.errorString", failed + " 2 *errors.errorString", codes.Unset.String() + " 3"})
}
