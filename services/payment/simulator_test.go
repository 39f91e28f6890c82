package payment

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/meshmart/meshmart/services/internal/db"
	"github.com/meshmart/meshmart/services/internal/db/dbtest"
)

func TestTestCards(t *testing.T) {
	tests := map[string]string{ // tokens, and the reason of the decline or "" or "capture" and that of the capture's
		"tok_visa tok_visa_debit tok_mastercard tok_mastercard_debit tok_amex tok_discover tok_diners tok_jcb tok_unionpay": "",
		"pm_card_visa pm_card_mastercard pm_card_us tok_de tok_gb_debit tok_riskLevelElevated":                              "",
		"tok_chargeDeclined tok_visa_chargeDeclined pm_card_chargeDeclined pm_card_visa_chargeDeclined":                     "CARD_DECLINED",
		"tok_chargeDeclinedInsufficientFunds pm_card_visa_chargeDeclinedInsufficientFunds":                                  "INSUFFICIENT_FUNDS",
		"tok_chargeDeclinedExpiredCard pm_card_chargeDeclinedExpiredCard":                                                   "EXPIRED_CARD",
		"tok_chargeDeclinedIncorrectCvc tok_cvcCheckFail":                                                                   "INCORRECT_CVC",
		"tok_chargeDeclinedProcessingError":                                                                                 "PROCESSING_ERROR",
		"tok_chargeDeclinedFraudulent tok_radarBlock tok_riskLevelHighest":                                                  "FRAUDULENT",
		"tok_visa_chargeDeclinedLostCard":                                                                                   "LOST_CARD",
		"tok_visa_chargeDeclinedStolenCard":                                                                                 "STOLEN_CARD",
		"pm_card_visa_chargeDeclinedVelocityLimitExceeded":                                                                  "CARD_VELOCITY_EXCEEDED",
		"tok_threeDSecure2Required pm_card_authenticationRequired":                                                          "AUTHENTICATION_REQUIRED",
		"tok_chargeCustomerFail pm_card_chargeCustomerFail":                                                                 "capture CARD_DECLINED",
		"pm_visa visa tok_ tok_VISA tok_visa_amex pm_card_ tok_visa_visa tok_zz 4242424242424242":                           "INVALID_TOKEN",
	}
	for tokens, want := range tests {
		for token := range strings.FieldsSeq(tokens) {
			c := cardOf(testCards(), token)
			got := c.decline
			if c.captureDecline != "" {
				got = "capture " + c.captureDecline
			}
			if got != want {
				t.Errorf("%s: %q, want %q", token, got, want)
			}
		}
	}
	for name, c := range testCards() {
		for _, reason := range []string{c.decline, c.captureDecline} {
			if s := sentence(reason); !strings.HasSuffix(s, ".") {
				t.Errorf("%s: %q is no sentence", name, s)
			}
		}
	}
}

// simulate returns a simulator with a book of its own.
func simulate(t *testing.T, cfg *config) *simulator {
	t.Helper()
	d := dbtest.Open(t, dbtest.SQLite(t), db.Schema{Name: "payment", FS: schema})
	return newSimulator(&book{d}, cfg, time.Now)
}

// chances authorizes n charges and returns a letter for each: what became of
// it, and whether the caller was told.
func chances(t *testing.T, seed uint64, n int) string {
	t.Helper()
	s := simulate(t, &config{FailureRate: 0.4, Seed: seed})
	var got strings.Builder
	for i := range n {
		key := fmt.Sprint(i)
		_, err := s.Authorize(t.Context(), AuthorizeInput{Key: key, Amount: price(), Token: "tok_visa"})
		c, readErr := s.book.charge(t.Context(), key)
		if readErr != nil {
			t.Fatal(readErr)
		}
		switch {
		case err == nil && c.State == authorized:
			got.WriteByte('.')
		case errors.Is(err, errOutage) && c.State == authorized:
			got.WriteByte('a') // the answer was lost
		case errors.Is(err, errOutage) && c.State == "":
			got.WriteByte('r') // the request was
		default:
			t.Fatalf("charge %d: %q, %v", i, c.State, err)
		}
	}
	return got.String()
}

func TestFailuresFollowTheSeed(t *testing.T) {
	const n = 500
	got := chances(t, 7, n)
	if again := chances(t, 7, n); again != got {
		t.Errorf("the same seed:\n%s\n%s", got, again)
	}
	if other := chances(t, 8, n); other == got {
		t.Error("another seed, the same failures")
	}
	for letter, want := range map[string]int{"a": n / 5, "r": n / 5} {
		if k := strings.Count(got, letter); k < want*7/10 || k > want*13/10 {
			t.Errorf("%d of %s, want about %d", k, letter, want)
		}
	}
}

func TestEveryCallFailsAtRateOne(t *testing.T) {
	s := simulate(t, &config{FailureRate: 1})
	for i := range 20 {
		_, err := s.Authorize(t.Context(), AuthorizeInput{Key: fmt.Sprint(i), Amount: price(), Token: "tok_chargeDeclined"})
		if !errors.Is(err, errOutage) {
			t.Errorf("got %v", err)
		}
	}
}

func TestLatencyIsBoundedByTheContext(t *testing.T) {
	s := simulate(t, &config{Latency: time.Hour})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err := s.Authorize(ctx, AuthorizeInput{Key: "k", Amount: price(), Token: "tok_visa"})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	s = simulate(t, &config{Latency: 20 * time.Millisecond, Jitter: 10 * time.Millisecond})
	start := time.Now()
	if _, err := s.Authorize(t.Context(), AuthorizeInput{Key: "k", Amount: price(), Token: "tok_visa"}); err != nil {
		t.Error(err)
	}
	if took := time.Since(start); took < 20*time.Millisecond {
		t.Errorf("took only %v", took)
	}
}

// A shop that was restored voids what it does not know to be captured.
func TestVoidGivesBackWhatWasCaptured(t *testing.T) {
	s := simulate(t, &config{})
	ch := Charge{Key: "k"}
	if _, err := s.Authorize(t.Context(), AuthorizeInput{Key: "k", Amount: price(), Token: "tok_visa"}); err != nil {
		t.Fatal(err)
	}
	if err := s.Capture(t.Context(), ch); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Void(t.Context(), ch); err != nil {
			t.Error(err)
		}
	}
	if c, err := s.book.charge(t.Context(), "k"); err != nil || c.State != refunded {
		t.Errorf("the charge is %s, %v", c.State, err)
	}
}

func TestChargeHasOneEnd(t *testing.T) {
	s := simulate(t, &config{})
	ch := Charge{Key: "k"}
	if _, err := s.Authorize(t.Context(), AuthorizeInput{Key: "k", Amount: price(), Token: "tok_visa"}); err != nil {
		t.Fatal(err)
	}
	if err := s.Refund(t.Context(), ch); err == nil {
		t.Error("refunded before it was captured")
	}
	if err := s.Void(t.Context(), ch); err != nil {
		t.Error(err)
	}
	var d *Decline
	if err := s.Capture(t.Context(), ch); !errors.As(err, &d) || d.Reason != reasonChargeVoided {
		t.Errorf("captured after it was voided: %v", err)
	}
	if err := s.Capture(t.Context(), Charge{Key: "nobody's"}); err == nil || errors.As(err, &d) {
		t.Errorf("captured without an authorization: %v", err)
	}
}
