package payment

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/meshmart/meshmart/services/internal/breaker"
	"github.com/meshmart/meshmart/services/internal/fault"
	"github.com/meshmart/meshmart/services/internal/money"
)

func TestAuthorize(t *testing.T) {
	tests := []struct {
		token  string
		want   Payment
		ledger string
		event  string
	}{
		{"tok_visa", Payment{State: authorized, Version: 2}, "AUTHORIZE", "authorized"},
		{"tok_chargeDeclined", Payment{State: declined, Reason: "CARD_DECLINED", Message: "The card was declined.", Version: 2}, "", "declined"},
		{"pm_nobody", Payment{State: declined, Reason: "INVALID_TOKEN", Message: "The payment token is not one of the test cards.", Version: 2}, "", "declined"},
	}
	for _, tt := range tests {
		t.Run(tt.token, func(t *testing.T) {
			each(t, func(t *testing.T, b *bench) {
				req := request("o1")
				req.Token = tt.token
				first, err := b.Authorize(t.Context(), req)
				if err != nil {
					t.Fatal(err)
				}
				tt.want.OrderID, tt.want.UserID, tt.want.Amount = "o1", user, price()
				if diff := cmp.Diff(tt.want, first, unforeseen); diff != "" {
					t.Error(diff)
				}
				if (first.ProcessorRef != "") != (first.State == authorized) {
					t.Errorf("reference %q", first.ProcessorRef)
				}
				again, err := b.Authorize(t.Context(), req)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(first, again, cmp.AllowUnexported(Payment{})); diff != "" {
					t.Errorf("again:\n%s", diff)
				}
				if got := b.ledger(t, "o1"); got != tt.ledger {
					t.Errorf("ledger %q, want %q", got, tt.ledger)
				}
				if got := b.announced(t); got != tt.event {
					t.Errorf("announced %q, want %q", got, tt.event)
				}
				b.balanced(t, []string{"o1"})
			})
		})
	}
}

var unforeseen = cmp.Options{
	cmpopts.IgnoreFields(Payment{}, "ID", "ProcessorRef", "Created", "Updated"), cmpopts.IgnoreUnexported(Payment{}),
}

func TestAuthorizeOfSomethingElseForTheSameOrderIsRefused(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		if _, err := b.Authorize(t.Context(), request("o1")); err != nil {
			t.Fatal(err)
		}
		other := map[string]AuthorizeRequest{}
		for _, field := range []string{"amount", "user_id"} {
			other[field] = request("o1")
		}
		r := other["amount"]
		r.Amount = money.Amount{Currency: "USD", Micros: r.Amount.Micros}
		other["amount"] = r
		r = other["user_id"]
		r.UserID = "somebody else"
		other["user_id"] = r
		for field, req := range other {
			_, err := b.Authorize(t.Context(), req)
			f := fault.As(err)
			if f == nil || len(f.Fields()) != 1 || f.Fields()[0].Field != field || f.Fields()[0].Reason != reasonReused {
				t.Errorf("another %s: %v", field, err)
			}
		}
	})
}

func TestEightAuthorizeAtOnceMakeOneCharge(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		all := make([]Payment, 8)
		together(len(all), func(i int) {
			p, err := b.Authorize(t.Context(), request("o1"))
			if err != nil {
				t.Error(err)
			}
			all[i] = p
		})
		for _, p := range all {
			if diff := cmp.Diff(all[0], p, cmp.AllowUnexported(Payment{})); diff != "" {
				t.Error(diff)
			}
		}
		if got := b.column(t, `SELECT key FROM processor_charges`); len(got) != 1 {
			t.Errorf("%d charges", len(got))
		}
		if got := b.announced(t); got != "authorized" {
			t.Errorf("announced %q", got)
		}
		b.balanced(t, []string{"o1"})
	})
}

func TestLostAuthorizationIsAskedForAgain(t *testing.T) {
	for _, lost := range []string{"request", "answer"} {
		t.Run(lost, func(t *testing.T) {
			each(t, func(t *testing.T, b *bench) {
				b.shaky.lose = func(_ string, n int) (bool, bool) { return lost == "request" && n == 1, lost == "answer" && n == 1 }
				_, err := b.Authorize(t.Context(), request("o1"))
				if got := outcome(err); got != "Aborted PROCESSOR_UNAVAILABLE" || !errors.Is(err, errOutage) {
					t.Errorf("got %v", err)
				}
				if p := b.get(t, "o1"); p.State != pending || b.announced(t) != "" {
					t.Errorf("after the first: %+v", p)
				}
				p, err := b.Authorize(t.Context(), request("o1"))
				if err != nil || p.State != authorized {
					t.Errorf("again: %+v, %v", p, err)
				}
				if got := b.column(t, `SELECT key FROM processor_charges`); len(got) != 1 {
					t.Errorf("%d charges", len(got))
				}
				b.balanced(t, []string{"o1"})
			})
		})
	}
}

func TestCallerThatGoesAwayDoesNotLoseTheAnswer(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		ctx, cancel := context.WithCancel(t.Context())
		b.shaky.told = func(string) { cancel() }
		if _, err := b.Authorize(ctx, request("o1")); err != nil {
			t.Error(err)
		}
		b.balanced(t, []string{"o1"})
	})
}

func TestAuthorizeThatComesAfterTheVoidIsRefused(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		for range 3 {
			p, err := b.Void(t.Context(), "o1")
			if err != nil || !p.tombstone() || p.State != voided {
				t.Errorf("void: %+v, %v", p, err)
			}
			_, err = b.Authorize(t.Context(), request("o1"))
			if got := outcome(err); got != "FailedPrecondition ORDER_VOIDED" {
				t.Errorf("authorize: %v", err)
			}
		}
		if len(b.shaky.calls) != 0 || b.announced(t) != "" {
			t.Errorf("calls %v, announced %q", b.shaky.calls, b.announced(t))
		}
	})
}

// The processor has acted and its answer is on the way when the order is given
// up: the void must win, here and there.
func TestVoidWhileTheAuthorizationIsUnderWay(t *testing.T) {
	for _, token := range []string{"tok_visa", "tok_chargeDeclined"} {
		t.Run(token, func(t *testing.T) {
			each(t, func(t *testing.T, b *bench) {
				acted, goOn := make(chan struct{}), make(chan struct{})
				b.shaky.hold = func(op string) {
					if op == "authorize" {
						close(acted)
						<-goOn
					}
				}
				done := make(chan error, 1)
				go func() {
					req := request("o1")
					req.Token = token
					_, err := b.Authorize(t.Context(), req)
					done <- err
				}()
				<-acted
				p, err := b.Void(t.Context(), "o1")
				if err != nil || p.State != voided || p.tombstone() {
					t.Errorf("void: %+v, %v", p, err)
				}
				close(goOn)
				if got := outcome(<-done); got != "FailedPrecondition ORDER_VOIDED" {
					t.Errorf("authorize: %s", got)
				}
				if got := b.announced(t); got != "voided" {
					t.Errorf("announced %q", got)
				}
				b.balanced(t, []string{"o1"})
			})
		})
	}
}

// The void overtakes the authorization on its way to the processor.
func TestProcessorRefusesAnAuthorizationAfterItsVoid(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		b.shaky.lose = func(op string, _ int) (bool, bool) { return op == "authorize", false }
		_, _ = b.Authorize(t.Context(), request("o1"))
		if _, err := b.Void(t.Context(), "o1"); err != nil {
			t.Fatal(err)
		}
		_, err := b.shaky.Processor.Authorize(t.Context(), AuthorizeInput{Key: b.get(t, "o1").ID, Amount: price(), Token: "tok_visa"})
		var d *Decline
		if !errors.As(err, &d) || d.Reason != reasonChargeVoided {
			t.Errorf("got %v", err)
		}
		b.balanced(t, []string{"o1"})
	})
}

func TestProcessorThatIsOutIsUnavailableBeforeAnythingIsWritten(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		stopped := time.Now()
		b.breakerClock = func() time.Time { return stopped } // it stays open
		if _, err := b.Authorize(t.Context(), request("paid")); err != nil {
			t.Fatal(err)
		}
		b.shaky.lose = func(string, int) (bool, bool) { return true, false }
		for _, o := range names("lost", breaker.Row) {
			if _, err := b.Authorize(t.Context(), request(o)); outcome(err) != "Aborted PROCESSOR_UNAVAILABLE" {
				t.Error(err)
			}
		}
		calls := len(b.shaky.calls)
		spans := tracetest.NewInMemoryExporter()
		ctx, span := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans)).Tracer("").Start(t.Context(), "call")
		_, fresh := b.Authorize(ctx, request("new"))
		_, again := b.Authorize(ctx, request("lost0"))
		_, capture := b.Capture(ctx, "paid")
		span.End()
		if told := spans.GetSpans()[0].Events; len(told) != 3 || told[0].Name != "circuit_breaker.refused" {
			t.Errorf("the span of three calls says %v", told)
		}
		for _, err := range []error{fresh, again, capture} {
			if got := outcome(err); got != "Unavailable UNAVAILABLE" || fault.As(err).RetryAfter() == 0 {
				t.Errorf("got %v", err)
			}
		}
		if _, found, err := b.store.byOrder(t.Context(), "new"); found || err != nil {
			t.Errorf("a payment was written: %v", err)
		}
		if p := b.get(t, "paid"); p.State != authorized {
			t.Errorf("the capture has begun: %s", p.State)
		}
		if p, err := b.Authorize(t.Context(), request("paid")); err != nil || p.State != authorized {
			t.Errorf("what is known already: %+v, %v", p, err)
		}
		if len(b.shaky.calls) != calls {
			t.Error("the processor was called")
		}
	})
}

func TestDeclinesAreNoOutage(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		for _, o := range names("o", 3*breaker.Row) {
			if _, err := b.step(t.Context(), "decline", o); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestTokenIsStoredNowhere(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		req := request("o1")
		req.Token = "tok_visa_debit"
		if _, err := b.Authorize(t.Context(), req); err != nil {
			t.Fatal(err)
		}
		for _, row := range []any{b.get(t, "o1"), b.column(t, `SELECT key || ref || reason || capture_decline FROM processor_charges`),
			b.column(t, `SELECT subject || headers FROM outbox`)} {
			if text := cmp.Diff(nil, row, cmp.AllowUnexported(Payment{})); text == "" || contains(text, "visa_debit") {
				t.Errorf("found in %s", text)
			}
		}
	})
}
