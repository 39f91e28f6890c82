package payment

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/meshmart/meshmart/services/internal/fault"
	"github.com/meshmart/meshmart/services/internal/idem"
	"github.com/meshmart/meshmart/services/internal/money"
)

// AuthorizeRequest asks for an amount to be set aside.
type AuthorizeRequest struct {
	OrderID string
	UserID  string
	Amount  money.Amount
	Token   string // never stored, never logged
}

// Authorize has the amount set aside and returns the payment, AUTHORIZED or
// DECLINED. A repetition returns what came of it; if the processor's answer was
// lost it is asked again, with the same key. Repetitions at once may all ask:
// the key makes it one charge, and the first to record the answer wins.
func (s *Payments) Authorize(ctx context.Context, req AuthorizeRequest) (Payment, error) {
	if out := s.processor.ready(ctx); out != nil {
		p, found, err := s.store.byOrder(ctx, req.OrderID)
		if err != nil {
			return Payment{}, err
		}
		if found && p.State != pending {
			return s.decided(ctx, p, req)
		}
		return Payment{}, out
	}
	p, err := s.open(ctx, req)
	if err != nil {
		return Payment{}, err
	}
	if p.State != pending { // it came before, or somebody else was faster
		return s.decided(ctx, p, req)
	}
	if err := suits(p, req); err != nil {
		return p, err
	}
	if p, err = s.ask(ctx, p, req.Token); err != nil {
		return Payment{}, err
	}
	return p, suits(p, req) // it may have been voided meanwhile
}

// decided answers a repetition.
func (s *Payments) decided(ctx context.Context, p Payment, req AuthorizeRequest) (Payment, error) {
	err := suits(p, req)
	if err == nil {
		idem.Replayed(ctx)
	}
	return p, err
}

// open records that the processor is going to be asked, or returns the payment
// that the order has already.
func (s *Payments) open(ctx context.Context, req AuthorizeRequest) (Payment, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return Payment{}, fmt.Errorf("id of a payment: %w", err)
	}
	now := s.clock()
	p, _, err := s.store.add(ctx, Payment{
		ID: id.String(), OrderID: req.OrderID, UserID: req.UserID, State: pending, Amount: req.Amount,
		Version: 1, Created: now, Updated: now,
	})
	return p, err
}

// ask asks the processor and records the answer.
func (s *Payments) ask(ctx context.Context, p Payment, token string) (Payment, error) {
	ref, err := s.processor.Authorize(ctx, AuthorizeInput{Key: p.ID, OrderID: p.OrderID, Amount: p.Amount, Token: token})
	var d *Decline
	switch {
	case errors.As(err, &d):
		return s.settle(ctx, p, result{state: declined, decline: *d})
	case err != nil:
		return Payment{}, fmt.Errorf("%w: authorize payment %s: %w", noAnswer(), p.ID, err)
	}
	return s.settle(ctx, p, result{state: authorized, ref: ref})
}

// suits returns nil if the payment can be the answer to the request.
func suits(p Payment, req AuthorizeRequest) error {
	switch p.State {
	case voiding, voided, refunding, refunded:
		return fault.Refused(reasonVoided, "the payment of order %s was given back", p.OrderID).With("order_id", p.OrderID)
	}
	var wrong []fault.Violation
	if p.UserID != req.UserID {
		wrong = append(wrong, fault.Violation{Field: "user_id", Reason: reasonReused, Text: "somebody else pays for this order"})
	}
	if p.Amount != req.Amount {
		wrong = append(wrong, fault.Violation{Field: "amount", Reason: reasonReused, Text: "this order has a payment of another amount"})
	}
	if wrong != nil {
		return fault.Violations(wrong...)
	}
	return nil
}
