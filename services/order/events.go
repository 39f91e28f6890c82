package order

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/proto"

	inventorypb "github.com/meshmart/meshmart/proto/inventory/v1"
	orderpb "github.com/meshmart/meshmart/proto/order/v1"
	paymentpb "github.com/meshmart/meshmart/proto/payment/v1"
	"github.com/meshmart/meshmart/services/internal/db"
	"github.com/meshmart/meshmart/services/internal/events"
)

// announcer returns what writes the event of an order's state to the outbox.
func announcer(out *events.Outbox) func(context.Context, *store, Order) error {
	return func(ctx context.Context, tx *store, o Order) error {
		subject, m := announcement(o)
		return out.Add(ctx, tx.db, subject, m)
	}
}

func announcement(o Order) (subject string, m proto.Message) {
	switch o.State {
	case Pending:
		return "order.created", &orderpb.OrderCreated{Order: o.proto()}
	case Confirmed:
		return "order.confirmed", &orderpb.OrderConfirmed{Order: o.proto()}
	case Completed:
		return "order.completed", &orderpb.OrderCompleted{Order: o.proto()}
	case Rejected:
		return "order.rejected", &orderpb.OrderRejected{Order: o.proto()}
	case Cancelling:
		return "order.cancelling", &orderpb.OrderCancelling{Order: o.proto()}
	default:
		return "order.cancelled", &orderpb.OrderCancelled{Order: o.proto()}
	}
}

// consumer is what the service listens to. Other services announce what has
// become of a confirmed order.
func consumer(s *Orders, d *db.DB) events.Consumer {
	return events.Consumer{
		Name:     "order",
		Subjects: []string{"payment.captured", "payment.declined", "stock.committed"},
		DB:       d,
		Handle: func(ctx context.Context, tx *db.DB, e events.Event) error {
			return s.heard(ctx, &store{tx}, e)
		},
		Key: orderOf,
	}
}

// orderOf returns which order an event is about: no other is touched for it.
func orderOf(e events.Event) string {
	var err error
	var id string
	switch e.Subject {
	case "stock.committed":
		m := &inventorypb.StockCommitted{}
		err = e.Unmarshal(m)
		id = m.GetOrderId()
	default: // both messages have the payment in the same field
		m := &paymentpb.PaymentCaptured{}
		err = e.Unmarshal(m)
		id = m.GetPayment().GetOrderId()
	}
	if err != nil {
		return ""
	}
	return id
}

func (s *Orders) heard(ctx context.Context, tx *store, e events.Event) error {
	switch e.Subject {
	case "stock.committed":
		m := &inventorypb.StockCommitted{}
		if err := e.Unmarshal(m); err != nil {
			return err
		}
		return s.noteCommitted(ctx, tx, m.GetOrderId())
	case "payment.captured":
		m := &paymentpb.PaymentCaptured{}
		if err := e.Unmarshal(m); err != nil {
			return err
		}
		return s.noteCaptured(ctx, tx, m.GetPayment().GetOrderId())
	case "payment.declined":
		m := &paymentpb.PaymentDeclined{}
		if err := e.Unmarshal(m); err != nil {
			return err
		}
		return s.captureRefused(ctx, tx, m.GetPayment().GetOrderId(), m.GetPayment().GetMessage())
	}
	return fmt.Errorf("%w: nobody handles %s", events.ErrMalformed, e.Subject)
}

// changed is what wakes the watchers of orders that another replica changes. An
// order that was created is left out: nobody can wait for it before.
func changed() events.Tail {
	return events.Tail{Name: "watchers", Subjects: []string{
		"order.confirmed", "order.completed", "order.rejected", "order.cancelling", "order.cancelled",
	}}
}

// wakeOn wakes those who wait for the order of the event.
func (h *hub) wakeOn(_ context.Context, e events.Event) error {
	m := &orderpb.OrderConfirmed{} // all the messages have the order in the same field
	if err := e.Unmarshal(m); err == nil {
		h.wake(m.GetOrder().GetId(), Order{Version: m.GetOrder().GetVersion()})
	}
	return nil // one that can't be read must not end the tail
}
