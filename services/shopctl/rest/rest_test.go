package rest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	moneypb "google.golang.org/genproto/googleapis/type/money"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	inventorypb "github.com/meshmart/meshmart/proto/inventory/v1"
	orderpb "github.com/meshmart/meshmart/proto/order/v1"
	productpb "github.com/meshmart/meshmart/proto/product/v1"
	userpb "github.com/meshmart/meshmart/proto/user/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const id = "01890000-0000-7000-8000-000000000001"

// gateway answers requests in turn, the last answer for all that follow, and
// remembers them.
type gateway struct {
	mu      sync.Mutex
	answers []http.HandlerFunc
	asked   []string
	waits   []time.Duration // of the client between its tries
	notices []string
}

func (g *gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	g.mu.Lock()
	asked := r.Method + " " + r.URL.RequestURI() + " " + string(body)
	for _, h := range []string{"Authorization", "Last-Event-ID"} {
		if v := r.Header.Get(h); v != "" {
			asked += " [" + v + "]"
		}
	}
	g.asked = append(g.asked, asked)
	answer := g.answers[0]
	if len(g.answers) > 1 {
		g.answers = g.answers[1:]
	}
	g.mu.Unlock()
	answer(w, r)
}

func say(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Trace-Id", "4bf92f3577b34da6a3ce929d0e0e4736")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// cutOff is a server that dies while it answers.
func cutOff(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

const (
	away    = `{"code":14,"message":"a part of the shop is not available","details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"2s"}]}`
	expired = `{"code":16,"message":"the token has expired","details":[]}`
)

// twoTokens is a session that has another token when the first one is refused.
type twoTokens struct{}

func (twoTokens) Token(context.Context) (string, error)         { return "first", nil }
func (twoTokens) Renew(context.Context, string) (string, error) { return "second", nil }

func start(t *testing.T, answers ...http.HandlerFunc) (*gateway, *Client) {
	g := &gateway{answers: answers}
	srv := httptest.NewServer(g)
	c := &Client{
		Server: srv.URL, Agent: "test", HTTP: NewHTTP(), Session: twoTokens{}, Timeout: 20 * time.Second,
		Notice: func(format string, args ...any) { g.notices = append(g.notices, fmt.Sprintf(format, args...)) },
		Pause: func(ctx context.Context, d time.Duration) error {
			g.waits = append(g.waits, d)
			return ctx.Err()
		},
	}
	t.Cleanup(func() { c.HTTP.CloseIdleConnections(); srv.Close() })
	return g, c
}

func TestCallsAreAsTheContractsSay(t *testing.T) {
	for _, tt := range []struct {
		method  string
		in, out proto.Message
		want    string
	}{
		{
			orderpb.OrderService_GetOrder_FullMethodName, &orderpb.GetOrderRequest{Id: id}, &orderpb.GetOrderResponse{},
			"GET /v1/orders/" + id + "  [Bearer first]",
		},
		{
			productpb.ProductService_ListProducts_FullMethodName,
			&productpb.ListProductsRequest{PageSize: 3, Filter: `name:"a&b"`}, &productpb.ListProductsResponse{},
			"GET /v1/products?filter=name%3A%22a%26b%22&page_size=3 ", // public: no token
		},
		{
			inventorypb.InventoryService_BatchGetStock_FullMethodName,
			&inventorypb.BatchGetStockRequest{ProductIds: []string{"a", "b"}}, &inventorypb.BatchGetStockResponse{},
			"GET /v1/stock:batchGet?product_ids=a&product_ids=b ",
		},
		{
			inventorypb.InventoryService_SetStock_FullMethodName,
			&inventorypb.SetStockRequest{ProductId: id, Available: proto.Int32(5), RequestId: "r"}, &inventorypb.SetStockResponse{},
			"PUT /v1/stock/" + id + ` {"available":5,"request_id":"r"} [Bearer first]`,
		},
		{
			productpb.ProductService_UpdateProduct_FullMethodName,
			&productpb.UpdateProductRequest{
				Product: &productpb.Product{Id: id, Price: &moneypb.Money{Units: 1}}, RequestId: "r",
				UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"price", "name"}},
			}, &productpb.UpdateProductResponse{},
			"PATCH /v1/products/" + id + `?request_id=r&update_mask=price%2Cname {"price":{"units":"1"}} [Bearer first]`,
		},
		{
			productpb.ProductService_DeleteProduct_FullMethodName,
			&productpb.DeleteProductRequest{Id: "a/b:c?", Etag: "v1"}, &productpb.DeleteProductResponse{},
			"DELETE /v1/products/a%2Fb%3Ac%3F?etag=v1  [Bearer first]",
		},
		{
			orderpb.OrderService_CancelOrder_FullMethodName, &orderpb.CancelOrderRequest{Id: id}, &orderpb.CancelOrderResponse{},
			"POST /v1/orders/" + id + ":cancel {} [Bearer first]",
		},
	} {
		g, c := start(t, say(http.StatusOK, "{}"))
		if _, err := c.Call(t.Context(), tt.method, tt.in, tt.out); err != nil {
			t.Errorf("%s: %v", tt.method, err)
		}
		// protojson puts spaces where it likes.
		if diff := cmp.Diff(strings.ReplaceAll(g.asked[0], ", ", ","), tt.want); diff != "" {
			t.Errorf("%s: %s", tt.method, diff)
		}
	}
}

func TestAnswersAreReadAndKeptAsTheyAre(t *testing.T) {
	const text = `{"id":"x", "state":"COMPLETED", "newer_field":1}`
	_, c := start(t, say(http.StatusOK, text))
	out := &orderpb.GetOrderResponse{}
	raw, err := c.Call(t.Context(), orderpb.OrderService_GetOrder_FullMethodName, &orderpb.GetOrderRequest{Id: id}, out)
	if err != nil || string(raw) != text || out.GetOrder().GetState() != orderpb.Order_COMPLETED {
		t.Errorf("got %s, %v, %v", raw, out, err)
	}
}

func TestChangesAreRepeatedWithTheSameRequestID(t *testing.T) {
	g, c := start(t, cutOff, say(http.StatusServiceUnavailable, away), say(http.StatusBadGateway, "<html>"), say(http.StatusOK, "{}"))
	in := &orderpb.CreateOrderRequest{PaymentToken: "tok_visa"}
	if _, err := c.Call(t.Context(), orderpb.OrderService_CreateOrder_FullMethodName, in, &orderpb.CreateOrderResponse{}); err != nil {
		t.Fatal(err)
	}
	if len(g.asked) != 4 || in.GetRequestId() == "" || !strings.Contains(g.asked[0], in.GetRequestId()) {
		t.Errorf("asked %q", g.asked)
	}
	for _, asked := range g.asked[1:] {
		if asked != g.asked[0] {
			t.Errorf("asked %q, then %q", g.asked[0], asked)
		}
	}
	want := []time.Duration{200 * time.Millisecond, 2 * time.Second, 4 * time.Second} // the server asked for 2 s
	if diff := cmp.Diff(g.waits, want); diff != "" {
		t.Error(diff)
	}
	if len(g.notices) != 3 || !strings.Contains(g.notices[0], "it takes effect once") {
		t.Errorf("told %q", g.notices)
	}
}

func TestWhatMayNotBeRepeatedIsNot(t *testing.T) {
	g, c := start(t, say(http.StatusServiceUnavailable, away))
	_, err := c.Call(t.Context(), userpb.AuthService_Login_FullMethodName, &userpb.LoginRequest{}, &userpb.LoginResponse{})
	if !IsCode(err, codes.Unavailable) || len(g.asked) != 1 {
		t.Errorf("asked %q: %v", g.asked, err)
	}
	g, c = start(t, say(http.StatusTooManyRequests, `{"code":8,"message":"too many"}`))
	_, err = c.Call(t.Context(), orderpb.OrderService_GetOrder_FullMethodName, &orderpb.GetOrderRequest{}, &orderpb.GetOrderResponse{})
	if !IsCode(err, codes.ResourceExhausted) || len(g.asked) != 1 {
		t.Errorf("asked %q: %v", g.asked, err)
	}
}

func TestReadersLearnSoonThatTheShopIsAway(t *testing.T) {
	g, c := start(t, say(http.StatusServiceUnavailable, away))
	_, err := c.Call(t.Context(), orderpb.OrderService_GetOrder_FullMethodName, &orderpb.GetOrderRequest{}, &orderpb.GetOrderResponse{})
	if !Transient(err) || len(g.asked) != 3 {
		t.Errorf("asked %d times: %v", len(g.asked), err)
	}
	c.Server, g.waits = "http://127.0.0.1:1", nil
	_, err = c.Call(t.Context(), orderpb.OrderService_GetOrder_FullMethodName, &orderpb.GetOrderRequest{}, &orderpb.GetOrderResponse{})
	if !Transient(err) || len(g.waits) != 0 {
		t.Errorf("waited %v: %v", g.waits, err)
	}
}

func TestRefusedTokensAreRenewedOnce(t *testing.T) {
	g, c := start(t, say(http.StatusUnauthorized, expired), say(http.StatusOK, "{}"))
	in := &orderpb.GetOrderRequest{Id: id}
	if _, err := c.Call(t.Context(), orderpb.OrderService_GetOrder_FullMethodName, in, &orderpb.GetOrderResponse{}); err != nil {
		t.Error(err)
	}
	if len(g.asked) != 2 || !strings.HasSuffix(g.asked[1], "[Bearer second]") {
		t.Errorf("asked %q", g.asked)
	}
	g, c = start(t, say(http.StatusUnauthorized, expired))
	_, err := c.Call(t.Context(), orderpb.OrderService_GetOrder_FullMethodName, in, &orderpb.GetOrderResponse{})
	if !IsCode(err, codes.Unauthenticated) || len(g.asked) != 2 {
		t.Errorf("asked %q: %v", g.asked, err)
	}
}

func TestProblemsAreReadWhole(t *testing.T) {
	_, c := start(t, say(http.StatusBadRequest, `{"code":3,"message":"no","details":[
		{"@type":"type.googleapis.com/google.rpc.BadRequest","fieldViolations":[{"field":"items[0].quantity","description":"must be positive"}]},
		{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"1.5s"}]}`))
	_, err := c.Get(t.Context(), "/")
	p, ok := errors.AsType[*Problem](err)
	if !ok || p.Code != codes.InvalidArgument || p.Text != "no" || p.RetryAfter != 1500*time.Millisecond ||
		len(p.Violations) != 1 || p.Violations[0].GetField() != "items[0].quantity" || p.Trace != "4bf92f3577b34da6a3ce929d0e0e4736" {
		t.Errorf("got %+v", p)
	}
	_, c = start(t, say(http.StatusNotFound, `{"code":5,"message":"gone","details":[{"@type":"type.googleapis.com/newer.Detail","x":1}]}`))
	if _, err := c.Get(t.Context(), "/"); !IsCode(err, codes.NotFound) {
		t.Errorf("with an unknown detail: %v", err)
	}
}

func TestAnswersThatAreNotTheShops(t *testing.T) {
	redirect := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", "https://evil.example/")
		w.WriteHeader(http.StatusTemporaryRedirect)
	}
	g, c := start(t, redirect)
	_, err := c.Call(t.Context(), userpb.AuthService_Login_FullMethodName, &userpb.LoginRequest{Password: "secret"}, &userpb.LoginResponse{})
	if err == nil || !strings.Contains(err.Error(), "evil.example") || len(g.asked) != 1 {
		t.Errorf("a redirect: %v", err)
	}
	_, c = start(t, say(http.StatusNotFound, "404 page not found"))
	if _, err := c.Get(t.Context(), "/"); err == nil || IsCode(err, codes.NotFound) || !strings.Contains(err.Error(), "--server") {
		t.Errorf("some other server: %v", err)
	}
	_, c = start(t, say(http.StatusOK, "<html>"))
	_, err = c.Call(t.Context(), orderpb.OrderService_GetOrder_FullMethodName, &orderpb.GetOrderRequest{}, &orderpb.GetOrderResponse{})
	if err == nil || !strings.Contains(err.Error(), "--server") {
		t.Errorf("a page: %v", err)
	}
}

func TestCallsEndInTime(t *testing.T) {
	hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	_, c := start(t, hang)
	c.Timeout = 50 * time.Millisecond
	_, err := c.Get(t.Context(), "/")
	if !Transient(err) || !strings.Contains(err.Error(), "too long") {
		t.Errorf("got %v", err)
	}
}

func TestUploadAsksFirst(t *testing.T) {
	g, c := start(t, say(http.StatusUnauthorized, expired), say(http.StatusOK, "{}"), say(http.StatusOK, `{"received":"2"}`))
	out := &productpb.ImportProductsResponse{}
	err := c.Upload(t.Context(), productpb.ProductService_ImportProducts_FullMethodName, strings.NewReader("{}\n{}\n"), out)
	if err != nil || out.GetReceived() != 2 {
		t.Errorf("got %v, %v", out, err)
	}
	want := []string{
		"POST /v1/products:import  [Bearer first]",
		"POST /v1/products:import  [Bearer second]",
		"POST /v1/products:import {}\n{}\n [Bearer second]",
	}
	if diff := cmp.Diff(g.asked, want); diff != "" {
		t.Error(diff)
	}
}
