package payment

import (
	"context"
	"fmt"
	"log/slog"

	"google.golang.org/protobuf/proto"

	orderpb "github.com/meshmart/meshmart/proto/order/v1"
	paymentpb "github.com/meshmart/meshmart/proto/payment/v1"
	"github.com/meshmart/meshmart/services/internal/db"
	"github.com/meshmart/meshmart/services/internal/events"
	"github.com/meshmart/meshmart/services/internal/traceparent"
)

// announcer writes what has happened into the outbox, in the transaction in
// which it happens.
type announcer struct {
	outbox *events.Outbox
}

// announce tells the state that the payment has come to.
func (a *announcer) announce(ctx context.Context, tx *store, p Payment) error {
	var subject string
	var m proto.Message
	switch pb := p.proto(); p.State {
	case authorized:
		subject, m = "payment.authorized", &paymentpb.PaymentAuthorized{Payment: pb}
	case declined:
		subject, m = "payment.declined", &paymentpb.PaymentDeclined{Payment: pb}
	case captured:
		subject, m = "payment.captured", &paymentpb.PaymentCaptured{Payment: pb}
	case voided:
		subject, m = "payment.voided", &paymentpb.PaymentVoided{Payment: pb}
	case refunded:
		subject, m = "payment.refunded", &paymentpb.PaymentRefunded{Payment: pb}
	default:
		return fmt.Errorf("announce payment %s: nobody hears of %s", p.ID, p.State)
	}
	return a.outbox.Add(ctx, tx.db, subject, m)
}

// listener hears of orders. The captures are all that it has to do: what was
// authorized or captured for a rejected or cancelled order the order service
// itself gives back, before it says that the order is.
type listener struct {
	payments *Payments
	log      *slog.Logger
}

// orderOf returns whose payment an event is about: no other is touched for it.
func orderOf(e events.Event) string {
	m := &orderpb.OrderConfirmed{}
	if e.Unmarshal(m) != nil {
		return ""
	}
	return m.GetOrder().GetId()
}

func (l *listener) handle(ctx context.Context, d *db.DB, e events.Event) error {
	m := &orderpb.OrderConfirmed{}
	if err := e.Unmarshal(m); err != nil {
		return err
	}
	return l.confirmed(ctx, &store{d}, m.GetOrder().GetId())
}

// confirmed records that the payment is to be captured. The worker does it:
// the processor is never called inside a transaction.
func (l *listener) confirmed(ctx context.Context, tx *store, orderID string) error {
	due, begun := l.payments.hand()
	p, found, err := tx.beginCapture(ctx, orderID, wish{to: capturing, due: due, trace: traceparent.Save(ctx)})
	if err != nil {
		return err
	}
	if found {
		tx.db.AfterCommit(func() { begun(p) })
		return nil
	}
	if p, found, err = tx.byOrder(ctx, orderID); err != nil {
		return err
	}
	if !found {
		l.log.WarnContext(ctx, "confirmed order has no payment", "order", orderID)
		return nil
	}
	switch p.State {
	case pending, authorized: // the order was told AUTHORIZED, so this can't last
		return fmt.Errorf("payment of confirmed order %s is still %s", orderID, p.State)
	case capturing, captured:
	default: // it was cancelled meanwhile
		l.log.InfoContext(ctx, "payment of a confirmed order is not captured", "order", orderID, "state", string(p.State))
	}
	return nil
}
