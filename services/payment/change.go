package payment

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"

	"github.com/meshmart/meshmart/services/internal/fault"
	"github.com/meshmart/meshmart/services/internal/idem"
	"github.com/meshmart/meshmart/services/internal/traceparent"
)

// Capture takes what was authorized for the order.
func (s *Payments) Capture(ctx context.Context, orderID string) (Payment, error) {
	p, err := s.known(ctx, orderID)
	if err != nil {
		return Payment{}, err
	}
	return s.lead(ctx, p, captured, toCaptured)
}

// Refund gives back what was captured for the order. A capture that is under
// way is finished first. Where nothing is captured, nor ever will be, there is
// nothing to do.
func (s *Payments) Refund(ctx context.Context, orderID string) (Payment, error) {
	p, err := s.known(ctx, orderID)
	if err != nil {
		return Payment{}, err
	}
	return s.lead(ctx, p, refunded, toRefunded)
}

func (s *Payments) known(ctx context.Context, orderID string) (Payment, error) {
	p, found, err := s.store.byOrder(ctx, orderID)
	if err == nil && !found {
		err = fault.NotFound("order %s has no payment", orderID).With("order_id", orderID)
	}
	return p, err
}

// Void gives back what was authorized for the order. If there is no payment it
// leaves a tombstone, which it returns: an authorization would come too late.
func (s *Payments) Void(ctx context.Context, orderID string) (Payment, error) {
	p, found, err := s.store.byOrder(ctx, orderID)
	if err == nil && !found {
		p, found, err = s.bury(ctx, orderID)
	}
	if err != nil {
		return Payment{}, err
	}
	if !found {
		return p, nil
	}
	return s.lead(ctx, p, voided, toVoided)
}

// bury records that the order must not have a payment, or returns the one that
// it got in this moment, and true.
func (s *Payments) bury(ctx context.Context, orderID string) (p Payment, had bool, err error) {
	id, err := uuid.NewV7()
	if err != nil {
		return Payment{}, false, fmt.Errorf("id of a payment: %w", err)
	}
	now := s.clock()
	p, added, err := s.store.add(ctx, Payment{
		ID: id.String(), OrderID: orderID, State: voided, Version: 1, Created: now, Updated: now,
	})
	return p, !added, err
}

// arrived is what a route returns at its end.
const arrived state = ""

// A route says in which change under way a payment must be next, or that it
// has arrived, or why it can't.

func toCaptured(p Payment) (state, error) {
	switch p.State {
	case authorized, capturing:
		return capturing, nil
	case captured:
		return arrived, nil
	case pending:
		return "", fault.Refused(reasonNotReady, "the payment of order %s is not authorized", p.OrderID)
	case declined:
		return "", fault.Refused(reasonDeclined, "the payment of order %s was declined: %s", p.OrderID, p.Message).With("reason", p.Reason)
	case refunding, refunded:
		return "", fault.Refused(reasonRefunded, "the payment of order %s was refunded", p.OrderID)
	}
	return "", fault.Refused(reasonVoided, "the payment of order %s was given back", p.OrderID)
}

func toVoided(p Payment) (state, error) {
	switch p.State {
	case pending, authorized, voiding:
		return voiding, nil
	case voided, declined:
		return arrived, nil
	}
	return "", fault.Refused(reasonCaptured, "the payment of order %s is captured; refund it", p.OrderID)
}

func toRefunded(p Payment) (state, error) {
	switch p.State {
	case capturing:
		return capturing, nil
	case captured, refunding:
		return refunding, nil
	case refunded, voided, declined:
		return arrived, nil
	}
	return "", fault.Refused(reasonNotCaptured, "the payment of order %s is not captured; void it", p.OrderID)
}

// lead takes the payment along a route to its goal. Others may move it at the
// same time: each step says what it found, and the route decides anew. Only the
// same request can have led a payment to the goal before.
func (s *Payments) lead(ctx context.Context, p Payment, goal state, route func(Payment) (state, error)) (Payment, error) {
	for acted := false; ; acted = true {
		to, err := route(p)
		if err == nil && to == arrived && !acted && p.State == goal {
			idem.Replayed(ctx)
		}
		if err != nil || to == arrived {
			return p, err
		}
		if !acted {
			if err := s.processor.ready(ctx); err != nil {
				return Payment{}, err
			}
		}
		if p.State == to {
			p, err = s.finish(ctx, p)
		} else {
			p, err = s.store.begin(ctx, p, wish{to: to, due: s.clock().Add(s.lease), trace: traceparent.Save(ctx)})
		}
		if err != nil {
			return Payment{}, told(err, acted)
		}
	}
}

// told returns the error as the caller may learn it: once something was done,
// an outage of the database is not one before which nothing was.
func told(err error, acted bool) error {
	if acted && unavailable(err) {
		return fmt.Errorf("%w: %w", interrupted(), err)
	}
	return err
}

// wish is a change that is to begin.
type wish struct {
	to    state
	due   time.Time // when the worker sees to it, if nobody else has
	trace string
}

// result is how a change ended.
type result struct {
	state   state
	ref     string // if it is known only now
	decline Decline
}

// finish has the processor act on the change under way, and records the result.
// If the processor does not answer the worker will try again.
func (s *Payments) finish(ctx context.Context, p Payment) (Payment, error) {
	done, err := s.act(ctx, p)
	var d *Decline
	switch {
	case errors.As(err, &d) && p.State == capturing:
		return s.settle(ctx, p, result{state: declined, decline: *d})
	case err != nil:
		err = fmt.Errorf("%w: %s payment %s: %w", noAnswer(), p.State, p.ID, err)
		return Payment{}, errors.Join(err, s.postpone(ctx, p))
	}
	return s.settle(ctx, p, result{state: done})
}

// act asks the processor for what the payment's state says, and returns the
// state that this leads to.
func (s *Payments) act(ctx context.Context, p Payment) (done state, err error) {
	c := Charge{Key: p.ID, Ref: p.ProcessorRef}
	switch p.State {
	case capturing:
		return captured, s.processor.Capture(ctx, c)
	case voiding:
		return voided, s.processor.Void(ctx, c)
	case refunding:
		return refunded, s.processor.Refund(ctx, c)
	}
	return p.State, fmt.Errorf("no change is under way in %s", p.State)
}

// settle records the result, unless somebody else has recorded one, and
// returns the payment as it is then.
func (s *Payments) settle(ctx context.Context, p Payment, r result) (Payment, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	var now Payment
	var ok bool
	err := s.store.of(p.OrderID).inTx(ctx, func(tx *store) (err error) {
		if now, ok, err = tx.settle(ctx, p, r, s.clock()); err != nil || !ok {
			return err
		}
		if err := s.enter(ctx, tx, now); err != nil {
			return err
		}
		return s.events.announce(ctx, tx, now)
	})
	if err != nil {
		return Payment{}, told(fmt.Errorf("settle payment %s as %s: %w", p.ID, r.state, err), true)
	}
	if ok {
		s.count(ctx, now)
	}
	return now, nil
}

// entryOf returns the kind of the movement of money that led to the payment's
// state, or "". What is voided without an answer from the processor was never
// entered.
func entryOf(p Payment) string {
	if p.ProcessorRef == "" {
		return ""
	}
	return map[state]string{authorized: "AUTHORIZE", captured: "CAPTURE", voided: "VOID", refunded: "REFUND"}[p.State]
}

// enter writes the movement of money into the ledger, if there was one.
func (s *Payments) enter(ctx context.Context, tx *store, p Payment) error {
	kind := entryOf(p)
	if kind == "" {
		return nil
	}
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("id of an entry: %w", err)
	}
	return tx.enter(ctx, id.String(), p, kind)
}

// The pauses between two attempts of the worker at one payment.
const (
	firstPause = 100 * time.Millisecond
	maxPause   = 5 * time.Second
)

// postpone gives the change back to the worker, to try again in a while.
func (s *Payments) postpone(ctx context.Context, p Payment) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	pause := min(firstPause<<min(p.attempts, 10), maxPause)
	pause += rand.N(pause / 2) // so that what failed together is not tried together
	if err := s.store.postpone(ctx, p, s.clock().Add(pause)); err != nil {
		return err
	}
	s.wake()
	return nil
}
