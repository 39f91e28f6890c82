package payment

import (
	"context"

	"github.com/meshmart/meshmart/services/internal/money"
)

// Processor moves money on cards. Each call may be repeated, also at once: with
// the same key it acts once and answers alike. An error that is a *Decline is
// an answer; after any other it is unknown whether the processor has acted.
type Processor interface {
	// Authorize sets the amount aside and returns what the processor knows the
	// charge by.
	Authorize(ctx context.Context, in AuthorizeInput) (ref string, err error)
	// Capture takes what was set aside.
	Capture(ctx context.Context, c Charge) error
	// Void gives back what was set aside, and also what was taken since: a shop that
	// was restored from a backup does not know that. Afterwards, and if there was
	// nothing, the key can't be authorized any more.
	Void(ctx context.Context, c Charge) error
	// Refund gives back what was taken.
	Refund(ctx context.Context, c Charge) error
}

// AuthorizeInput is what is to be set aside.
type AuthorizeInput struct {
	Key     string // of this charge: the same in every repetition
	OrderID string // for people who look at the charge
	Amount  money.Amount
	Token   string // what the processor knows the card by; a secret
}

// Charge is what was authorized. An adapter to a processor that wants a key for
// each request can derive it from this one and the operation.
type Charge struct {
	Key string // of AuthorizeInput
	Ref string // "" if the answer to Authorize never came
}

// Decline is a refusal by the processor.
type Decline struct {
	Reason  string // such as INSUFFICIENT_FUNDS
	Message string // for people
}

func (d *Decline) Error() string { return d.Reason + ": " + d.Message }
