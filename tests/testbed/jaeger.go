package testbed

import (
	"context"

	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/network"
	"github.com/testcontainers/testcontainers-go/wait"

	"github.com/meshmart/meshmart/tests/images"
)

const (
	portOTLP  = "4317/tcp"
	portQuery = "16686/tcp"
)

// startJaeger starts what the services send their spans to, if it is asked for.
func (b *Bed) startJaeger(ctx context.Context) error {
	c := &Container{Name: "jaeger", bed: b, alias: "jaeger"}
	run, err := testcontainers.Run(ctx, images.Tag("jaeger"),
		testcontainers.WithEnv(map[string]string{"JAEGER_LISTEN_HOST": "0.0.0.0"}), // by default it serves itself alone
		testcontainers.WithExposedPorts(portOTLP, portQuery),
		testcontainers.WithWaitStrategy(wait.ForAll(
			wait.ForListeningPort(portOTLP).SkipInternalCheck(), // there is no shell in it
			wait.ForHTTP("/api/services").WithPort(portQuery))),
		network.WithNetwork([]string{c.alias}, b.network),
	)
	if run != nil {
		c.running = run
		b.onClose(c.remove)
	}
	b.jaeger = c
	return c.did("run", err)
}

// JaegerURL is where Jaeger is asked for traces from here, with Options.Jaeger.
func (b *Bed) JaegerURL(ctx context.Context) (string, error) {
	return b.jaeger.running.PortEndpoint(ctx, portQuery, "http")
}
