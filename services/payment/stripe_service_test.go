package payment

import (
	"bytes"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	paymentpb "github.com/meshmart/meshmart/proto/payment/v1"
	"github.com/meshmart/meshmart/services/internal/app"
	"github.com/meshmart/meshmart/services/internal/app/apptest"
	"github.com/meshmart/meshmart/tests/freeport"
)

// lines is a log that is read while it is written.
type lines struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.String()
}

// TestServiceByStripe runs the service as its configuration has it: a payment goes
// through Stripe, and what the dashboard does to it comes back by a webhook.
func TestServiceByStripe(t *testing.T) {
	addrs, err := freeport.Addrs(1)
	if err != nil {
		t.Fatal(err)
	}
	addr, fake, log := addrs[0], newFakeStripe(t), &lines{}
	w := apptest.New(t)
	w.Log = log
	w.ServeKeys()
	w.Start(New(), map[string]string{"PAYMENT_PROCESSOR": "stripe", "STRIPE_API_KEY": stripeTestKey, "STRIPE_API_URL": fake.URL,
		"STRIPE_WEBHOOK_ADDR": addr, "STRIPE_WEBHOOK_SECRET": signingSecret})
	s := running{w, paymentpb.NewPaymentServiceClient(w.Conn("payment"))}

	p := s.authorize(t)
	if got, err := fake.moved(p.GetId()); err != nil || got != authorized || p.GetProcessorRef() != "pi_1" {
		t.Fatalf("the money of %v is %q, %v", p, got, err)
	}
	if _, err := s.Capture(t.Context(), &paymentpb.CaptureRequest{OrderId: p.GetOrderId()}); err != nil {
		t.Fatal(err)
	}
	fake.change("pi_1", func(i *fakeIntent) { i.Refunded = true })
	if got := deliver(t, addr, event("evt_1", "charge.refunded", "pi_1")); got != http.StatusOK {
		t.Errorf("the webhook is answered %d", got)
	}
	eventually(t, "refunded", func() bool {
		p, err := s.GetPayment(w.As(t.Context(), user), &paymentpb.GetPaymentRequest{Id: p.GetId()})
		return err == nil && p.GetPayment().GetState() == paymentpb.Payment_REFUNDED
	})
	if got := log.String(); strings.Contains(got, "secret0123") || !strings.Contains(got, `"mode":"test"`) {
		t.Errorf("the log has a secret, or does not say that the key is a test's:\n%s", got)
	}
}

// deliver posts an event as Stripe does and returns the answer's code.
func deliver(t *testing.T, addr, body string) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+addr+webhookPath, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Stripe-Signature", sign(body, signingSecret, time.Now()))
	r.Close = true
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

func TestHelpHasNoSecrets(t *testing.T) {
	t.Setenv("STRIPE_API_KEY", stripeTestKey)
	var out strings.Builder
	app.Help(&out, "payment", "", New())
	for _, name := range []string{"PAYMENT_PROCESSOR", "STRIPE_API_KEY", "STRIPE_API_URL", "STRIPE_WEBHOOK_ADDR", "STRIPE_WEBHOOK_SECRET"} {
		if !strings.Contains(out.String(), name) {
			t.Errorf("%s is not in the help", name)
		}
	}
	if strings.Contains(out.String(), "secret0123") {
		t.Error(out.String())
	}
}
