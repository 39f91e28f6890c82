package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	greeterpb "github.com/meshmart/meshmart/proto/greeter/v1"
	orderpb "github.com/meshmart/meshmart/proto/order/v1"
	productpb "github.com/meshmart/meshmart/proto/product/v1"
	userpb "github.com/meshmart/meshmart/proto/user/v1"
	"github.com/meshmart/meshmart/tests/bench/drive"
)

// maker opens what so many clients need, and returns their call and what closes
// it all.
type maker func(t *target, clients int) (drive.Call, func(), error)

// headers are the metadata of calls: a token, and a trace of the caller's that
// is sampled as often as asked. They are made once, as a client keeps them; the
// bare server gets none.
type headers []metadata.MD

func (t *target) headers(sampled int) headers {
	var all headers
	for _, token := range t.tokens {
		for i := range 100 {
			flags := "00"
			if i < sampled {
				flags = "01"
			}
			all = append(all, metadata.Pairs("authorization", "Bearer "+token,
				"traceparent", fmt.Sprintf("00-%016x%016x-%016x-%s", rand.Uint64()|1, rand.Uint64(), rand.Uint64()|1, flags)))
		}
	}
	return all
}

// on adds the headers to a call.
func (h headers) on(ctx context.Context) context.Context {
	if h == nil {
		return ctx
	}
	return metadata.NewOutgoingContext(ctx, h[rand.IntN(len(h))])
}

// unary makes the maker of a call to a service.
func unary[C any](service string, sampled int, stub func(grpc.ClientConnInterface) C, call func(ctx context.Context, t *target, c C) error) maker {
	return func(t *target, clients int) (drive.Call, func(), error) {
		ccs, shut, err := t.dial(service, clients)
		if err != nil {
			return nil, nil, err
		}
		stubs := make([]C, len(ccs))
		for i, cc := range ccs {
			stubs[i] = stub(cc)
		}
		h := t.headers(sampled)
		return func(ctx context.Context, client int) error {
			return call(h.on(ctx), t, stubs[client%len(stubs)])
		}, shut, nil
	}
}

func (t *target) product() string {
	if len(t.products) == 0 {
		return "01a1fe32-1be4-7f12-897d-02b16ffbd2e1" // the bare server knows every id
	}
	return t.products[rand.IntN(len(t.products))]
}

func getProduct(sampled int) maker {
	return unary("product", sampled, productpb.NewProductServiceClient, func(ctx context.Context, t *target, c productpb.ProductServiceClient) error {
		id := t.product()
		reply, err := c.GetProduct(ctx, &productpb.GetProductRequest{Id: id})
		if err == nil && reply.GetProduct().GetId() != id {
			err = errors.New("another product than was asked for")
		}
		return err
	})
}

// pageSize is what a shop shows at once.
const pageSize = 20

var listProducts = unary("product", 1, productpb.NewProductServiceClient, func(ctx context.Context, _ *target, c productpb.ProductServiceClient) error {
	reply, err := c.ListProducts(ctx, &productpb.ListProductsRequest{PageSize: pageSize})
	if err == nil && len(reply.GetProducts()) != pageSize {
		err = fmt.Errorf("a page has %d products", len(reply.GetProducts()))
	}
	return err
})

var greet = unary("greeter", 1, greeterpb.NewGreetingServiceClient, func(ctx context.Context, _ *target, c greeterpb.GreetingServiceClient) error {
	_, err := c.Greet(ctx, &greeterpb.GreetRequest{Name: "Ada"})
	return err
})

// login is limited for each caller, so everybody here calls from elsewhere.
var login = unary("user", 1, userpb.NewAuthServiceClient, func(ctx context.Context, _ *target, c userpb.AuthServiceClient) error {
	ctx = metadata.AppendToOutgoingContext(ctx, "x-forwarded-for", fmt.Sprintf("10.%d.%d.%d", rand.IntN(256), rand.IntN(256), rand.IntN(256)))
	_, err := c.Login(ctx, &userpb.LoginRequest{Email: email, Password: password})
	return err
})

// messages are as many as a stream has.
const messages = 10_000

var listGreetings = unary("greeter", 1, greeterpb.NewGreetingServiceClient, func(ctx context.Context, _ *target, c greeterpb.GreetingServiceClient) error {
	stream, err := c.ListGreetings(ctx, &greeterpb.ListGreetingsRequest{Name: "Ada", Count: messages})
	if err != nil {
		return err
	}
	for n := 0; ; n++ {
		_, err := stream.Recv()
		if errors.Is(err, io.EOF) && n == messages {
			return nil
		}
		if err != nil {
			return fmt.Errorf("after %d messages: %w", n, err)
		}
	}
})

var recordGreetings = unary("greeter", 1, greeterpb.NewGreetingServiceClient, func(ctx context.Context, _ *target, c greeterpb.GreetingServiceClient) error {
	stream, err := c.RecordGreetings(ctx)
	if err != nil {
		return err
	}
	for range messages {
		if err := stream.Send(&greeterpb.RecordGreetingsRequest{Name: "Ada"}); err != nil {
			return err
		}
	}
	reply, err := stream.CloseAndRecv()
	if err == nil && reply.GetCount() != messages {
		err = fmt.Errorf("%d messages were counted", reply.GetCount())
	}
	return err
})

// place orders one piece of a product and returns the order, decided.
func place(ctx context.Context, c orderpb.OrderServiceClient, product string) (*orderpb.Order, error) {
	reply, err := c.CreateOrder(ctx, &orderpb.CreateOrderRequest{
		RequestId: uuid.NewString(), PaymentToken: "tok_visa", Items: []*orderpb.OrderItem{{ProductId: product, Quantity: 1}},
	})
	if err != nil {
		return nil, err
	}
	o := reply.GetOrder()
	switch {
	case o.GetState() == orderpb.Order_CONFIRMED, o.GetState() == orderpb.Order_COMPLETED:
		return o, nil
	case o.GetReason() == "OUT_OF_STOCK":
		return nil, errOutOfStock
	default:
		return nil, fmt.Errorf("an order is %v %s", o.GetState(), o.GetReason())
	}
}

var errOutOfStock = errors.New("an order is rejected: there is none left")

// createOrder waits for the decision.
var createOrder = unary("order", 1, orderpb.NewOrderServiceClient, func(ctx context.Context, t *target, c orderpb.OrderServiceClient) error {
	_, err := place(ctx, c, t.product())
	return err
})

// createHotOrder wants what everybody wants.
var createHotOrder = unary("order", 1, orderpb.NewOrderServiceClient, func(ctx context.Context, t *target, c orderpb.OrderServiceClient) error {
	_, err := place(ctx, c, t.products[0])
	return err
})

// completeOrder also follows the order until its stock is sold and its payment
// taken.
var completeOrder = unary("order", 1, orderpb.NewOrderServiceClient, func(ctx context.Context, t *target, c orderpb.OrderServiceClient) error {
	o, err := place(ctx, c, t.product())
	if err != nil || o.GetState() == orderpb.Order_COMPLETED {
		return err
	}
	stream, err := c.WatchOrder(ctx, &orderpb.WatchOrderRequest{Id: o.GetId(), AfterVersion: o.GetVersion()})
	if err != nil {
		return err
	}
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if s := m.GetChange().GetState(); s != orderpb.Order_COMPLETED {
			return fmt.Errorf("an order has become %v", s)
		}
	}
})

// bareAlone and bareGrouped are the statements of an order, and no shop.
func bareAlone(t *target, _ int) (drive.Call, func(), error) {
	return func(ctx context.Context, _ int) error { return t.store.Alone(ctx) }, func() {}, nil
}

func bareGrouped(t *target, _ int) (drive.Call, func(), error) {
	return func(ctx context.Context, _ int) error { return t.store.Grouped(ctx) }, func() {}, nil
}
