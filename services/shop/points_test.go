package shop

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// met is the points that a shop has come to.
type met struct {
	mu     sync.Mutex
	points []string
}

func (m *met) note(point string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.points = append(m.points, point)
}

// since returns the points after the first n.
func (m *met) since(n int) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.points[n:])
}

// quiet returns how many points there are when for a while there was no new one.
func (m *met) quiet(t *testing.T, while time.Duration) int {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		n := len(m.since(0))
		time.Sleep(while)
		if len(m.since(n)) == 0 {
			return n
		}
	}
	t.Fatal("points are met without end")
	return 0
}

// seams are points that every completed order comes to, in whichever order. A test
// that kills the shop at one waits for ever if its name is not what it was.
var seams = []string{
	"order: before call of product.v1.ProductService/BatchGetProducts",
	"order: before commit of (*Orders).add in order.v1.OrderService/CreateOrder",
	"order: after commit of (*Orders).add in order.v1.OrderService/CreateOrder",
	"order: before call of inventory.v1.InventoryService/Reserve",
	"inventory: before commit of (*Inventory).Reserve in inventory.v1.InventoryService/Reserve",
	"inventory: after commit of (*Inventory).Reserve in inventory.v1.InventoryService/Reserve",
	"inventory: before reply of inventory.v1.InventoryService/Reserve",
	"order: after call of inventory.v1.InventoryService/Reserve",
	"order: before call of payment.v1.PaymentService/Authorize",
	"order: after call of payment.v1.PaymentService/Authorize",
	"order: before reply of order.v1.OrderService/CreateOrder",
	"order: after send of order.confirmed",
	"order: after publish of order.confirmed",
	"payment: before handling order.confirmed by payment",
	"payment: before ack of order.confirmed by payment",
	"inventory: before handling order.confirmed by inventory",
	"inventory: before commit of (*worker).handle in inventory of order.confirmed",
	"inventory: after commit of (*worker).handle in inventory of order.confirmed",
	"inventory: before ack of order.confirmed by inventory",
	"order: before ack of payment.captured by order",
	"order: before ack of stock.committed by order",
}

func TestAnOrderComesToEverySeamAndAnIdleShopToNone(t *testing.T) {
	points := &met{}
	m := open(t, t.TempDir(), nil, func(o *Options) { o.Point = points.note })
	token, product := m.customer(), m.product(5)
	m.must("PUT", "/v1/stock/"+product, m.admin(), object{"available": 10})
	n := points.quiet(t, 500*time.Millisecond)
	id := m.must("POST", "/v1/orders", token, orderOf(product, 1, "tok_visa"))["id"].(string)
	m.awaitQuietly(points, n)
	all := points.since(n)
	if got := m.must("GET", "/v1/orders/"+id, token, nil)["state"]; got != "COMPLETED" {
		t.Errorf("the order is %v", got)
	}
	for _, want := range seams {
		if !slices.Contains(all, want) {
			t.Errorf("not met: %s", want)
		}
	}
	t.Logf("%d points:\n%s", len(all), strings.Join(all, "\n"))

	n = points.quiet(t, 500*time.Millisecond)
	time.Sleep(3 * time.Second) // several rounds of each worker that polls
	if diff := cmp.Diff([]string{}, points.since(n)); diff != "" {
		t.Errorf("an idle shop (-want +got)\n%s", diff)
	}
}

// awaitQuietly waits until an order is complete, without a request that would
// meet points itself.
func (m *market) awaitQuietly(points *met, n int) {
	m.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if slices.Contains(points.since(n), "order: after publish of order.completed") {
			points.quiet(m.t, 500*time.Millisecond)
			return
		}
	}
	m.t.Fatalf("the order is not complete: %s", strings.Join(points.since(n), "\n"))
}
