// Package payment charges for orders, one payment for each.
//
// The processor that moves the money is elsewhere: it may have acted although
// its answer was lost. So every movement takes three steps. The wish is
// recorded, which excludes any other; then the processor acts, outside of any
// transaction, with a key that makes a repetition harmless; then the result is
// recorded, with the ledger and the event. Whatever stops in between is taken
// up again: an authorization by the caller, who alone has the card's token, and
// everything else by the worker of any replica.
package payment

import (
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/meshmart/meshmart/services/internal/fault"
	"github.com/meshmart/meshmart/services/internal/money"
)

// state is how far a payment has come. Those that end in -ing are of a change
// under way; the contract shows the state before it.
type state string

const (
	pending    state = "PENDING"
	authorized state = "AUTHORIZED"
	declined   state = "DECLINED"
	capturing  state = "CAPTURING"
	captured   state = "CAPTURED"
	voiding    state = "VOIDING"
	voided     state = "VOIDED"
	refunding  state = "REFUNDING"
	refunded   state = "REFUNDED"
)

// The reasons of faults that callers act upon.
const (
	reasonNoAnswer    = "PROCESSOR_UNAVAILABLE" // ask again
	reasonInterrupted = "INTERRUPTED"           // ask again
	reasonVoided      = "ORDER_VOIDED"
	reasonCaptured    = "CAPTURED"
	reasonNotCaptured = "NOT_CAPTURED"
	reasonNotReady    = "NOT_AUTHORIZED"
	reasonDeclined    = "DECLINED"
	reasonRefunded    = "REFUNDED"
	reasonReused      = "ORDER_ID_REUSED"
)

// Payment is the payment of one order.
type Payment struct {
	ID           string
	OrderID      string
	UserID       string // "": the order was voided before it had a payment
	State        state
	Amount       money.Amount
	Reason       string // of DECLINED, for machines
	Message      string // and for people
	ProcessorRef string // "" until the processor has answered
	Version      int64  // rises with every change that can be seen
	Created      time.Time
	Updated      time.Time

	attempts int64  // of the change under way that failed
	trace    string // that the change under way belongs to
}

// tombstone reports whether there never was a payment, only its refusal.
func (p Payment) tombstone() bool { return p.UserID == "" }

// Payments is the service's rules.
type Payments struct {
	store     *store
	events    *announcer
	processor *guard
	log       *slog.Logger
	clock     func() time.Time
	lease     time.Duration // how long a change under way is left to who does it
	wake      func()        // tells the worker that there may be work
	// hand returns when a change that is going to begin is due, and what hands it
	// to the worker once it has begun.
	hand  func() (due time.Time, begun func(Payment))
	moved metric.Float64Counter
}

// settleTimeout bounds the record of a result. It is made though the caller
// may be gone: the money has moved.
const settleTimeout = 3 * time.Second

// noAnswer is what the caller is told when the processor may have acted or not.
// It is no UNAVAILABLE, which would say that nothing was done.
func noAnswer() *fault.Error {
	return fault.Aborted(reasonNoAnswer, "the payment processor has not answered; ask again to learn the outcome")
}

func interrupted() *fault.Error {
	return fault.Aborted(reasonInterrupted, "the outcome could not be recorded; ask again")
}
