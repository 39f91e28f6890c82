package order

import (
	"context"
	"errors"
	"fmt"
)

// noteCommitted notes that the order's stock is sold, and noteCaptured that its
// payment is captured. When both are known, in whichever order they come, the
// order is COMPLETED. Both are for the transaction of the event that says so.

func (s *Orders) noteCommitted(ctx context.Context, tx *store, id string) error {
	return s.note(ctx, tx, id, progress{committed: true})
}

func (s *Orders) noteCaptured(ctx context.Context, tx *store, id string) error {
	return s.note(ctx, tx, id, progress{captured: true})
}

func (s *Orders) note(ctx context.Context, tx *store, id string, news progress) error {
	o, noted, err := tx.note(ctx, id, news, s.now())
	switch {
	case err != nil:
		return err
	case !noted:
		return s.unwanted(ctx, tx, id)
	case o.State != Completed:
		return nil
	}
	if o, err = tx.withItems(ctx, o); err != nil {
		return err
	}
	return s.publish(ctx, tx, o)
}

// complete has the others do what they would when they hear of the confirmation,
// and completes the order: for one that has waited in vain for the news. Who has
// done his part already answers as he did then. The goods come first: what can't
// be had is not paid.
func (s *Orders) complete(ctx context.Context, o Order) (Order, error) {
	err := s.stock.Commit(ctx, o.ID)
	if err == nil {
		err = s.payments.Capture(ctx, o.ID)
	}
	if r := refused(err); r != nil {
		return o.cancel(r.Reason, r.Message), nil
	}
	if err == nil {
		o.State, o.committed, o.captured = Completed, true, true
	}
	return o.at(stepDone), err
}

// unwanted says what becomes of news about an order that is not CONFIRMED. It
// comes too late for one that is on its way back: that will refund and release.
// It comes too early for a PENDING one, which only a repair by hand can do, or for
// one that has been decided this very moment: the event is delivered again.
func (s *Orders) unwanted(ctx context.Context, tx *store, id string) error {
	o, err := tx.order(ctx, id)
	if errors.Is(err, errUnknown) {
		s.log.WarnContext(ctx, "event of an order that is not known", "order", id)
		return nil
	}
	if err == nil && (o.State == Pending || o.State == Confirmed) {
		err = fmt.Errorf("order %s was not decided yet", id)
	}
	return err
}

// captureRefused takes a CONFIRMED order back whose payment could not be
// captured. A card that is declined earlier, when the payment is authorized, is
// the saga's own business.
func (s *Orders) captureRefused(ctx context.Context, tx *store, id, message string) error {
	o, err := tx.order(ctx, id)
	if errors.Is(err, errUnknown) || err == nil && o.State != Confirmed {
		return nil
	}
	if err != nil {
		return err
	}
	o = o.cancel(reasonPaymentFailed, message)
	o.due = s.now()
	if _, err := s.writeIn(ctx, tx, o); err != nil {
		return err
	}
	tx.afterCommit(s.wakeWorker)
	return nil
}
