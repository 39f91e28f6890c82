package payment

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/stripe/stripe-go/v86"

	"github.com/meshmart/meshmart/services/internal/money"
)

// Reasons that are not among those of the test cards.
const (
	authenticationRequired = "AUTHENTICATION_REQUIRED"
	amountTooSmall         = "AMOUNT_TOO_SMALL"
	amountTooLarge         = "AMOUNT_TOO_LARGE"
)

func stripeDecline(reason string) *Decline {
	d := &Decline{Reason: reason, Message: sentence(reason)}
	switch reason {
	case invalidToken:
		d.Message = "The payment token is not valid."
	case amountTooSmall:
		d.Message = "The amount is too small to be paid by card."
	case amountTooLarge:
		d.Message = "The amount is too large to be paid by card."
	}
	return d
}

// asDecline returns the *Decline that an error of Stripe is, or the error. That
// the request was wrong in what the customer chose, the token or the amount, is a
// refusal too; it would never be anything else.
func asDecline(err error) error {
	var e *stripeRefusal
	switch {
	case !errors.As(err, &e):
		return err
	case e.status == http.StatusPaymentRequired && e.Type == stripe.ErrorTypeCard:
		return stripeDecline(e.reason())
	case e.status != http.StatusBadRequest && e.status != http.StatusNotFound:
		return err
	case e.Code == stripe.ErrorCodeAmountTooSmall:
		return stripeDecline(amountTooSmall)
	case e.Code == stripe.ErrorCodeAmountTooLarge:
		return stripeDecline(amountTooLarge)
	case e.Code == stripe.ErrorCodeChargeExpiredForCapture:
		return stripeDecline(reasonChargeVoided)
	case e.Code == stripe.ErrorCodeTokenAlreadyUsed,
		e.Code == stripe.ErrorCodeResourceMissing && (strings.HasPrefix(e.Param, "payment_method") || strings.Contains(e.Param, "token")):
		return stripeDecline(invalidToken)
	}
	return err
}

// reason returns why a card was declined, in the shop's words. Of the many reasons
// that banks have, those without a word here are a plain refusal.
func (e *stripeRefusal) reason() string {
	code := string(e.DeclineCode)
	if code == "" {
		code = string(e.Code)
	}
	switch code {
	case "insufficient_funds", "lost_card", "stolen_card", "expired_card", "incorrect_cvc", "processing_error",
		"fraudulent", "card_velocity_exceeded", "authentication_required":
		return strings.ToUpper(code)
	case "invalid_cvc":
		return "INCORRECT_CVC"
	case "withdrawal_count_limit_exceeded", "card_decline_rate_limit_exceeded":
		return "CARD_VELOCITY_EXCEEDED"
	case "merchant_blacklist":
		return "FRAUDULENT"
	case "try_again_later", "reenter_transaction", "issuer_not_available":
		return "PROCESSING_ERROR"
	case "authentication_not_handled", "payment_intent_authentication_failure", "mobile_device_authentication_required":
		return authenticationRequired
	case "token_already_used":
		return invalidToken
	}
	return cardDeclined
}

// isStripeToken reports whether a token can be what a customer's browser got from
// Stripe for a card: a PaymentMethod, or a token of the older kind.
func isStripeToken(token string) bool {
	return strings.HasPrefix(token, "pm_") || strings.HasPrefix(token, "tok_")
}

// stripeAmount returns the amount in what Stripe counts a currency in
// (https://docs.stripe.com/currencies). An amount that is no whole number of them
// can't be charged.
func stripeAmount(a money.Amount) (int64, error) {
	unit, least := int64(100), int64(1)
	switch a.Currency {
	case "BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA", "PYG", "RWF", "VND", "VUV", "XAF", "XOF", "XPF":
		unit = 1
	case "BHD", "JOD", "KWD", "OMR", "TND": // the last of three digits is 0
		unit, least = 1000, 10
	case "ISK", "UGX": // they have no decimals any more, but are counted as if
		least = 100
	}
	perUnit := int64(1_000_000) / unit
	if n := a.Micros / perUnit; a.Micros%perUnit == 0 && n%least == 0 {
		if n <= 0 {
			return 0, stripeDecline(amountTooSmall)
		}
		return n, nil
	}
	return 0, fmt.Errorf("%s is finer than Stripe counts", a)
}
