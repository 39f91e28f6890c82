package shop

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

const (
	adminEmail    = "admin@meshmart.test"
	adminPassword = "correct horse battery"
	userPassword  = "s3cret-pass-phrase"
)

// testEnviron lets the system choose every port.
func testEnviron(dir string) map[string]string {
	e := map[string]string{
		"DATA_DIR": dir, "HTTP_ADDR": "127.0.0.1:0",
		"ADMIN_EMAIL": adminEmail, "ADMIN_PASSWORD": adminPassword,
		"SIMULATOR_LATENCY": "1ms",
	}
	for _, name := range []string{"PRODUCT", "USER", "INVENTORY", "ORDER", "PAYMENT", "GREETER"} {
		e[name+"_GRPC_ADDR"] = "127.0.0.1:0"
	}
	return e
}

// market is a whole shop under test, used as people use it: over REST.
type market struct {
	t     *testing.T
	base  string
	http  *http.Client
	spans *tracetest.InMemoryExporter
	log   *logBuffer
	took  time.Duration // from start to ready
	stop  func()
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// open starts a shop with its state in dir and returns once it is ready.
func open(t *testing.T, dir string, more map[string]string, with ...func(*Options)) *market {
	t.Helper()
	m := &market{t: t, spans: tracetest.NewInMemoryExporter(), log: &logBuffer{}, http: &http.Client{Timeout: 30 * time.Second}}
	environ := testEnviron(dir)
	for k, v := range more {
		environ[k] = v
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan net.Addr, 1), make(chan error, 1)
	start := time.Now()
	opt := Options{
		Environ: environ, Log: m.log, Ready: func(a net.Addr) { ready <- a },
		Spans: sdktrace.NewSimpleSpanProcessor(m.spans),
	}
	for _, w := range with {
		w(&opt)
	}
	go func() { done <- Run(ctx, opt) }()
	m.stop = sync.OnceFunc(func() {
		cancel()
		m.http.CloseIdleConnections()
		if err := <-done; err != nil {
			t.Errorf("the shop ended with %v", err)
		}
		if t.Failed() {
			t.Logf("log of the shop:\n%s", tail(m.log.String(), 60))
		}
	})
	t.Cleanup(m.stop)
	select {
	case addr := <-ready:
		m.took = time.Since(start)
		m.base = "http://" + addr.String()
	case err := <-done:
		done <- err
		t.Fatalf("the shop did not start: %v", err)
	case <-time.After(time.Minute):
		t.Fatalf("the shop is not ready after a minute:\n%s", tail(m.log.String(), 60))
	}
	return m
}

func tail(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// object is a JSON object.
type object = map[string]any

// call makes a request and returns the reply's status and body.
func (m *market) call(method, path, token string, body any) (int, object) {
	m.t.Helper()
	code, out, err := m.try(method, path, token, body)
	if err != nil {
		m.t.Fatal(err)
	}
	return code, out
}

// try is call for a shop that may not be there.
func (m *market) try(method, path, token string, body any) (int, object, error) {
	req, err := m.request(method, path, token, body)
	if err != nil {
		return 0, nil, err
	}
	resp, err := m.http.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, nil, err
	}
	out := object{}
	if err := json.Unmarshal(text, &out); err != nil {
		return 0, nil, fmt.Errorf("%s %s: %d with a body that is no JSON object: %q", method, path, resp.StatusCode, text)
	}
	return resp.StatusCode, out, nil
}

func (m *market) request(method, path, token string, body any) (*http.Request, error) {
	var in io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		in = strings.NewReader(b)
	default:
		text, err := json.Marshal(b)
		if err != nil {
			return nil, err
		}
		in = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(m.t.Context(), method, m.base+path, in)
	if err != nil {
		return nil, err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	return req, nil
}

// must makes a request that has to succeed.
func (m *market) must(method, path, token string, body any) object {
	m.t.Helper()
	code, out := m.call(method, path, token, body)
	if code != http.StatusOK {
		m.t.Fatalf("%s %s: %d %v", method, path, code, out)
	}
	return out
}

func (m *market) login(email, password string) string {
	m.t.Helper()
	return m.must("POST", "/v1/auth:login", "", object{"email": email, "password": password})["access_token"].(string)
}

func (m *market) admin() string { m.t.Helper(); return m.login(adminEmail, adminPassword) }

// customer registers somebody new and signs them in.
func (m *market) customer() string {
	m.t.Helper()
	email := uuid.NewString() + "@example.com"
	m.must("POST", "/v1/users", "", object{"email": email, "password": userPassword, "display_name": "Ada"})
	return m.login(email, userPassword)
}

// product returns a product that has at least n in stock.
func (m *market) product(n int) string {
	m.t.Helper()
	for _, p := range m.must("GET", "/v1/products?page_size=100", "", nil)["products"].([]any) {
		id := p.(object)["id"].(string)
		if m.available(id) >= n {
			return id
		}
	}
	m.t.Fatalf("no product with %d in stock", n)
	return ""
}

func (m *market) stock(id string) object {
	m.t.Helper()
	return m.must("GET", "/v1/stock/"+id, "", nil)
}

func (m *market) available(id string) int {
	m.t.Helper()
	return int(m.stock(id)["available"].(float64))
}

func orderOf(product string, quantity int, card string) object {
	return object{
		"request_id": uuid.NewString(), "payment_token": card,
		"items": []object{{"product_id": product, "quantity": quantity}},
	}
}

// await watches an order until it is in a state.
func (m *market) await(token, id, state string) object {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", m.base+"/v1/orders/"+id+":watch", nil)
	if err != nil {
		m.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := (&http.Client{Transport: m.http.Transport}).Do(req)
	if err != nil {
		m.t.Fatal(err)
	}
	defer resp.Body.Close()
	var seen []string
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		var change struct{ Change struct{ State string } }
		if err := json.Unmarshal([]byte(data), &change); err != nil {
			m.t.Fatalf("%q: %v", data, err)
		}
		seen = append(seen, change.Change.State)
		if change.Change.State == state {
			return m.must("GET", "/v1/orders/"+id, token, nil)
		}
	}
	m.t.Fatalf("order %s was %v and never %s (%v)", id, seen, state, lines.Err())
	return nil
}

func TestShop(t *testing.T) {
	eachEngine(t, func(t *testing.T, databases map[string]string) {
		m := open(t, t.TempDir(), databases)
		t.Logf("figure: the whole shop is ready %d ms after its first start", m.took.Milliseconds())
		t.Run("catalog is seeded", m.testCatalog)
		t.Run("order completes", m.testOrderCompletes)
		t.Run("declined card is compensated", m.testDeclined)
		t.Run("sold out", m.testSoldOut)
		t.Run("cancel", m.testCancel)
		t.Run("repeated order is one order", m.testRepeatedOrder)
		t.Run("others' orders do not exist", m.testOthersOrders)
		t.Run("revoked tokens are refused everywhere", m.testRevoked)
		t.Run("bad input", m.testBadInput)
		t.Run("no secrets in the log", m.testLog)
	})
}

// in returns m for a subtest.
func (m *market) in(t *testing.T) *market { c := *m; c.t = t; return &c }

func (m *market) testCatalog(t *testing.T) {
	m = m.in(t)
	got := m.must("GET", "/v1/products?page_size=1000", "", nil)
	categories := map[string]bool{}
	for _, p := range got["products"].([]any) {
		categories[p.(object)["category"].(string)] = true
	}
	if n := len(got["products"].([]any)); n < 60 || len(categories) < 4 || got["total_size"] != float64(n) {
		t.Errorf("%d products in %d categories, total_size %v", n, len(categories), got["total_size"])
	}
}

func (m *market) testOrderCompletes(t *testing.T) {
	m = m.in(t)
	token, id := m.customer(), m.product(5)
	before := m.stock(id)
	order := m.must("POST", "/v1/orders", token, orderOf(id, 2, "tok_visa"))
	if s := order["state"]; s != "CONFIRMED" && s != "COMPLETED" {
		t.Fatalf("the order is %v: %v", s, order)
	}
	order = m.await(token, order["id"].(string), "COMPLETED")
	after := m.stock(id)
	if before["available"].(float64)-after["available"].(float64) != 2 || after["sold"].(float64)-before["sold"].(float64) != 2 {
		t.Errorf("stock before %v, after %v", before, after)
	}
	payment := m.must("GET", "/v1/payments/"+order["payment_id"].(string), token, nil)
	if payment["state"] != "CAPTURED" || fmt.Sprint(payment["amount"]) != fmt.Sprint(order["total"]) {
		t.Errorf("payment %v for an order of %v", payment, order["total"])
	}
	m.wantTrace(order["trace_id"].(string), "gateway", "order", "product", "inventory", "payment",
		"process order.confirmed", "process payment.captured", "process stock.committed")
}

// wantTrace waits until a trace has spans of services or with names.
func (m *market) wantTrace(id string, want ...string) {
	m.t.Helper()
	var missing []string
	deadline := time.Now().Add(20 * time.Second)
	for {
		has := map[string]bool{}
		for _, s := range m.spans.GetSpans() {
			if s.SpanContext.TraceID().String() != id {
				continue
			}
			has[s.Name] = true
			for _, a := range s.Resource.Attributes() {
				if a.Key == "service.name" {
					has[a.Value.AsString()] = true
				}
			}
		}
		missing = missing[:0]
		for _, w := range want {
			if !has[w] {
				missing = append(missing, w)
			}
		}
		if len(missing) == 0 {
			return
		}
		if time.Now().After(deadline) {
			m.t.Fatalf("trace %s lacks %q; it has %v", id, missing, has)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (m *market) testDeclined(t *testing.T) {
	m = m.in(t)
	token, id := m.customer(), m.product(5)
	before := m.stock(id)
	for card, reason := range map[string]string{
		"tok_chargeDeclined":                  "CARD_DECLINED",
		"tok_chargeDeclinedInsufficientFunds": "INSUFFICIENT_FUNDS",
		"tok_chargeDeclinedExpiredCard":       "EXPIRED_CARD",
	} {
		order := m.must("POST", "/v1/orders", token, orderOf(id, 1, card))
		order = m.await(token, order["id"].(string), "REJECTED")
		if order["reason"] != reason || order["message"] == "" {
			t.Errorf("%s: reason %v, message %q", card, order["reason"], order["message"])
		}
	}
	if after := m.stock(id); after["available"] != before["available"] || after["reserved"] != before["reserved"] {
		t.Errorf("stock before %v, after %v", before, after)
	}
}

func (m *market) testSoldOut(t *testing.T) {
	m = m.in(t)
	token, id := m.customer(), m.product(5)
	left := m.available(id)
	m.must("PUT", "/v1/stock/"+id, m.admin(), object{"available": 1})
	order := m.must("POST", "/v1/orders", token, orderOf(id, 2, "tok_visa"))
	if order["state"] != "REJECTED" || order["reason"] != "OUT_OF_STOCK" {
		t.Errorf("two of one left: %v %v", order["state"], order["reason"])
	}
	order = m.must("POST", "/v1/orders", token, orderOf(id, 1, "tok_visa"))
	m.await(token, order["id"].(string), "COMPLETED")
	if n := m.available(id); n != 0 {
		t.Errorf("%d left of one sold", n)
	}
	m.must("PUT", "/v1/stock/"+id, m.admin(), object{"available": left})
}

func (m *market) testCancel(t *testing.T) {
	m = m.in(t)
	token, id := m.customer(), m.product(5)
	before := m.available(id)
	order := m.must("POST", "/v1/orders", token, orderOf(id, 3, "tok_mastercard"))
	order = m.await(token, order["id"].(string), "COMPLETED")
	m.must("POST", "/v1/orders/"+order["id"].(string)+":cancel", token, object{})
	order = m.await(token, order["id"].(string), "CANCELLED")
	if payment := m.must("GET", "/v1/payments/"+order["payment_id"].(string), token, nil); payment["state"] != "REFUNDED" {
		t.Errorf("payment of a cancelled order: %v", payment)
	}
	if after := m.available(id); after != before {
		t.Errorf("%d available before, %d after the cancellation", before, after)
	}
}

func (m *market) testRepeatedOrder(t *testing.T) {
	m = m.in(t)
	token, id := m.customer(), m.product(5)
	before := m.available(id)
	body := orderOf(id, 1, "tok_visa")
	ids := make([]string, 8)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			if code, out := m.call("POST", "/v1/orders", token, body); code == http.StatusOK {
				ids[i] = out["id"].(string)
			}
		})
	}
	wg.Wait()
	for _, got := range ids {
		if got == "" || got != ids[0] {
			t.Fatalf("orders %q of one request_id", ids)
		}
	}
	m.await(token, ids[0], "COMPLETED")
	if after := m.available(id); after != before-1 {
		t.Errorf("%d available before, %d after one order sent eight times", before, after)
	}
	body["items"] = []object{{"product_id": id, "quantity": 2}}
	code, out := m.call("POST", "/v1/orders", token, body)
	if code != http.StatusBadRequest || !strings.Contains(fmt.Sprint(out), "request_id") {
		t.Errorf("the same request_id with another body: %d %v", code, out)
	}
}

func (m *market) testOthersOrders(t *testing.T) {
	m = m.in(t)
	mine, theirs := m.customer(), m.customer()
	order := m.must("POST", "/v1/orders", mine, orderOf(m.product(5), 1, "tok_visa"))
	order = m.await(mine, order["id"].(string), "COMPLETED")
	for _, path := range []string{
		"GET /v1/orders/" + order["id"].(string),
		"POST /v1/orders/" + order["id"].(string) + ":cancel",
		"GET /v1/payments/" + order["payment_id"].(string),
	} {
		method, path, _ := strings.Cut(path, " ")
		var body any
		if method == "POST" {
			body = object{}
		}
		if code, out := m.call(method, path, theirs, body); code != http.StatusNotFound {
			t.Errorf("%s %s of another user: %d %v", method, path, code, out)
		}
	}
	if list := m.must("GET", "/v1/orders", theirs, nil); len(list["orders"].([]any)) != 0 {
		t.Errorf("orders of somebody who has none: %v", list)
	}
	if got := m.must("GET", "/v1/orders/"+order["id"].(string), m.admin(), nil); got["id"] != order["id"] {
		t.Errorf("an administrator sees %v", got)
	}
}

func (m *market) testRevoked(t *testing.T) {
	m = m.in(t)
	email := uuid.NewString() + "@example.com"
	m.must("POST", "/v1/users", "", object{"email": email, "password": userPassword})
	tokens := m.must("POST", "/v1/auth:login", "", object{"email": email, "password": userPassword})
	access, refresh := tokens["access_token"].(string), tokens["refresh_token"].(string)
	m.must("GET", "/v1/orders", access, nil)
	m.must("POST", "/v1/auth:logout", "", object{"refresh_token": refresh})
	if code, out := m.call("POST", "/v1/auth:refresh", "", object{"refresh_token": refresh}); code != http.StatusUnauthorized {
		t.Errorf("refresh after logout: %d %v", code, out)
	}
	deadline := time.Now().Add(10 * time.Second) // the event has to arrive
	for {
		code, _ := m.call("GET", "/v1/orders", access, nil)
		if code == http.StatusUnauthorized {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the order service still takes a revoked token: %d", code)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (m *market) testLog(t *testing.T) {
	for _, secret := range []string{userPassword, adminPassword, "tok_visa", "tok_chargeDeclined", "4242424242424242", "eyJhbGciOi"} {
		if i := strings.Index(m.log.String(), secret); i >= 0 {
			t.Errorf("%q is in the log: %.200s", secret, m.log.String()[max(0, i-100):])
		}
	}
}
