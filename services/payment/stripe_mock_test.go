package payment

import (
	"bufio"
	"io"
	"log/slog"
	"os/exec"
	"strings"
	"testing"

	"github.com/stripe/stripe-go/v86"
)

// stripeMock starts Stripe's own mock of its API until the test ends, and returns
// its URL. It knows no states: it refuses requests that are not as Stripe's
// specification has them, and answers others with examples.
func stripeMock(t *testing.T) string {
	t.Helper()
	var said strings.Builder
	find := exec.CommandContext(t.Context(), "../../tools/bin", "stripe-mock")
	find.Stderr = &said
	path, err := find.Output()
	if err != nil {
		t.Fatalf("tools/bin stripe-mock: %v\n%s", err, said.String())
	}
	mock := exec.Command(strings.TrimSpace(string(path)), "-http-addr", "127.0.0.1:")
	out, err := mock.StdoutPipe()
	if err == nil {
		err = mock.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = mock.Process.Kill(); _ = mock.Wait() })
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if _, addr, ok := strings.Cut(lines.Text(), "address: "); ok {
			go func() { _, _ = io.Copy(io.Discard, out) }() // it must not block
			return "http://" + addr
		}
	}
	t.Fatalf("stripe-mock says no address: %v", lines.Err())
	return ""
}

// TestRequestsAreAsStripeSpecifiesThem makes each call of the API to Stripe's mock.
func TestRequestsAreAsStripeSpecifiesThem(t *testing.T) {
	a := newStripeAPI(stripeMock(t), "sk_test_123", slog.New(slog.DiscardHandler))
	t.Cleanup(a.http.CloseIdleConnections)
	ctx, key := t.Context(), newKey(t)
	one := func(i intent, err error) (string, error) { return i.ID, err }
	calls := map[string]func() (string, error){
		"create": func() (string, error) { return one(a.create(ctx, input(key, "pm_card_visa"))) },
		"method": func() (string, error) { return a.method(ctx, key, "tok_visa") },
		"confirm": func() (string, error) {
			i, _, err := a.confirm(ctx, key, "pi_1", "pm_card_visa")
			return i.ID, err
		},
		"look":    func() (string, error) { return one(a.intent(ctx, "pi_1")) },
		"capture": func() (string, error) { return one(a.capture(ctx, "pi_1")) },
		"cancel":  func() (string, error) { return one(a.cancel(ctx, "pi_1", "")) },
		"cancel, why": func() (string, error) {
			return one(a.cancel(ctx, "pi_1", stripe.PaymentIntentCancellationReasonAbandoned))
		},
		"refund": func() (string, error) { return "re_1", a.refund(ctx, key, "pi_1") },
		"search": func() (string, error) {
			_, err := a.search(ctx, key)
			return "pi_1", err
		},
	}
	for name, call := range calls {
		if id, err := call(); err != nil || id == "" {
			t.Errorf("%s: %q, %v", name, id, err)
		}
	}
	// The mock would say so, were something else asked.
	_, err := a.call(ctx, stripeCall{"POST", "/v1/payment_intents", "k", &stripe.RefundCreateParams{Reason: stripe.String("none")}}, &intent{})
	if !refusedWith(err, 400) {
		t.Errorf("a request with wrong parameters: %v", err)
	}
}
