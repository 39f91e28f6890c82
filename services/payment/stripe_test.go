package payment

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"go.opentelemetry.io/otel/metric/noop"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/meshmart/meshmart/services/internal/breaker"
	"github.com/meshmart/meshmart/services/internal/db"
	"github.com/meshmart/meshmart/services/internal/db/dbtest"
	"github.com/meshmart/meshmart/services/internal/money"
)

// withStripe returns the processor before a Stripe of its own.
func withStripe(t *testing.T) (rig, *fakeStripe, *stripeProcessor) {
	t.Helper()
	f := newFakeStripe(t)
	s := f.stripeOn(t, dbtest.Open(t, dbtest.SQLite(t), db.Schema{Name: "payment", FS: schema}))
	return rig{s, f.moved}, f, s
}

// oldKey is of a payment that was made two days ago.
func oldKey(t *testing.T) string {
	id := uuid.MustParse(newKey(t))
	ms := make([]byte, 8)
	binary.BigEndian.PutUint64(ms, uint64(time.Now().Add(-48*time.Hour).UnixMilli()))
	copy(id[:6], ms[2:])
	return id.String()
}

// lose returns a fault of the nth call of an op.
func lose(op string, fault fakeFault, nth int) func(string, int) fakeFault {
	return func(got string, n int) fakeFault {
		if got == op && n == nth {
			return fault
		}
		return noFault
	}
}

// Whatever is lost, wherever: who asks again gets the answer that is true.
func TestStripeAnswersThatAreLost(t *testing.T) {
	for _, op := range []string{"create", "method", "confirm", "capture", "cancel", "refund", "look"} {
		for _, fault := range []fakeFault{loseCall, loseAnswer, busy} {
			for _, end := range []string{"capture", "void", "capture refund", "capture void"} {
				r, f, _ := withStripe(t)
				ch := Charge{Key: newKey(t)}
				f.fault = lose(op, fault, 1)
				for word := range strings.FieldsSeq("authorize " + end + " " + end) {
					if got := r.insist(t.Context(), word, ch); got != "ok" && word != "capture" {
						t.Errorf("%s lost by %d, %s: %s: %s", op, fault, end, word, got)
					}
				}
				want := map[string]state{"capture": captured, "void": voided}[end]
				if want == "" {
					want = refunded
				}
				if got, err := r.moved(ch.Key); err != nil || got != want {
					t.Errorf("%s lost by %d: after %s the money is %q, %v", op, fault, end, got, err)
				}
			}
		}
	}
}

// TestStripeByChance lets calls fail by chance, while several replicas ask the same
// of each charge: no card is asked twice, nothing stays set aside that was voided,
// and no decline is taken back.
func TestStripeByChance(t *testing.T) {
	seed := rand.Uint64()
	chance := rand.New(rand.NewPCG(seed, seed))
	var mu sync.Mutex
	r, f, _ := withStripe(t)
	f.fault = func(string, int) fakeFault {
		mu.Lock()
		defer mu.Unlock()
		if chance.IntN(3) > 0 {
			return noFault
		}
		return []fakeFault{loseCall, loseAnswer, busy}[chance.IntN(3)]
	}
	for n := range 60 {
		ch := Charge{Key: newKey(t)}
		first := []string{"authorize", "authorize", "refused"}[n%3]
		words := []string{first, first, []string{"void", "capture", "authorize"}[n/3%3]}
		answers := make([]string, len(words))
		together(len(words), func(i int) { answers[i] = r.insist(t.Context(), words[i], ch) })
		if words[2] != "void" && answers[0] != answers[1] {
			t.Errorf("seed %d, charge %d: %v answered %v", seed, n, words, answers)
		}
		end := r.insist(t.Context(), "void", ch)
		got, err := r.moved(ch.Key)
		if end != "ok" || err != nil || got == authorized || got == captured {
			t.Fatalf("seed %d, charge %d: %v answered %v; voided: %s; the money is %q, %v", seed, n, words, answers, end, got, err)
		}
	}
}

// Stripe keeps the answer that it failed, too: it fails for a day. Until then it is
// unknown what will be, and Void ends it.
func TestStripeThatBrokeDownIsAskedByStateAndVoided(t *testing.T) {
	r, f, _ := withStripe(t)
	f.fault = lose("confirm", brokenDown, 1)
	ch := Charge{Key: newKey(t)}
	for _, step := range [][2]string{{"authorize", "unknown"}, {"authorize", "unknown"}, {"void", "ok"}, {"authorize", reasonChargeVoided}} {
		if got := r.try(t.Context(), step[0], ch); got != step[1] {
			t.Errorf("%s: %s, want %s", step[0], got, step[1])
		}
	}
	if got, err := r.moved(ch.Key); err != nil || got != "" {
		t.Errorf("the money is %q, %v", got, err)
	}
}

// The intent is in the book before it is confirmed: an authorization that is on its
// way when Void is done comes to nothing.
func TestStripeVoidWhileTheCardIsAsked(t *testing.T) {
	r, f, _ := withStripe(t)
	arrived, on := make(chan struct{}), make(chan struct{})
	f.hold = func(op string) {
		if op == "confirm" {
			close(arrived)
			<-on
		}
	}
	ch := Charge{Key: newKey(t)}
	answer := make(chan string)
	go func() { answer <- r.try(t.Context(), "authorize", ch) }()
	<-arrived
	if got := r.try(t.Context(), "void", ch); got != "ok" {
		t.Errorf("void: %s", got)
	}
	close(on)
	if got := <-answer; got != reasonChargeVoided {
		t.Errorf("authorize: %s", got)
	}
	if got, err := r.moved(ch.Key); err != nil || got != "" {
		t.Errorf("the money is %q, %v", got, err)
	}
}

// After a day Stripe has forgotten the keys, and the book leads to the intent; if
// the book is a backup's too, the intent's metadata do.
func TestStripeForgetsKeys(t *testing.T) {
	for _, forgetful := range []string{"Stripe", "Stripe and the book"} {
		for _, first := range []string{"authorize", "refused"} {
			r, f, s := withStripe(t)
			ch := Charge{Key: oldKey(t)}
			want := r.try(t.Context(), first, ch)
			f.forgetKeys()
			if forgetful != "Stripe" {
				if _, err := s.book.db.Exec(t.Context(), `DELETE FROM stripe_charges`); err != nil {
					t.Fatal(err)
				}
			}
			if got := r.try(t.Context(), first, ch); got != want {
				t.Errorf("%s: %s: %s, then %s", forgetful, first, want, got)
			}
			if _, err := r.moved(ch.Key); err != nil {
				t.Errorf("%s: %s: %v", forgetful, first, err)
			}
			if n := f.count("create"); n != 1 {
				t.Errorf("%s: %s: %d intents", forgetful, first, n)
			}
		}
	}
}

// A shop that was restored voids what its book does not know.
func TestStripeVoidOfWhatTheBookHasLost(t *testing.T) {
	r, _, s := withStripe(t)
	for _, until := range []string{"authorize", "capture"} {
		ch := Charge{Key: newKey(t)}
		for _, word := range []string{"authorize", "capture"} {
			r.try(t.Context(), word, ch)
			if word == until {
				break
			}
		}
		if _, err := s.book.db.Exec(t.Context(), `DELETE FROM stripe_charges`); err != nil {
			t.Fatal(err)
		}
		if got := r.try(t.Context(), "void", ch); got != "ok" {
			t.Errorf("void: %s", got)
		}
		want := map[string]state{"authorize": voided, "capture": refunded}[until]
		if got, err := r.moved(ch.Key); err != nil || got != want {
			t.Errorf("after %s and void the money is %q, %v", until, got, err)
		}
	}
}

// Within the day Stripe repeats its first answers, also to a shop whose book is a
// backup's: what has become of the charge since counts.
func TestStripeReplayIsNotTakenForTheState(t *testing.T) {
	r, f, s := withStripe(t)
	ch := Charge{Key: newKey(t)}
	r.try(t.Context(), "authorize", ch)
	f.change("pi_1", func(i *fakeIntent) { i.Status = "canceled" })
	if _, err := s.book.db.Exec(t.Context(), `DELETE FROM stripe_charges`); err != nil {
		t.Fatal(err)
	}
	if got := r.try(t.Context(), "authorize", ch); got != reasonChargeVoided {
		t.Errorf("authorized again: %s", got)
	}
}

// Of several that begin at once all get the same intent.
func TestStripeIntentIsMadeOnce(t *testing.T) {
	r, f, _ := withStripe(t)
	ch := Charge{Key: newKey(t)}
	together(8, func(int) { r.insist(t.Context(), "authorize", ch) })
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := len(f.intents); n != 1 {
		t.Errorf("%d intents", n)
	}
}

// The shop has no way to ask the holder of a card for anything.
func TestStripeThatAsksTheHolderIsADecline(t *testing.T) {
	_, f, s := withStripe(t)
	key := newKey(t)
	for range 2 {
		_, err := s.Authorize(t.Context(), input(key, "pm_card_askHolder"))
		if d := new(Decline); !errors.As(err, &d) || d.Reason != "AUTHENTICATION_REQUIRED" || !strings.HasSuffix(d.Message, ".") {
			t.Errorf("got %v", err)
		}
	}
	if got := f.intents["pi_1"].Status; got != "canceled" {
		t.Errorf("the intent is %s: the holder could still pay", got)
	}
}

// What the dashboard or the time did to a charge comes out when it is captured.
func TestStripeCaptureOfWhatIsGone(t *testing.T) {
	for name, fn := range map[string]func(i *fakeIntent){
		"canceled": func(i *fakeIntent) { i.Status = "canceled" },
		"refunded": func(i *fakeIntent) { i.Status, i.Refunded = "succeeded", true },
	} {
		r, f, _ := withStripe(t)
		ch := Charge{Key: newKey(t)}
		r.try(t.Context(), "authorize", ch)
		f.change("pi_1", fn)
		if got := r.try(t.Context(), "capture", ch); got != reasonChargeVoided {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// Neither logs nor errors have what is secret: the shop's key, the card's token.
func TestStripeSecretsAreNotTold(t *testing.T) {
	_, f, s := withStripe(t)
	var lines bytes.Buffer
	s.api.log, s.log = logTo(&lines), logTo(&lines)
	said := func(err error) { fmt.Fprintln(&lines, err) }
	_, err := s.Authorize(t.Context(), input(newKey(t), "pm_secret0123"))
	said(err)
	f.fault = lose("confirm", brokenDown, 2)
	_, err = s.Authorize(t.Context(), input(newKey(t), "tok_visa_secret0123"))
	said(err)
	s.api.key = "sk_test_other_secret0123"
	_, err = s.Authorize(t.Context(), input(newKey(t), "tok_visa"))
	said(err)
	if d := new(Decline); err == nil || errors.As(err, &d) {
		t.Errorf("with a wrong key: %v", err)
	}
	f.Close()
	_, err = s.Authorize(t.Context(), input(newKey(t), "tok_visa"))
	said(err)
	if got := lines.String(); strings.Contains(got, "secret0123") {
		t.Error(got)
	} else if !strings.Contains(got, "level=ERROR") || !strings.Contains(got, "STRIPE_API_KEY") || !strings.Contains(got, "req_1") {
		t.Errorf("nobody is told that the key is wrong, or of which request:\n%s", got)
	}
}

func TestStripeIsNotWaitedForLonger(t *testing.T) {
	_, f, s := withStripe(t)
	on := make(chan struct{})
	f.hold = func(string) { <-on }
	defer close(on)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := s.Authorize(ctx, input(newKey(t), "tok_visa")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestStripeAmounts(t *testing.T) {
	tests := map[money.Amount]int64{ // 0: it can't be charged
		{Currency: "EUR", Micros: 12_500_000}:           1250,
		{Currency: "USD", Micros: 990_000}:              99,
		{Currency: "USD", Micros: 995_000}:              0,
		{Currency: "JPY", Micros: 500_000_000}:          500,
		{Currency: "JPY", Micros: 500_500_000}:          0,
		{Currency: "KWD", Micros: 5_120_000}:            5120,
		{Currency: "KWD", Micros: 5_125_000}:            0,
		{Currency: "ISK", Micros: 5_000_000}:            500,
		{Currency: "ISK", Micros: 5_500_000}:            0,
		{Currency: "UGX", Micros: 5_000_000}:            500,
		{Currency: "HUF", Micros: 10_450_000}:           1045, // whole only in payouts, as TWD
		{Currency: "EUR", Micros: 0}:                    0,
		{Currency: "EUR", Micros: -10_000}:              0,
		{Currency: "EUR", Micros: 1<<62 - 1<<62%10_000}: (1<<62 - 1<<62%10_000) / 10_000,
	}
	for a, want := range tests {
		got, err := stripeAmount(a)
		if got != want || (err == nil) != (want != 0) {
			t.Errorf("%s: %d, %v; want %d", a, got, err, want)
		}
	}
	for _, c := range money.Currencies() { // what the shop takes, Stripe counts as the shop does
		exp, _ := money.Exponent(c)
		coin := int64(1_000_000)
		for range exp {
			coin /= 10
		}
		if got, err := stripeAmount(money.Amount{Currency: c, Micros: coin}); got != 1 || err != nil {
			t.Errorf("%s: the smallest coin is %d, %v", c, got, err)
		}
	}
}

// An amount that no card is charged is the order's fault: no outage, which would
// keep all others from paying.
func TestStripeAmountThatIsTooSmallIsADecline(t *testing.T) {
	_, _, s := withStripe(t)
	for _, micros := range []int64{0, 10_000} {
		in := input(newKey(t), "tok_visa")
		in.Amount.Micros = micros
		_, err := s.Authorize(t.Context(), in)
		if d := new(Decline); !errors.As(err, &d) || d.Reason != amountTooSmall {
			t.Errorf("%s: %v", in.Amount, err)
		}
	}
}

// One sale costs three calls, one more for an older token, and no look; a repetition
// is answered by one look.
func TestStripeCallsOfASale(t *testing.T) {
	r, f, _ := withStripe(t)
	ch := Charge{Key: newKey(t)}
	for _, word := range []string{"authorize", "capture", "authorize"} {
		r.try(t.Context(), word, ch)
	}
	if diff := cmp.Diff([]string{"create", "method", "confirm", "capture", "look"}, f.calls); diff != "" {
		t.Error(diff)
	}
}

func TestStripeConfiguration(t *testing.T) {
	good := config{Processor: byStripe, StripeKey: "sk_test_secret0123", StripeURL: "https://api.stripe.com", Timeout: time.Second}
	tests := []struct {
		name   string
		change func(c *config)
		want   string // of the error; "": there is none
	}{
		{"good", func(*config) {}, ""},
		{"live", func(c *config) { c.StripeKey = "rk_live_secret0123" }, ""},
		{"webhooks", func(c *config) { c.WebhookAddr, c.WebhookSecret = ":8082", "whsec_secret0123" }, ""},
		{"simulator", func(c *config) { c.Processor, c.StripeKey = bySimulator, "" }, ""},
		{"another processor", func(c *config) { c.Processor = "cash" }, "PAYMENT_PROCESSOR"},
		{"no key", func(c *config) { c.StripeKey = "" }, "STRIPE_API_KEY"},
		{"publishable key", func(c *config) { c.StripeKey = "pk_test_secret0123" }, "STRIPE_API_KEY"},
		{"key with a line end", func(c *config) { c.StripeKey = "sk_test_secret0123\n" }, "STRIPE_API_KEY"},
		{"live key in clear", func(c *config) { c.StripeKey, c.StripeURL = "sk_live_secret0123", "http://localhost" }, "STRIPE_API_URL"},
		{"no URL", func(c *config) { c.StripeURL = "api.stripe.com" }, "STRIPE_API_URL"},
		{"password in the URL", func(c *config) { c.StripeURL = "https://me:secret0123@localhost" }, "STRIPE_API_URL"},
		{"webhooks of anybody", func(c *config) { c.WebhookAddr = ":8082" }, "STRIPE_WEBHOOK_SECRET"},
		{"webhooks of the simulator", func(c *config) { c.Processor, c.WebhookAddr, c.WebhookSecret = bySimulator, ":8082", "s" }, "STRIPE_WEBHOOK_ADDR"},
	}
	for _, tt := range tests {
		c := good
		tt.change(&c)
		got := fmt.Sprint(c.Validate())
		if (got == "<nil>") != (tt.want == "") || !strings.Contains(got, tt.want) || strings.Contains(got, "secret0123") {
			t.Errorf("%s: %s, want %q", tt.name, got, tt.want)
		}
	}
	for key, want := range map[string]string{"sk_test_a": "test", "rk_test_a": "test", "sk_live_a": "live", "rk_live_a": "live", "sk_a": "unknown"} {
		if got := stripeMode(key); got != want {
			t.Errorf("%s: %s", key, got)
		}
	}
}

// What Stripe finds wrong with one customer's request is not that it is out: others
// can pay, and a refund that it refuses does not close the shop.
func TestRefusedRequestsAreNoOutage(t *testing.T) {
	r, _, _ := withStripe(t)
	g := newGuard(r, guardConfig{
		timeout: time.Minute, traces: tracenoop.NewTracerProvider(),
		breaker: func(cfg breaker.Config) *breaker.Breaker {
			cfg.Log, cfg.Meters, cfg.Clock = slog.New(slog.DiscardHandler), noop.NewMeterProvider(), time.Now
			return breaker.New(cfg)
		},
	})
	for range 2 * breaker.Row {
		_, err := g.Authorize(t.Context(), input(newKey(t), "pm_card_used"))
		if d := new(Decline); !errors.As(err, &d) || d.Reason != invalidToken {
			t.Fatalf("a token that was used: %v", err)
		}
		if err := g.Refund(t.Context(), Charge{Key: newKey(t), Ref: "pi_unknown"}); err == nil {
			t.Fatal("an unknown intent is refunded")
		}
	}
	if _, err := g.Authorize(t.Context(), input(newKey(t), "pm_card_visa")); err != nil {
		t.Errorf("a good card: %v", err)
	}
}

// Stripe keeps an answer of a failure for a day. The refund does not wait for that.
func TestRefundThatBrokeDownIsMadeAgain(t *testing.T) {
	r, f, _ := withStripe(t)
	ch := Charge{Key: newKey(t)}
	f.fault = lose("refund", brokenDown, 1)
	for word := range strings.FieldsSeq("authorize capture refund") {
		if got := r.insist(t.Context(), word, ch); got != "ok" {
			t.Errorf("%s: %s", word, got)
		}
	}
	if got, err := r.moved(ch.Key); err != nil || got != refunded || f.count("refund") != 2 {
		t.Errorf("the money is %q after %d refunds, %v", got, f.count("refund"), err)
	}
}
