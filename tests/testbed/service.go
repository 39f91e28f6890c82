package testbed

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/network"
)

// Add runs one more replica of a service and does not wait for it to be ready.
func (b *Bed) Add(ctx context.Context, name string) (*Container, error) {
	b.added[name]++
	c := &Container{Name: fmt.Sprintf("%s-%d", name, b.added[name]), bed: b, alias: name}
	run, err := testcontainers.Run(ctx, b.images[name],
		testcontainers.WithHostConfigModifier(b.restrict),
		testcontainers.WithEnv(b.environ(name)),
		testcontainers.WithExposedPorts(exposed(name)...),
		network.WithNetwork([]string{name, c.Name}, b.network),
	)
	if run != nil {
		c.running = run
		b.services[name] = append(b.services[name], c)
	}
	return c, c.did("run", err)
}

// restrict leaves a container what it has in the cluster (mesh/base/services): the
// image's user, no capability, and no file to write but those of an embedded
// database.
func (b *Bed) restrict(h *container.HostConfig) {
	h.ReadonlyRootfs = true
	h.CapDrop = []string{"ALL"}
	h.SecurityOpt = []string{"no-new-privileges"}
	if b.opt.Engine == SQLite {
		h.Mounts = append(h.Mounts, mount.Mount{Type: mount.TypeVolume, Target: dataDir})
	}
}

// Retire asks a replica to end by SIGTERM, waits until it has, and removes it.
func (b *Bed) Retire(ctx context.Context, c *Container) error {
	if err := c.Stop(ctx); err != nil {
		return err
	}
	b.services[c.alias] = slices.DeleteFunc(b.services[c.alias], func(r *Container) bool { return r == c })
	return c.did("remove", c.remove())
}

func exposed(name string) []string {
	if name == "gateway" {
		return []string{portHTTP, portOps}
	}
	return []string{portGRPC, portOps}
}

func (b *Bed) environ(name string) map[string]string {
	e := map[string]string{
		"GRPC_ADDR": ":9090", "METRICS_ADDR": ":9100", "HTTP_ADDR": ":8080", "DATA_DIR": dataDir,
		"NATS_URL": b.brokerURL(), "NATS_REPLICAS": fmt.Sprint(b.opt.Brokers),
		// Only the shop's own containers are on this network.
		"TRUST_NETWORK": "true",
		"ADMIN_EMAIL":   AdminEmail, "ADMIN_PASSWORD": AdminPassword,
		"CATALOG_FILE": "builtin", "SIMULATOR_LATENCY": "1ms",
		"DATABASE_MAX_CONNS": "8",
	}
	if b.opt.Engine == Postgres {
		e["DATABASE_URL"] = b.databaseURL(name)
	}
	if b.opt.Jaeger {
		e["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://jaeger:4317"
		e["OTEL_BSP_SCHEDULE_DELAY"] = "200" // milliseconds; tests wait for the spans
	}
	for _, peer := range Services {
		e[strings.ToUpper(peer)+"_ADDR"] = "dns:///" + b.way(peer, peer+":9090")
	}
	maps.Copy(e, b.opt.Environ)
	return e
}

// way is the address at which a service finds a target: its own, or that of the
// proxy before it.
func (b *Bed) way(target, addr string) string {
	if b.opt.proxied(target) {
		return fmt.Sprintf("toxiproxy:%d", proxyPorts()[target])
	}
	return addr
}
