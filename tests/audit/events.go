package audit

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"

	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	inventorypb "github.com/meshmart/meshmart/proto/inventory/v1"
	orderpb "github.com/meshmart/meshmart/proto/order/v1"
	paymentpb "github.com/meshmart/meshmart/proto/payment/v1"
)

// An announcement is what an event says of an order.
type announcement struct{ subject, order string }

// consumers are those that act on events, and on which.
func (b Books) consumers() []consumer {
	return []consumer{
		{b.Order, "order", []string{"payment.captured", "payment.declined", "stock.committed"}},
		{b.Payment, "payment", []string{"order.confirmed"}},
		{b.Inventory, "inventory", []string{"order.confirmed", "order.rejected", "order.cancelled", "product.created", "product.deleted"}},
	}
}

type consumer struct {
	db       *sql.DB
	name     string
	subjects []string
}

// checkEvents holds what was announced to what has happened, and what was
// applied to what was announced.
func (a *auditor) checkEvents(ctx context.Context, b Books) error {
	announced := map[announcement]string{} // the event's id
	bySubject := map[string][]string{}     // ids
	for _, stream := range []string{"ORDER", "PAYMENT", "STOCK", "PRODUCT"} {
		err := readStream(ctx, b.Broker, stream, func(m jetstream.Msg) error {
			id := m.Headers().Get(jetstream.MsgIDHeader)
			order, err := orderOf(m)
			if err != nil {
				return err
			}
			if order == "" {
				bySubject[m.Subject()] = append(bySubject[m.Subject()], id)
				return nil
			}
			a.sum.Events++
			at := announcement{m.Subject(), order}
			switch first, seen := announced[at]; {
			case !seen:
				announced[at] = id
				bySubject[m.Subject()] = append(bySubject[m.Subject()], id)
			case first == id:
				a.sum.Repeated++ // the inbox knows it
			default:
				a.violated("%s of order %s was announced twice, as %s and %s", m.Subject(), order, first, id)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	a.checkAnnounced(announced)
	for _, c := range b.consumers() {
		if err := a.checkApplied(ctx, c, bySubject); err != nil {
			return err
		}
	}
	return nil
}

// checkAnnounced: every change has its event, and every event its change.
func (a *auditor) checkAnnounced(announced map[announcement]string) {
	want := map[announcement]bool{}
	for id, o := range a.orders {
		for _, state := range o.history {
			want[announcement{orderSubjects[state], id}] = true
		}
	}
	for id, p := range a.payments {
		for _, kind := range p.ledger {
			want[announcement{movementSubjects[kind], id}] = true
		}
		switch {
		case p.state == "DECLINED":
			want[announcement{"payment.declined", id}] = true
		case p.state == "VOIDED" && !p.tombstone: // also what was never entered
			want[announcement{"payment.voided", id}] = true
		}
	}
	for id, r := range a.reservations {
		if len(r.items) == 0 {
			continue // it is only a mark
		}
		for _, subject := range stockSubjects[r.state] {
			want[announcement{subject, id}] = true
		}
	}
	for at := range want {
		if announced[at] == "" {
			a.violated("%s of order %s was never announced", at.subject, at.order)
		}
	}
	for at := range announced {
		if !want[at] {
			a.violated("%s of order %s was announced and did not happen", at.subject, at.order)
		}
	}
}

var orderSubjects = map[string]string{
	"PENDING": "order.created", "CONFIRMED": "order.confirmed", "COMPLETED": "order.completed",
	"REJECTED": "order.rejected", "CANCELLING": "order.cancelling", "CANCELLED": "order.cancelled",
}

var movementSubjects = map[string]string{
	"AUTHORIZE": "payment.authorized", "CAPTURE": "payment.captured", "VOID": "payment.voided", "REFUND": "payment.refunded",
}

// stockSubjects are the events of a reservation with items, by its state.
var stockSubjects = map[string][]string{
	"RESERVED":  {"stock.reserved"},
	"COMMITTED": {"stock.reserved", "stock.committed"},
	"RELEASED":  {"stock.reserved", "stock.released"},
	"RETURNED":  {"stock.reserved", "stock.committed", "stock.released"},
}

// checkApplied: each event that the consumer acts on is in its inbox, where it
// can be once only, and no other.
func (a *auditor) checkApplied(ctx context.Context, c consumer, bySubject map[string][]string) error {
	applied := map[string]bool{}
	err := each(ctx, c.db, `SELECT id FROM inbox WHERE consumer = '`+c.name+`'`, func(scan scanner) error {
		var id string
		err := scan(&id)
		applied[id] = true
		return err
	})
	if err != nil {
		return err
	}
	surplus := maps.Clone(applied)
	for _, subject := range c.subjects {
		for _, id := range bySubject[subject] {
			if !applied[id] {
				a.violated("the %s service has not applied %s %s", c.name, subject, id)
			}
			delete(surplus, id)
		}
	}
	for id := range surplus {
		a.violated("the %s service has applied an event %s that is in no stream", c.name, id)
	}
	return nil
}

// orderOf returns the order that an event is about, "" for none.
func orderOf(m jetstream.Msg) (string, error) {
	var msg interface {
		proto.Message
	}
	var id func() string
	switch subject := m.Subject(); {
	case orderEvent(subject):
		o := &orderpb.OrderConfirmed{} // all have the order in the same field
		msg, id = o, func() string { return o.GetOrder().GetId() }
	case subject == "stock.reserved" || subject == "stock.committed" || subject == "stock.released":
		s := &inventorypb.StockCommitted{} // likewise
		msg, id = s, s.GetOrderId
	case len(subject) > 8 && subject[:8] == "payment.":
		p := &paymentpb.PaymentCaptured{} // likewise
		msg, id = p, func() string { return p.GetPayment().GetOrderId() }
	default:
		return "", nil
	}
	if err := proto.Unmarshal(m.Data(), msg); err != nil {
		return "", fmt.Errorf("%s: %w", m.Subject(), err)
	}
	return id(), nil
}

func orderEvent(subject string) bool {
	for _, s := range orderSubjects {
		if s == subject {
			return true
		}
	}
	return false
}

// readStream calls fn with every message of a stream.
func readStream(ctx context.Context, js jetstream.JetStream, name string, fn func(jetstream.Msg) error) error {
	stream, err := js.Stream(ctx, name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("stream %s: %w", name, err)
	}
	left := stream.CachedInfo().State.Msgs
	if left == 0 {
		return nil
	}
	c, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{})
	if err != nil {
		return fmt.Errorf("read stream %s: %w", name, err)
	}
	messages, err := c.Messages()
	if err != nil {
		return fmt.Errorf("read stream %s: %w", name, err)
	}
	defer messages.Stop()
	for ; left > 0; left-- {
		m, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			return fmt.Errorf("read stream %s: %w", name, err)
		}
		if err := fn(m); err != nil {
			return err
		}
	}
	return nil
}
