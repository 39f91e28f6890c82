package inventory

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/proto"

	inventorypb "github.com/meshmart/meshmart/proto/inventory/v1"
	orderpb "github.com/meshmart/meshmart/proto/order/v1"
	productpb "github.com/meshmart/meshmart/proto/product/v1"
	"github.com/meshmart/meshmart/services/internal/db"
	"github.com/meshmart/meshmart/services/internal/events"
	"github.com/meshmart/meshmart/services/internal/fault"
)

// announcer writes what has happened into the outbox, in the transaction in
// which it happens.
type announcer struct {
	outbox *events.Outbox
}

// one announces what was done for an order.
func (a *announcer) one(ctx context.Context, tx *store, done verb, orderID string, items []Item) error {
	subject, m := announcement(done, orderID, items)
	return a.outbox.Add(ctx, tx.db, subject, m)
}

// all announces what was done for orders, in the order in which it was.
func (a *announcer) all(ctx context.Context, tx *store, all []news) error {
	some := make([]events.Announcement, len(all))
	for i, n := range all {
		subject, m := announcement(n.verb, n.orderID, n.items)
		some[i] = events.Announcement{Ctx: n.ctx, Subject: subject, Message: m}
	}
	return a.outbox.AddAll(ctx, tx.db, some)
}

func announcement(done verb, orderID string, items []Item) (subject string, m proto.Message) {
	switch done {
	case reserving:
		return "stock.reserved", &inventorypb.StockReserved{OrderId: orderID, Items: itemsProto(items)}
	case committing:
		return "stock.committed", &inventorypb.StockCommitted{OrderId: orderID, Items: itemsProto(items)}
	}
	return "stock.released", &inventorypb.StockReleased{OrderId: orderID, Items: itemsProto(items)}
}

func (a *announcer) changed(ctx context.Context, tx *store, s Stock) error {
	return a.outbox.Add(ctx, tx.db, "stock.changed", &inventorypb.StockChanged{Stock: s.proto()})
}

// heard are the events that the inventory acts upon. The order service releases
// by itself what a rejected or cancelled order had; hearing of it makes sure.
func heard() []string {
	return []string{"product.created", "product.deleted", "order.confirmed", "order.rejected", "order.cancelled"}
}

// listener acts on what other services announce. The events may come in any
// order: what the catalog said last of a product holds, and an order that is
// released stays so. Several may be handled in one transaction: what they are about
// is gathered until its end, as rows must be locked in their order.
type listener struct {
	inv      *Inventory
	log      *slog.Logger
	products db.Gatherer[offer]
	orders   db.Gatherer[*change]
}

func newListener(inv *Inventory, log *slog.Logger) *listener {
	l := &listener{inv: inv, log: log}
	l.products.Flush, l.orders.Flush = l.offer, l.act
	return l
}

func (l *listener) handle(ctx context.Context, d *db.DB, e events.Event) error {
	tx := &store{d}
	switch e.Subject {
	case "product.created":
		return l.productCreated(ctx, tx, e)
	case "product.deleted":
		return l.productDeleted(ctx, tx, e)
	case "order.confirmed":
		return l.orderConfirmed(ctx, tx, e)
	case "order.rejected":
		m := &orderpb.OrderRejected{}
		if err := e.Unmarshal(m); err != nil {
			return err
		}
		return l.release(ctx, tx, e, m.GetOrder())
	case "order.cancelled":
		m := &orderpb.OrderCancelled{}
		if err := e.Unmarshal(m); err != nil {
			return err
		}
		return l.release(ctx, tx, e, m.GetOrder())
	}
	return fmt.Errorf("%w: %s was not asked for", events.ErrMalformed, e.Subject)
}

func (l *listener) productCreated(ctx context.Context, tx *store, e events.Event) error {
	m := &productpb.ProductCreated{}
	if err := e.Unmarshal(m); err != nil {
		return err
	}
	id, n := m.GetProduct().GetId(), int64(m.GetInitialStock())
	if id == "" || n < 0 || n > maxAvailable {
		return fmt.Errorf("%w: %s %s: product %q with %d to sell", events.ErrMalformed, e.Subject, e.ID, id, n)
	}
	return l.products.Add(ctx, tx.db, offer{id: id, on: true, initial: n, asOf: productTime(m.GetProduct())})
}

func (l *listener) productDeleted(ctx context.Context, tx *store, e events.Event) error {
	m := &productpb.ProductDeleted{}
	if err := e.Unmarshal(m); err != nil {
		return err
	}
	id := m.GetProduct().GetId()
	if id == "" {
		return fmt.Errorf("%w: %s %s has no product", events.ErrMalformed, e.Subject, e.ID)
	}
	return l.products.Add(ctx, tx.db, offer{id: id, asOf: productTime(m.GetProduct())})
}

// offer is what the catalog says of a product.
type offer struct {
	id      string
	on      bool  // it is sold
	initial int64 // how many there are, if it was not known
	asOf    time.Time
}

// offer stores what the catalog has said.
func (l *listener) offer(ctx context.Context, d *db.DB, all []offer) error {
	slices.SortStableFunc(all, func(a, b offer) int { return strings.Compare(a.id, b.id) })
	tx := &store{d}
	for _, o := range all {
		var err error
		if o.on {
			err = tx.add(ctx, o.id, o.initial, o.asOf, l.inv.clock())
		} else {
			err = tx.discontinue(ctx, o.id, o.asOf, l.inv.clock())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// productTime orders what is heard of one product: events may come in any
// order, and a product that was deleted may have been brought back.
func productTime(p *productpb.Product) time.Time {
	if !p.GetUpdateTime().IsValid() {
		return time.UnixMicro(0)
	}
	return p.GetUpdateTime().AsTime()
}

func (l *listener) orderConfirmed(ctx context.Context, tx *store, e events.Event) error {
	m := &orderpb.OrderConfirmed{}
	if err := e.Unmarshal(m); err != nil {
		return err
	}
	return l.orders.Add(ctx, tx.db, &change{ctx: ctx, verb: committing, orderID: m.GetOrder().GetId()})
}

func (l *listener) release(ctx context.Context, tx *store, e events.Event, o *orderpb.Order) error {
	if o.GetId() == "" {
		return fmt.Errorf("%w: %s %s has no order", events.ErrMalformed, e.Subject, e.ID)
	}
	return l.orders.Add(ctx, tx.db, &change{ctx: ctx, verb: releasing, orderID: o.GetId()})
}

// act does what the orders want that were heard of.
func (l *listener) act(ctx context.Context, d *db.DB, all []*change) error {
	tx := &store{d}
	if len(all) == 1 {
		c := all[0]
		return l.heed(c, l.inv.change(trace.ContextWithSpan(ctx, trace.SpanFromContext(c.ctx)), tx, c))
	}
	tx.impatient(ctx)
	if err := l.inv.settle(ctx, tx, all); err != nil {
		return err
	}
	for _, c := range all {
		if err := l.heed(c, c.tell()); err != nil {
			return err
		}
	}
	return nil
}

// heed returns the error that a change has failed with, if its event is to come again.
func (l *listener) heed(c *change, err error) error {
	if fault.Reason(err) != reasonOrderReleased {
		return err
	}
	l.log.InfoContext(c.ctx, "confirmed order has nothing reserved", "order", c.orderID) // it was cancelled meanwhile
	return nil
}

func itemsProto(items []Item) []*inventorypb.Item {
	all := make([]*inventorypb.Item, len(items))
	for i, it := range items {
		all[i] = &inventorypb.Item{ProductId: it.ProductID, Quantity: int32(it.Quantity)}
	}
	return all
}
