package main

import (
	"context"
	"fmt"
	"time"

	orderpb "github.com/meshmart/meshmart/proto/order/v1"
	"github.com/meshmart/meshmart/tests/cluster/customer"
)

// Who the overlay makes the administrator.
const (
	adminEmail    = "admin@meshmart.local"
	adminPassword = "test-cluster"
	plenty        = 1_000_000
)

// story stocks what is sold, and has a customer buy, be declined and think again.
func (r *run) story(ctx context.Context) error {
	addr, done, err := forward(ctx, "svc/gateway", "8080")
	if err != nil {
		return err
	}
	defer done()
	products, err := stock(ctx, "http://"+addr)
	if err != nil {
		return err
	}
	c := customer.New("http://" + addr)
	defer c.Close()
	if err := c.Register(ctx); err != nil {
		return err
	}
	for _, s := range []struct {
		card   string
		cancel bool
		want   orderpb.Order_State
	}{
		{"tok_visa", false, orderpb.Order_COMPLETED},
		{"tok_chargeDeclined", false, orderpb.Order_REJECTED},
		{"tok_visa", true, orderpb.Order_CANCELLED},
	} {
		began := time.Now()
		got, err := buy(ctx, c, products[0], s.card, s.cancel)
		if err != nil {
			return err
		}
		if got != s.want {
			r.report.violated("story: an order with %s is %v, want %v", s.card, got, s.want)
		}
		r.report.Story = append(r.report.Story, fmt.Sprintf("%v after %v", got, time.Since(began).Round(10*time.Millisecond)))
	}
	r.say("story: orders are %v", r.report.Story)
	return nil
}

// stock has plenty of all products, as soon as the inventory has heard of them.
func stock(ctx context.Context, server string) (products []string, err error) {
	admin := customer.New(server)
	defer admin.Close()
	err = until(ctx, time.Second, func() error {
		if err := admin.SignIn(ctx, adminEmail, adminPassword); err != nil {
			return err
		}
		if products, err = admin.Products(ctx); err != nil {
			return err
		}
		if len(products) == 0 {
			return fmt.Errorf("the catalog is empty")
		}
		for _, p := range products {
			if err := admin.Stock(ctx, p, plenty); err != nil {
				return err
			}
		}
		return nil
	})
	return products, err
}

// buy places an order, cancels it if so wanted, and returns how it ends.
func buy(ctx context.Context, c *customer.Customer, product, card string, cancel bool) (orderpb.Order_State, error) {
	o, err := c.Order(ctx, product, card)
	if err != nil {
		return 0, err
	}
	if cancel {
		if err := c.Cancel(ctx, o.GetId()); err != nil {
			return 0, err
		}
	}
	err = until(ctx, 50*time.Millisecond, func() error {
		if o, err = c.Read(ctx, o.GetId()); err != nil {
			return err
		}
		switch o.GetState() {
		case orderpb.Order_COMPLETED, orderpb.Order_REJECTED, orderpb.Order_CANCELLED:
			return nil
		}
		return fmt.Errorf("order %s is %v", o.GetId(), o.GetState())
	})
	return o.GetState(), err
}
