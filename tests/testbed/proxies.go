package testbed

import (
	"context"
	"fmt"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2/client"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/network"
	"github.com/testcontainers/testcontainers-go/wait"

	"github.com/meshmart/meshmart/tests/images"
)

// proxyPorts is where the proxy before each target listens.
func proxyPorts() map[string]int {
	ports := map[string]int{"postgres": 5432, "nats": 4222}
	for i, name := range Services {
		ports[name] = 9001 + i
	}
	return ports
}

// upstream is the target itself. A name stands for all its replicas: each
// connection goes to one of them.
func upstream(target string) string {
	switch target {
	case "postgres", "nats":
		return fmt.Sprintf("%s:%d", target, proxyPorts()[target])
	}
	return target + ":9090"
}

type proxies struct {
	container *Container
	by        map[string]*toxiproxy.Proxy
}

func (b *Bed) startProxies(ctx context.Context) error {
	c := &Container{Name: "toxiproxy", bed: b, alias: "toxiproxy"}
	run, err := testcontainers.Run(ctx, images.Tag("toxiproxy"),
		testcontainers.WithExposedPorts("8474/tcp"),
		testcontainers.WithWaitStrategy(wait.ForHTTP("/version").WithPort("8474/tcp")),
		network.WithNetwork([]string{c.alias}, b.network),
	)
	if run != nil {
		c.running = run
		b.onClose(c.remove)
	}
	if err != nil {
		return c.did("run", err)
	}
	url, err := run.PortEndpoint(ctx, "8474/tcp", "http")
	if err != nil {
		return c.did("address of", err)
	}
	b.proxies = &proxies{c, map[string]*toxiproxy.Proxy{}}
	api := toxiproxy.NewClient(url)
	for target, port := range proxyPorts() {
		p, err := api.CreateProxy(target, fmt.Sprintf("0.0.0.0:%d", port), upstream(target))
		if err != nil {
			return fmt.Errorf("proxy before %s: %w", target, err)
		}
		b.proxies.by[target] = p
	}
	return nil
}

// Slow delays what comes back from a target, by up to that latency,
// until the returned function is called.
func (b *Bed) Slow(target string, latency time.Duration) (restore func() error, err error) {
	return b.toxic(target, "latency", toxiproxy.Attributes{"latency": latency.Milliseconds() / 2, "jitter": latency.Milliseconds() / 2})
}

// Silence lets nothing through to or from a target; connections stay.
func (b *Bed) Silence(target string) (restore func() error, err error) {
	return b.toxic(target, "timeout", toxiproxy.Attributes{"timeout": 0})
}

func (b *Bed) toxic(target, kind string, a toxiproxy.Attributes) (func() error, error) {
	p := b.proxies.by[target]
	t, err := p.AddToxic("", kind, "downstream", 1, a)
	if err != nil {
		return nil, fmt.Errorf("%s before %s: %w", kind, target, err)
	}
	return func() error { return p.RemoveToxic(t.Name) }, nil
}

// Disconnect breaks all connections to a target and refuses new ones.
func (b *Bed) Disconnect(target string) (restore func() error, err error) {
	p := b.proxies.by[target]
	if err := p.Disable(); err != nil {
		return nil, fmt.Errorf("disconnect %s: %w", target, err)
	}
	return p.Enable, nil
}

// Targets are those that Slow, Silence and Disconnect know.
func (b *Bed) Targets() []string {
	t := []string{"product", "inventory", "order", "payment", "user", "nats"}
	if b.opt.Engine == Postgres {
		t = append(t, "postgres")
	}
	return t
}
