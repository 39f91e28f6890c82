package payment

import (
	"context"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/meshmart/meshmart/services/internal/fault"
)

func contains(text, part string) bool { return strings.Contains(text, part) }

// step does to an order what a word says.
func (b *bench) step(ctx context.Context, word, orderID string) (Payment, error) {
	switch word {
	case "authorize":
		return b.Authorize(ctx, request(orderID))
	case "decline":
		req := request(orderID)
		req.Token = "tok_chargeDeclined"
		return b.Authorize(ctx, req)
	case "attach": // to be declined when it is captured
		req := request(orderID)
		req.Token = "tok_chargeCustomerFail"
		return b.Authorize(ctx, req)
	case "capture":
		return b.Capture(ctx, orderID)
	case "void":
		return b.Void(ctx, orderID)
	case "refund":
		return b.Refund(ctx, orderID)
	}
	panic(word)
}

func TestPaymentsPassTheirStates(t *testing.T) {
	const fp = "FailedPrecondition "
	tests := []struct {
		steps, last string
		state       state
		ledger      string
	}{
		{"authorize capture", "OK", captured, "AUTHORIZE CAPTURE"},
		{"authorize capture capture", "OK", captured, "AUTHORIZE CAPTURE"},
		{"authorize capture authorize", "OK", captured, "AUTHORIZE CAPTURE"},
		{"authorize void", "OK", voided, "AUTHORIZE VOID"},
		{"authorize void void", "OK", voided, "AUTHORIZE VOID"},
		{"authorize void capture", fp + "ORDER_VOIDED", voided, "AUTHORIZE VOID"},
		{"authorize void authorize", fp + "ORDER_VOIDED", voided, "AUTHORIZE VOID"},
		{"authorize void refund", "OK", voided, "AUTHORIZE VOID"},
		{"authorize refund", fp + "NOT_CAPTURED", authorized, "AUTHORIZE"},
		{"authorize capture void", fp + "CAPTURED", captured, "AUTHORIZE CAPTURE"},
		{"authorize capture refund", "OK", refunded, "AUTHORIZE CAPTURE REFUND"},
		{"authorize capture refund refund", "OK", refunded, "AUTHORIZE CAPTURE REFUND"},
		{"authorize capture refund void", fp + "CAPTURED", refunded, "AUTHORIZE CAPTURE REFUND"},
		{"authorize capture refund capture", fp + "REFUNDED", refunded, "AUTHORIZE CAPTURE REFUND"},
		{"authorize capture refund authorize", fp + "ORDER_VOIDED", refunded, "AUTHORIZE CAPTURE REFUND"},
		{"decline capture", fp + "DECLINED", declined, ""},
		{"decline void", "OK", declined, ""},
		{"decline refund", "OK", declined, ""},
		{"attach", "OK", authorized, "AUTHORIZE"},
		{"attach capture", fp + "DECLINED", declined, "AUTHORIZE"},
		{"attach capture capture", fp + "DECLINED", declined, "AUTHORIZE"},
		{"attach void", "OK", voided, "AUTHORIZE VOID"},
		{"void", "OK", voided, ""},
		{"void capture", fp + "ORDER_VOIDED", voided, ""},
		{"void refund", "OK", voided, ""},
	}
	each(t, func(t *testing.T, b *bench) {
		var orders []string
		for _, tt := range tests {
			order := tt.steps
			var err error
			for word := range strings.FieldsSeq(tt.steps) {
				_, err = b.step(t.Context(), word, order)
			}
			if got := outcome(err); got != tt.last {
				t.Errorf("%s: %s, want %s", tt.steps, got, tt.last)
			}
			if p, ledger := b.get(t, order), b.ledger(t, order); p.State != tt.state || ledger != tt.ledger {
				t.Errorf("%s: %s %q, want %s %q", tt.steps, p.State, ledger, tt.state, tt.ledger)
			}
			orders = append(orders, order)
		}
		b.balanced(t, orders)
		for _, word := range []string{"capture", "refund"} {
			if _, err := b.step(t.Context(), word, "nobody's"); outcome(err) != "NotFound NOT_FOUND" {
				t.Errorf("%s without a payment: %v", word, err)
			}
		}
	})
}

func TestDeclinedCaptureSaysWhy(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		if _, err := b.step(t.Context(), "attach", "o1"); err != nil {
			t.Fatal(err)
		}
		_, _ = b.Capture(t.Context(), "o1")
		if p := b.get(t, "o1"); p.Reason != "CARD_DECLINED" || p.Message == "" || p.ProcessorRef == "" {
			t.Errorf("%+v", p)
		}
		if got := b.announced(t); got != "authorized declined" {
			t.Errorf("announced %q", got)
		}
	})
}

// Whatever is lost, the same call again comes to the same end, once.
func TestLostChangeIsAskedForAgain(t *testing.T) {
	tests := []struct{ before, word, event string }{
		{"authorize", "capture", "captured"},
		{"authorize", "void", "voided"},
		{"authorize capture", "refund", "refunded"},
	}
	each(t, func(t *testing.T, b *bench) {
		var orders []string
		for _, tt := range tests {
			for _, lost := range []string{"request", "answer"} {
				order := tt.word + " " + lost
				for word := range strings.FieldsSeq(tt.before) {
					if _, err := b.step(t.Context(), word, order); err != nil {
						t.Fatal(err)
					}
				}
				first := true
				b.shaky.lose = func(string, int) (bool, bool) {
					was := first
					first = false
					return was && lost == "request", was && lost == "answer"
				}
				if _, err := b.step(t.Context(), tt.word, order); outcome(err) != "Aborted PROCESSOR_UNAVAILABLE" {
					t.Errorf("%s: %v", order, err)
				}
				if p, err := b.step(t.Context(), tt.word, order); err != nil || p.Version != int64(strings.Count(tt.before, " ")+3) {
					t.Errorf("%s again: %+v, %v", order, p, err)
				}
				if got := strings.Fields(b.announced(t)); got[len(got)-1] != tt.event {
					t.Errorf("%s: announced %v", order, got)
				}
				orders = append(orders, order)
			}
		}
		b.balanced(t, orders)
	})
}

func TestChangeUnderWayShowsTheStateBefore(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		lost := func(op string) {
			b.shaky.lose = func(o string, _ int) (bool, bool) { return false, o == op }
		}
		want := map[string]string{"capture": "AUTHORIZED", "void": "AUTHORIZED", "refund": "CAPTURED"}
		for word, public := range want {
			lost("")
			_, _ = b.Authorize(t.Context(), request(word))
			if word == "refund" {
				_, _ = b.Capture(t.Context(), word)
			}
			lost(word)
			_, _ = b.step(t.Context(), word, word)
			if got := b.get(t, word).proto().GetState().String(); got != public {
				t.Errorf("%s under way: %s, want %s", word, got, public)
			}
			_, err := b.Authorize(t.Context(), request(word))
			if refused := outcome(err) == "FailedPrecondition ORDER_VOIDED"; refused != (word != "capture") {
				t.Errorf("authorize with a %s under way: %v", word, err)
			}
		}
		lost("authorize")
		_, _ = b.Authorize(t.Context(), request("unanswered"))
		lost("void")
		_, _ = b.Void(t.Context(), "unanswered")
		if got := b.get(t, "unanswered").proto().GetState().String(); got != "PENDING" {
			t.Errorf("void of an unanswered authorization: %s", got)
		}
	})
}

func TestVoidRacingCaptureHasOneWinner(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		orders := names("o", 20)
		for _, o := range orders {
			if _, err := b.Authorize(t.Context(), request(o)); err != nil {
				t.Fatal(err)
			}
			var errs [4]error
			together(len(errs), func(i int) { _, errs[i] = b.step(t.Context(), []string{"void", "capture"}[i%2], o) })
			void, capture := outcome(errs[0]), outcome(errs[1])
			switch b.get(t, o).State {
			case voided:
				if void != "OK" || capture != "FailedPrecondition ORDER_VOIDED" {
					t.Errorf("voided, but void: %s, capture: %s", void, capture)
				}
			case captured:
				if capture != "OK" || void != "FailedPrecondition CAPTURED" {
					t.Errorf("captured, but void: %s, capture: %s", void, capture)
				}
			}
		}
		b.balanced(t, orders)
	})
}

func TestRefundFinishesTheCaptureThatIsUnderWay(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		if _, err := b.Authorize(t.Context(), request("o1")); err != nil {
			t.Fatal(err)
		}
		b.shaky.lose = func(op string, n int) (bool, bool) { return op == "capture" && n <= 2, false }
		_, _ = b.Capture(t.Context(), "o1")
		if _, err := b.Refund(t.Context(), "o1"); outcome(err) != "Aborted PROCESSOR_UNAVAILABLE" {
			t.Errorf("while the capture can't be made: %v", err)
		}
		if p, err := b.Refund(t.Context(), "o1"); err != nil || p.State != refunded {
			t.Errorf("got %+v, %v", p, err)
		}
		if got := b.announced(t); got != "authorized captured refunded" {
			t.Errorf("announced %q", got)
		}
		b.balanced(t, []string{"o1"})
	})
}

// Orders that are paid, confirmed, given up and given back, by several callers
// at once, over a network that loses a fifth of all calls. When it works again
// and everybody has been answered, the books must balance.
func TestBooksBalanceAfterATumult(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		b.work(t, b.worker)
		calm := false
		b.shaky.lose = func(_ string, n int) (bool, bool) { return !calm && n%10 == 3, !calm && n%10 == 7 }
		orders := names("o", 12)
		words := []string{"authorize", "authorize", "capture", "void", "refund"}
		together(6, func(worker int) {
			chance := rand.New(rand.NewPCG(1, uint64(worker)))
			for range 40 {
				order := orders[chance.IntN(len(orders))]
				word := words[chance.IntN(len(words))]
				if _, err := b.step(t.Context(), word, order); err != nil && fault.As(err) == nil {
					t.Errorf("%s %s: %v", word, order, err)
				}
			}
		})
		b.shaky.mu.Lock()
		calm = true
		b.shaky.mu.Unlock()
		for _, o := range orders { // each order's saga asks until it is answered
			eventually(t, "an answer for "+o, func() bool {
				_, err := b.Authorize(t.Context(), request(o))
				return err == nil || fault.Reason(err) == reasonVoided
			})
		}
		eventually(t, "no change under way", func() bool {
			return len(b.column(t, `SELECT order_id FROM payments WHERE due_time IS NOT NULL`)) == 0
		})
		b.balanced(t, orders)
	})
}
