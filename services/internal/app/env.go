package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"

	meshpb "github.com/meshmart/meshmart/proto/mesh/v1"
	userpb "github.com/meshmart/meshmart/proto/user/v1"
	"github.com/meshmart/meshmart/services/internal/auth"
	"github.com/meshmart/meshmart/services/internal/breaker"
	"github.com/meshmart/meshmart/services/internal/db"
	"github.com/meshmart/meshmart/services/internal/discovery"
	"github.com/meshmart/meshmart/services/internal/events"
	"github.com/meshmart/meshmart/services/internal/idem"
	"github.com/meshmart/meshmart/services/internal/identity"
	"github.com/meshmart/meshmart/services/internal/policy"
	"github.com/meshmart/meshmart/services/internal/rpc"
)

// Env is what a service starts with. What is opened through it is closed, in
// reverse order, after the last call has been answered.
type Env struct {
	Name   string
	Log    *slog.Logger
	Traces trace.TracerProvider
	Roots  rpc.Roots // of the traces that begin here
	Meters metric.MeterProvider
	Server grpc.ServiceRegistrar
	Clock  func() time.Time

	svc      Service
	cfg      *config
	opt      Options
	rpc      *rpc.Server
	health   *health
	workers  *workers
	draining chan struct{}
	identity *identity.Identity  // nil: calls are plaintext here
	registry *discovery.Registry // nil: there is no etcd
	leave    func()              // takes the service out of the registry
	https    []*http.Server
	closers  []func() error
	bus      func() (*events.Bus, error)
	revoked  *auth.Revocations
	keys     auth.Keys // nil: the user service's, over gRPC
}

func newEnv(ctx context.Context, svc Service, cfg *config, opt Options) (*Env, error) {
	log := newLog(opt.Log, svc.Name, cfg.LogLevel)
	t, err := newTelemetry(ctx, svc.Name, cfg, opt, log)
	if err != nil {
		return nil, err
	}
	if t.logs != nil {
		log = bridged(log, cfg.LogLevel, t.logs)
	}
	draining := make(chan struct{})
	own, err := newIdentity(svc.Name, cfg, log)
	if err != nil {
		return nil, errors.Join(err, t.close())
	}
	registry, err := newRegistry(cfg, own, log)
	if err != nil {
		return nil, errors.Join(err, own.Close(), t.close())
	}
	if registry != nil {
		opt.Network = etcd{registry, dns{opt.Environ}}
	}
	srv, err := rpc.NewServer(rpc.ServerConfig{Log: log, Traces: t.traces, Roots: rpc.Ratio(cfg.TraceRatio), Meters: t.meters, Clock: opt.Clock, Mesh: cfg.Mesh,
		Identity: own, Outage: db.IsUnavailable, Insider: insider(cfg, opt.Network), Draining: draining, Point: opt.Point})
	if err != nil {
		return nil, errors.Join(err, own.Close(), t.close())
	}
	e := &Env{
		Name: svc.Name, Log: log, Traces: t.traces, Roots: rpc.Ratio(cfg.TraceRatio), Meters: t.meters, Server: srv, Clock: opt.Clock,
		svc: svc, cfg: cfg, opt: opt, rpc: srv,
		health:   newHealth(srv, opt),
		workers:  newWorkers(log),
		draining: draining,
		identity: own,
		registry: registry,
		leave:    func() {},
		revoked:  auth.NewRevocations(opt.Clock),
	}
	e.bus = sync.OnceValues(e.connect)
	e.OnClose(t.close)
	e.OnClose(own.Close)
	if registry != nil {
		e.OnClose(registry.Close)
	}
	if cfg.MetricsAddr != "" {
		e.ServeHTTP(cfg.MetricsAddr, e.opsHandler())
	}
	return e, nil
}

// DB opens the service's own database, with the tables of idem and events. A
// SQLite file is for one process at a time; PostgreSQL for many.
func (e *Env) DB(ctx context.Context, schema fs.FS) (*db.DB, error) {
	url := e.cfg.database(e.Name)
	if err := db.Supported(url); err != nil {
		return nil, fmt.Errorf("database: %w", err)
	}
	alone, err := e.lockDatabase(url)
	if err != nil {
		return nil, err
	}
	d, err := db.Open(ctx, db.Config{
		URL:       url,
		Schemas:   []db.Schema{idem.Schema, events.Schema, {Name: e.Name, FS: schema}},
		Log:       e.Log,
		MaxConns:  e.cfg.DatabaseConns,
		Exclusive: alone,
		Point:     e.opt.Point,
		Traces:    e.Traces,
		Meters:    e.Meters,
	})
	if err != nil {
		return nil, fmt.Errorf("database: %w", err)
	}
	e.OnClose(d.Close)
	e.Check("database", d.Ready)
	e.Go("forget request ids", func(ctx context.Context) error { return e.forgetRequests(ctx, d) })
	return d, nil
}

// requestsKept is how long a request id is remembered: a client that repeats a
// call does it within minutes.
const requestsKept = 24 * time.Hour

func (e *Env) forgetRequests(ctx context.Context, d *db.DB) error {
	for tick := time.NewTicker(time.Hour); ; {
		select {
		case <-ctx.Done():
			tick.Stop()
			return nil
		case <-tick.C:
			if _, err := idem.Prune(ctx, d, e.Clock().Add(-requestsKept)); err != nil {
				e.Log.WarnContext(ctx, "request ids are not forgotten", "err", err.Error())
			}
		}
	}
}

// Dial connects to another service, one of those in Service.Calls.
func (e *Env) Dial(name string) (*grpc.ClientConn, error) {
	if !slices.Contains(e.svc.Calls, name) {
		return nil, fmt.Errorf("dial %s: not declared in Service.Calls", name)
	}
	target, opts := e.opt.Network.Target(name)
	cc, err := rpc.Dial(rpc.ClientConfig{Name: name, Target: target, Mesh: e.cfg.Mesh, Identity: e.identity, Log: e.Log, Traces: e.Traces, Roots: rpc.Ratio(e.cfg.TraceRatio), Meters: e.Meters,
		Breaker: e.Breaker, Point: e.opt.Point}, opts...)
	if err != nil {
		return nil, fmt.Errorf("dial %s at %s: %w", name, target, err)
	}
	e.OnClose(cc.Close)
	return cc, nil
}

// Breaker returns a circuit breaker that logs, and whose state is in the metrics
// and the health of the service. Dial makes one for each service that is called.
func (e *Env) Breaker(cfg breaker.Config) *breaker.Breaker {
	cfg.Log, cfg.Meters, cfg.Changed = e.Log, e.Meters, e.health.changed
	b := breaker.New(cfg)
	e.health.breaker(b)
	return b
}

// Breakers returns the circuit breakers of the service.
func (e *Env) Breakers() []*breaker.Breaker { return e.health.allBreakers() }

// Out reports whether a target is known to be out: a circuit breaker keeps calls
// from it.
func (e *Env) Out(target string) bool {
	for _, b := range e.Breakers() {
		if b.Target() == target && b.State() == breaker.Open {
			return true
		}
	}
	return false
}

// Bus connects to the broker, once per service.
func (e *Env) Bus() (*events.Bus, error) { return e.bus() }

func (e *Env) connect() (*events.Bus, error) {
	b, err := events.Connect(events.Config{
		URL: e.cfg.NATSURL, Conn: e.opt.Broker, Name: e.Name,
		Replicas: e.cfg.NATSReplicas, Log: e.Log, Traces: e.Traces, Meters: e.Meters, Point: e.opt.Point,
	})
	if err != nil {
		return nil, fmt.Errorf("broker: %w", err)
	}
	e.OnClose(b.Close)
	return b, nil
}

// Outbox returns where the service's events are written; they are published
// from there in the background, and what is left is published at a shutdown.
func (e *Env) Outbox(d *db.DB) (*events.Outbox, error) {
	b, err := e.Bus()
	if err != nil {
		return nil, err
	}
	o := events.NewOutbox(d, b)
	e.Go("outbox", o.Run)
	e.OnClose(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		if err := o.Flush(ctx); err != nil {
			e.Log.Warn("events stay in the outbox until the next start", "err", err.Error())
		}
		return nil
	})
	return o, nil
}

// Go runs fn in the background from the time the service serves. If it fails it
// is started again after a while; its ctx ends after the last call was answered.
func (e *Env) Go(name string, fn func(ctx context.Context) error) {
	e.workers.add(name, func(ctx context.Context) error { return fn(e.opt.Point.In(ctx, name)) })
}

// Draining is closed when the service begins to shut down: streams that stay
// open by themselves must end then, and tell their client where to go on.
func (e *Env) Draining() <-chan struct{} { return e.draining }

// OnClose arranges for fn to be called when the service has stopped.
func (e *Env) OnClose(fn func() error) { e.closers = append(e.closers, fn) }

// Check adds a condition of the service's readiness.
func (e *Env) Check(name string, fn func(ctx context.Context) error) { e.health.check(name, fn) }

// ServeHTTP serves h at addr beside gRPC, with the same drain at a shutdown.
func (e *Env) ServeHTTP(addr string, h http.Handler) {
	e.https = append(e.https, &http.Server{
		Addr: addr, Handler: h,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          slog.NewLogLogger(e.Log.Handler(), slog.LevelDebug),
	})
}

// UseKeys makes the service verify tokens with keys of its own, in place of
// those that the user service publishes.
func (e *Env) UseKeys(k auth.Keys) { e.keys = k }

// Revocations are the sign-ins whose access tokens are no longer accepted here.
func (e *Env) Revocations() *auth.Revocations { return e.revoked }

func needsToken(p *policy.Policy) bool {
	return p.Access == meshpb.Access_ACCESS_USER || p.Access == meshpb.Access_ACCESS_ADMIN
}

// verifyTokens has the server verify tokens, and hears of those that are
// revoked before they expire.
func (e *Env) verifyTokens() error {
	if e.keys == nil {
		cc, err := e.Dial("user")
		if err != nil {
			return fmt.Errorf("keys of tokens: %w", err)
		}
		e.keys = auth.UserKeys(cc, e.Clock)
	}
	e.rpc.Verify(auth.NewVerifier(e.keys, e.revoked, e.Clock))
	b, err := e.Bus()
	if err != nil {
		return err
	}
	e.Go("revocations", func(ctx context.Context) error {
		since := e.Clock().Add(-auth.MaxLifetime)
		tail := events.Tail{Name: "revocations", Subjects: []string{auth.RevokedSubject}, Since: since}
		return b.Tail(ctx, tail, func(_ context.Context, ev events.Event) error {
			m := &userpb.SessionRevoked{}
			if err := ev.Unmarshal(m); err != nil {
				e.Log.Error("revocation can't be read", "event", ev.ID, "err", err.Error())
				return nil // those after it matter too
			}
			e.revoked.Apply(m)
			return nil
		})
	})
	return nil
}

// close also ends the goroutines of a server that has never served.
func (e *Env) close() error {
	e.rpc.Stop()
	var errs []error
	for _, fn := range slices.Backward(e.closers) {
		errs = append(errs, fn())
	}
	return errors.Join(errs...)
}
