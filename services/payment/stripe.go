package payment

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/stripe/stripe-go/v86"
)

// stripeProcessor is a Processor by Stripe. A charge is a PaymentIntent that is
// created first, which moves nothing, then written into the book, and confirmed
// only after that. So whatever is lost on the way, the book leads to the intent,
// whose state says what has come of it; and a charge that is marked as voided
// before it is in the book is never confirmed (docs/adr/0013-stripe.md).
type stripeProcessor struct {
	api   *stripeAPI
	book  *stripeBook
	log   *slog.Logger
	clock func() time.Time
}

// stripeKeysKept is for how long a repetition is sure to be known by its
// idempotency key; Stripe forgets keys after 24 hours.
const stripeKeysKept = 23 * time.Hour

func newStripe(b *stripeBook, cfg *config, log *slog.Logger, clock func() time.Time) *stripeProcessor {
	log.Info("money is moved by Stripe", "mode", stripeMode(cfg.StripeKey), "url", cfg.StripeURL)
	return &stripeProcessor{api: newStripeAPI(cfg.StripeURL, cfg.StripeKey, log), book: b, log: log, clock: clock}
}

func (s *stripeProcessor) Authorize(ctx context.Context, in AuthorizeInput) (ref string, err error) {
	if !isStripeToken(in.Token) {
		return "", stripeDecline(invalidToken)
	}
	c, found, err := s.book.charge(ctx, in.Key)
	if err != nil {
		return "", err
	}
	asked := found
	if !found {
		if c, asked, err = s.open(ctx, in); err != nil {
			return "", err
		}
	}
	if c.Voided {
		return "", stripeDecline(reasonChargeVoided)
	}
	if asked { // that may have come to an end
		i, err := s.api.intent(ctx, c.Intent)
		if err != nil {
			return "", err
		}
		if ref, decided, err := s.outcome(ctx, i); decided {
			return ref, err
		}
	}
	return s.confirm(ctx, in.Key, c.Intent, in.Token)
}

// open enters an intent into the book, and reports whether it may have been
// confirmed long before. Of several at once all get the same.
func (s *stripeProcessor) open(ctx context.Context, in AuthorizeInput) (c stripeCharge, asked bool, err error) {
	i, found, err := s.find(ctx, in.Key)
	if err == nil && !found {
		i, err = s.api.create(ctx, in)
	}
	if err != nil {
		return stripeCharge{}, false, asDecline(err)
	}
	c, err = s.book.open(ctx, in.Key, i.ID, s.clock())
	if err == nil && c.Voided { // nobody will confirm it; this is for tidiness
		if _, err := s.api.cancel(ctx, i.ID, ""); err != nil {
			s.log.InfoContext(ctx, "unused intent is left at Stripe", "intent", i.ID, "err", err.Error())
		}
	}
	return c, found, err
}

// find looks for the intent of a charge that is not in the book, which may be a
// backup's. A charge that is young has none, or Stripe knows its key and gives the
// same again.
func (s *stripeProcessor) find(ctx context.Context, key string) (intent, bool, error) {
	if !s.aged(key) {
		return intent{}, false, nil
	}
	found, err := s.api.search(ctx, key)
	if err != nil || len(found) == 0 {
		return intent{}, false, err
	}
	return slices.MaxFunc(found, func(a, b intent) int { return cmp.Compare(a.came(), b.came()) }), true, nil
}

// aged reports whether the key, a payment's id, was made so long ago that Stripe
// may have forgotten it. UUIDs of version 7 say when.
func (s *stripeProcessor) aged(key string) bool {
	id, err := uuid.Parse(key)
	if err != nil || id.Version() != 7 {
		return true
	}
	return s.clock().Sub(time.Unix(id.Time().UnixTime())) > stripeKeysKept
}

// confirm has the money set aside. A repetition that Stripe knows by its key gets
// the first answer, which the intent may have gone on from.
func (s *stripeProcessor) confirm(ctx context.Context, key, id, method string) (_ string, err error) {
	if !strings.HasPrefix(method, "pm_") {
		if method, err = s.api.method(ctx, key, method); err != nil {
			return "", s.tokenDeclined(ctx, err)
		}
	}
	i, replayed, err := s.api.confirm(ctx, key, id, method)
	if err == nil && replayed {
		i, err = s.api.intent(ctx, id)
	}
	if refusedWith(err, http.StatusBadRequest) && asDecline(err) == err {
		// It can't be confirmed; perhaps because it was, or was given back.
		if now, lookErr := s.api.intent(ctx, id); lookErr == nil {
			if ref, decided, err := s.outcome(ctx, now); decided {
				return ref, err
			}
		}
	}
	if err != nil {
		return "", s.tokenDeclined(ctx, err)
	}
	ref, decided, err := s.outcome(ctx, i)
	if !decided {
		return "", fmt.Errorf("intent %s is %q after it was confirmed", id, i.Status)
	}
	return ref, err
}

// tokenDeclined is asDecline for a request in which only the token is the customer's:
// one that Stripe finds invalid without a code, such as a PaymentMethod that was used
// before, is refused for its token. Nothing was set aside.
func (s *stripeProcessor) tokenDeclined(ctx context.Context, err error) error {
	var e *stripeRefusal
	if declined := asDecline(err); declined != err || !errors.As(err, &e) ||
		e.status != http.StatusBadRequest || e.Type != stripe.ErrorTypeInvalidRequest {
		return declined
	}
	s.log.WarnContext(ctx, "a token is refused, as Stripe finds the request invalid", "err", err.Error())
	return stripeDecline(invalidToken)
}

// outcome returns what an intent's state means for its authorization, and false if
// nothing is decided yet.
func (s *stripeProcessor) outcome(ctx context.Context, i intent) (ref string, decided bool, err error) {
	switch i.Status {
	case stripe.PaymentIntentStatusRequiresCapture:
		return i.ID, true, nil
	case stripe.PaymentIntentStatusSucceeded:
		if i.refunded() {
			return "", true, stripeDecline(reasonChargeVoided)
		}
		return i.ID, true, nil
	case stripe.PaymentIntentStatusRequiresAction: // it must not be done when nobody waits for it
		if _, err := s.api.cancel(ctx, i.ID, stripe.PaymentIntentCancellationReasonAbandoned); err != nil {
			return "", true, err
		}
		return "", true, stripeDecline(authenticationRequired)
	case stripe.PaymentIntentStatusCanceled:
		if i.CancellationReason == stripe.PaymentIntentCancellationReasonAbandoned {
			return "", true, stripeDecline(authenticationRequired)
		}
		return "", true, stripeDecline(reasonChargeVoided)
	}
	if i.LastError != nil && i.Status == stripe.PaymentIntentStatusRequiresPaymentMethod {
		return "", true, stripeDecline(i.LastError.reason())
	}
	return "", false, nil
}

func (s *stripeProcessor) Capture(ctx context.Context, c Charge) error {
	id, err := s.ref(ctx, c)
	if err != nil {
		return err
	}
	i, err := s.api.capture(ctx, id)
	if err == nil && i.Status != stripe.PaymentIntentStatusSucceeded {
		return fmt.Errorf("intent %s is %q after its capture", id, i.Status)
	}
	if !refusedWith(err, http.StatusBadRequest, http.StatusPaymentRequired) {
		return err
	}
	return s.notCaptured(ctx, id, err)
}

// notCaptured says what it means that Stripe refused to capture the intent.
func (s *stripeProcessor) notCaptured(ctx context.Context, id string, refusal error) error {
	i, err := s.api.intent(ctx, id)
	if err != nil {
		return err
	}
	switch {
	case i.Status == stripe.PaymentIntentStatusSucceeded && !i.refunded():
		return nil // it was before
	case i.Status == stripe.PaymentIntentStatusSucceeded, i.Status == stripe.PaymentIntentStatusCanceled:
		return stripeDecline(reasonChargeVoided)
	}
	if declined := asDecline(refusal); i.Status == stripe.PaymentIntentStatusRequiresCapture && declined != refusal {
		if _, err := s.api.cancel(ctx, id, ""); err != nil { // nobody would give back what is left set aside
			return err
		}
		return declined
	}
	return refusal
}

func (s *stripeProcessor) Void(ctx context.Context, ch Charge) error {
	c, err := s.book.void(ctx, ch.Key, ch.Ref, s.clock())
	if err != nil {
		return err
	}
	ids := []string{c.Intent}
	if c.Intent == "" { // nothing was confirmed, unless the book is a backup's
		if ids, err = s.lost(ctx, ch.Key); err != nil {
			return err
		}
	}
	for _, id := range ids {
		if err := s.giveBack(ctx, ch.Key, id); err != nil {
			return err
		}
	}
	return nil
}

// lost returns the intents of a charge that the book does not know.
func (s *stripeProcessor) lost(ctx context.Context, key string) (ids []string, err error) {
	found, err := s.api.search(ctx, key)
	for _, i := range found {
		ids = append(ids, i.ID)
	}
	return ids, err
}

// giveBack ends an intent, whatever has come of it.
func (s *stripeProcessor) giveBack(ctx context.Context, key, id string) error {
	_, refusal := s.api.cancel(ctx, id, "")
	if !refusedWith(refusal, http.StatusBadRequest) {
		return refusal
	}
	i, err := s.api.intent(ctx, id)
	switch {
	case err != nil:
		return err
	case i.Status == stripe.PaymentIntentStatusCanceled, i.refunded():
		return nil
	case i.Status == stripe.PaymentIntentStatusSucceeded:
		return s.Refund(ctx, Charge{Key: key, Ref: id})
	}
	return refusal
}

func (s *stripeProcessor) Refund(ctx context.Context, c Charge) error {
	id, err := s.ref(ctx, c)
	if err != nil {
		return err
	}
	refusal := s.api.refund(ctx, c.Key, id)
	if !refusedWith(refusal, http.StatusBadRequest) {
		return refusal
	}
	i, err := s.api.intent(ctx, id)
	if err == nil && !i.refunded() {
		err = refusal
	}
	return err
}

// ref returns the intent of a charge.
func (s *stripeProcessor) ref(ctx context.Context, ch Charge) (string, error) {
	if ch.Ref != "" {
		return ch.Ref, nil
	}
	c, _, err := s.book.charge(ctx, ch.Key)
	if err == nil && c.Intent == "" {
		err = errors.New("charge " + ch.Key + " has no intent at Stripe")
	}
	return c.Intent, err
}
