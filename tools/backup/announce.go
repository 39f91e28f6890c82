package main

import (
	"context"
	"database/sql"
	"strconv"
	"time"

	"github.com/google/uuid"
	moneypb "google.golang.org/genproto/googleapis/type/money"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	inventorypb "github.com/meshmart/meshmart/proto/inventory/v1"
	orderpb "github.com/meshmart/meshmart/proto/order/v1"
	paymentpb "github.com/meshmart/meshmart/proto/payment/v1"
	productpb "github.com/meshmart/meshmart/proto/product/v1"
)

// announce puts an event into the outbox of the service whose it is, which
// publishes it when it runs again.
func (m *mending) announce(ctx context.Context, subject, id string) error {
	var msg proto.Message
	var err error
	tx := m.payment
	switch subject {
	case "order.confirmed", "order.cancelling":
		tx = m.order
		var o *orderpb.Order
		o, err = m.readOrder(ctx, id)
		if msg = (&orderpb.OrderConfirmed{Order: o}); subject == "order.cancelling" {
			msg = &orderpb.OrderCancelling{Order: o}
		}
	case "stock.committed":
		tx = m.inventory
		msg, err = m.readCommitted(ctx, id)
	case "payment.captured", "payment.declined":
		var p *paymentpb.Payment
		p, err = m.readPayment(ctx, id)
		if msg = (&paymentpb.PaymentCaptured{Payment: p}); subject == "payment.declined" {
			msg = &paymentpb.PaymentDeclined{Payment: p}
		}
	}
	if err != nil {
		return err
	}
	return m.add(ctx, tx, subject, msg)
}

// add writes what the services' outbox writes.
func (m *mending) add(ctx context.Context, tx *sql.Tx, subject string, msg proto.Message) error {
	payload, err := proto.Marshal(msg)
	if err != nil {
		return err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return err
	}
	return one(tx.ExecContext(ctx, `INSERT INTO outbox (id, subject, payload, headers, create_time) VALUES ($1, $2, $3, '{}', $4)`,
		id.String(), subject, payload, m.now.UnixMicro()))
}

func (m *mending) readOrder(ctx context.Context, id string) (*orderpb.Order, error) {
	o := &orderpb.Order{Id: id}
	var state, currency string
	var total, created, updated int64
	err := m.order.QueryRowContext(ctx, `SELECT user_id, state, reason, message, currency, total, payment_id, version, create_time, update_time
		FROM orders WHERE id = $1`, id).
		Scan(&o.UserId, &state, &o.Reason, &o.Message, &currency, &total, &o.PaymentId, &o.Version, &created, &updated)
	if err != nil {
		return nil, err
	}
	o.State = orderpb.Order_State(orderpb.Order_State_value[state])
	o.Total, o.Etag = money(currency, total), strconv.FormatInt(o.Version, 10)
	o.CreateTime, o.UpdateTime = instant(created), instant(updated)
	err = each(ctx, m.order, `SELECT product_id, sku, name, quantity, unit_price FROM order_items WHERE order_id = $1 ORDER BY position`, func(scan scanner) error {
		i := &orderpb.LineItem{}
		var price int64
		err := scan(&i.ProductId, &i.Sku, &i.Name, &i.Quantity, &price)
		i.UnitPrice = money(currency, price)
		o.Items = append(o.Items, i)
		return err
	}, id)
	return o, err
}

func (m *mending) readCommitted(ctx context.Context, id string) (proto.Message, error) {
	c := &inventorypb.StockCommitted{OrderId: id}
	err := each(ctx, m.inventory, `SELECT product_id, quantity FROM reservation_items WHERE order_id = $1`, func(scan scanner) error {
		i := &inventorypb.Item{}
		err := scan(&i.ProductId, &i.Quantity)
		c.Items = append(c.Items, i)
		return err
	}, id)
	return c, err
}

func (m *mending) readPayment(ctx context.Context, order string) (*paymentpb.Payment, error) {
	p := &paymentpb.Payment{OrderId: order}
	var state, currency string
	var amount, version, created, updated int64
	err := m.payment.QueryRowContext(ctx, `SELECT id, user_id, state, currency, amount, reason, message, processor_ref, version, create_time, update_time
		FROM payments WHERE order_id = $1`, order).
		Scan(&p.Id, &p.UserId, &state, &currency, &amount, &p.Reason, &p.Message, &p.ProcessorRef, &version, &created, &updated)
	p.State = paymentpb.Payment_State(paymentpb.Payment_State_value[state])
	p.Amount, p.Etag = money(currency, amount), strconv.FormatInt(version, 10)
	p.CreateTime, p.UpdateTime = instant(created), instant(updated)
	return p, err
}

// catalog announces again what the inventory has not heard of products. How many
// there were to begin with only the lost event knew: somebody has to count them.
func (m *mending) catalog(ctx context.Context) error {
	sold := map[string]bool{} // false: discontinued
	err := each(ctx, m.inventory, `SELECT product_id, discontinued FROM stock`, func(scan scanner) error {
		var id string
		var discontinued bool
		err := scan(&id, &discontinued)
		sold[id] = !discontinued
		return err
	})
	if err != nil {
		return err
	}
	lost := map[string][]proto.Message{}
	err = each(ctx, m.product, `SELECT id, sku, name, description, category, price_currency, price_micros, image, version, create_time, update_time,
			delete_time IS NOT NULL FROM products`, func(scan scanner) error {
		p := &productpb.Product{}
		var currency string
		var price, version, created, updated int64
		var deleted bool
		err := scan(&p.Id, &p.Sku, &p.Name, &p.Description, &p.Category, &currency, &price, &p.Image, &version, &created, &updated, &deleted)
		p.Price, p.Etag = money(currency, price), strconv.FormatInt(version, 10)
		p.CreateTime, p.UpdateTime = instant(created), instant(updated)
		onSale, known := sold[p.Id]
		switch {
		case !deleted && !known:
			m.say("product %s (%s) is new to the inventory: set its stock", p.Sku, p.Id)
			lost["product.created"] = append(lost["product.created"], &productpb.ProductCreated{Product: p})
		case deleted && onSale:
			lost["product.deleted"] = append(lost["product.deleted"], &productpb.ProductDeleted{Product: p})
		}
		return err
	})
	for subject, all := range lost {
		for _, msg := range all {
			if err := m.add(ctx, m.product, subject, msg); err != nil {
				return err
			}
			m.counts["events: "+subject]++
		}
	}
	return err
}

// money is an amount as contracts have it, of one in micros.
func money(currency string, micros int64) *moneypb.Money {
	return &moneypb.Money{CurrencyCode: currency, Units: micros / 1e6, Nanos: int32(micros % 1e6 * 1000)}
}

func instant(micros int64) *timestamppb.Timestamp { return timestamppb.New(time.UnixMicro(micros)) }
