package payment

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stripe/stripe-go/v86/webhook"
)

const signingSecret = "whsec_secret0123"

// hearing is a payment service by Stripe that hears webhooks.
type hearing struct {
	*bench
	fake *fakeStripe
	http http.Handler
	log  *bytes.Buffer
}

func hears(t *testing.T, fn func(t *testing.T, h hearing)) {
	t.Helper()
	each(t, func(t *testing.T, b *bench) { fn(t, newHearing(t, b)) })
}

func newHearing(t testing.TB, b *bench) hearing {
	h := hearing{bench: b, fake: newFakeStripe(t), log: &bytes.Buffer{}}
	s := h.fake.stripeOn(t, b.store.db)
	b.shaky.Processor = s
	h.http = (&webhooks{payments: b.Payments, look: s.api.intent, secret: signingSecret, timeout: time.Second, log: logTo(h.log)}).handler()
	return h
}

// warnings returns the lines that somebody is to see to.
func (h hearing) warnings() (all string) {
	for line := range strings.Lines(h.log.String()) {
		if strings.Contains(line, "level=WARN") {
			all += line
		}
	}
	return all
}

// event returns the body of an event about an intent.
func event(id, kind, intent string) string {
	object := fmt.Sprintf(`{"id":"ch_1","object":"charge","payment_intent":%q}`, intent)
	if strings.HasPrefix(kind, "payment_intent.") {
		object = fmt.Sprintf(`{"id":%q,"object":"payment_intent"}`, intent)
	}
	return fmt.Sprintf(`{"id":%q,"object":"event","type":%q,"data":{"object":%s}}`, id, kind, object)
}

func sign(body, secret string, at time.Time) string {
	return fmt.Sprintf("t=%d,v1=%x", at.Unix(), webhook.ComputeSignature(at, []byte(body), secret))
}

// post sends a body with a signature and returns the answer.
func (h hearing) post(body, signature string) (int, string) {
	r := httptest.NewRequest(http.MethodPost, webhookPath, strings.NewReader(body))
	if signature != "" {
		r.Header.Set("Stripe-Signature", signature)
	}
	w := httptest.NewRecorder()
	h.http.ServeHTTP(w, r)
	return w.Code, strings.TrimSpace(w.Body.String())
}

// send posts an event as Stripe does.
func (h hearing) send(t *testing.T, id, kind, intent string, want int) {
	t.Helper()
	body := event(id, kind, intent)
	if code, text := h.post(body, sign(body, signingSecret, time.Now())); code != want {
		t.Errorf("%s: %d %s, want %d", kind, code, text, want)
	}
}

// sale brings the payment of an order to a state and returns its intent.
func (h hearing) sale(t *testing.T, order string, until state) string {
	t.Helper()
	p, err := h.Authorize(t.Context(), request(order))
	if err == nil && until == captured {
		p, err = h.Capture(t.Context(), order)
	}
	if err != nil || p.State != until {
		t.Fatalf("%s: %v", p.State, err)
	}
	return p.ProcessorRef
}

func TestWebhookOfARefundInTheDashboard(t *testing.T) {
	hears(t, func(t *testing.T, h hearing) {
		h.work(t, h.worker)
		intent := h.sale(t, "o", captured)
		h.fake.change(intent, func(i *fakeIntent) { i.Refunded = true })
		together(8, func(n int) { h.send(t, fmt.Sprint("evt_", n%2), "charge.refunded", intent, http.StatusOK) })
		eventually(t, "refunded", func() bool { return h.get(t, "o").State == refunded })
		h.send(t, "evt_0", "charge.refunded", intent, http.StatusOK)
		if got := h.ledger(t, "o"); got != "AUTHORIZE CAPTURE REFUND" {
			t.Errorf("ledger %q", got)
		}
		if got := h.announced(t); got != "authorized captured refunded" {
			t.Errorf("announced %q", got)
		}
		if got := h.column(t, `SELECT id FROM stripe_events ORDER BY id`); strings.Join(got, " ") != "evt_0 evt_1" {
			t.Errorf("noted %v", got)
		}
	})
}

// An event is an occasion to look: what it says does not count, and what the charge
// is not can't be told into it.
func TestWebhookIsOnlyAnOccasionToLook(t *testing.T) {
	hears(t, func(t *testing.T, h hearing) {
		intent := h.sale(t, "o", captured)
		for n, kind := range []string{"charge.refunded", "payment_intent.canceled", "payment_intent.payment_failed",
			"charge.dispute.created", "refund.failed"} {
			h.send(t, fmt.Sprint("evt_", n), kind, intent, http.StatusOK)
		}
		if p := h.get(t, "o"); p.State != captured || h.ledger(t, "o") != "AUTHORIZE CAPTURE" {
			t.Errorf("the payment is %s", p.State)
		}
		h.send(t, "evt_3", "charge.dispute.created", intent, http.StatusOK)                           // again
		for _, kind := range []string{"charge.dispute.created", "refund.failed", "charge.refunded"} { // a part of it was refunded
			if n := strings.Count(h.warnings(), "type="+kind); n != 1 {
				t.Errorf("%d warnings of %s:\n%s", n, kind, h.log)
			}
		}
	})
}

// What came too early comes again: Stripe repeats what is not answered by 200.
func TestWebhookThatComesTooEarlyIsAskedForAgain(t *testing.T) {
	hears(t, func(t *testing.T, h hearing) {
		intent := h.sale(t, "o", authorized)
		h.fake.change(intent, func(i *fakeIntent) { i.Status, i.Refunded = "succeeded", true })
		h.send(t, "evt", "charge.refunded", intent, http.StatusServiceUnavailable)
		if n := h.column(t, `SELECT id FROM stripe_events`); len(n) > 0 {
			t.Errorf("noted %v: it would count as a repetition", n)
		}
		if _, err := h.Capture(t.Context(), "o"); err != nil {
			t.Logf("capture: %v", err) // a decline is no error
		}
		h.send(t, "evt", "charge.refunded", intent, http.StatusOK)
		if p := h.get(t, "o"); p.State != declined || p.Reason != reasonChargeVoided {
			t.Errorf("the payment is %s %s", p.State, p.Reason)
		}
	})
}

// An authorization that ran out, or that the dashboard canceled, is found by the
// capture: the order hears of it as of any other refusal.
func TestWebhookOfACanceledAuthorization(t *testing.T) {
	hears(t, func(t *testing.T, h hearing) {
		intent := h.sale(t, "o", authorized)
		h.fake.change(intent, func(i *fakeIntent) { i.Status = "canceled" })
		h.send(t, "evt", "payment_intent.canceled", intent, http.StatusOK)
		if p := h.get(t, "o"); p.State != authorized {
			t.Errorf("the payment is %s, and its order has not heard of it", p.State)
		}
		if !strings.Contains(h.log.String(), "level=WARN") {
			t.Errorf("nobody is told:\n%s", h.log)
		}
		h.work(t, h.worker)
		if err := h.confirm(t.Context(), "o"); err != nil {
			t.Fatal(err)
		}
		eventually(t, "declined", func() bool { return h.get(t, "o").State == declined })
		if got := h.announced(t); got != "authorized declined" {
			t.Errorf("announced %q", got)
		}
	})
}

func TestWebhookOfSomebodyElse(t *testing.T) {
	hears(t, func(t *testing.T, h hearing) {
		intent := h.sale(t, "o", captured)
		h.send(t, "evt_1", "charge.refunded", "pi_nobodys", http.StatusOK)
		h.send(t, "evt_2", "customer.created", intent, http.StatusOK)
		h.send(t, "evt_3", "charge.refunded", "", http.StatusOK)
		h.fake.change(intent, func(i *fakeIntent) { // one that says that it is this payment's, and is not
			h.fake.intents["pi_9"] = &fakeIntent{ID: "pi_9", Status: "succeeded", Refunded: true, Metadata: i.Metadata}
		})
		h.send(t, "evt_5", "charge.refunded", "pi_9", http.StatusOK)
		h.fake.change(intent, func(i *fakeIntent) { i.Metadata, i.Refunded = map[string]string{"payment": "another"}, true })
		h.send(t, "evt_4", "charge.refunded", intent, http.StatusOK)
		if n := h.column(t, `SELECT id FROM stripe_events`); len(n) > 0 || h.get(t, "o").State != captured {
			t.Errorf("noted %v", n)
		}
	})
}

// While Stripe or the database can't be asked the event is not lost.
func TestWebhookDuringAnOutage(t *testing.T) {
	hears(t, func(t *testing.T, h hearing) {
		intent := h.sale(t, "o", captured)
		h.fake.change(intent, func(i *fakeIntent) { i.Refunded = true })
		h.fake.fault = lose("look", busy, 1)
		h.send(t, "evt", "charge.refunded", intent, http.StatusServiceUnavailable)
		h.send(t, "evt", "charge.refunded", intent, http.StatusOK)
		if p := h.get(t, "o"); p.State != refunding {
			t.Errorf("the payment is %s", p.State)
		}
	})
}

// Nobody but Stripe is heard, and who is refused learns why, and nothing else.
func TestWebhookOfNobody(t *testing.T) {
	hears(t, func(t *testing.T, h hearing) {
		intent, now := h.sale(t, "o", captured), time.Now()
		h.fake.change(intent, func(i *fakeIntent) { i.Refunded = true })
		good := event("evt", "charge.refunded", intent)
		large := strings.Repeat(" ", webhookLimit) + good
		tests := []struct {
			name, body, signature string
			code                  int
			text                  string
		}{
			{"not signed", good, "", 400, "no Stripe-Signature"},
			{"garbage for a signature", good, "secret", 400, "invalid"},
			{"no signature in it", good, "t=1", 400, "no valid signature"},
			{"another secret", good, sign(good, "whsec_other", now), 400, "no valid signature"},
			{"another body", good + " ", sign(good, signingSecret, now), 400, "no valid signature"},
			{"old", good, sign(good, signingSecret, now.Add(-time.Hour)), 400, "tolerance"},
			{"too large", large, sign(large, signingSecret, now), 413, "too large"},
			{"garbage", "secret", sign("secret", signingSecret, now), 400, "no event"},
			{"another thing", "{}", sign("{}", signingSecret, now), 400, "no event"},
		}
		for _, tt := range tests {
			code, text := h.post(tt.body, tt.signature)
			if code != tt.code || !strings.Contains(text, tt.text) || strings.Contains(text, "secret") || strings.Contains(text, intent) {
				t.Errorf("%s: %d %s, want %d %s", tt.name, code, text, tt.code, tt.text)
			}
		}
		if n := h.column(t, `SELECT id FROM stripe_events`); len(n) > 0 || h.get(t, "o").State != captured {
			t.Errorf("noted %v", n)
		}
		if strings.Contains(h.log.String(), "secret") {
			t.Error(h.log)
		}
		r := httptest.NewRecorder()
		h.http.ServeHTTP(r, httptest.NewRequest(http.MethodGet, webhookPath, nil))
		if r.Code != http.StatusMethodNotAllowed {
			t.Errorf("GET: %d", r.Code)
		}
	})
}

func TestOldWebhooksAreForgotten(t *testing.T) {
	hears(t, func(t *testing.T, h hearing) {
		for id, at := range map[string]time.Time{"old": time.Now().Add(-time.Hour), "new": time.Now()} {
			if _, err := h.store.hear(t.Context(), stripeEvent{ID: id}, "p", at); err != nil {
				t.Fatal(err)
			}
		}
		if err := h.store.forget(t.Context(), time.Now().Add(-time.Minute)); err != nil {
			t.Fatal(err)
		}
		if got := h.column(t, `SELECT id FROM stripe_events`); len(got) != 1 || got[0] != "new" {
			t.Errorf("kept %v", got)
		}
	})
}

// FuzzWebhook reads bodies that Stripe has signed: they are events, or refused.
func FuzzWebhook(f *testing.F) {
	for _, kind := range []string{"charge.refunded", "payment_intent.canceled"} {
		f.Add([]byte(event("evt", kind, "pi_1")))
	}
	f.Add([]byte(`{"id":"evt","type":"charge.refunded","data":{"object":{"payment_intent":{"id":"pi_1"}}}}`))
	f.Add([]byte(`{"id":1,"data":[]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		h := &webhooks{secret: signingSecret}
		e, err := h.read(body, sign(string(body), signingSecret, time.Now()))
		if err != nil {
			return
		}
		if e.ID == "" || e.Type == "" {
			t.Errorf("an event without an id or a type: %s", body)
		}
		e.intent()
	})
}
