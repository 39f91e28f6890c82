package backup

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"
	"time"

	orderpb "github.com/meshmart/meshmart/proto/order/v1"
	userpb "github.com/meshmart/meshmart/proto/user/v1"
	"github.com/meshmart/meshmart/services/shopctl/rest"
)

// person is somebody who calls the shop by its gateway, once each time.
type person struct {
	*rest.Client
	email, password string

	mu    sync.Mutex
	token string
}

var errOnce = errors.New("a call is made once")

// signIn returns somebody who has an account, signed in.
func signIn(t *testing.T, s shop, email, password string) *person {
	t.Helper()
	p := &person{email: email, password: password}
	client := rest.NewHTTP()
	client.Transport.(*http.Transport).MaxIdleConnsPerHost = buyers
	p.Client = &rest.Client{
		Server: s.url(), Agent: "test-backup", HTTP: client, Session: p, Timeout: 10 * time.Second,
		Notice: func(string, ...any) {},
		Pause:  func(context.Context, time.Duration) error { return errOnce },
	}
	if _, err := p.Renew(t.Context(), ""); err != nil {
		t.Fatalf("sign in as %s: %v", email, err)
	}
	return p
}

// Token implements rest.Session.
func (p *person) Token(context.Context) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.token, nil
}

// Renew implements rest.Session.
func (p *person) Renew(ctx context.Context, refused string) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.token != refused {
		return p.token, nil // another call has done it
	}
	out := &userpb.LoginResponse{}
	_, err := p.Call(ctx, userpb.AuthService_Login_FullMethodName, &userpb.LoginRequest{Email: p.email, Password: p.password}, out)
	p.token = out.GetAccessToken()
	return p.token, err
}

func (p *person) order(ctx context.Context, product, card string) (*orderpb.Order, error) {
	in := &orderpb.CreateOrderRequest{Items: []*orderpb.OrderItem{{ProductId: product, Quantity: 1}}, PaymentToken: card}
	out := &orderpb.CreateOrderResponse{}
	_, err := p.Call(ctx, orderpb.OrderService_CreateOrder_FullMethodName, in, out)
	return out.GetOrder(), err
}

func (p *person) cancel(ctx context.Context, id string) error {
	_, err := p.Call(ctx, orderpb.OrderService_CancelOrder_FullMethodName, &orderpb.CancelOrderRequest{Id: id}, &orderpb.CancelOrderResponse{})
	return err
}

// state returns what the shop says of an order.
func (p *person) state(ctx context.Context, id string) string {
	out := &orderpb.GetOrderResponse{}
	if _, err := p.Call(ctx, orderpb.OrderService_GetOrder_FullMethodName, &orderpb.GetOrderRequest{Id: id}, out); err != nil {
		return err.Error()
	}
	return out.GetOrder().GetState().String()
}
