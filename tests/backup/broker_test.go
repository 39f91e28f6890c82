package backup

import (
	"fmt"
	"slices"
	"testing"

	moneypb "google.golang.org/genproto/googleapis/type/money"

	productpb "github.com/meshmart/meshmart/proto/product/v1"
	"github.com/meshmart/meshmart/tests/testbed"
)

// create adds a product of which there are seven.
func create(t *testing.T, admin *person, sku string) (id string) {
	t.Helper()
	in := &productpb.CreateProductRequest{InitialStock: 7, Product: &productpb.Product{
		Sku: sku, Name: "Tin", Category: "coffee", Price: &moneypb.Money{CurrencyCode: "EUR", Units: 9},
	}}
	out := &productpb.CreateProductResponse{}
	if _, err := admin.Call(t.Context(), productpb.ProductService_CreateProduct_FullMethodName, in, out); err != nil {
		t.Fatal(err)
	}
	return out.GetProduct().GetId()
}

// loseBroker loses the streams and nothing else, with events in them that were
// acknowledged to who published them and that nobody has handled. An outbox does
// not have them any more: reconcile announces them again.
func loseBroker(t *testing.T, s *containers) {
	m := &market{t: t, who: signIn(t, s, email, secret)}
	list := &productpb.ListProductsResponse{}
	if _, err := m.who.Call(t.Context(), productpb.ProductService_ListProducts_FullMethodName, &productpb.ListProductsRequest{PageSize: 1}, list); err != nil {
		t.Fatal(err)
	}
	m.products = []string{list.GetProducts()[0].GetId()}
	stop := m.sell()
	m.await(2 * buyers)
	s.end("order")
	stop()
	s.wantPublished()
	s.end(slices.DeleteFunc(slices.Clone(testbed.Services), func(name string) bool { return name == "order" })...)
	if err := s.bed.LoseBrokers(t.Context()); err != nil {
		t.Fatal(err)
	}
	deaf := s.deaf()
	if len(deaf) == 0 {
		t.Error("all orders have heard of their payments: the streams were lost too late for this test to show anything")
	}
	s.start()
	m.who = signIn(t, s, email, secret)
	wantSold(t, s, m)
	for _, id := range deaf {
		if got := m.who.state(t.Context(), id); got != "CONFIRMED" {
			t.Errorf("order %s is %s, and the event that would complete it was lost: docs/operations.md says otherwise", id, got)
		}
	}
	s.kill()
	tool(t, s, "reconcile")
	s.start()
	m.who = signIn(t, s, email, secret)
	wantBalance(t, s)
	for _, id := range deaf {
		if got := m.who.state(t.Context(), id); got != "COMPLETED" {
			t.Errorf("order %s waited for a lost event, and is %s after it was announced again", id, got)
		}
	}
}

// wantPublished waits until the payment and the inventory have nothing left to
// announce.
func (c *containers) wantPublished() {
	for _, service := range []string{"payment", "inventory"} {
		db := c.open(service)
		defer db.Close()
		within(c.t, "the outbox of "+service+" is empty", func() error {
			var n, due int
			err := db.QueryRowContext(c.t.Context(), `SELECT COUNT(*) FROM outbox`).Scan(&n)
			if err == nil && service == "payment" {
				err = db.QueryRowContext(c.t.Context(), `SELECT COUNT(*) FROM payments WHERE due_time IS NOT NULL`).Scan(&due)
			}
			if err == nil && n+due > 0 {
				err = fmt.Errorf("%d events, %d payments under way", n, due)
			}
			return err
		})
	}
}

// deaf returns the orders that have not heard that their payment is captured, when
// nobody is going to say so any more.
func (c *containers) deaf() (ids []string) {
	orders, payments := c.open("order"), c.open("payment")
	defer orders.Close()
	defer payments.Close()
	rows, err := orders.QueryContext(c.t.Context(), `SELECT id FROM orders WHERE state = 'CONFIRMED' AND NOT payment_captured`)
	c.must(err)
	defer rows.Close()
	for rows.Next() {
		var id, state string
		c.must(rows.Scan(&id))
		c.must(payments.QueryRowContext(c.t.Context(), `SELECT state FROM payments WHERE order_id = $1`, id).Scan(&state))
		if state == "CAPTURED" {
			ids = append(ids, id)
		}
	}
	c.must(rows.Err())
	return ids
}
