package order

import (
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"google.golang.org/grpc/codes"

	"github.com/meshmart/meshmart/services/internal/db"
	"github.com/meshmart/meshmart/services/internal/fault"
)

// Nobody is called and nothing is written for an order that would only wait.
func TestOrdersAreRefusedWhileAServiceIsOut(t *testing.T) {
	for service, reason := range map[string]string{
		"product": "CATALOG_UNAVAILABLE", "inventory": "INVENTORY_UNAVAILABLE", "payment": "PAYMENT_UNAVAILABLE",
	} {
		t.Run(service, func(t *testing.T) {
			each(t, func(t *testing.T, d *db.DB) {
				w := newWorld()
				s := w.replica(d)
				before := request()
				first, err := s.Place(within(t), before)
				if err != nil {
					t.Fatal(err)
				}
				w.setDown(service)
				calls := w.called()
				spans := tracetest.NewInMemoryExporter()
				ctx, span := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans)).Tracer("").Start(within(t), "CreateOrder")
				_, err = s.Place(ctx, request())
				span.End()
				if told := spans.GetSpans()[0].Events; len(told) != 1 || told[0].Name != "circuit_breaker.refused" || told[0].Attributes[0].Value.AsString() != service {
					t.Errorf("the span says %v", told)
				}
				f := fault.As(err)
				if f == nil || f.Code() != codes.Unavailable || f.Reason() != reason || f.RetryAfter() <= 0 {
					t.Errorf("got %v", err)
				}
				rows := 0
				if err := d.Row(t.Context(), `SELECT COUNT(*) FROM orders`).Scan(&rows); err != nil || rows != 1 {
					t.Errorf("%d orders are written, want 1: %v", rows, err)
				}
				if n := w.called(); n != calls {
					t.Errorf("other services were called %d times", n-calls)
				}
				again, err := s.Place(within(t), before)
				if err != nil || again.ID != first.ID {
					t.Errorf("a request that came before: order %s, %v", again.ID, err)
				}
				w.setDown("")
				if o := place(t, s); o.State != Confirmed {
					t.Errorf("once it is back the order is %s", o.State)
				}
			})
		})
	}
}
