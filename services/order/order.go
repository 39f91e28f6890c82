// Package order takes orders and sees them through.
//
// An order is taken in (place.go), and decided by a saga (saga.go) that any
// replica can go on with (resume.go). It is completed by what other services
// announce (complete.go), may be cancelled until then and after (cancel.go),
// and can be watched all the way (watch.go).
package order

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshmart/meshmart/services/internal/fault"
	"github.com/meshmart/meshmart/services/internal/money"
)

// State is how far an order has come, as its owner sees it.
type State string

// The states, as order.v1 explains them.
const (
	Pending    State = "PENDING"
	Confirmed  State = "CONFIRMED"
	Completed  State = "COMPLETED"
	Rejected   State = "REJECTED"
	Cancelling State = "CANCELLING"
	Cancelled  State = "CANCELLED"
)

// Final reports whether the order stays so unless somebody cancels it.
func (s State) Final() bool { return s == Completed || s == Rejected || s == Cancelled }

// Order is what a user buys, and where its saga is.
type Order struct {
	ID              string // a UUIDv7
	UserID          string
	State           State
	Reason, Message string // why it is REJECTED, CANCELLING or CANCELLED; set while it is still on its way there
	Items           []Item
	Total           money.Amount
	PaymentID       string // "" until there is one
	Trace           string // of CreateOrder: a W3C traceparent, or ""
	Version         int64  // rises with every change of State, from 1
	CreateTime      time.Time
	UpdateTime      time.Time // of the last change of State

	progress
}

// Item is one product of an order, as it was when it was ordered.
type Item struct {
	ProductID, SKU, Name string
	Quantity             int32
	UnitPrice            money.Amount
}

// Change is a state that an order has reached.
type Change struct {
	Version int64
	State   State
	Reason  string
	Time    time.Time
}

// Product is what the catalog says of a product.
type Product struct {
	ID, SKU, Name string
	Price         money.Amount
}

// catalog tells prices.
type catalog interface {
	// Products returns the products in the order of the ids. One that is not
	// there is a fault INVALID_ARGUMENT.
	Products(ctx context.Context, ids []string) ([]Product, error)
}

// stock sets items aside. All calls may be repeated; after Release no Reserve
// of the same order succeeds, however late it arrives.
type stock interface {
	// Reserve takes all items or none; a *refusal says that it took none.
	Reserve(ctx context.Context, orderID string, items []Item) error
	// Release gives back what was reserved or sold, if anything was.
	Release(ctx context.Context, orderID string) error
	// Commit makes what was reserved sold; a *refusal says that it was released.
	Commit(ctx context.Context, orderID string) error
}

// payments charge. All calls may be repeated; after Void no Authorize of the
// same order succeeds, however late it arrives.
type payments interface {
	// Authorize sets the order's total aside and returns the payment's id. If
	// the card is declined that is a *refusal, and there may be an id as well.
	Authorize(ctx context.Context, o Order) (paymentID string, err error)
	// Void gives back what was set aside. If it was captured already, that is
	// a fault with the reason CAPTURED.
	Void(ctx context.Context, orderID string) error
	// Refund gives back what was captured.
	Refund(ctx context.Context, orderID string) error
	// Capture takes what was set aside. A *refusal says that it can't be had.
	Capture(ctx context.Context, orderID string) error
}

// Orders is the service's logic. All its fields but the last two are set by
// whoever makes one.
type Orders struct {
	store    *store
	catalog  catalog
	stock    stock
	payments payments
	// out reports whether a service is known to be out.
	out func(service string) bool
	// announce writes the event of the order's state to the outbox, in tx.
	announce func(ctx context.Context, tx *store, o Order) error
	hub      *hub
	clock    func() time.Time
	log      *slog.Logger
	tracer   trace.Tracer
	decided  metric.Int64Counter // orders that came to an end
	draining <-chan struct{}     // closed when watchers are to go elsewhere
	// decideWithin is how long an order waits for services that are out.
	decideWithin time.Duration
	nudge        chan struct{} // wakes the worker; has room for one

	running sync.WaitGroup // sagas in this process
	closing atomic.Bool    // sagas stop after the step they are at
}

// errOvertaken says that somebody else has written the order since it was read.
var errOvertaken = errors.New("the order was changed by somebody else")

// errUnknown says that there is no such order.
var errUnknown = fault.NotFound("there is no such order")

// write puts next in the place of o, and returns it as written. It fails with
// errOvertaken if the row is not the one that was read as o any more.
//
// A change of the state is written with its place in the order's history and
// its announcement, all three or none.
func (s *Orders) write(ctx context.Context, o, next Order) (Order, error) {
	if next.State == o.State {
		return s.store.of(next.ID).save(ctx, next)
	}
	ctx, span := s.span(ctx, next, next.State.verb())
	defer span.End()
	var written Order
	err := s.store.of(next.ID).inTx(ctx, func(tx *store) (err error) {
		written, err = s.writeIn(ctx, tx, next)
		return err
	})
	return written, noted(span, err)
}

// writeIn is write for a change of the state, inside of a transaction.
func (s *Orders) writeIn(ctx context.Context, tx *store, next Order) (Order, error) {
	next.Version++
	next.UpdateTime = s.now()
	next, err := tx.save(ctx, next)
	if err != nil {
		return Order{}, err
	}
	return next, s.publish(ctx, tx, next)
}

// publish adds the state that the order has reached to its history, announces
// it, counts it, and wakes who waits for it.
func (s *Orders) publish(ctx context.Context, tx *store, o Order) error {
	if err := tx.addChange(ctx, o); err != nil {
		return err
	}
	if err := s.announce(ctx, tx, o); err != nil {
		return err
	}
	tx.afterCommit(func() {
		s.count(ctx, o) // before anybody is told
		s.hub.wake(o.ID, o)
	})
	return nil
}

// now is the time as the database keeps it: to the microsecond.
func (s *Orders) now() time.Time { return s.clock().UTC().Truncate(time.Microsecond) }
