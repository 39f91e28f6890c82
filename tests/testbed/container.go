package testbed

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
)

// Container is one server or replica.
type Container struct {
	// Name is that of the service, and a number: "order-2".
	Name    string
	bed     *Bed
	alias   string
	running testcontainers.Container
}

// Ports in the containers.
const (
	portGRPC = "9090/tcp"
	portOps  = "9100/tcp" // METRICS_ADDR
	portHTTP = "8080/tcp" // of the gateway
)

// ID is what Docker knows it by.
func (c *Container) ID() string { return c.running.GetContainerID() }

// Kill ends it by SIGKILL. What it has written stays.
func (c *Container) Kill(ctx context.Context) error { return c.signal(ctx, "KILL") }

func (c *Container) signal(ctx context.Context, s string) error {
	_, err := c.bed.docker.ContainerKill(ctx, c.running.GetContainerID(), client.ContainerKillOptions{Signal: s})
	return c.did("signal "+s, err)
}

// Stop asks it to end by SIGTERM, and waits.
func (c *Container) Stop(ctx context.Context) error {
	seconds := 60
	_, err := c.bed.docker.ContainerStop(ctx, c.running.GetContainerID(), client.ContainerStopOptions{Timeout: &seconds})
	return c.did("stop", err)
}

// Start runs it again after Kill or Stop. It is not ready yet.
func (c *Container) Start(ctx context.Context) error {
	_, err := c.bed.docker.ContainerStart(ctx, c.running.GetContainerID(), client.ContainerStartOptions{})
	return c.did("start", err)
}

// Pause freezes it: its connections stay, and nothing comes through.
func (c *Container) Pause(ctx context.Context) error {
	_, err := c.bed.docker.ContainerPause(ctx, c.running.GetContainerID(), client.ContainerPauseOptions{})
	return c.did("pause", err)
}

// Resume ends a Pause.
func (c *Container) Resume(ctx context.Context) error {
	_, err := c.bed.docker.ContainerUnpause(ctx, c.running.GetContainerID(), client.ContainerUnpauseOptions{})
	return c.did("resume", err)
}

// Cut takes it off the network: packets are lost in both directions.
func (c *Container) Cut(ctx context.Context) error {
	_, err := c.bed.docker.NetworkDisconnect(ctx, c.bed.network.ID, client.NetworkDisconnectOptions{Container: c.running.GetContainerID(), Force: true})
	return c.did("cut", err)
}

// Join ends a Cut.
func (c *Container) Join(ctx context.Context) error {
	_, err := c.bed.docker.NetworkConnect(ctx, c.bed.network.ID, client.NetworkConnectOptions{
		Container:      c.running.GetContainerID(),
		EndpointConfig: &network.EndpointSettings{Aliases: []string{c.alias, c.Name}},
	})
	return c.did("join", err)
}

func (c *Container) did(what string, err error) error {
	if err != nil {
		return fmt.Errorf("%s %s: %w", what, c.Name, err)
	}
	return nil
}

// URL is where a gateway is reached from here. It changes with every Start.
func (c *Container) URL(ctx context.Context) (string, error) {
	return c.running.PortEndpoint(ctx, portHTTP, "http")
}

// GRPC is the address where a replica is called from here, past any proxy. It
// changes with every Start. A gateway has none.
func (c *Container) GRPC(ctx context.Context) (string, error) {
	return c.running.PortEndpoint(ctx, portGRPC, "")
}

// Ops is the URL of its /readyz and /metrics.
func (c *Container) Ops(ctx context.Context) (string, error) {
	return c.running.PortEndpoint(ctx, portOps, "http")
}

// WaitReady returns when /readyz says so, or after a minute.
func (c *Container) WaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := eventually(ctx, c.ready); err != nil {
		return fmt.Errorf("%s is not ready: %w\n%s", c.Name, err, c.Log(context.WithoutCancel(ctx), 20))
	}
	return nil
}

func (c *Container) ready(ctx context.Context) error {
	url, err := c.Ops(ctx)
	if err != nil {
		return err
	}
	_, err = get(ctx, url+"/readyz")
	return err
}

// Metrics returns what /metrics shows.
func (c *Container) Metrics(ctx context.Context) (string, error) {
	url, err := c.Ops(ctx)
	if err != nil {
		return "", err
	}
	return get(ctx, url+"/metrics")
}

func get(ctx context.Context, url string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", url, resp.Status, text)
	}
	return string(text), err
}

// Log returns the last lines that it wrote, of all its runs; 0 is all of them.
func (c *Container) Log(ctx context.Context, lines int) string {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	r, err := c.running.Logs(ctx)
	if err != nil {
		return err.Error()
	}
	defer r.Close()
	text, err := io.ReadAll(r)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimSpace(string(text)), "\n")
	if lines > 0 {
		all = all[max(0, len(all)-lines):]
	}
	return strings.Join(all, "\n")
}

// lose removes it before its bed does.
func (c *Container) lose() error {
	err := c.remove()
	c.running = nil
	return c.did("remove", err)
}

func (c *Container) remove() error {
	if c.running == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return c.running.Terminate(ctx, testcontainers.StopTimeout(0)) // killed, not asked
}
