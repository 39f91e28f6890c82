// Package customer is somebody who calls the shop by its gateway. A call is made
// once: one that fails has failed.
package customer

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	inventorypb "github.com/meshmart/meshmart/proto/inventory/v1"
	orderpb "github.com/meshmart/meshmart/proto/order/v1"
	productpb "github.com/meshmart/meshmart/proto/product/v1"
	userpb "github.com/meshmart/meshmart/proto/user/v1"
	"github.com/meshmart/meshmart/services/shopctl/rest"
)

const (
	callLimit = 10 * time.Second
	// idleMost is after which a connection is not used again. It must be shorter
	// than the services' DRAIN_DELAY: a gateway that ends closes those that are idle.
	idleMost = 2 * time.Second
	// tokenFor is shorter than a token lives.
	tokenFor = 10 * time.Minute
)

// Customer is somebody at one shop. It may be used concurrently once signed in.
type Customer struct {
	*rest.Client
	who *session
}

// errOnce keeps the client from trying again.
var errOnce = errors.New("a call is made once")

// New returns somebody who is not signed in; server is the address of a gateway,
// with no slash at its end.
func New(server string) *Customer {
	client := rest.NewHTTP()
	t := client.Transport.(*http.Transport)
	t.IdleConnTimeout, t.MaxIdleConnsPerHost = idleMost, 64
	c := &Customer{Client: &rest.Client{
		Server: server, Agent: "test", HTTP: client, Timeout: callLimit,
		Notice: func(string, ...any) {},
		Pause:  func(context.Context, time.Duration) error { return errOnce },
	}}
	c.who = &session{shop: c.Client}
	c.Session = c.who
	return c
}

// Close gives up the connections that are idle.
func (c *Customer) Close() { c.HTTP.CloseIdleConnections() }

// Register makes a new account and signs in.
func (c *Customer) Register(ctx context.Context) error {
	email, password := "customer-"+rand.Text()+"@example.com", rand.Text()
	in := &userpb.CreateUserRequest{Email: email, Password: password, DisplayName: "Ada"}
	if _, err := c.Call(ctx, userpb.UserService_CreateUser_FullMethodName, in, &userpb.CreateUserResponse{}); err != nil {
		return fmt.Errorf("register: %w", err)
	}
	return c.SignIn(ctx, email, password)
}

// SignIn makes it somebody who has an account.
func (c *Customer) SignIn(ctx context.Context, email, password string) error {
	c.who.email, c.who.password = email, password
	_, err := c.who.Renew(ctx, "")
	return err
}

// Products returns the ids of up to fifty products.
func (c *Customer) Products(ctx context.Context) ([]string, error) {
	out := &productpb.ListProductsResponse{}
	if _, err := c.Call(ctx, productpb.ProductService_ListProducts_FullMethodName, &productpb.ListProductsRequest{PageSize: 50}, out); err != nil {
		return nil, fmt.Errorf("read the catalog: %w", err)
	}
	var ids []string
	for _, p := range out.GetProducts() {
		ids = append(ids, p.GetId())
	}
	return ids, nil
}

// Stock sets how many of a product are available; for administrators.
func (c *Customer) Stock(ctx context.Context, product string, available int32) error {
	in := &inventorypb.SetStockRequest{ProductId: product, Available: &available}
	_, err := c.Call(ctx, inventorypb.InventoryService_SetStock_FullMethodName, in, &inventorypb.SetStockResponse{})
	if err != nil {
		return fmt.Errorf("stock %s: %w", product, err)
	}
	return nil
}

// Order orders one of a product.
func (c *Customer) Order(ctx context.Context, product, card string) (*orderpb.Order, error) {
	in := &orderpb.CreateOrderRequest{Items: []*orderpb.OrderItem{{ProductId: product, Quantity: 1}}, PaymentToken: card}
	out := &orderpb.CreateOrderResponse{}
	_, err := c.Call(ctx, orderpb.OrderService_CreateOrder_FullMethodName, in, out)
	return out.GetOrder(), err
}

// Read returns one of the customer's orders.
func (c *Customer) Read(ctx context.Context, id string) (*orderpb.Order, error) {
	out := &orderpb.GetOrderResponse{}
	_, err := c.Call(ctx, orderpb.OrderService_GetOrder_FullMethodName, &orderpb.GetOrderRequest{Id: id}, out)
	return out.GetOrder(), err
}

// Cancel asks for an order to be undone.
func (c *Customer) Cancel(ctx context.Context, id string) error {
	_, err := c.Call(ctx, orderpb.OrderService_CancelOrder_FullMethodName, &orderpb.CancelOrderRequest{Id: id}, &orderpb.CancelOrderResponse{})
	return err
}

// session signs in again before a token ends.
type session struct {
	shop            *rest.Client
	email, password string

	mu    sync.Mutex
	token string
	since time.Time
}

// Token implements rest.Session.
func (s *session) Token(ctx context.Context) (string, error) {
	s.mu.Lock()
	token, since := s.token, s.since
	s.mu.Unlock()
	if time.Since(since) < tokenFor {
		return token, nil
	}
	return s.Renew(ctx, token)
}

// Renew implements rest.Session.
func (s *session) Renew(ctx context.Context, refused string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.token != refused {
		return s.token, nil // another call has done it
	}
	out := &userpb.LoginResponse{}
	if _, err := s.shop.Call(ctx, userpb.AuthService_Login_FullMethodName, &userpb.LoginRequest{Email: s.email, Password: s.password}, out); err != nil {
		return "", fmt.Errorf("sign in: %w", err)
	}
	s.token, s.since = out.GetAccessToken(), time.Now()
	return s.token, nil
}
