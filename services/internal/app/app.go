// Package app runs services: one as a process of its own, or several in one.
//
// A service is built first and served afterwards: Start wires it, then the
// listeners open, and it is ready once its checks pass. It waits for nothing
// that can come later: a database or a broker that is away makes it NOT_SERVING
// until it is back, and never makes it crash.
package app

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.opentelemetry.io/otel"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc/grpclog"
	resolver "google.golang.org/grpc/resolver/dns"

	"github.com/meshmart/meshmart/services/internal/faultpoint"
	"github.com/meshmart/meshmart/services/internal/policy"
	"github.com/meshmart/meshmart/services/internal/version"
)

// Service is one service as the runtime sees it.
type Service struct {
	// Name is its name in the mesh, and of its variables and database.
	Name string
	// Doc says in one line what it does, for -help.
	Doc string
	// Calls are the services that it calls: those that Env.Dial knows.
	Calls []string
	// Config points to a struct that is filled from the environment (see
	// LoadEnv) before Start; nil for none.
	Config any
	// Start wires the service: it opens what is needed from env and registers
	// the handlers. It must not wait for anything outside of the process.
	Start func(ctx context.Context, env *Env) error
}

// Options is what differs between a process of its own and a place in another.
// The zero value is the former.
type Options struct {
	Environ map[string]string          // instead of the process's environment
	Network Network                    // nil: by name, or $NAME_ADDR
	Broker  nats.InProcessConnProvider // nil: at NATS_URL
	Spans   sdktrace.SpanProcessor     // also gets every span; nil: none
	Metrics *prometheus.Registry       // nil: one of its own
	Log     io.Writer                  // nil: standard error
	Ready   func()                     // called once, when the service is ready
	Status  func(error)                // told whenever readiness may have changed, and why it is not ready; nil: nobody
	HTTP    func(net.Addr)             // told where each ServeHTTP listens; nil: nobody
	Clock   func() time.Time           // nil: time.Now
	Point   faultpoint.Hook            // for tests: told of each point as "order: before commit of ..."

	process prometheus.Gatherer // of the process's own metrics; nil: they are not this service's
}

// Main runs one service, configured from the environment, until SIGINT or
// SIGTERM. A second signal ends the process at once.
func Main(svc Service) {
	usage := func(w io.Writer) { Help(w, svc.Name, svc.Doc, svc) }
	MainFunc(svc.Name, usage, func(ctx context.Context) error { return Run(ctx, svc, Options{}) })
}

// MainFunc is the main function of a program that runs until SIGINT or SIGTERM
// and has no flags but -help and -version.
func MainFunc(name string, usage func(io.Writer), run func(context.Context) error) {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	show := flags.Bool("version", false, "print the version and exit")
	err := flags.Parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		usage(os.Stdout)
		return
	}
	if err == nil && flags.NArg() > 0 {
		err = fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v; see %s -help\n", name, err, name)
		os.Exit(2)
	}
	if *show {
		fmt.Println(name, version.Get())
		return
	}
	relaxCollections()
	lines := newLog(os.Stderr, name, slog.LevelInfo)
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, jsonLines{lines}))
	otel.SetErrorHandler(&seldom{log: lines})
	resolver.SetMinResolutionInterval(resolveEvery / 2)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	if err := run(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

// Run runs one service until ctx is done, then lets its calls finish.
func Run(ctx context.Context, svc Service, opt Options) (err error) {
	opt = opt.withDefaults(svc.Name)
	opt.Point = opt.Point.Named(svc.Name)
	cfg, err := load(svc, opt.Environ)
	if err != nil {
		return err
	}
	opt.Network = network(cfg, opt)
	env, err := newEnv(ctx, svc, cfg, opt)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, env.close()) }()
	if err := svc.Start(ctx, env); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	if err := env.guard(); err != nil {
		return err
	}
	return env.serve(ctx)
}

func (o Options) withDefaults(name string) Options {
	if o.Environ == nil {
		o.Environ = Environ()
	}
	if o.Metrics == nil {
		o.Metrics, o.process = newMetrics(prometheus.Labels{serviceLabel: name}), newMetrics(nil)
	}
	if o.Log == nil {
		o.Log = os.Stderr
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	return o
}

// serviceLabel says on /metrics whose a series is.
const serviceLabel = "service_name"

// NewMetrics returns a registry with the metrics of a process that several
// services share: they are no service's own.
func NewMetrics() *prometheus.Registry { return newMetrics(nil) }

func newMetrics(labels prometheus.Labels) *prometheus.Registry {
	r := prometheus.NewRegistry()
	prometheus.WrapRegistererWith(labels, r).MustRegister(
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// guard holds what was registered to its contracts: every RPC has a policy, and
// if one asks for a token there is a verifier.
func (e *Env) guard() error {
	ps, err := policy.Registered(e.rpc)
	if err != nil {
		return err
	}
	for _, p := range ps {
		if needsToken(p) {
			return e.verifyTokens()
		}
	}
	return nil
}
