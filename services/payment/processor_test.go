package payment

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/meshmart/meshmart/services/internal/db"
	"github.com/meshmart/meshmart/services/internal/db/dbtest"
	"github.com/meshmart/meshmart/services/internal/money"
)

// rig is a Processor and what is known on its other side.
type rig struct {
	Processor
	// moved returns what has become of a charge: "" if nothing was ever moved.
	moved func(key string) (state, error)
}

// processors runs a test with each Processor on each engine.
func processors(t *testing.T, fn func(t *testing.T, r rig)) {
	t.Helper()
	own := db.Schema{Name: "payment", FS: schema}
	t.Run("simulator", func(t *testing.T) {
		dbtest.Each(t, func(t *testing.T, d *db.DB) {
			s := newSimulator(&book{d}, &config{}, time.Now)
			fn(t, rig{s, func(key string) (state, error) {
				c, err := s.book.charge(t.Context(), key)
				if c.Amount == (money.Amount{}) {
					return "", err // voided before there was anything
				}
				return c.State, err
			}})
		}, own)
	})
	t.Run("stripe", func(t *testing.T) {
		dbtest.Each(t, func(t *testing.T, d *db.DB) {
			f := newFakeStripe(t)
			fn(t, rig{f.stripeOn(t, d), f.moved})
		}, own)
	})
}

func newKey(t testing.TB) string {
	t.Helper()
	id, err := uuid.NewV7()
	if err != nil {
		t.Fatal(err)
	}
	return id.String()
}

// try does a word's call and returns "ok", the reason of a decline, or "unknown".
func (r rig) try(ctx context.Context, word string, ch Charge) string {
	var err error
	switch word {
	case "authorize":
		_, err = r.Authorize(ctx, input(ch.Key, "tok_visa"))
	case "refused":
		_, err = r.Authorize(ctx, input(ch.Key, "tok_chargeDeclinedInsufficientFunds"))
	case "late": // the card can be kept, and not charged
		_, err = r.Authorize(ctx, input(ch.Key, "tok_chargeCustomerFail"))
	case "capture":
		err = r.Capture(ctx, ch)
	case "void":
		err = r.Void(ctx, ch)
	case "refund":
		err = r.Refund(ctx, ch)
	}
	var d *Decline
	switch {
	case errors.As(err, &d):
		return d.Reason
	case err != nil:
		return "unknown"
	}
	return "ok"
}

func input(key, token string) AuthorizeInput {
	return AuthorizeInput{Key: key, OrderID: "order", Amount: price(), Token: token}
}

// TestProcessorsKeepTheirPromises tells stories of one charge, whose Ref is never
// known: as if the answer to Authorize had not come.
func TestProcessorsKeepTheirPromises(t *testing.T) {
	type step struct{ word, want string }
	type story struct {
		name  string
		steps []step
		moved state
	}
	stories := []story{
		{"a sale", []step{{"authorize", "ok"}, {"capture", "ok"}}, captured},
		{"each is repeated", []step{{"authorize", "ok"}, {"authorize", "ok"}, {"capture", "ok"}, {"capture", "ok"}, {"authorize", "ok"}}, captured},
		{"a card is refused", []step{{"refused", "INSUFFICIENT_FUNDS"}, {"refused", "INSUFFICIENT_FUNDS"}}, declined},
		{"a refused card is voided", []step{{"refused", "INSUFFICIENT_FUNDS"}, {"void", "ok"}, {"void", "ok"}}, declined},
		{"it is voided first", []step{{"void", "ok"}, {"authorize", "AUTHORIZATION_VOIDED"}, {"void", "ok"}}, ""},
		{"it is voided", []step{{"authorize", "ok"}, {"void", "ok"}, {"void", "ok"}, {"authorize", "AUTHORIZATION_VOIDED"}, {"capture", "AUTHORIZATION_VOIDED"}}, voided},
		{"it is voided after it was captured", []step{{"authorize", "ok"}, {"capture", "ok"}, {"void", "ok"}, {"void", "ok"}, {"authorize", "AUTHORIZATION_VOIDED"}}, refunded},
		{"it is refunded", []step{{"authorize", "ok"}, {"capture", "ok"}, {"refund", "ok"}, {"refund", "ok"}, {"void", "ok"}}, refunded},
		{"it is refunded too early", []step{{"authorize", "ok"}, {"refund", "unknown"}, {"capture", "ok"}}, captured},
		{"nobody authorized it", []step{{"capture", "unknown"}, {"refund", "unknown"}}, ""},
	}
	processors(t, func(t *testing.T, r rig) {
		for _, s := range stories {
			ch := Charge{Key: newKey(t)}
			for n, step := range s.steps {
				if got := r.try(t.Context(), step.word, ch); got != step.want {
					t.Errorf("%s: step %d, %s: %s, want %s", s.name, n+1, step.word, got, step.want)
				}
			}
			if got, err := r.moved(ch.Key); err != nil || got != s.moved {
				t.Errorf("%s: the money is %q, want %q, %v", s.name, got, s.moved, err)
			}
		}
	})
}

// A capture can be refused; what was set aside must not stay so.
func TestRefusedCaptureIsADecline(t *testing.T) {
	processors(t, func(t *testing.T, r rig) {
		ch := Charge{Key: newKey(t)}
		for _, step := range [][2]string{{"late", "ok"}, {"capture", "CARD_DECLINED"}} {
			if got := r.try(t.Context(), step[0], ch); got != step[1] {
				t.Errorf("%s: %s, want %s", step[0], got, step[1])
			}
		}
		if got, err := r.moved(ch.Key); err != nil || got == authorized || got == captured {
			t.Errorf("the money is %q, %v", got, err)
		}
	})
}

// Every test card ends alike with both.
func TestCardsAreRefusedAlike(t *testing.T) {
	processors(t, func(t *testing.T, r rig) {
		for name, c := range testCards() {
			want := c.decline
			_, err := r.Authorize(t.Context(), input(newKey(t), "pm_card_"+name))
			var d *Decline
			if errors.As(err, &d) != (want != "") || err != nil && d == nil || d != nil && d.Reason != want {
				t.Errorf("%s: %v, want %q", name, err, want)
			}
		}
		_, err := r.Authorize(t.Context(), input(newKey(t), "pm_nobodys"))
		if d := new(Decline); !errors.As(err, &d) || d.Reason != invalidToken {
			t.Errorf("a token of nobody: %v", err)
		}
	})
}

// The same call at once, from several replicas: one of them acts. Who gets no
// answer asks again, and gets the one that all have.
func TestRepetitionsAtOnceActOnce(t *testing.T) {
	processors(t, func(t *testing.T, r rig) {
		for _, words := range [][]string{{"authorize"}, {"refused"}, {"authorize", "capture"}, {"authorize", "void"},
			{"authorize", "capture", "refund"}, {"authorize", "capture", "void"}} {
			ch, last := Charge{Key: newKey(t)}, len(words)-1
			for _, w := range words[:last] {
				if got := r.try(t.Context(), w, ch); got != "ok" {
					t.Fatalf("%v: %s: %s", words, w, got)
				}
			}
			answers := make([]string, 8)
			together(len(answers), func(i int) { answers[i] = r.insist(t.Context(), words[last], ch) })
			for _, a := range answers {
				if a != answers[0] || a == "unknown" {
					t.Errorf("%v: answers %v", words, answers)
					break
				}
			}
			want := map[string]state{"authorize": authorized, "refused": declined, "capture": captured, "void": voided, "refund": refunded}[words[last]]
			if len(words) == 3 {
				want = refunded
			}
			if got, err := r.moved(ch.Key); err != nil || got != want {
				t.Errorf("%v: the money is %q, want %q, %v", words, got, want, err)
			}
		}
	})
}

// insist asks until there is an answer, as the worker does.
func (r rig) insist(ctx context.Context, word string, ch Charge) (answer string) {
	for range 100 {
		if answer = r.try(ctx, word, ch); answer != "unknown" {
			break
		}
		time.Sleep(time.Millisecond)
	}
	return answer
}

// Void may come while Authorize is under way: whichever wins, nothing stays.
func TestVoidDuringAuthorizeLeavesNothing(t *testing.T) {
	processors(t, func(t *testing.T, r rig) {
		for range 20 {
			ch := Charge{Key: newKey(t)}
			together(2, func(i int) { r.insist(t.Context(), []string{"authorize", "void"}[i], ch) })
			if got, err := r.moved(ch.Key); err != nil || got != "" && got != voided {
				t.Errorf("the money is %q, %v", got, err)
			}
			if got := r.try(t.Context(), "authorize", ch); got != reasonChargeVoided {
				t.Errorf("authorized afterwards: %s", got)
			}
		}
	})
}
