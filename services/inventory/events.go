package inventory

import (
	"context"
	"fmt"
	"log/slog"
	"time"

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

func (a *announcer) reserved(ctx context.Context, tx *store, orderID string, items []Item) error {
	return a.outbox.Add(ctx, tx.db, "stock.reserved", &inventorypb.StockReserved{OrderId: orderID, Items: itemsProto(items)})
}

func (a *announcer) committed(ctx context.Context, tx *store, orderID string, items []Item) error {
	return a.outbox.Add(ctx, tx.db, "stock.committed", &inventorypb.StockCommitted{OrderId: orderID, Items: itemsProto(items)})
}

func (a *announcer) released(ctx context.Context, tx *store, orderID string, items []Item) error {
	return a.outbox.Add(ctx, tx.db, "stock.released", &inventorypb.StockReleased{OrderId: orderID, Items: itemsProto(items)})
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
// released stays so.
type listener struct {
	inv *Inventory
	log *slog.Logger
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
	return tx.add(ctx, id, n, productTime(m.GetProduct()), l.inv.clock())
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
	return tx.discontinue(ctx, id, productTime(m.GetProduct()), l.inv.clock())
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
	err := l.inv.commit(ctx, tx, m.GetOrder().GetId())
	if fault.Reason(err) == reasonOrderReleased { // it was cancelled meanwhile
		l.log.InfoContext(ctx, "confirmed order has nothing reserved", "order", m.GetOrder().GetId())
		return nil
	}
	return err
}

func (l *listener) release(ctx context.Context, tx *store, e events.Event, o *orderpb.Order) error {
	if o.GetId() == "" {
		return fmt.Errorf("%w: %s %s has no order", events.ErrMalformed, e.Subject, e.ID)
	}
	return l.inv.release(ctx, tx, o.GetId())
}

func itemsProto(items []Item) []*inventorypb.Item {
	all := make([]*inventorypb.Item, len(items))
	for i, it := range items {
		all[i] = &inventorypb.Item{ProductId: it.ProductID, Quantity: int32(it.Quantity)}
	}
	return all
}
