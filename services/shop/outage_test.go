package shop

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	paymentpb "github.com/meshmart/meshmart/proto/payment/v1"
	"github.com/meshmart/meshmart/services/internal/fault"
)

// TestPaymentIsOut takes the payment away from a shop whose services are
// processes of their own: first it is dead, then it is there and says that its
// processor is out. All else goes on, new orders are refused at once, and those
// that were taken in before complete when it is back.
func TestPaymentIsOut(t *testing.T) {
	broker := freeAddr(t)
	startBroker(t, broker)
	c := startColumn(t, broker, nil)
	c.waitForServices()
	c.waitForStock()
	o := &outage{column: c, token: c.customer(), product: c.product(5)}
	c.must("PUT", "/v1/stock/"+o.product, c.admin(), object{"available": 100_000})
	first := c.must("POST", "/v1/orders", o.token, orderOf(o.product, 1, "tok_visa"))
	c.await(o.token, first["id"].(string), "COMPLETED")

	c.kill["payment"]()
	o.placeUntilRefused(t)
	o.wantWorking(t)
	o.wantState(t, "payment", "down")

	broken, stop := refusePayments(t, c.addrs["payment"])
	o.refused = nil
	for len(o.refused) < 30 || broken.calls() == 0 { // it is probed meanwhile
		o.place()
	}
	o.wantWorking(t)
	rows := o.rows()
	for id := range broken.orders {
		if !rows[id] {
			t.Errorf("the payment was asked for order %s, which was refused", id)
		}
	}
	if n := 1 + len(o.taken); len(rows) > n {
		t.Errorf("%d orders are written, and no more than %d were taken in", len(rows), n)
	}
	stop()

	c.start["payment"]()
	c.waitForServices()
	o.wantRecovery(t)
}

// outage is a customer of a shop that has one.
type outage struct {
	*column
	token, product string
	taken          []object        // requests that were taken in, as far as we know
	refused        []time.Duration // how long the refusals took
}

// place places an order without waiting for a decision that can't come.
func (o *outage) place() {
	in := orderOf(o.product, 1, "tok_visa")
	began := time.Now()
	code, out, err := o.orderFor(o.token, in, time.Second)
	switch {
	case err == nil && code == http.StatusServiceUnavailable:
		if text := fmt.Sprint(out); !strings.Contains(text, "reason:PAYMENT_UNAVAILABLE") || !strings.Contains(text, "nothing was charged") ||
			!strings.Contains(text, "google.rpc.RetryInfo") {
			o.t.Errorf("refused with %v", out)
		}
		o.refused = append(o.refused, time.Since(began))
	case err == nil && code == http.StatusOK && out["state"] != "PENDING" && out["state"] != "CONFIRMED":
		o.t.Errorf("an order is %v", out)
	default: // taken in, or we did not wait for the answer
		o.taken = append(o.taken, in)
	}
}

// placeUntilRefused places orders, which all wait, until the breaker is open.
func (o *outage) placeUntilRefused(t *testing.T) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			one := &outage{column: o.column, token: o.token, product: o.product}
			one.place()
			mu.Lock()
			defer mu.Unlock()
			o.taken = append(o.taken, one.taken...)
		})
	}
	wg.Wait()
	if len(o.taken) == 0 {
		t.Fatal("no order was taken in")
	}
	o.until("orders are refused, and order tells why", func() bool {
		o.place()
		return len(o.refused) > 0 && o.told(true)
	})
}

// told reports whether all that shows the breaker of the payment shows it open,
// or closed.
func (o *outage) told(open bool) bool {
	health, state, gauge := healthpb.HealthCheckResponse_SERVING, "closed", "0"
	if open {
		health, state, gauge = healthpb.HealthCheckResponse_NOT_SERVING, "open", "2"
	}
	shown := false
	for _, b := range o.condition("order")["breakers"].([]any) {
		shown = shown || b.(object)["target"] == "payment" && b.(object)["open"] == open
	}
	return shown && o.health("order", "breaker/payment") == health &&
		strings.Contains(o.get("order", "/readyz?verbose"), "[ ]breaker payment "+state+"\n") &&
		strings.Contains(o.get("order", "/metrics"), fmt.Sprintf(`circuit_breaker_state{service_name="order",target="payment"} %s`, gauge))
}

// wantWorking checks what must not suffer.
func (o *outage) wantWorking(t *testing.T) {
	t.Helper()
	if n := len(o.must("GET", "/v1/products", "", nil)["products"].([]any)); n == 0 {
		t.Error("the catalog is empty")
	}
	if o.available(o.product) == 0 {
		t.Error("the stock is not told")
	}
	if got := o.health("order", ""); got != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("order itself is %v", got)
	}
	if got := o.get("order", "/readyz"); got != "ok\n" {
		t.Errorf("order is not ready: %s", got)
	}
	o.wantState(t, "order", "up")
	list := o.must("GET", "/v1/orders?page_size=500", o.token, nil)["orders"].([]any)
	for i, order := range list {
		want := "PENDING"
		if i == len(list)-1 { // the first that was placed
			want = "COMPLETED"
		}
		if got := order.(object)["state"]; got != want {
			t.Errorf("order %d of %d is %v, want %s", i, len(list), got, want)
		}
	}
}

// wantRecovery checks that all goes on: what was taken in is completed, each
// request as one order, and there are no others.
func (o *outage) wantRecovery(t *testing.T) {
	t.Helper()
	began := time.Now()
	o.until("a new order is completed", func() bool {
		in := orderOf(o.product, 1, "tok_visa")
		code, out := o.call("POST", "/v1/orders", o.token, in)
		if code == http.StatusOK {
			o.taken = append(o.taken, in)
			o.await(o.token, out["id"].(string), "COMPLETED")
		}
		return code == http.StatusOK
	})
	sells := time.Since(began)
	for _, in := range o.taken {
		o.until("what was taken in is there", func() bool {
			code, out := o.call("POST", "/v1/orders", o.token, in)
			if code == http.StatusOK {
				o.await(o.token, out["id"].(string), "COMPLETED")
			}
			return code == http.StatusOK
		})
	}
	rested := time.Since(began)
	if rows := o.rows(); len(rows) != 1+len(o.taken) {
		t.Errorf("%d orders, want %d", len(rows), 1+len(o.taken))
	}
	o.until("the breaker is closed", func() bool { return o.told(false) })
	o.wantBalance(o.token, o.product)
	slowest := time.Duration(0)
	for _, d := range o.refused {
		slowest = max(slowest, d)
	}
	t.Logf("figure: payment out: %d orders refused in at most %d ms each; once it takes calls again it sells in %d ms, and %d orders taken in before are completed in %d ms",
		len(o.refused), slowest.Milliseconds(), sells.Milliseconds(), len(o.taken)-1, rested.Milliseconds())
}

// rows returns the ids of all orders.
func (o *outage) rows() map[string]bool {
	o.t.Helper()
	ids := map[string]bool{}
	for _, order := range o.must("GET", "/v1/orders?page_size=1000", o.token, nil)["orders"].([]any) {
		ids[order.(object)["id"].(string)] = true
	}
	return ids
}

// orderFor is try for an order, and waits no longer than limit.
func (m *market) orderFor(token string, in object, limit time.Duration) (int, object, error) {
	hasty := *m
	hasty.http = &http.Client{Transport: m.http.Transport, Timeout: limit}
	return hasty.try("POST", "/v1/orders", token, in)
}

// until waits for what comes by itself.
func (c *column) until(what string, done func() bool) {
	c.t.Helper()
	for end := time.Now().Add(time.Minute); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			c.t.Fatalf("not within a minute: %s\n%s", what, tail(c.log.String(), 40))
		}
	}
}

// condition is how the gateway says that a service is.
func (c *column) condition(service string) object {
	c.t.Helper()
	for _, s := range c.must("GET", "/console/status", "", nil)["services"].([]any) {
		if s.(object)["service"] == service {
			return s.(object)
		}
	}
	c.t.Fatalf("the status does not tell of %s", service)
	return nil
}

func (c *column) wantState(t *testing.T, service, state string) {
	t.Helper()
	c.until(service+" is "+state, func() bool { return c.condition(service)["state"] == state })
}

// health asks a service by the standard protocol.
func (c *column) health(service, name string) healthpb.HealthCheckResponse_ServingStatus {
	c.t.Helper()
	conn, err := grpc.NewClient(c.addrs[service], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		c.t.Fatal(err)
	}
	defer conn.Close()
	resp, err := healthpb.NewHealthClient(conn).Check(c.t.Context(), &healthpb.HealthCheckRequest{Service: name})
	if err != nil {
		c.t.Fatalf("health of %s: %v", service, err)
	}
	return resp.GetStatus()
}

// get reads a page of a service at METRICS_ADDR.
func (c *column) get(service, path string) string {
	c.t.Helper()
	resp, err := c.http.Get("http://" + c.ops[service] + path)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return string(body)
}

// brokenPayments answers as the payment service does while its processor is out.
type brokenPayments struct {
	paymentpb.UnimplementedPaymentServiceServer
	mu     sync.Mutex
	orders map[string]bool // that it was asked to authorize
}

func (b *brokenPayments) Authorize(_ context.Context, r *paymentpb.AuthorizeRequest) (*paymentpb.AuthorizeResponse, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.orders[r.GetOrderId()] = true
	return nil, fault.Unavailable(time.Second, "the payment processor is not available; try again later").GRPCStatus().Err()
}

func (b *brokenPayments) calls() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.orders)
}

// refusePayments answers in the place of the payment service until stop is
// called.
func refusePayments(t *testing.T, addr string) (b *brokenPayments, stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	b = &brokenPayments{orders: map[string]bool{}}
	s := grpc.NewServer()
	paymentpb.RegisterPaymentServiceServer(s, b)
	go s.Serve(l)
	t.Cleanup(s.Stop)
	return b, s.Stop
}
