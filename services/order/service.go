package order

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"time"

	inventorypb "github.com/meshmart/meshmart/proto/inventory/v1"
	orderpb "github.com/meshmart/meshmart/proto/order/v1"
	paymentpb "github.com/meshmart/meshmart/proto/payment/v1"
	productpb "github.com/meshmart/meshmart/proto/product/v1"
	"github.com/meshmart/meshmart/services/internal/app"
)

//go:embed schema/*.sql
var schema embed.FS

// config is what the service reads from its environment beside what all do.
type config struct {
	DecisionTimeout time.Duration `env:"ORDER_DECISION_TIMEOUT" envDefault:"2m" doc:"how long an order waits for a service that is out before it is rejected"`
}

// Validate checks what the types alone do not say.
func (c *config) Validate() error {
	if c.DecisionTimeout <= 0 {
		return fmt.Errorf("ORDER_DECISION_TIMEOUT: %v is not positive", c.DecisionTimeout)
	}
	return nil
}

// New returns the order service, for app.Main and app.Run.
func New() app.Service {
	cfg := &config{}
	return app.Service{
		Name:   "order",
		Doc:    "takes orders and sees them through",
		Calls:  []string{"product", "inventory", "payment", "user"},
		Config: cfg,
		Start:  func(ctx context.Context, env *app.Env) error { return start(ctx, env, cfg) },
	}
}

func start(ctx context.Context, env *app.Env, cfg *config) error {
	d, err := env.DB(ctx, schema)
	if err != nil {
		return err
	}
	bus, err := env.Bus()
	if err != nil {
		return err
	}
	outbox, err := env.Outbox(d)
	if err != nil {
		return err
	}
	orders := &Orders{
		store:        &store{d},
		announce:     announcer(outbox),
		out:          env.Out,
		hub:          newHub(),
		clock:        env.Clock,
		log:          env.Log,
		tracer:       env.Traces.Tracer(scope),
		draining:     env.Draining(),
		decideWithin: cfg.DecisionTimeout,
		nudge:        make(chan struct{}, 1),
	}
	if err := errors.Join(orders.measure(env.Meters), orders.dial(env)); err != nil {
		return err
	}
	if d.Exclusive() { // nobody else works at what a crash has left
		if err := orders.store.inherit(ctx, orders.now()); err != nil {
			return err
		}
	}
	// After the dials and the outbox: the last sagas still call and announce.
	env.OnClose(orders.close)
	env.Go("resume orders", orders.Resume)
	env.Go("completion", func(ctx context.Context) error { return bus.Consume(ctx, consumer(orders, d)) })
	env.Go("wake watchers", func(ctx context.Context) error { return bus.Tail(ctx, changed(), orders.hub.wakeOn) })
	env.Go("tell watchers", orders.Tell)
	orderpb.RegisterOrderServiceServer(env.Server, &handler{orders: orders, store: orders.store, spec: listing()})
	return nil
}

// dial connects to the services that the orders need.
func (s *Orders) dial(env *app.Env) error {
	product, err := env.Dial("product")
	if err != nil {
		return err
	}
	inventory, err := env.Dial("inventory")
	if err != nil {
		return err
	}
	payment, err := env.Dial("payment")
	if err != nil {
		return err
	}
	s.catalog = productClient{productpb.NewProductServiceClient(product)}
	s.stock = inventoryClient{inventorypb.NewInventoryServiceClient(inventory)}
	s.payments = paymentClient{paymentpb.NewPaymentServiceClient(payment)}
	return nil
}
