// Command chaos sells things while it breaks the shop: it runs every service in
// containers, lets many customers order at once, and kills, pauses, slows down
// and cuts off whatever there is. In the end it checks the books.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/meshmart/meshmart/tests/testbed"
)

const usage = `usage: chaos [flags]   (or: make chaos ARGS="-orders 5000")

Runs the shop in containers (see tests/testbed; it needs Docker), places orders
from many customers at once, and meanwhile kills, pauses, slows down and cuts
off services, the database and the broker, one fault after another. When the
orders are placed and everything is mended it waits for the shop to come to rest
and checks the books in all databases and streams (see tests/audit).

Orders and faults follow from the seed, so a run that failed can be repeated as
far as chance in the machine allows. Exit code 1: a promise was broken.

`

func main() {
	cfg, err := parse(os.Args[1:])
	switch {
	case errors.Is(err, flag.ErrHelp):
		return
	case err != nil:
		fmt.Fprintf(os.Stderr, "chaos: %v; see chaos -help\n", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // who asks twice does not wait for the last orders
	report, err := Run(ctx, cfg)
	if report != nil {
		fmt.Print(report)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		stop()
		os.Exit(1)
	}
}

// Config says how long a campaign is and what it is run on.
type Config struct {
	Seed     uint64
	Orders   int           // ends after so many
	For      time.Duration // or after this time, if it is positive
	Clients  int           // customers at once
	Think    time.Duration // how long each takes until the next order, on average
	Engine   testbed.Engine
	Replicas int       // of each service
	Brokers  int       // 1 or 3
	Progress io.Writer // a line every few seconds
	Keep     string    // file for the logs of all services, when something is wrong; "" is none
}

func parse(args []string) (Config, error) {
	cfg := Config{Progress: os.Stderr}
	f := flag.NewFlagSet("chaos", flag.ContinueOnError)
	f.Usage = func() { fmt.Fprint(f.Output(), usage); f.PrintDefaults() }
	f.Uint64Var(&cfg.Seed, "seed", 0, "of orders and faults; 0 is a new one")
	f.IntVar(&cfg.Orders, "orders", 2000, "how many orders are placed")
	f.DurationVar(&cfg.For, "for", 0, "go on for this long in place of a number of orders")
	f.IntVar(&cfg.Clients, "clients", 16, "customers that order at the same time")
	f.DurationVar(&cfg.Think, "think", 200*time.Millisecond, "how long each takes until the next order, on average")
	engine := f.String("engine", "postgres", "postgres, or sqlite with one replica of each service")
	f.IntVar(&cfg.Replicas, "replicas", 2, "of each service")
	f.IntVar(&cfg.Brokers, "brokers", 1, "1, or 3 as a cluster")
	f.StringVar(&cfg.Keep, "logs", "", "file for the logs of all services, written when a promise was broken")
	if err := f.Parse(args); err != nil {
		return cfg, err
	}
	cfg.Engine = testbed.Engine(*engine)
	switch {
	case f.NArg() > 0:
		return cfg, fmt.Errorf("unexpected argument %q", f.Arg(0))
	case cfg.Engine != testbed.Postgres && cfg.Engine != testbed.SQLite:
		return cfg, fmt.Errorf("-engine: %q is neither postgres nor sqlite", *engine)
	case cfg.Orders < 1 || cfg.Clients < 1 || cfg.Replicas < 1:
		return cfg, errors.New("-orders, -clients and -replicas: must be 1 at least")
	case cfg.Think <= 0:
		return cfg, fmt.Errorf("-think: %v is not positive", cfg.Think)
	case cfg.Brokers != 1 && cfg.Brokers != 3:
		return cfg, fmt.Errorf("-brokers: %d is neither 1 nor 3", cfg.Brokers)
	}
	if cfg.Engine == testbed.SQLite {
		cfg.Replicas = 1
	}
	for cfg.Seed == 0 {
		cfg.Seed = rand.Uint64() >> 32 // short enough to type
	}
	return cfg, nil
}
