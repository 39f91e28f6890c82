package testbed

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/modules/postgres"
	"github.com/testcontainers/testcontainers-go/network"
	"github.com/testcontainers/testcontainers-go/wait"
	"golang.org/x/sync/errgroup"

	"github.com/meshmart/meshmart/tests/images"
)

const databaseUser = "shop"

// startPostgres starts a server with a database for each service that has one.
func (b *Bed) startPostgres(ctx context.Context) error {
	c := &Container{Name: "postgres", bed: b, alias: "postgres"}
	run, err := postgres.Run(ctx, images.Tag("postgres"),
		postgres.WithDatabase(databaseUser), postgres.WithUsername(databaseUser), postgres.WithPassword(databaseUser),
		postgres.BasicWaitStrategies(),
		testcontainers.WithCmdArgs("-c", "max_connections=400"),
		network.WithNetwork([]string{c.alias}, b.network),
	)
	if run != nil {
		c.running = run.Container
		b.onClose(c.remove)
	}
	if err != nil {
		return c.did("run", err)
	}
	b.databases = c
	admin, err := b.OpenDatabase(ctx, databaseUser)
	if err != nil {
		return err
	}
	defer admin.Close()
	for _, name := range Owners {
		if _, err := admin.ExecContext(ctx, "CREATE DATABASE "+databaseName(name)); err != nil {
			return fmt.Errorf("create database of %s: %w", name, err)
		}
	}
	return nil
}

// databaseName is not the service's: "user" and "order" mean something in SQL.
func databaseName(service string) string { return "shop_" + service }

// databaseURL is where a service finds its database.
func (b *Bed) databaseURL(service string) string {
	return fmt.Sprintf("postgres://%s:%s@%s/%s?sslmode=disable&connect_timeout=2",
		databaseUser, databaseUser, b.way("postgres", "postgres:5432"), databaseName(service))
}

// DatabaseURL is where the database of a service on PostgreSQL is found from here,
// past any proxy. It changes with every Start of the server.
func (b *Bed) DatabaseURL(ctx context.Context, service string) (string, error) {
	addr, err := b.databases.running.PortEndpoint(ctx, "5432/tcp", "")
	if err != nil {
		return "", fmt.Errorf("address of the database: %w", err)
	}
	name := service
	if service != databaseUser {
		name = databaseName(service)
	}
	return fmt.Sprintf("postgres://%s:%s@%s/%s?sslmode=disable", databaseUser, databaseUser, addr, name), nil
}

// OpenDatabase opens the database of a service on PostgreSQL from here, past any
// proxy.
func (b *Bed) OpenDatabase(ctx context.Context, service string) (*sql.DB, error) {
	url, err := b.DatabaseURL(ctx, service)
	if err != nil {
		return nil, err
	}
	return sql.Open("pgx", url)
}

// LoseDatabases removes the server of PostgreSQL with its data, and starts another
// one, whose databases are empty.
func (b *Bed) LoseDatabases(ctx context.Context) error {
	if err := b.databases.lose(); err != nil {
		return err
	}
	return b.startPostgres(ctx)
}

// LoseBrokers removes the servers of NATS with their streams, and starts others.
func (b *Bed) LoseBrokers(ctx context.Context) error {
	for _, c := range b.brokers {
		if err := c.lose(); err != nil {
			return err
		}
	}
	return b.startBrokers(ctx)
}

// startBrokers starts one server of NATS, or a cluster of them.
func (b *Bed) startBrokers(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	b.brokers = make([]*Container, b.opt.Brokers)
	for i := range b.brokers {
		c := &Container{Name: fmt.Sprintf("nats-%d", i+1), bed: b, alias: "nats"}
		b.brokers[i] = c
		g.Go(func() error { return b.startBroker(ctx, c) })
	}
	return g.Wait()
}

func (b *Bed) startBroker(ctx context.Context, c *Container) error {
	cmd := []string{"-js", "-sd", "/data", "-m", "8222", "-n", c.Name}
	if b.opt.Brokers > 1 {
		var routes []string
		for i := range b.opt.Brokers {
			routes = append(routes, fmt.Sprintf("nats://nats-%d:6222", i+1))
		}
		cmd = append(cmd, "-cluster_name", "shop", "-cluster", "nats://0.0.0.0:6222", "-routes", strings.Join(routes, ","))
	}
	run, err := testcontainers.Run(ctx, images.Tag("nats"),
		testcontainers.WithCmd(cmd...),
		testcontainers.WithExposedPorts("4222/tcp", "8222/tcp"),
		testcontainers.WithWaitStrategy(wait.ForLog("Server is ready")),
		network.WithNetwork([]string{c.alias, c.Name}, b.network),
	)
	if run != nil {
		c.running = run
		b.onClose(c.remove)
	}
	return c.did("run", err)
}

// brokerURL is where the services find the brokers, each by its name.
func (b *Bed) brokerURL() string {
	if b.opt.proxied("nats") {
		return "nats://" + b.way("nats", "")
	}
	var urls []string
	for i := range b.opt.Brokers {
		urls = append(urls, fmt.Sprintf("nats://nats-%d:4222", i+1))
	}
	return strings.Join(urls, ",")
}

// BrokerURL is where a broker is found from here. It changes with every Start.
func (c *Container) BrokerURL(ctx context.Context) (string, error) {
	return c.running.PortEndpoint(ctx, "4222/tcp", "nats")
}
