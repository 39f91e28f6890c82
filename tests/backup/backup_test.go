// Package backup loses a shop and brings it back, as docs/operations.md says: with
// tools/backup, whose files were written while the shop sold.
package backup

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	inventorypb "github.com/meshmart/meshmart/proto/inventory/v1"
	productpb "github.com/meshmart/meshmart/proto/product/v1"
	"github.com/meshmart/meshmart/services/shopctl/rest"
	"github.com/meshmart/meshmart/tests/testbed"
)

// plan is how a backup is written.
type plan struct {
	parts []string // services, with orders placed in between
	found []string // what reconcile finds, or the test shows too little
}

func orderFirst() plan {
	return plan{
		parts: []string{"order", "inventory", "payment,product,user"},
		found: []string{"is entered and taken back", "events: payment.captured"},
	}
}

func orderLast() plan {
	return plan{parts: []string{"payment", "inventory", "product,user,order"}, found: []string{"is taken back"}}
}

func TestPostgresIsRestored(t *testing.T) {
	s := startContainers(t)
	loseAndRestore(t, s, orderFirst())
	t.Run("broker alone", func(t *testing.T) { loseBroker(t, s) })
}

func TestSQLiteIsRestored(t *testing.T) {
	shop := program(t, "services/cmd/shop", "grpcnotrace,nethttpomithttp2,nopgxregisterdefaulttypes") // as make build
	backup := program(t, "tools/backup", "")
	for name, p := range map[string]plan{"order first": orderFirst(), "order last": orderLast()} {
		t.Run(name, func(t *testing.T) {
			s := startProcess(t, shop, backup)
			loseAndRestore(t, s, p)
			s.kill()
			if found := tool(t, s, "reconcile", "-n"); strings.Contains(found, "order ") || strings.Contains(found, "events: ") {
				t.Errorf("there is something to reconcile in a shop that was reconciled and came to rest:\n%s", found)
			}
		})
	}
}

// loseAndRestore sells, saves, sells on, loses everything and restores it. What was
// at rest before the backup is as it was, of what came later nothing is left in one
// service that another one does not know, and the shop sells again.
func loseAndRestore(t *testing.T, s shop, p plan) {
	m := openMarket(t, s)
	token := lastChange(t, s)
	stop := m.sell()
	m.await(4 * buyers)
	settled := m.settle()
	dir := t.TempDir() + "/backup"
	for _, part := range p.parts { // a slow one
		tool(t, s, "save", "-dir", dir, "-only", part)
		m.await(buyers)
	}
	s.kill()
	lost := time.Now()
	stop()

	s.lose()
	tool(t, s, "restore", "-dir", dir)
	found := tool(t, s, "reconcile", "-n")
	for _, want := range p.found {
		if !strings.Contains(found, want) {
			t.Errorf("reconcile found nothing that %q:\n%s", want, found)
		}
	}
	tool(t, s, "reconcile")
	s.start()
	t.Logf("figure: backup: %s, lost after %d orders: restored, reconciled and ready in %.1f s",
		s.engine(), len(m.orders()), time.Since(lost).Seconds())

	m.who = signIn(t, s, email, secret)
	wantBalance(t, s)
	for id, state := range settled {
		if got := m.who.state(t.Context(), id); got != state {
			t.Errorf("order %s was %s before the backup, and is %s", id, state, got)
		}
	}
	wantSold(t, s, m)
	wantWatched(t, s, token)
	wantRefused(t, s, dir)
	wantBalance(t, s)
}

// wantRefused: a shop that runs is neither overwritten nor reconciled.
func wantRefused(t *testing.T, s shop, dir string) {
	t.Helper()
	if said, err := s.try("restore", "-dir", dir); err == nil {
		t.Errorf("a shop that runs was restored: %s", said)
	}
	if said, err := s.try("reconcile"); err == nil || !strings.Contains(err.Error(), "stop the services first") {
		t.Errorf("a shop that runs was reconciled: %s%v", said, err)
	}
}

// settle waits for the orders that are answered to come to rest, and returns their
// states.
func (m *market) settle() map[string]string {
	m.t.Helper()
	states := map[string]string{}
	for _, id := range m.orders() {
		within(m.t, "order "+id, func() error {
			switch state := m.who.state(m.t.Context(), id); state {
			case "COMPLETED", "REJECTED", "CANCELLED":
				states[id] = state
				return nil
			default:
				return errors.New(state)
			}
		})
	}
	return states
}

// wantBalance waits for the shop to come to rest and holds its books to what must
// always be true. Of an order that the payment knows and the inventory does not, as
// they were saved one after the other, nobody knows the items.
func wantBalance(t *testing.T, s shop) {
	t.Helper()
	b, done := books(t, s)
	defer done()
	within(t, "the shop is at rest", func() error {
		pending, err := b.Pending(t.Context())
		if err == nil && pending != "" {
			err = errors.New(pending)
		}
		return err
	})
	unknown := map[string]bool{}
	rows, err := b.Order.QueryContext(t.Context(), `SELECT id FROM orders WHERE reason = 'RESTORED' AND id NOT IN (SELECT order_id FROM order_items)`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			t.Fatal(err)
		}
		unknown[id] = true
	}
	sum, violations, err := b.Check(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	noItems := regexp.MustCompile(`^order (\S+) is of \d+ [A-Z]{3} and its items of 0$`)
	for _, v := range violations {
		if at := noItems.FindStringSubmatch(v); at == nil || !unknown[at[1]] {
			t.Error(v)
		}
	}
	if sum.Orders["COMPLETED"] == 0 {
		t.Errorf("no order is completed: %v", sum.Orders)
	}
	t.Logf("orders: %v, of which %d without items", sum.Orders, len(unknown))
}

// wantSold places orders that have to be completed, which takes events both ways.
func wantSold(t *testing.T, s shop, m *market) {
	t.Helper()
	for range 5 {
		o, err := m.who.Order(t.Context(), m.products[0], "tok_visa")
		if err != nil {
			t.Fatal(err)
		}
		within(t, "an order after the restoration", func() error {
			if state := m.who.state(t.Context(), o.GetId()); state != "COMPLETED" {
				return errors.New(state)
			}
			return nil
		})
	}
}

// lastChange returns the resume token of a change of the catalog.
func lastChange(t *testing.T, s shop) (token string) {
	t.Helper()
	addProduct(t, s, "BEFORE-1", func(change *productpb.WatchProductsResponse) { token = change.GetResumeToken() })
	return token
}

// wantWatched: a token of the lost stream is refused rather than misread, and who
// begins anew sees what happens, as the inventory does.
func wantWatched(t *testing.T, s shop, token string) {
	t.Helper()
	admin := signIn(t, s, testbed.AdminEmail, testbed.AdminPassword)
	ctx, cancel := context.WithTimeout(t.Context(), hang)
	defer cancel()
	in := &productpb.WatchProductsRequest{ResumeToken: token}
	err := admin.Watch(ctx, productpb.ProductService_WatchProducts_FullMethodName, in, &productpb.WatchProductsResponse{}, func([]byte) error {
		return errors.New("there is a change")
	})
	if !rest.IsCode(err, codes.OutOfRange) {
		t.Errorf("a resume token of a stream that was lost: got %v, want OUT_OF_RANGE", err)
	}
	addProduct(t, s, "AFTER-1", func(*productpb.WatchProductsResponse) {})
}

// addProduct adds a product while somebody watches the catalog, and waits until
// the inventory has heard of it.
func addProduct(t *testing.T, s shop, sku string, seen func(*productpb.WatchProductsResponse)) {
	t.Helper()
	admin := signIn(t, s, testbed.AdminEmail, testbed.AdminPassword)
	ctx, cancel := context.WithTimeout(t.Context(), hang)
	defer cancel()
	errSeen := errors.New("seen")
	watched := make(chan error, 1)
	go func() {
		change := &productpb.WatchProductsResponse{}
		watched <- admin.Watch(ctx, productpb.ProductService_WatchProducts_FullMethodName, &productpb.WatchProductsRequest{}, change, func([]byte) error {
			if !strings.HasPrefix(change.GetProduct().GetSku(), sku) {
				return nil
			}
			seen(change)
			return errSeen
		})
	}()
	for n := 0; ; n++ { // until one comes after the watch has begun
		id := create(t, admin, fmt.Sprintf("%s-%d", sku, n))
		within(t, "stock of a new product", func() error {
			out := &inventorypb.GetStockResponse{}
			_, err := admin.Call(ctx, inventorypb.InventoryService_GetStock_FullMethodName, &inventorypb.GetStockRequest{ProductId: id}, out)
			if err == nil && out.GetStock().GetAvailable() != 7 {
				err = fmt.Errorf("%d available", out.GetStock().GetAvailable())
			}
			return err
		})
		select {
		case err := <-watched:
			if !errors.Is(err, errSeen) {
				t.Fatalf("watch the catalog: %v", err)
			}
			return
		default:
		}
	}
}
