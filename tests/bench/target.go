package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	inventorypb "github.com/meshmart/meshmart/proto/inventory/v1"
	productpb "github.com/meshmart/meshmart/proto/product/v1"
	userpb "github.com/meshmart/meshmart/proto/user/v1"
	"github.com/meshmart/meshmart/tests/bench/procs"
	"github.com/meshmart/meshmart/tests/bench/rig"
	"github.com/meshmart/meshmart/tests/bench/storage"
)

// target is what calls go to.
type target struct {
	shop     *rig.Shop
	store    *storage.Store // of a bare database; nil: it is no such
	tokens   []string       // of customers; none where nobody asks for one
	products []string
	idle     float64 // share of a processor that it uses when nobody calls
}

func (t *target) procs() []*procs.Proc { return t.shop.Procs }

// perConn is how many clients share a connection, as the callers in a service do.
const perConn = 16

// dial opens the connections that clients need to a service.
func (t *target) dial(service string, clients int) ([]*grpc.ClientConn, func(), error) {
	addr := t.shop.Addr[service]
	if addr == "" {
		return nil, nil, fmt.Errorf("where is %s? see -addr", service)
	}
	var ccs []*grpc.ClientConn
	shut := func() {
		for _, cc := range ccs {
			_ = cc.Close()
		}
	}
	for range (clients + perConn - 1) / perConn {
		cc, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			shut()
			return nil, nil, err
		}
		ccs = append(ccs, cc)
	}
	return ccs, shut, nil
}

// signed adds a token to a call.
func signed(ctx context.Context, token string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
}

// customers are as many as there are of each shop: no row is everybody's, and no
// customer has thousands of orders.
const customers = 32

// The first customer's account; Login is measured with it.
const (
	email    = "customer-0@example.com"
	password = "s3cret-pass-phrase"
)

// open signs customers up and in, and learns what can be bought. Calls are
// repeated until the shop has heard of everything.
func (t *target) open(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	steps := []func(context.Context) error{t.signIn, t.look}
	if t.shop.Addr["user"] == "" {
		steps = []func(context.Context) error{t.openREST}
	}
	for _, step := range steps {
		if err := again(ctx, step); err != nil {
			return fmt.Errorf("open the shop on %s: %w", t.shop.Name, err)
		}
	}
	return nil
}

// again calls fn until it succeeds or ctx is done.
func again(ctx context.Context, fn func(context.Context) error) error {
	for {
		err := fn(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (t *target) signIn(ctx context.Context) error {
	ccs, shut, err := t.dial("user", 1)
	if err != nil {
		return err
	}
	defer shut()
	for len(t.tokens) < customers {
		who := fmt.Sprintf("customer-%d@example.com", len(t.tokens))
		// It may be there already: then the login works.
		_, errSignUp := userpb.NewUserServiceClient(ccs[0]).CreateUser(ctx,
			&userpb.CreateUserRequest{Email: who, Password: password, DisplayName: "Ada", RequestId: uuid.NewString()})
		token, err := t.logIn(ctx, who, password)
		if err != nil {
			return errors.Join(errSignUp, err)
		}
		t.tokens = append(t.tokens, token)
	}
	return nil
}

// logIn returns a token.
func (t *target) logIn(ctx context.Context, email, password string) (string, error) {
	ccs, shut, err := t.dial("user", 1)
	if err != nil {
		return "", err
	}
	defer shut()
	reply, err := userpb.NewAuthServiceClient(ccs[0]).Login(ctx, &userpb.LoginRequest{Email: email, Password: password})
	if err != nil {
		return "", fmt.Errorf("log in as %s: %w", email, err)
	}
	return reply.GetAccessToken(), nil
}

func (t *target) look(ctx context.Context) error {
	ccs, shut, err := t.dial("product", 1)
	if err != nil {
		return err
	}
	defer shut()
	list, err := productpb.NewProductServiceClient(ccs[0]).ListProducts(ctx, &productpb.ListProductsRequest{PageSize: 1000})
	if err != nil {
		return err
	}
	t.products = nil
	for _, p := range list.GetProducts() {
		t.products = append(t.products, p.GetId())
	}
	if len(t.products) == 0 {
		return errors.New("the catalog is empty")
	}
	if t.shop.Addr["inventory"] == "" {
		return nil
	}
	stocks, shut, err := t.dial("inventory", 1)
	if err != nil {
		return err
	}
	defer shut()
	_, err = inventorypb.NewInventoryServiceClient(stocks[0]).GetStock(ctx, &inventorypb.GetStockRequest{ProductId: t.products[len(t.products)-1]})
	return err
}
