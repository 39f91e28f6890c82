// Command bench measures the shop and, beside it in the same run, what nothing
// but gRPC or the database could do.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const usage = `usage: bench [flags]   (or: make bench ARGS="-quick")

Builds the services and starts them: each as a process of its own on PostgreSQL
with a broker, all in one process on SQLite, and beside them a bare gRPC server
and a bare database that do the same work with nothing around it. Then it calls
them in turn, A B A B, round after round, and prints ratios with their spread
over the rounds: what slows the machine for a while slows both.

Latencies of an open loop count from when a call was due (no coordinated
omission). Processor time is of every process, the database and this one
included, and of what a call leaves to be done later.

The table goes to standard output; table.txt, results.json and latency.svg to the
folder -out. PostgreSQL is TEST_POSTGRES_URL or Debian's, started here with the
durability it comes with.

`

func main() {
	cfg, err := parse(os.Args[1:])
	switch {
	case errors.Is(err, flag.ErrHelp):
		return
	case err != nil:
		fmt.Fprintf(os.Stderr, "bench: %v; see bench -help\n", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	results, err := Measure(ctx, cfg)
	if results != nil {
		err = errors.Join(err, results.write(cfg.Out, os.Stdout))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

// Config says what is measured, and for how long.
type Config struct {
	Args         []string
	Rounds       int
	Time         time.Duration // of one run
	Clients      []int         // at once
	OrderClients []int         // more of them, for orders
	Products     int           // of the catalog
	Rows         int           // up to which it is measured how cost grows; 0: not
	Streams      int           // at once, up to; 0: not measured
	Starts       int           // of each program; 0: not measured
	Rates        []float64     // of an open loop, as shares of what the closed one reached
	Only         *regexp.Regexp
	Engines      []string          // postgres, sqlite
	Addr         map[string]string // of services that run elsewhere, and rest; nil: they are started here
	Bin          string            // folder of the services' binaries; "": they are built
	Image        string            // whose size is told; "": none
	Profile      string            // folder for profiles; "": none
	Out          string            // folder for what is written
	Dir          string            // where data and logs are meanwhile; "": a temporary folder
	Progress     io.Writer
}

func parse(args []string) (Config, error) {
	cfg := Config{Args: args, Progress: os.Stderr}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.Usage = func() { fmt.Fprint(f.Output(), usage); f.PrintDefaults() }
	quick := f.Bool("quick", false, "a minute in place of ten, with less to rely on")
	f.IntVar(&cfg.Rounds, "rounds", 3, "how often each pair is repeated")
	f.DurationVar(&cfg.Time, "time", time.Second, "of one run")
	clients := f.String("clients", "1,16,64", "clients at once; orders are also placed by 256")
	f.IntVar(&cfg.Products, "products", 1000, "in the catalog")
	f.IntVar(&cfg.Rows, "rows", 100_000, "measure how cost grows up to so many products and orders, from 1,000; 0: not at all")
	f.IntVar(&cfg.Streams, "streams", 10_000, "measure what waiting streams cost, up to so many; 0: not at all")
	f.IntVar(&cfg.Starts, "starts", 3, "how often each program is started; 0: not at all")
	only := f.String("only", "", "only the scenarios whose name matches this regular expression, such as GetProduct; also sellout, growth, watchers and starts")
	engine := f.String("engine", "both", "postgres, sqlite or both")
	addr := f.String("addr", "", "measure a shop that runs elsewhere: rest=http://HOST:PORT, its gateway, or product=HOST:PORT,user=...,inventory=...,order=...,greeter=..., or both")
	f.StringVar(&cfg.Bin, "bin", "", "folder of the services' binaries, in place of building them")
	f.StringVar(&cfg.Image, "image", "", "a container image whose size is told")
	f.StringVar(&cfg.Profile, "profile", "", "folder for a processor profile of every service and scenario (see go tool pprof)")
	f.StringVar(&cfg.Out, "out", ".build/bench", "folder for table.txt, results.json and latency.svg")
	f.StringVar(&cfg.Dir, "dir", "", "folder for data and logs, which is kept; empty: a temporary one")
	if err := f.Parse(args); err != nil {
		return cfg, err
	}
	if f.NArg() > 0 {
		return cfg, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	cfg.OrderClients = []int{256}
	cfg.Rates = []float64{0.1, 0.25, 0.5, 0.7, 0.85, 0.95, 1.05}
	if *quick {
		given := map[string]bool{}
		f.Visit(func(fl *flag.Flag) { given[fl.Name] = true })
		cfg.hurry(given, clients)
	}
	return cfg, cfg.check(*clients, *only, *engine, *addr)
}

// hurry makes everything short that was not asked for.
func (c *Config) hurry(given map[string]bool, clients *string) {
	set := func(name string, do func()) {
		if !given[name] {
			do()
		}
	}
	set("rounds", func() { c.Rounds = 2 })
	set("time", func() { c.Time = 250 * time.Millisecond })
	set("clients", func() { *clients = "1,64" })
	set("rows", func() { c.Rows = 10_000 })
	set("streams", func() { c.Streams = 1000 })
	set("starts", func() { c.Starts = 1 })
	c.Rates = []float64{0.25, 0.5, 0.75, 0.95}
}

// check reads what the flags' types alone do not say.
func (c *Config) check(clients, only, engine, addr string) error {
	for s := range strings.SplitSeq(clients, ",") {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			return fmt.Errorf("-clients: %q is no positive number", s)
		}
		c.Clients = append(c.Clients, n)
	}
	c.OrderClients = slices.DeleteFunc(c.OrderClients, func(n int) bool { return slices.Contains(c.Clients, n) })
	var err error
	if c.Only, err = regexp.Compile(only); err != nil {
		return fmt.Errorf("-only: %w", err)
	}
	switch engine {
	case "both":
		c.Engines = []string{string(onPostgres), string(onSQLite)}
	case string(onPostgres), string(onSQLite):
		c.Engines = []string{engine}
	default:
		return fmt.Errorf("-engine: %q is not postgres, sqlite or both", engine)
	}
	switch {
	case c.Rounds < 1:
		return fmt.Errorf("-rounds: %d is not positive", c.Rounds)
	case c.Time <= 0:
		return fmt.Errorf("-time: %v is not positive", c.Time)
	case c.Products < pageSize || c.Products > 1000:
		return fmt.Errorf("-products: %d is not between %d and 1000", c.Products, pageSize)
	case c.Rows < 0 || c.Streams < 0 || c.Starts < 0:
		return errors.New("-rows, -streams and -starts: must not be negative")
	}
	return c.elsewhere(addr)
}

func (c *Config) elsewhere(addr string) error {
	if addr == "" {
		return nil
	}
	c.Addr = map[string]string{}
	for pair := range strings.SplitSeq(addr, ",") {
		name, at, ok := strings.Cut(pair, "=")
		if !ok || name == "" || at == "" {
			return fmt.Errorf("-addr: %q is not NAME=ADDRESS", pair)
		}
		c.Addr[name] = at
	}
	return nil
}
