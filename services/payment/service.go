package payment

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"time"

	paymentpb "github.com/meshmart/meshmart/proto/payment/v1"
	"github.com/meshmart/meshmart/services/internal/app"
	"github.com/meshmart/meshmart/services/internal/db"
	"github.com/meshmart/meshmart/services/internal/events"
)

//go:embed schema/*.sql
var schema embed.FS

type config struct {
	Processor     string `env:"PAYMENT_PROCESSOR" envDefault:"simulator" doc:"what moves the money: simulator (none is moved) or stripe"`
	StripeKey     string `env:"STRIPE_API_KEY" doc:"a secret or restricted key of Stripe; those that begin with sk_test_ or rk_test_ move no money"`
	StripeURL     string `env:"STRIPE_API_URL" envDefault:"https://api.stripe.com" doc:"where Stripe is"`
	WebhookAddr   string `env:"STRIPE_WEBHOOK_ADDR" doc:"where Stripe's webhooks are heard, by POST /webhooks/stripe over HTTP; empty: nowhere"`
	WebhookSecret string `env:"STRIPE_WEBHOOK_SECRET" doc:"with which Stripe signs them (whsec_...)"`

	Timeout     time.Duration `env:"PROCESSOR_TIMEOUT" envDefault:"3s" doc:"how long the payment processor may take to answer"`
	Latency     time.Duration `env:"SIMULATOR_LATENCY" envDefault:"20ms" doc:"how long the simulated processor takes to answer"`
	Jitter      time.Duration `env:"SIMULATOR_JITTER" envDefault:"0s" doc:"up to how much longer it takes by chance"`
	FailureRate float64       `env:"SIMULATOR_FAILURE_RATE" envDefault:"0" doc:"share of its calls that fail, 0 to 1; half of those have acted before"`
	Seed        uint64        `env:"SIMULATOR_SEED" envDefault:"0" doc:"makes its chances repeatable; 0: they are not"`
}

// Validate checks what the types alone do not say.
func (c *config) Validate() error {
	errs := []error{c.validateStripe()}
	if c.Timeout <= 0 {
		errs = append(errs, fmt.Errorf("PROCESSOR_TIMEOUT: %v is not positive", c.Timeout))
	}
	if c.Latency < 0 {
		errs = append(errs, fmt.Errorf("SIMULATOR_LATENCY: %v is negative", c.Latency))
	}
	if c.Jitter < 0 {
		errs = append(errs, fmt.Errorf("SIMULATOR_JITTER: %v is negative", c.Jitter))
	}
	if !(c.FailureRate >= 0 && c.FailureRate <= 1) { // NaN is neither
		errs = append(errs, fmt.Errorf("SIMULATOR_FAILURE_RATE: %v is not between 0 and 1", c.FailureRate))
	}
	return errors.Join(errs...)
}

// New returns the payment service, for app.Main and app.Run. Its processor is the
// one that the configuration names.
func New() app.Service {
	return newService(func(d *db.DB, cfg *config, env *app.Env) Processor {
		if cfg.Processor == byStripe {
			return newStripe(&stripeBook{d}, cfg, env.Log, env.Clock)
		}
		return newSimulator(&book{d}, cfg, env.Clock)
	})
}

// newService returns the service with another processor.
func newService(processor func(*db.DB, *config, *app.Env) Processor) app.Service {
	cfg := &config{}
	return app.Service{
		Name:   "payment",
		Doc:    "authorizes, captures and gives back what orders cost",
		Calls:  []string{"user"}, // the keys of tokens
		Config: cfg,
		Start: func(ctx context.Context, env *app.Env) error {
			database, err := env.DB(ctx, schema)
			if err != nil {
				return err
			}
			if database.Exclusive() { // nobody else works at what a crash has left
				if err := (&store{database}).inherit(ctx, env.Clock()); err != nil {
					return err
				}
			}
			return start(env, database, cfg, processor(database, cfg, env))
		},
	}
}

func start(env *app.Env, database *db.DB, cfg *config, processor Processor) error {
	bus, err := env.Bus()
	if err != nil {
		return err
	}
	outbox, err := env.Outbox(database)
	if err != nil {
		return err
	}
	w := newWorker()
	p := &Payments{
		store:  &store{database},
		events: &announcer{outbox},
		processor: newGuard(processor, guardConfig{
			timeout: cfg.Timeout, traces: env.Traces, breaker: env.Breaker,
		}),
		log:   env.Log,
		clock: env.Clock,
		lease: cfg.Timeout + time.Second, // a call, and the record of its result
		wake:  w.wake,
		hand:  w.hand,
	}
	w.payments = p
	if err := p.measure(env.Meters); err != nil {
		return err
	}
	env.Go("worker", w.run)
	if s, ok := processor.(*stripeProcessor); ok && cfg.WebhookAddr != "" {
		h := &webhooks{payments: p, look: s.api.intent, secret: cfg.WebhookSecret, timeout: cfg.Timeout, log: env.Log}
		env.ServeHTTP(cfg.WebhookAddr, h.handler())
		env.Go("forget webhooks", h.forget)
	}
	l := &listener{payments: p, log: env.Log}
	env.Go("events", func(ctx context.Context) error {
		return bus.Consume(ctx, events.Consumer{Name: "payment", Subjects: []string{"order.confirmed"}, DB: database, Handle: l.handle, Key: orderOf})
	})
	paymentpb.RegisterPaymentServiceServer(env.Server, &handler{payments: p, store: p.store})
	return nil
}
