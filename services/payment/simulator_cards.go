package payment

import "strings"

// card is what becomes of a charge to a test card. The zero card is charged.
type card struct {
	decline        string // with which the authorization is declined
	captureDecline string // with which the capture is
}

// The reasons of declines, as Stripe's decline codes but in capitals.
const (
	cardDeclined = "CARD_DECLINED"
	invalidToken = "INVALID_TOKEN"
)

// sentence returns a reason in a sentence for people.
func sentence(reason string) string {
	switch reason {
	case "INSUFFICIENT_FUNDS":
		return "The card has insufficient funds."
	case "LOST_CARD", "STOLEN_CARD": // issuers ask not to tell the customer more
		return "The card was declined; contact your card issuer."
	case "EXPIRED_CARD":
		return "The card has expired."
	case "INCORRECT_CVC":
		return "The card's security code is incorrect."
	case "PROCESSING_ERROR":
		return "An error occurred while the card was processed; try again, or another card."
	case "FRAUDULENT":
		return "The payment was blocked because it looks fraudulent."
	case "CARD_VELOCITY_EXCEEDED":
		return "The card has exceeded its limit."
	case "AUTHENTICATION_REQUIRED":
		return "The card needs an authentication by its holder, which this shop can't do."
	case invalidToken:
		return "The payment token is not one of the test cards."
	case reasonChargeVoided:
		return "The authorization is not valid any more."
	}
	return "The card was declined."
}

// testCards returns Stripe's test cards (https://docs.stripe.com/testing), by
// the names that tok_NAME and pm_card_NAME have in common.
func testCards() map[string]card {
	cards := map[string]card{
		"chargeDeclined":                      {decline: cardDeclined},
		"chargeDeclinedInsufficientFunds":     {decline: "INSUFFICIENT_FUNDS"},
		"chargeDeclinedLostCard":              {decline: "LOST_CARD"},
		"chargeDeclinedStolenCard":            {decline: "STOLEN_CARD"},
		"chargeDeclinedExpiredCard":           {decline: "EXPIRED_CARD"},
		"chargeDeclinedIncorrectCvc":          {decline: "INCORRECT_CVC"},
		"chargeDeclinedProcessingError":       {decline: "PROCESSING_ERROR"},
		"chargeDeclinedFraudulent":            {decline: "FRAUDULENT"},
		"chargeDeclinedVelocityLimitExceeded": {decline: "CARD_VELOCITY_EXCEEDED"},
		"cvcCheckFail":                        {decline: "INCORRECT_CVC"},
		"radarBlock":                          {decline: "FRAUDULENT"},
		"riskLevelHighest":                    {decline: "FRAUDULENT"},
		"authenticationRequired":              {decline: "AUTHENTICATION_REQUIRED"},
		"threeDSecureRequired":                {decline: "AUTHENTICATION_REQUIRED"},
		"threeDSecure2Required":               {decline: "AUTHENTICATION_REQUIRED"},
		"threeDSecureRequiredChargeDeclined":  {decline: cardDeclined},
		// The card can be kept, and fails when it is charged.
		"chargeCustomerFail":         {captureDecline: cardDeclined},
		"chargeCustomerFailLostCard": {captureDecline: "LOST_CARD"},
	}
	// Brands; cards that Stripe marks in some way, and charges (that a dispute or
	// a failed refund follows is not simulated); countries.
	const charged = `
		visa visa_debit mastercard mastercard_debit mastercard_prepaid amex discover diners jcb unionpay
		visa_cartesBancaires mastercard_cartesBancaires
		avsFail avsLine1Fail avsZipFail avsUnchecked riskLevelElevated threeDSecureOptional
		bypassPending domesticPricing createDispute createDisputeProductNotReceived createDisputeInquiry
		createIssuerFraudRecord refundFail pendingRefund
		us ar br ca cl co cr ec mx pa pe py uy
		ae at be bg by ch cy cz de dk ee es fi fr gb gb_debit gi gr hr hu ie it li lt lu lv mt nl no pl pt ro sa se si sk
		au cn hk in jp my nz sg th_credit th_debit tw`
	for name := range strings.FieldsSeq(charged) {
		cards[name] = card{}
	}
	return cards
}

// cardOf returns the card of a token; one that is not known is declined.
func cardOf(cards map[string]card, token string) card {
	name := token
	for _, prefix := range []string{"tok_card_", "pm_card_", "tok_"} {
		if rest, ok := strings.CutPrefix(token, prefix); ok {
			name = rest
			break
		}
	}
	if rest, ok := strings.CutPrefix(name, "visa_"); ok && strings.HasPrefix(rest, "charge") {
		name = rest // Stripe writes some of them with the brand
	}
	if c, ok := cards[name]; ok && name != token {
		return c
	}
	return card{decline: invalidToken}
}
