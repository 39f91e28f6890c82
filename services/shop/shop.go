// Package shop runs every service of the shop in one process: nothing else has
// to be installed. The services are the same as in processes of their own. They
// call each other in memory, and each also has a gRPC port on loopback.
package shop

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/nats-io/nats.go"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/meshmart/meshmart/services/gateway"
	"github.com/meshmart/meshmart/services/greeter"
	"github.com/meshmart/meshmart/services/internal/app"
	"github.com/meshmart/meshmart/services/internal/events/embedded"
	"github.com/meshmart/meshmart/services/internal/faultpoint"
	"github.com/meshmart/meshmart/services/inventory"
	"github.com/meshmart/meshmart/services/order"
	"github.com/meshmart/meshmart/services/payment"
	"github.com/meshmart/meshmart/services/product"
	"github.com/meshmart/meshmart/services/user"
)

// tier is how soon a service stops: those that call others stop before them.
type tier []member

// member is a service and its gRPC port on loopback.
type member struct {
	app.Service
	port string // "" has none
}

// tiers are all services. A new one is added here, with the next port, and in
// services/cmd.
func tiers(opt gateway.Options) []tier {
	return []tier{
		{{gateway.New(opt), ""}},
		{{order.New(), "9004"}},
		{
			{product.New(), "9001"},
			{user.New(), "9002"},
			{inventory.New(), "9003"},
			{payment.New(), "9005"},
			{greeter.New(), "9006"},
		},
	}
}

// Options is what a caller of Run decides. The zero value runs the shop as
// `make run` does.
type Options struct {
	Environ map[string]string      // in place of the process's environment
	Log     io.Writer              // nil: standard error
	Spans   sdktrace.SpanProcessor // also gets every span; nil: none
	Ready   func(http net.Addr)    // called once, when every service is ready, with the gateway's address
	Point   faultpoint.Hook        // for tests: told of each point as "order: before commit of ..."
}

// defaults is what the services get unless the environment says otherwise.
var defaults = map[string]string{
	"CATALOG_FILE": "builtin",
	"ADMIN_EMAIL":  "admin@meshmart.local",
	"DRAIN_DELAY":  "0s",
}

// Run runs the shop until ctx is done or one of its services fails. State is in
// DATA_DIR: a SQLite database per service, and the broker's streams. A NATS_URL
// in the environment is used in place of the embedded broker.
func Run(ctx context.Context, opt Options) (err error) {
	environ := opt.Environ
	if environ == nil {
		environ = app.Environ()
	}
	stop, err := app.SendProcess(ctx, "shop", environ, opt.Log)
	if err != nil {
		return err
	}
	defer stop()
	traces := NewTraces()
	shared := app.Options{Network: &app.Memory{}, Metrics: app.NewMetrics(), Log: opt.Log, Spans: traces, Point: opt.Point}
	if opt.Spans != nil {
		shared.Spans = both{traces, opt.Spans}
	}
	if environ["NATS_URL"] == "" {
		broker, stop, err := embeddedBroker(environ["DATA_DIR"], opt.Log)
		if err != nil {
			return err
		}
		defer stop()
		shared.Broker = broker
	}
	ready := newReadiness()
	return runTiers(ctx, tiers(gateway.Options{Traces: traces, Ready: ready.check}), environ, shared, ready, opt.Ready)
}

// embeddedBroker starts a broker with its streams in the data folder, which it
// keeps from other shops.
func embeddedBroker(dataDir string, log io.Writer) (nats.InProcessConnProvider, func(), error) {
	dir := filepath.Join(cmp.Or(dataDir, "data"), "nats")
	unlock, err := app.Lock(dir)
	if err != nil {
		return nil, nil, err
	}
	if log == nil {
		log = os.Stderr
	}
	broker, stop, err := embedded.Start(embedded.Config{
		Dir: dir,
		Log: slog.New(slog.NewJSONHandler(log, nil)).With("service", "broker"),
	})
	if err != nil {
		return nil, nil, errors.Join(err, unlock())
	}
	return broker, func() { stop(); unlock() }, nil
}

// runTiers starts all services at once and stops them tier by tier, so that no
// call under way loses the service that it needs.
func runTiers(ctx context.Context, ts []tier, environ map[string]string, shared app.Options, status *readiness, ready func(net.Addr)) error {
	var gatewayAddr net.Addr // set before the gateway is ready
	shared.HTTP = func(a net.Addr) { gatewayAddr = a }
	all := make(chan struct{})
	shared.Ready = countdown(ts, func() { close(all) })
	failed := make(chan error, 16)
	stops := make([]func(), 0, len(ts))
	for _, t := range ts {
		stops = append(stops, runTier(ctx, t, environ, shared, status, failed))
	}
	errs := []error{watch(ctx, all, failed, func() error {
		err := settled(ctx, shared.Network)
		status.set("stock", err)
		if err == nil && ready != nil {
			ready(gatewayAddr)
		}
		return err
	})}
	for _, stop := range stops {
		stop()
	}
	close(failed)
	for err := range failed {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// runTier starts the services of a tier and returns what stops them.
func runTier(ctx context.Context, t tier, environ map[string]string, shared app.Options, status *readiness, failed chan<- error) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	for _, svc := range t {
		o := shared
		o.Environ = environOf(svc.Name, svc.port, environ)
		o.Status = func(reason error) { status.set(svc.Name, reason) }
		status.set(svc.Name, errStarting)
		wg.Go(func() {
			if err := app.Run(ctx, svc.Service, o); err != nil {
				failed <- fmt.Errorf("%s: %w", svc.Name, err)
			}
		})
	}
	return func() { cancel(); wg.Wait() }
}

// watch returns when ctx is done or a service fails; meanwhile, once all are
// ready, it calls ready.
func watch(ctx context.Context, all <-chan struct{}, failed <-chan error, ready func() error) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return err
		case <-all:
			all = nil
			if err := ready(); err != nil && ctx.Err() == nil {
				return fmt.Errorf("first look at the catalog: %w", err)
			}
		}
	}
}

// countdown returns what calls ready when each service has called it once.
func countdown(ts []tier, ready func()) func() {
	var left atomic.Int32
	for _, t := range ts {
		left.Add(int32(len(t)))
	}
	return func() {
		if left.Add(-1) == 0 {
			ready()
		}
	}
}

// environOf is the environment of one service. A variable with the service's
// name in front is for that service alone: ORDER_LOG_LEVEL=debug.
func environOf(name, port string, environ map[string]string) map[string]string {
	e := maps.Clone(defaults)
	maps.Copy(e, environ)
	delete(e, "DATABASE_URL") // each service has its own: ORDER_DATABASE_URL
	delete(e, "METRICS_ADDR") // the gateway's /metrics has those of all
	e["GRPC_ADDR"] = "127.0.0.1:" + port
	for k, v := range environ {
		if own, ok := strings.CutPrefix(k, strings.ToUpper(name)+"_"); ok {
			e[own] = v
		}
	}
	return e
}

// both sends spans to two processors.
type both [2]sdktrace.SpanProcessor

func (b both) OnStart(ctx context.Context, s sdktrace.ReadWriteSpan) {
	b[0].OnStart(ctx, s)
	b[1].OnStart(ctx, s)
}

func (b both) OnEnd(s sdktrace.ReadOnlySpan) {
	b[0].OnEnd(s)
	b[1].OnEnd(s)
}

func (b both) Shutdown(ctx context.Context) error {
	return errors.Join(b[0].Shutdown(ctx), b[1].Shutdown(ctx))
}

func (b both) ForceFlush(ctx context.Context) error {
	return errors.Join(b[0].ForceFlush(ctx), b[1].ForceFlush(ctx))
}
