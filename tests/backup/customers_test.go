package backup

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	inventorypb "github.com/meshmart/meshmart/proto/inventory/v1"
	productpb "github.com/meshmart/meshmart/proto/product/v1"
	userpb "github.com/meshmart/meshmart/proto/user/v1"
	"github.com/meshmart/meshmart/tests/testbed"
)

const (
	buyers = 16 // who order at once
	email  = "ada@example.com"
	secret = "correct horse battery"
)

// market is a customer who orders in many windows at once.
type market struct {
	t        *testing.T
	who      *person
	products []string

	mu   sync.Mutex
	told []string // the orders that were answered
}

// openMarket registers the customer and stocks some products.
func openMarket(t *testing.T, s shop) *market {
	admin := signIn(t, s, testbed.AdminEmail, testbed.AdminPassword)
	in := &userpb.CreateUserRequest{Email: email, Password: secret, DisplayName: "Ada"}
	if _, err := admin.Call(t.Context(), userpb.UserService_CreateUser_FullMethodName, in, &userpb.CreateUserResponse{}); err != nil {
		t.Fatal(err)
	}
	m := &market{t: t, who: signIn(t, s, email, secret)}
	list := &productpb.ListProductsResponse{}
	if _, err := admin.Call(t.Context(), productpb.ProductService_ListProducts_FullMethodName, &productpb.ListProductsRequest{PageSize: 8}, list); err != nil {
		t.Fatal(err)
	}
	plenty := int32(1_000_000)
	for _, p := range list.GetProducts() {
		m.products = append(m.products, p.GetId())
		within(t, "stock", func() error {
			in := &inventorypb.SetStockRequest{ProductId: p.GetId(), Available: &plenty}
			_, err := admin.Call(t.Context(), inventorypb.InventoryService_SetStock_FullMethodName, in, &inventorypb.SetStockResponse{})
			return err
		})
	}
	return m
}

// sell has orders placed until stop is called, which returns when nobody waits for
// an answer any more. Some cards are declined, and some orders cancelled.
func (m *market) sell() (stop func()) {
	ctx, cancel := context.WithCancel(m.t.Context())
	var wg sync.WaitGroup
	for b := range buyers {
		wg.Go(func() {
			for i := b; ctx.Err() == nil; i += buyers {
				m.buy(ctx, i)
			}
		})
	}
	return func() { cancel(); wg.Wait() }
}

func (m *market) buy(ctx context.Context, i int) {
	card := "tok_visa"
	if i%11 == 0 {
		card = "tok_chargeDeclined"
	}
	o, err := m.who.Order(ctx, m.products[i%len(m.products)], card)
	if err != nil {
		time.Sleep(20 * time.Millisecond) // the shop may be gone
		return
	}
	if i%7 == 0 {
		_ = m.who.Cancel(ctx, o.GetId()) // a rejected one can't be
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.told = append(m.told, o.GetId())
}

// orders returns those that were answered.
func (m *market) orders() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.told[:len(m.told):len(m.told)]
}

// await waits until n more orders are answered.
func (m *market) await(n int) {
	m.t.Helper()
	n += len(m.orders())
	within(m.t, "orders are placed", func() error {
		if have := len(m.orders()); have < n {
			return fmt.Errorf("%d of %d", have, n)
		}
		return nil
	})
}
