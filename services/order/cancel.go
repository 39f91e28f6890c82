package order

import (
	"context"
	"errors"

	"github.com/meshmart/meshmart/services/internal/fault"
	"github.com/meshmart/meshmart/services/internal/idem"
)

// Cancel takes an order back, and returns it CANCELLED, or CANCELLING if ctx has
// too little time left. One that is not decided yet is turned back from where it
// is. A REJECTED order is refused; one that is cancelled already is returned.
func (s *Orders) Cancel(ctx context.Context, id, reason, message string) (Order, error) {
	woken, leave := s.hub.join(id)
	defer leave()
	o, err := s.turnBack(ctx, id, reason, message)
	if err != nil {
		return Order{}, err
	}
	return s.await(ctx, o, woken, func(o Order) bool { return o.State == Cancelled }), nil
}

// turnBack makes the order CANCELLING and starts to undo it, unless somebody
// else has.
func (s *Orders) turnBack(ctx context.Context, id, reason, message string) (Order, error) {
	for {
		o, err := s.store.order(ctx, id)
		if err != nil {
			return Order{}, err
		}
		switch o.State {
		case Rejected:
			return Order{}, fault.Refused("ORDER_REJECTED", "the order was rejected (%s): there is nothing to cancel", o.Reason)
		case Cancelling, Cancelled:
			idem.Replayed(ctx)
			return o, nil
		}
		next := o.cancel(reason, message)
		next.due = s.now().Add(lease)
		next, err = s.write(ctx, o, next)
		if errors.Is(err, errOvertaken) {
			continue // the saga has made a step, or the order was completed
		}
		if err != nil {
			return Order{}, err
		}
		s.start(ctx, next)
		return next, nil
	}
}
