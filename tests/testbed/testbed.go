// Package testbed runs the shop as it runs in a cluster: every service in
// containers of its own, of the images that `make images` makes and with no more
// rights than there, several replicas of each, with PostgreSQL and NATS as servers.
// Whoever asks can kill, pause and cut off any of them, and slow down or cut what
// goes between them.
//
// It needs a Docker engine and the images of tests/images.
package testbed

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/testcontainers/testcontainers-go"
	tclog "github.com/testcontainers/testcontainers-go/log"
	"github.com/testcontainers/testcontainers-go/network"
	"golang.org/x/sync/errgroup"
)

// Services are the names of what runs, the gateway last.
var Services = []string{"product", "user", "inventory", "order", "payment", "greeter", "gateway"}

// Owners are those of them that have a database.
var Owners = []string{"product", "user", "inventory", "order", "payment"}

// The administrator that the shop starts with.
const (
	AdminEmail    = "admin@meshmart.test"
	AdminPassword = "correct horse battery"
)

// Engine is where the services keep their data.
type Engine string

const (
	SQLite   Engine = "sqlite"   // in each service's container; one replica
	Postgres Engine = "postgres" // one server, a database for each service
)

// images are those of `make images`, but for SQLite: they leave it out.
func (e Engine) images(ctx context.Context) (map[string]string, error) {
	if e == SQLite {
		return ServiceImages(ctx, "testbed-sqlite", "grpcnotrace,nethttpomithttp2,nopgxregisterdefaulttypes")
	}
	return ServiceImages(ctx, "testbed", "")
}

// Options says what to run. The zero value is one replica of each service on
// PostgreSQL and one broker.
type Options struct {
	Engine   Engine            // "" is Postgres
	Replicas int               // of each service; 0 is 1
	Brokers  int               // 1 or 3; 0 is 1
	Proxied  bool              // everything that a service connects to is behind toxiproxy
	Behind   []string          // or only these targets are, such as "postgres"
	Jaeger   bool              // the services send their spans to one
	Environ  map[string]string // of all services
	Progress func(string)      // told what is being started; nil: nobody
}

// Bed is a running shop.
type Bed struct {
	opt       Options
	docker    *testcontainers.DockerClient
	network   *testcontainers.DockerNetwork
	mu        sync.Mutex // of closers: servers are started at the same time
	closers   []func() error
	images    map[string]string // of each service
	databases *Container
	brokers   []*Container
	proxies   *proxies
	jaeger    *Container
	services  map[string][]*Container
	added     map[string]int // replicas of each service, ever
}

// Start runs a shop and returns when every replica is ready. The caller closes
// it, also after an error.
func Start(ctx context.Context, opt Options) (*Bed, error) {
	b := &Bed{opt: opt.withDefaults(), services: map[string][]*Container{}, added: map[string]int{}}
	if b.opt.Engine == SQLite && b.opt.Replicas > 1 {
		return b, errors.New("start testbed: a SQLite database is for one replica")
	}
	if err := b.start(ctx); err != nil {
		return b, fmt.Errorf("start testbed: %w", err)
	}
	return b, nil
}

func (o Options) withDefaults() Options {
	if o.Engine == "" {
		o.Engine = Postgres
	}
	o.Replicas = max(o.Replicas, 1)
	o.Brokers = max(o.Brokers, 1)
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	return o
}

// proxied reports whether a target is behind toxiproxy.
func (o Options) proxied(target string) bool { return o.Proxied || slices.Contains(o.Behind, target) }

func (b *Bed) start(ctx context.Context) (err error) {
	if err := engineIsHere(); err != nil {
		return err
	}
	tclog.SetDefault(tclog.NewNoopLogger()) // a line for each container, else
	if b.docker, err = testcontainers.NewDockerClientWithOpts(ctx); err != nil {
		return err
	}
	b.onClose(b.docker.Close)
	if b.network, err = network.New(ctx); err != nil {
		return fmt.Errorf("network: %w", err)
	}
	b.onClose(func() error { return b.network.Remove(context.Background()) })
	g, gctx := errgroup.WithContext(ctx)
	b.opt.Progress("building the services")
	g.Go(func() (err error) { b.images, err = b.opt.Engine.images(gctx); return err })
	g.Go(func() error { return b.startStores(gctx) })
	if err := g.Wait(); err != nil {
		return err
	}
	b.opt.Progress(fmt.Sprintf("starting %d replicas of %d services", b.opt.Replicas, len(Services)))
	for _, name := range Services {
		for range b.opt.Replicas {
			if _, err := b.Add(ctx, name); err != nil {
				return err
			}
		}
	}
	for _, c := range b.All() {
		if err := c.WaitReady(ctx); err != nil {
			return err
		}
	}
	return nil
}

// engineIsHere tells testcontainers that ports are published on this machine,
// if the Docker engine is a process of it. In what looks like a container it
// would look for them at the container's gateway.
func engineIsHere() error {
	const override = "TESTCONTAINERS_HOST_OVERRIDE"
	if _, err := os.Stat("/var/run/docker.pid"); err != nil || os.Getenv(override) != "" {
		return nil
	}
	return os.Setenv(override, "127.0.0.1")
}

// startStores starts all that the services need, and the way to it.
func (b *Bed) startStores(ctx context.Context) error {
	b.opt.Progress("starting databases and brokers")
	g, ctx := errgroup.WithContext(ctx)
	if b.opt.Engine == Postgres {
		g.Go(func() error { return b.startPostgres(ctx) })
	}
	g.Go(func() error { return b.startBrokers(ctx) })
	if b.opt.Jaeger {
		g.Go(func() error { return b.startJaeger(ctx) })
	}
	if b.opt.Proxied || len(b.opt.Behind) > 0 {
		g.Go(func() error { return b.startProxies(ctx) })
	}
	return g.Wait()
}

// Service returns the replicas of a service, in the order they were added.
func (b *Bed) Service(name string) []*Container { return slices.Clone(b.services[name]) }

// All returns the replicas of all services.
func (b *Bed) All() []*Container {
	var all []*Container
	for _, name := range Services {
		all = append(all, b.services[name]...)
	}
	return all
}

// Brokers returns the servers of NATS.
func (b *Bed) Brokers() []*Container { return slices.Clone(b.brokers) }

// Database returns the server of PostgreSQL, nil if there is none.
func (b *Bed) Database() *Container { return b.databases }

func (b *Bed) onClose(fn func() error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closers = append(b.closers, fn)
}

// Close removes everything.
func (b *Bed) Close() error {
	var errs []error
	for _, c := range b.All() {
		errs = append(errs, c.remove())
	}
	for _, fn := range slices.Backward(b.closers) {
		errs = append(errs, fn())
	}
	b.closers, b.services = nil, nil
	return errors.Join(errs...)
}

// eventually calls fn until it returns nil or ctx is done, and then returns why
// it did not.
func eventually(ctx context.Context, fn func(context.Context) error) error {
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		err := fn(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		}
	}
}
